"""An archive that was away for a day: all that it is owed comes, in order, none twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from appliance.results.owed import File, Owed
from rigs.archive import Archive, serving, written
from rigs.peers import free_port, until

WITHIN_S = 900.0


def away_for(device: Callable[..., Any], serve: Callable[..., Any], count: int) -> None:
    port = free_port()
    box = device(pacs=port)
    folder = box.settings.state / "outgoing"
    names = [f"1.2.{n}" for n in range(count)]
    for name in names:
        written(folder / f"{name}.dcm", name)
    files = (
        Owed("pacs", name, None, File(PurePosixPath("outgoing", f"{name}.dcm"))) for name in names
    )
    box.journal.owed.add(files)
    served = serve(box)
    until(lambda: served.deliverer._workers[0].away)
    held = resident_mb()
    with serving(Archive(), port=port) as archive:
        until(lambda: box.journal.owed.counts("pacs").delivered == count, WITHIN_S)
        assert archive.uids == names, "in order, none twice"
        assert archive.associations == 1
    assert resident_mb() - held < 8 + 0.01 * count, "what is owed is not held in memory"


def resident_mb() -> float:
    """Of this process, which holds the archive and what it saw too: 3 kB an object."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_after_500_objects_without_an_archive_all_come_in_order_and_none_twice(
    device: Callable[..., Any], serve: Callable[..., Any]
) -> None:
    away_for(device, serve, 500)


@pytest.mark.long
def test_after_10_000_objects_without_an_archive_all_come_in_order_and_none_twice(
    device: Callable[..., Any], serve: Callable[..., Any]
) -> None:
    away_for(device, serve, 10_000)
