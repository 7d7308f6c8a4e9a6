"""The newest series of each scanner gets implants, once, and nothing of it lies anywhere."""

from __future__ import annotations

import signal
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.naming import MAKER
from appliance.probe import child
from appliance.probe.child import Probing
from appliance.probe.line import Outcome
from appliance.report import SeriesKey
from appliance.settings import Settings
from appliance.store import probed as kept
from appliance.store.files import DISK, Disk
from appliance.store.in_hand import Hand
from appliance.store.library import Entry, Library
from appliance.watching.alarm import Alarm, Cause, Statistic
from appliance.watching.probe import ProbedSeries
from appliance.watching.row import Row
from appliance.watching.scanner import Scanner
from rigs.cuts import Full
from rigs.exams import Room
from rigs.probing import SCANNER, lying, measured, naming, started

HANG_S = 240.0


def probed(settings: Settings, scanner: Scanner = SCANNER) -> tuple[ProbedSeries, ...]:
    return kept.of_scanner(settings.state, scanner).series


def run(room: Room, disk: Disk = DISK) -> int:
    probing = Probing(room.settings, room.journal, disk)
    try:
        return probing.run()
    finally:
        probing.close()


def examined(room: Room, study: str, scanner: Scanner = SCANNER, **tags: object) -> None:
    room.send(study, "CT1", last=99, finer=3, **tags)
    room.judge()
    measured(room, study, scanner)


def test_the_newest_series_of_a_scanner_is_probed_once_and_only_figures_stay(room: Room) -> None:
    examined(room, "1.2.1")
    examined(room, "1.2.2", shift_hu=1)
    before = lying(room.settings.state)
    assert run(room) == 1
    (one,) = probed(room.settings)
    assert one.series == naming(room.settings).series(SeriesKey("1.2.2", "1.2.2.1"))
    assert one.bundle == room.report("1.2.2").bundle.digest  # type: ignore[union-attr]
    assert 0 < len(one.found) <= 10
    assert lying(room.settings.state) == before, "no report, row, message, entry or image more"
    (file,) = (room.settings.state / "probe").iterdir()
    text = file.read_text()
    assert "1.2.2" not in text
    assert len(text) < 2000, "figures alone"
    assert run(room) == 0, "a series once"
    assert len(probed(room.settings)) == 1


@pytest.mark.long
def test_the_same_series_gets_the_same_implants_again(room: Room) -> None:
    examined(room, "1.2.1")
    run(room)
    (first,) = probed(room.settings)
    next((room.settings.state / "probe").iterdir()).unlink()
    run(room)
    (second,) = probed(room.settings)
    assert second.model_copy(update={"at": first.at}) == first


@pytest.mark.long
def test_a_series_says_after_which_alarm_of_its_scanner_it_came(room: Room) -> None:
    since = datetime(2026, 11, 30, tzinfo=timezone.utc)
    alarm = Alarm(
        statistic=Statistic.SKIN, test="cusum", size=4, since=since, cause=Cause.SHARPER_KERNEL
    )
    examined(room, "1.2.1")
    run(room)
    row = Row(key=SCANNER, state="frozen", since=since, alarms=(alarm,))
    Library(room.settings.state).put(Entry(id="a" * 16, scanner="b" * 16, row=row))
    examined(room, "1.2.2", shift_hu=1)
    run(room)
    assert [one.change for one in probed(room.settings)] == [None, since]


@pytest.mark.parametrize(
    "why",
    [
        "not measured",
        "an earlier exam",
        *(pytest.param(one, marks=pytest.mark.long) for one in ("our phantom", "gone")),
    ],
)
def test_what_is_no_series_of_a_scanner_here_is_left_alone(room: Room, why: str) -> None:
    room.send("1.2.1", "ARCHIVE" if why == "an earlier exam" else "CT1", last=99, finer=3)
    room.judge()
    ours = SCANNER.model_copy(update={"maker": MAKER})
    if why == "not measured":
        for path in room.settings.state.glob("reports/*/quality.json"):
            path.unlink()
    else:
        measured(room, "1.2.1", ours if why == "our phantom" else SCANNER)
    if why == "gone":
        for path in room.spool.instances(SeriesKey("1.2.1", "1.2.1.1")).values():
            path.unlink()
    assert run(room) == 0
    assert kept.all_of(room.settings.state) == ()


@pytest.mark.long
def test_each_scanner_has_its_own_figures(room: Room) -> None:
    other = SCANNER.model_copy(update={"kernel": "SHARP"})
    examined(room, "1.2.1")
    examined(room, "1.2.2", other, shift_hu=1)
    assert run(room) == 2
    assert [len(probed(room.settings, one)) for one in (SCANNER, other)] == [1, 1]


def test_a_series_that_raises_is_noted_without_implants_and_not_tried_again(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    examined(room, "1.2.1")

    def fails(*_: object) -> Outcome:
        raise RuntimeError("Zyxwvut^Hidden")

    monkeypatch.setattr(child, "probe", fails)
    assert run(room) == 0
    (one,) = probed(room.settings)
    assert one.found == ()
    assert "RuntimeError" in caplog.text
    assert "Zyxwvut" not in caplog.text
    monkeypatch.undo()
    assert run(room) == 0


@pytest.mark.long
def test_a_disk_that_is_full_ends_the_child_and_the_series_is_probed_later(room: Room) -> None:
    examined(room, "1.2.1")
    with pytest.raises(StateUnusable):
        run(room, Full())
    assert probed(room.settings) == ()
    assert run(room) == 1


def in_hand(settings: Settings) -> str | None:
    return Hand(settings.state, child.HAND).last()


def killed(settings: Settings) -> None:
    """The real process, killed while a series is in its hand."""
    process = started(settings)
    end = time.monotonic() + HANG_S
    while in_hand(settings) is None and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    first = Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip()
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL, process.stderr.read() if process.stderr else ""
    assert first == "1000", "where memory ends it goes before what anybody waits for"


def test_one_that_is_killed_in_the_middle_leaves_nothing_and_blames_the_series_in_hand(
    room: Room,
) -> None:
    examined(room, "1.2.1")
    before = lying(room.settings.state)
    killed(room.settings)
    assert lying(room.settings.state) == before
    assert in_hand(room.settings) is not None
    assert probed(room.settings) == ()
    assert run(room) == 0
    (one,) = probed(room.settings)
    assert one.found == (), "it is noted and left alone"


def test_one_that_was_ended_on_purpose_blames_nobody(room: Room) -> None:
    examined(room, "1.2.1")
    killed(room.settings)
    Hand(room.settings.state, child.HAND).clear()  # as work/probing.py does
    assert run(room) == 1
