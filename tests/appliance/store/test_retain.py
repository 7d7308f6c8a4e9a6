"""Deletion: what is owed stays, what was published goes, the oldest first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from appliance.publish.message import of_report
from appliance.report import Report, Stage
from appliance.settings import Retain, Settings
from appliance.store.files import Disk
from appliance.store.journal import JOURNAL_NAME, Journal
from appliance.store.retain import DAY_S, Deletable, deletable, run_once
from appliance.store.rows import Kept, Series
from appliance.store.spool import SeriesKey, Spool

NOW = 1_000_000_000.0
RULES = Retain(days=14)


def kept(**changes: object) -> Kept:
    """A published series of yesterday; `changes` go to the series or to what surrounds it."""
    old = NOW - DAY_S
    series = Series("1.2.3", "1.2", "analysed", "CT1", old, old, 10, 1, old)
    outer = {k: changes.pop(k) for k in ("owed", "final", "reports") if k in changes}
    row = Kept(replace(series, **changes), 0, True, ("r1",))  # type: ignore[arg-type]
    return replace(row, **outer)  # type: ignore[arg-type]


AGED: dict[str, object] = {"last_at": NOW - 15 * DAY_S, "updated": NOW - 15 * DAY_S}


@pytest.mark.parametrize(
    "changes",
    [
        {"owed": 1},
        {"final": False},
        {"state": "open"},
        {"state": "complete"},
        {"state": "refused", "reports": (), "final": False},
        {"state": "analysed", "reports": (), "final": False},
    ],
)
def test_what_is_owed_is_never_deletable_however_old(changes: dict[str, object]) -> None:
    assert deletable([kept(**changes, **AGED)], NOW, RULES) == []


@pytest.mark.parametrize("state", ["analysed", "refused", "failed", "set_aside"])
def test_a_published_series_is_deletable_by_space_and_when_old_by_age(state: str) -> None:
    assert [d.aged for d in deletable([kept(state=state)], NOW, RULES)] == [False]
    assert [d.aged for d in deletable([kept(state=state, **AGED)], NOW, RULES)] == [True]


def test_a_series_set_aside_needs_no_report() -> None:
    row = kept(state="set_aside", reports=(), final=False, **AGED)
    assert deletable([row], NOW, RULES) == [Deletable(row, True)]


def test_a_series_without_a_count_goes_by_age_only() -> None:
    assert deletable([kept(instances=None)], NOW, RULES) == []
    assert [d.aged for d in deletable([kept(instances=None, **AGED)], NOW, RULES)] == [True]


def test_the_oldest_comes_first_and_a_recent_change_makes_young() -> None:
    rows = [kept(series_uid=f"1.{n}", last_at=NOW - n * DAY_S) for n in (1, 3, 2)]
    found = deletable(rows, NOW, RULES)
    assert [d.kept.series.series_uid for d in found] == ["1.3", "1.2", "1.1"]
    changed = kept(last_at=NOW - 20 * DAY_S, updated=NOW - DAY_S)
    assert [d.aged for d in deletable([changed], NOW, RULES)] == [False]


class TightDisk(Disk):
    """Has `free` MB, and `each` more for every series folder that is gone."""

    def __init__(self, spool: Path, series: int, free: float, each: float) -> None:
        self._spool, self._series, self._free, self._each = spool, series, free, each

    def free_mb(self, path: Path) -> float:
        return self._free + self._each * (self._series - len(Spool(self._spool).series()))


Publish = Callable[..., None]


@pytest.fixture
def publish(tmp_path: Path, make_report: Callable[..., Report], noon: datetime) -> Publish:
    """Fill spool and journal with one published series of two instances."""

    def fill(
        series: str, at: float, *, deliver: bool = True, stage: Stage = Stage.FINAL, judged: int = 2
    ) -> None:
        spool = Spool(tmp_path)
        for n in range(2):
            temp = spool.incoming_path()
            temp.write_bytes(b"data")
            spool.store(temp, "1.2", series, f"{series}.{n}", lambda *_: True)
        report = make_report(series, stage=stage)
        with Journal.open(tmp_path / JOURNAL_NAME, clock=lambda: at) as journal:
            journal.set_series(series, "1.2", "open", at=at)
            journal.commit_report(
                report,
                series_uid=series,
                study_uid="1.2",
                messages=list(of_report(report, series_uid=series, at=noon)),
                series_state="analysed",
                instances=judged,
            )
            for message in journal.waiting(100) if deliver else []:
                journal.delivered(message.seq)
        folder = tmp_path / "reports" / str(report.report_id)
        folder.mkdir(parents=True)
        (folder / "lungs.npz").write_bytes(b"mask")

    return fill


def settings(state: Path, *, target_mb: int = 0) -> Settings:
    return Settings(state=state, retain=Retain(days=14, reserve_mb=0, target_free_mb=target_mb))


def test_an_old_published_series_goes_with_its_masks_and_rows(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW - 20 * DAY_S)
    publish("1.2", NOW - DAY_S)
    outcome = run_once(settings(tmp_path), clock=lambda: NOW)
    assert outcome.series == 1
    assert Spool(tmp_path).series() == [SeriesKey("1.2", "1.2")]
    assert len(list((tmp_path / "reports").iterdir())) == 1
    with Journal.open(tmp_path / JOURNAL_NAME) as journal:
        assert [s.series_uid for s in journal.series()] == ["1.2"]
        assert journal.latest_report("1.1") is None
        assert journal.outbox_counts().delivered == 2


def test_space_is_made_by_the_oldest_and_no_more_than_needed(
    tmp_path: Path, publish: Publish
) -> None:
    for n in (1, 2, 3, 4):
        publish(f"1.{n}", NOW - n * DAY_S)
    disk = TightDisk(tmp_path, 4, free=80.0, each=10.0)
    outcome = run_once(settings(tmp_path, target_mb=100), disk=disk, clock=lambda: NOW)
    assert (outcome.series, outcome.short) == (2, False)
    assert [k.series for k in Spool(tmp_path).series()] == ["1.1", "1.2"]


def test_an_undelivered_message_keeps_its_series_on_a_full_disk(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW - 20 * DAY_S, deliver=False)
    disk = TightDisk(tmp_path, 1, free=0.0, each=10.0)
    outcome = run_once(settings(tmp_path, target_mb=100), disk=disk, clock=lambda: NOW)
    assert (outcome.series, outcome.short) == (0, True)
    assert len(Spool(tmp_path).series()) == 1


def test_a_preliminary_report_and_a_slice_that_came_late_keep_their_series(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW - 20 * DAY_S, stage=Stage.PRELIMINARY)
    publish("1.2", NOW - 20 * DAY_S, judged=1)
    assert run_once(settings(tmp_path), clock=lambda: NOW).series == 0
    assert len(Spool(tmp_path).series()) == 2


def test_old_quarantine_goes_and_new_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    names = []
    for age in (20, 1):
        temp = spool.incoming_path()
        temp.write_bytes(b"junk")
        path = spool.quarantine(temp, "why")
        for part in (path, path.with_suffix(".json")):
            os.utime(part, (NOW - age * DAY_S, NOW - age * DAY_S))
        names.append(path)
    assert run_once(settings(tmp_path), clock=lambda: NOW).quarantined == 2
    assert {p for p, _ in spool.quarantined()} == {names[1], names[1].with_suffix(".json")}


def test_the_loop_runs_at_once_and_stops_on_sigterm(tmp_path: Path, publish: Publish) -> None:
    publish("1.1", time.time() - 20 * DAY_S)
    program = (
        "import sys, pathlib; from appliance.settings import Retain, Settings;"
        "from appliance.store.retain import main;"
        "sys.exit(main(Settings(state=pathlib.Path(sys.argv[1]), retain=Retain(target_free_mb=0))))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as process:
        deadline = time.monotonic() + 30
        while Spool(tmp_path).series() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert Spool(tmp_path).series() == []
