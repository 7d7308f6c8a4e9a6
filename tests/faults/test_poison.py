"""A series that ends the stage, by a signal and not by an exception, each time it is read."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from appliance.reasons import Code
from appliance.report import SeriesKey
from appliance.store.spool import Spool
from faults.stages import line
from rigs.programs import program
from rigs.scans import Scans


@pytest.mark.long
def test_a_series_that_kills_work_each_time_is_failed_after_three_and_the_next_goes_on(
    tmp_path: Path, installed: Path, small_scans: Scans
) -> None:
    """strace sends the signal to whatever opens one certain image of it: a decoder that crashes,
    or the OOM killer."""
    poisoned, good, after = (small_scans.make() for _ in range(3))
    image = pydicom.dcmread(poisoned.files[30], stop_before_pixels=True)
    state = tmp_path / "state"
    folder = Spool(state).folder(SeriesKey(poisoned.study, poisoned.series))
    strace = [program("strace"), "-f", "-qq", "-o", str(tmp_path / "calls")]
    strace += ["-P", str(folder / f"{image.SOPInstanceUID}.dcm"), "-e", "trace=openat"]
    strace += ["-e", "inject=openat:signal=SIGKILL"]
    with line(tmp_path, state, installed, stages=("publish", "receive")) as running:
        site = running.site
        kept = running.begin("work", *strace)
        assert site.send(poisoned) == 0
        event = site.ending(poisoned)
        assert event["event"] == "failed"
        assert [r["code"] for r in event["reasons"]] == [Code.POISONED.value]
        assert not event["report"]["findings"]
        assert len(kept.codes) == 3, "as many processes died"
        for scan in (good, after):
            assert site.send(scan) == 0
            assert site.ending(scan)["event"] == "analysed"
        site.settled()
        assert len(kept.codes) == 3, "it is left alone"
        assert len(site.events(poisoned, "analysed", "not_analysed", "failed")) == 1
        with site.journal() as journal:
            assert journal.series.get(poisoned.key).state == "failed"
        assert len(Spool(state).instances(SeriesKey(poisoned.study, poisoned.series))) == 65
