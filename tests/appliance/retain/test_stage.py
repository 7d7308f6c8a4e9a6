"""Deletion: what is owed stays, what was published goes, the oldest first."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from appliance.report import Report, SeriesKey, Stage
from appliance.results.destinations import of_report
from appliance.results.mqtt import Mqtt
from appliance.results.owed import Owed
from appliance.retain.age import DAY_S, LEDGER_NAME, Ledger, Look
from appliance.retain.stage import Deletable, deletable, run_once
from appliance.settings import Retain, Settings, Web
from appliance.store import identities
from appliance.store.events import BrokerAway
from appliance.store.files import Disk
from appliance.store.identities import Person
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from appliance.store.rows import Kept, Series
from appliance.store.spool import Spool
from rigs.entries import named
from rigs.reports import NAMING

NOW = 1_000_000_000.0
RULES = Retain(days=14)


def kept(**changes: object) -> Kept:
    """A published series of yesterday; `changes` go to the series or to what surrounds it."""
    old = NOW - DAY_S
    series = Series("1.2", "1.2.3", "analysed", "CT1", old, old, 10, 1, old)
    outer = {k: changes.pop(k) for k in ("owed", "final", "reports") if k in changes}
    row = Kept(replace(series, **changes), 0, True, ("r1",))  # type: ignore[arg-type]
    return replace(row, **outer)  # type: ignore[arg-type]


OLD, YOUNG = (lambda _: 15 * DAY_S), (lambda _: 13 * DAY_S)
"""How long a thing was seen."""


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
    assert deletable([kept(**changes)], OLD, RULES) == []


@pytest.mark.parametrize("state", ["analysed", "refused", "failed", "set_aside"])
def test_a_published_series_is_deletable_by_space_and_when_old_by_age(state: str) -> None:
    assert [d.aged for d in deletable([kept(state=state)], YOUNG, RULES)] == [False]
    assert [d.aged for d in deletable([kept(state=state)], OLD, RULES)] == [True]


def test_a_series_set_aside_needs_no_report() -> None:
    row = kept(state="set_aside", reports=(), final=False)
    assert deletable([row], OLD, RULES) == [Deletable(row, True)]


def test_a_series_without_a_count_goes_by_age_only() -> None:
    assert deletable([kept(instances=None)], YOUNG, RULES) == []
    assert [d.aged for d in deletable([kept(instances=None)], OLD, RULES)] == [True]


def test_the_oldest_comes_first() -> None:
    rows = [kept(series_uid=f"1.{n}", last_at=NOW - n * DAY_S) for n in (1, 3, 2)]
    found = deletable(rows, OLD, RULES)
    assert [d.kept.series.series_uid for d in found] == ["1.3", "1.2", "1.1"]


class TightDisk(Disk):
    """Has `free` MB, and `each` more for every series folder that is gone."""

    def __init__(self, spool: Path, series: int, free: float, each: float) -> None:
        self._spool, self._series, self._free, self._each = spool, series, free, each

    def free_mb(self, path: Path) -> float:
        return self._free + self._each * (self._series - len(Spool(self._spool).series()))


class Archive:
    """A second destination, which gets the report as it is."""

    name, stage, numbered = "archive", "deliver", False

    def of_event(self, *_: object, **__: object) -> Iterator[Owed]:
        return iter(())

    def of_report(self, report: Report, key: SeriesKey, **_: object) -> Iterator[Owed]:
        yield Owed(self.name, f"{report.report_id} {report.stage}", key, report.to_json().encode())

    def of_withdrawal(self, *_: object, **__: object) -> Iterator[Owed]:
        return iter(())

    def described(self, key: str, body: bytes | None) -> str:
        return key


Publish = Callable[..., None]


@pytest.fixture
def publish(tmp_path: Path, make_report: Callable[..., Report], noon: datetime) -> Publish:
    """Fill spool and journal with one published series of two instances."""

    def fill(
        series: str,
        at: float,
        *,
        deliver: tuple[str, ...] = ("mqtt", "archive"),
        stage: Stage = Stage.FINAL,
        judged: int = 2,
    ) -> None:
        spool = Spool(tmp_path)
        for n in range(2):
            temp = spool.incoming_path()
            temp.write_bytes(b"data")
            spool.store(temp, "1.2", series, f"{series}.{n}", lambda *_: True)
        report = make_report(series, stage=stage)
        with Journal.open(tmp_path, clock=lambda: at) as journal:
            key = SeriesKey("1.2", series)
            journal.series.set(key, "open", at=at)
            journal.commit_report(
                report,
                key,
                owed=of_report(report, key, naming=NAMING, at=noon, to=[Mqtt(), Archive()]),
                series_state="analysed",
                instances=judged,
            )
            for name in deliver:
                waiting = journal.owed.waiting(name, 100)
                journal.owed.ack(name, [one.key for one in waiting])
        folder = tmp_path / "reports" / str(report.report_id)
        folder.mkdir(parents=True)
        (folder / "lungs.npz").write_bytes(b"mask")

    return fill


def after(days: float, *, wall: float = NOW, boot: str = "one") -> Callable[[], Look]:
    """The clocks so many days after the first look, with the wall clock at `wall`."""
    return lambda: Look(wall, boot, 1000.0 + days * DAY_S)


def settings(state: Path, *, target_mb: int = 0) -> Settings:
    return Settings(state=state, retain=Retain(days=14, reserve_mb=0, target_free_mb=target_mb))


def test_an_old_published_series_goes_with_its_masks_and_rows(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW)
    assert run_once(settings(tmp_path), look=after(0)).series == 0
    publish("1.2", NOW + 10 * DAY_S)
    assert run_once(settings(tmp_path), look=after(10)).series == 0
    outcome = run_once(settings(tmp_path), look=after(15))
    assert outcome.series == 1
    assert Spool(tmp_path).series() == [SeriesKey("1.2", "1.2")]
    assert len(list((tmp_path / "reports").iterdir())) == 1
    with Journal.open(tmp_path) as journal:
        assert [s.series_uid for s in journal.series.all()] == ["1.2"]
        assert journal.reports.latest(SeriesKey("1.2", "1.1")) is None
        assert journal.owed.counts().delivered == 3


def test_a_series_that_waits_for_a_verdict_goes_by_age_where_it_has_no_image(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW)
    there, gone = SeriesKey("1.2", "1.1"), SeriesKey("1.2", "1.3")
    with Journal.open(tmp_path, clock=lambda: NOW) as journal:
        journal.series.set(there, "open")
        journal.series.set(gone, "open")
    for days, left in ((0, 2), (13, 2), (15, 1)):
        assert run_once(settings(tmp_path), look=after(days)).series == 0
        with Journal.open(tmp_path) as journal:
            assert len(journal.series.all()) == left
    assert Spool(tmp_path).series() == [there]


def test_what_lies_in_reports_for_no_series_goes_when_it_is_old(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW)
    (known,) = (tmp_path / "reports").iterdir()
    beside = known.with_name("7c9e6679-7425-40de-944b-e07fc1f90ae7")
    beside.mkdir()
    (beside / "compared.json").write_bytes(b"{}")
    run_once(settings(tmp_path), look=after(0))
    run_once(settings(tmp_path), look=after(13))
    with Journal.open(tmp_path) as journal:  # the series is young again
        journal.series.set(SeriesKey("1.2", "1.1"), "analysed")
    assert beside.exists()
    run_once(settings(tmp_path), look=after(15))
    assert list((tmp_path / "reports").iterdir()) == [known]


def test_space_is_made_by_the_oldest_and_no_more_than_needed(
    tmp_path: Path, publish: Publish
) -> None:
    for n in (1, 2, 3, 4):
        publish(f"1.{n}", NOW - n * DAY_S)
    disk = TightDisk(tmp_path, 4, free=80.0, each=10.0)
    outcome = run_once(settings(tmp_path, target_mb=100), disk=disk, look=after(20))
    assert (outcome.series, outcome.short) == (2, False)
    assert [k.series for k in Spool(tmp_path).series()] == ["1.1", "1.2"]


@pytest.mark.parametrize(("each", "left"), [(10.0, 1), (0.0, 0)])
def test_published_images_make_room_before_an_entry_of_an_earlier_exam_does(
    tmp_path: Path, publish: Publish, each: float, left: int
) -> None:
    publish("1.1", NOW)
    held = Priors(tmp_path)
    held.keep(NAMING.patient("", "a12"), named(1), b"x", fingerprint="0" * 16)
    room = settings(tmp_path, target_mb=80)
    room = room.model_copy(update={"retain": Retain(days=14, reserve_mb=40, target_free_mb=80)})
    run_once(room, disk=TightDisk(tmp_path, 1, free=75.0, each=each), look=after(0))
    assert Spool(tmp_path).series() == []
    assert len(held.all()) == left


@pytest.mark.parametrize("delivered", [(), ("mqtt",), ("archive",)])
def test_what_one_destination_has_not_got_keeps_its_series_on_a_full_disk(
    tmp_path: Path, publish: Publish, delivered: tuple[str, ...]
) -> None:
    publish("1.1", NOW - 20 * DAY_S, deliver=delivered)
    disk = TightDisk(tmp_path, 1, free=0.0, each=10.0)
    outcome = run_once(settings(tmp_path, target_mb=100), disk=disk, look=after(20))
    assert (outcome.series, outcome.short) == (0, True)
    assert len(Spool(tmp_path).series()) == 1


def test_a_preliminary_report_and_a_slice_that_came_late_keep_their_series(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW, stage=Stage.PRELIMINARY)
    publish("1.2", NOW, judged=1)
    assert run_once(settings(tmp_path), look=after(0)).series == 0
    assert run_once(settings(tmp_path), look=after(20)).series == 0
    assert len(Spool(tmp_path).series()) == 2


def test_old_quarantine_goes_and_new_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    names = []
    for days in (0, 10):
        temp = spool.incoming_path()
        temp.write_bytes(b"junk")
        names.append(spool.quarantine(temp, "why"))
        assert run_once(settings(tmp_path), look=after(days)).quarantined == 0
    assert run_once(settings(tmp_path), look=after(15)).quarantined == 2
    assert {p for p, _ in spool.quarantined()} == {names[1], names[1].with_suffix(".json")}


def test_the_loop_runs_at_once_and_stops_on_sigterm(tmp_path: Path, publish: Publish) -> None:
    publish("1.1", time.time())
    program = (
        "import sys, pathlib; from appliance.settings import Retain, Settings;"
        "from appliance.retain.stage import main;"
        "sys.exit(main(Settings(state=pathlib.Path(sys.argv[1]),"
        " retain=Retain(days=1e-6, target_free_mb=0)), every_s=0.2))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as process:
        deadline = time.monotonic() + 120
        while Spool(tmp_path).series() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert Spool(tmp_path).series() == []


# The clock.


YEARS = 5 * 365 * DAY_S


@pytest.mark.parametrize("jump_s", [YEARS, -YEARS])
@pytest.mark.parametrize("boot", ["one", "another"])
def test_a_clock_that_jumps_by_years_deletes_nothing_early(
    tmp_path: Path, publish: Publish, jump_s: float, boot: str
) -> None:
    publish("1.1", NOW)
    run_once(settings(tmp_path), look=after(0))
    days = 1.0 if boot == "one" else 0.0  # a reboot: the uptime begins again
    jumped = NOW + DAY_S + jump_s
    assert run_once(settings(tmp_path), look=after(days, wall=jumped, boot=boot)).series == 0
    publish("1.2", jumped)
    look = after(days + 12, wall=jumped + 12 * DAY_S, boot=boot)
    assert run_once(settings(tmp_path), look=look).series == 0
    look = after(days + 14.5, wall=jumped + 14.5 * DAY_S, boot=boot)
    assert run_once(settings(tmp_path), look=look).series == 1, "old by the time that passed"
    look = after(days + 28, wall=jumped + 28 * DAY_S, boot=boot)
    assert run_once(settings(tmp_path), look=look).series == 1, "the other one too"


def test_what_was_stamped_while_the_clock_was_wrong_is_kept_as_long(
    tmp_path: Path, publish: Publish
) -> None:
    run_once(settings(tmp_path), look=after(0))
    publish("1.1", 0.0)  # between two looks the clock stood at 1970
    assert run_once(settings(tmp_path), look=after(0.01)).series == 0
    assert run_once(settings(tmp_path), look=after(15)).series == 1


def test_a_change_makes_a_series_young_again(tmp_path: Path, publish: Publish) -> None:
    publish("1.1", NOW)
    run_once(settings(tmp_path), look=after(0))
    with Journal.open(tmp_path, clock=lambda: NOW + 10 * DAY_S) as journal:
        journal.series.set(SeriesKey("1.2", "1.1"), "analysed", instances=2)
    for days, deleted in ((10, 0), (15, 0), (24.5, 1)):
        assert run_once(settings(tmp_path), look=after(days)).series == deleted


def test_time_while_the_machine_was_off_counts_for_a_day_at_most(tmp_path: Path) -> None:
    ledger = Ledger().seen(after(0)(), ["it"])
    ledger = ledger.seen(Look(NOW + 3600, "two", 60.0), ["it"])
    assert ledger.age_s("it") == 3600
    ledger = ledger.seen(Look(NOW + YEARS, "three", 60.0), ["it"])
    assert ledger.age_s("it") == 3600 + DAY_S + 60


def test_a_ledger_that_is_damaged_or_cannot_be_written_keeps_everything(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW)
    run_once(settings(tmp_path), look=after(0))
    (tmp_path / LEDGER_NAME).write_text("{")
    assert run_once(settings(tmp_path), look=after(20)).series == 0
    (tmp_path / LEDGER_NAME).unlink()
    (tmp_path / LEDGER_NAME).mkdir()
    assert run_once(settings(tmp_path), look=after(40)).series == 0


def test_events_go_by_their_stamps_only_while_the_clock_is_steady(tmp_path: Path) -> None:
    def events() -> int:
        with Journal.open(tmp_path) as journal:
            return len(journal.events.of(BrokerAway))

    with Journal.open(tmp_path, clock=lambda: NOW) as journal:
        journal.events.add(BrokerAway(text="why"))
    run_once(settings(tmp_path), look=after(0))
    run_once(settings(tmp_path), look=after(1, wall=NOW + YEARS))
    assert events() == 1
    run_once(settings(tmp_path), look=after(16, wall=NOW + YEARS + 15 * DAY_S))
    assert events() == 0


def with_names(state: Path) -> Settings:
    return Settings(state=state, retain=settings(state).retain, web=Web(names=True))


def test_a_name_goes_with_its_series_and_so_does_one_that_was_left_over(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW)
    (report,) = (tmp_path / "reports").iterdir()
    beside = report.with_name("7c9e6679-7425-40de-944b-e07fc1f90ae7")
    for name in (report.name, beside.name):
        identities.keep(tmp_path, uuid.UUID(name), Person(name="Doe, Jane"))
    run_once(with_names(tmp_path), look=after(0))
    run_once(with_names(tmp_path), look=after(13))
    assert len(identities.kept(tmp_path)) == 2
    assert run_once(with_names(tmp_path), look=after(15)).series == 1
    assert identities.kept(tmp_path) == []


def test_names_go_at_once_where_the_site_wants_none_any_more(
    tmp_path: Path, publish: Publish
) -> None:
    publish("1.1", NOW)
    (report,) = (tmp_path / "reports").iterdir()
    identities.keep(tmp_path, uuid.UUID(report.name), Person(name="Doe, Jane"))
    run_once(settings(tmp_path), look=after(0))
    assert identities.kept(tmp_path) == []
    assert report.exists()
