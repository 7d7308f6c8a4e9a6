"""The child that compares: warm before the report is there, and nobody's death but its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from appliance.store.journal import Journal
from appliance.work import child
from appliance.work.child import Child
from appliance.work.comparing import comparing
from rigs.chests import Dicom
from rigs.device import Device
from rigs.exams import Room


@pytest.fixture
def room(ready_site: Device, dicom: Dicom) -> Iterator[Room]:
    with Journal.open(ready_site.settings.state) as journal:
        yield Room(ready_site, dicom, journal)


def until(kept: Child, done: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and not done():
        kept.turn()
        time.sleep(0.05)
    assert done()


def codes(room: Room, study: str) -> list[str]:
    """Why it was not compared."""
    found = room.journal.comparisons.standing(room.report(study).report_id)
    return [reason.code.value for one in found for reason in one.reasons]


def test_it_waits_warm_for_the_report_and_is_there_for_the_next_one(room: Room) -> None:
    kept = comparing(room.settings, room.journal)
    kept.turn()
    assert kept.pid is None, "nothing is to be compared"
    kept.ask(ahead=True)
    kept.turn()
    first = kept.pid
    assert first is not None
    until(kept, (room.settings.state / "run" / "compare.sock").exists)
    room.send("1.2.1", "CT1", PatientID="a12", AcquisitionDate="20240101")
    room.judge()
    until(kept, lambda: codes(room, "1.2.1") == ["no_prior"])
    room.send("1.2.2", "CT1", PatientID="b12", AcquisitionDate="20240101", shift_hu=1)
    room.judge()
    until(kept, lambda: codes(room, "1.2.2") == ["no_prior"])
    assert kept.pid == first
    kept.stop()
    assert kept.pid is None


def test_one_that_is_killed_is_started_again_and_the_exam_is_compared(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "SHORTEST_S", 0.1)
    kept = comparing(room.settings, room.journal)
    room.send("1.2.1", "CT1", PatientID="a12", AcquisitionDate="20240101")
    room.judge()
    kept.ask()
    kept.turn()
    first = kept.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(kept, lambda: kept.pid not in (None, first))
    until(kept, lambda: codes(room, "1.2.1") == ["no_prior"])
    kept.stop()


def test_where_the_site_keeps_no_exams_there_is_no_child_and_what_waited_waits_no_more(
    room: Room,
) -> None:
    room.send("1.2.1", "CT1", PatientID="a12", AcquisitionDate="20240101")
    room.judge()
    assert room.journal.comparisons.any()
    priors = room.settings.priors.model_copy(update={"keep": False})
    kept = comparing(room.settings.model_copy(update={"priors": priors}), room.journal)
    kept.ask(ahead=True)
    kept.turn()
    assert kept.pid is None
    assert not room.journal.comparisons.any()
