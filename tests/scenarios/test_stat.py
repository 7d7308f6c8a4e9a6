"""What is urgent is analysed first, while others wait."""

from __future__ import annotations

import os
import signal

import pytest
from pydicom.dataset import Dataset

from rigs.scans import Scan, Scans
from rigs.site import Site


def _urgent(image: Dataset, index: int) -> Dataset:
    """As a scanner that copies the worklist's word (PS3.3 C.4.11) into its images."""
    image.add_new(0x00401003, "CS", "STAT")
    return image


@pytest.mark.parametrize("by", ["sender", "image"])
def test_a_stat_series_sent_last_is_reported_before_routine_ones_that_wait(
    site: Site, scans: Scans, by: str
) -> None:
    routine = [scans.make() for _ in range(3)]
    stat = scans.make(_urgent) if by == "image" else scans.make()
    site.settled()
    work = site.stage("work")
    os.kill(work, signal.SIGSTOP)  # as if it were busy with another series
    try:
        for scan in routine:
            assert site.send(scan) == 0
        assert site.send(stat, ae="EMERGENCY" if by == "sender" else "SCANNER") == 0
    finally:
        os.kill(work, signal.SIGCONT)
    for scan in (stat, *routine):
        site.report(scan)
    numbers = [_first_message(site, scan) for scan in (stat, *routine)]
    assert numbers[0] == min(numbers)
    assert numbers[1:] == sorted(numbers[1:]), "the others in order of arrival"


def _first_message(site: Site, scan: Scan) -> int:
    """The number of the first message about the analysis; the device counts them."""
    return min(int(m["seq"]) for m in site.events(scan, "preliminary", "analysed"))
