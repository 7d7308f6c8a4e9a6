"""The journal of an earlier release becomes this one's, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.report import Report, SeriesKey
from appliance.results.mqtt import Envelope, is_about
from appliance.store.delivery import State
from appliance.store.events import BrokerAway, Loaded
from appliance.store.files import Disk
from appliance.store.journal import JOURNAL_NAME, Journal, migrate
from appliance.store.journal.ledger import LEDGER_NAME
from appliance.store.journal.migrate import OLD_NAME, SEQ_AHEAD
from rigs.reports import NAMING

SCHEMA = Path(__file__).with_name("schema-2.sql")
STUDY, SERIES, PSEUDONYM = "1.2", "1.2.3", "c" * 32
TOPIC = f"study/{PSEUDONYM}/event"


def payload(seq: int, event: str) -> str:
    return json.dumps({"event_id": event, "seq": seq, "text": 'ä\n"quoted" \\ 🫁'})


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def report(make_report: Callable[..., Report]) -> Report:
    return make_report()


@pytest.fixture
def old(tmp_path: Path, version: int, report: Report) -> Path:
    """A state folder as an earlier release leaves it when it is killed: all rows in the log."""
    home = tmp_path / "before"
    home.mkdir()
    with sqlite3.connect(home / OLD_NAME, isolation_level=None) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(SCHEMA.read_text() + "PRAGMA user_version = 2;")
        if version == 1:
            db.execute("ALTER TABLE series DROP COLUMN priority")
            db.execute("PRAGMA user_version = 1")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _rows(db, report, version)
        state = tmp_path / "state"
        state.mkdir()
        for name in (OLD_NAME, f"{OLD_NAME}-wal"):
            shutil.copyfile(home / name, state / name)
    db.close()
    shutil.rmtree(home)
    assert (state / f"{OLD_NAME}-wal").stat().st_size > 0
    return state


def _rows(db: sqlite3.Connection, report: Report, version: int) -> None:
    db.execute("INSERT INTO associations VALUES ('a', 'CT1', 'S', 'h', 1, 2, 3.0, 4.0, 'released')")
    db.execute("INSERT INTO associations VALUES ('b', 'CT1', 'S', 'h', 1, 2, 5.0, NULL, NULL)")
    for uid, state in ((SERIES, "analysed"), ("1.2.4", "open")):
        db.execute(
            """INSERT INTO series (series_uid, study_uid, state, calling_ae, first_at, last_at,
            instances, attempts, updated) VALUES (?, ?, ?, 'CT1', 1.0, 2.0, 9, 1, 3.0)""",
            (uid, STUDY, state),
        )
    if version > 1:
        db.execute("UPDATE series SET priority = 'stat'")
    db.execute("INSERT INTO arrivals VALUES ('a', ?, ?, 1.0, 2.0, 9)", (SERIES, STUDY))
    db.execute(
        "INSERT INTO reports VALUES (?, ?, ?, ?, 1, NULL, ?, ?, ?, ?, 6.0)",
        (
            str(report.report_id), SERIES, STUDY, report.bundle.digest if report.bundle else "",
            report.status.value, report.stage.value, report.input_digest, report.to_json(),
        ),
    )  # fmt: skip
    states = ("waiting", "delivered", "dead", "dropped")
    for seq, state in enumerate(states, 1):
        db.execute(
            "INSERT INTO messages VALUES (?, ?, ?, ?, 1, 0, ?, 7.0, ?, ?, 2, ?)",
            (
                seq, f"event-{seq}", SERIES if seq < 4 else None, TOPIC, payload(seq, "e"), state,
                8.0 if state == "delivered" else None, "why" if state == "dead" else None,
            ),
        )  # fmt: skip
    db.execute("UPDATE counters SET value = 40 WHERE name = 'seq'")
    db.execute("""INSERT INTO events VALUES (1, 9.0, 'broker_away', 'mqtt', '{"text": "gone"}')""")
    db.execute("""INSERT INTO events VALUES (2, 9.5, 'loaded', 'work', '{"bundles": 7}')""")
    previous = "0" * 64
    for n in (1, 2):
        content = (n, 10.0 + n, "alice", "login", '{"n": 1}', previous)
        digest = hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()
        db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", (*content, digest))
        previous = digest
    db.execute("UPDATE counters SET value = 2 WHERE name = 'audit'")


def digests(state: Path) -> dict[str, str]:
    """Of the old journal and its log."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in state.glob(f"{OLD_NAME}*")
    }


def check(journal: Journal, report: Report, version: int) -> None:
    """Everything of `_rows` is there."""
    key = SeriesKey(STUDY, SERIES)
    assert [(s.key, s.state, s.instances, s.attempts) for s in journal.series.all()] == [
        (key, "analysed", 9, 1),
        (SeriesKey(STUDY, "1.2.4"), "open", 9, 1),
    ]
    expected = "routine" if version == 1 else "stat"
    assert {s.priority for s in journal.series.all()} == {expected}
    (arrival,) = journal.series.arrivals(key)
    assert (arrival.association.id, arrival.association.outcome) == ("a", "released")
    assert [a.id for a in journal.series.open_associations()] == ["b"]
    assert journal.reports.get(report.report_id) == report
    assert journal.reports.series_of(report.report_id) == key
    rows = [*journal.owed.waiting("mqtt", 9), *journal.owed.listed(State.DEAD)]
    assert [(r.key, r.seq, r.attempts, r.last_error) for r in rows] == [
        ("event-1", 1, 2, None),
        ("event-3", 3, 2, "why"),
    ]
    envelope = Envelope.model_validate_json(rows[0].body or b"")
    assert envelope == Envelope(topic=TOPIC, qos=1, retain=False, payload=payload(1, "e"))
    assert journal.owed.delivered_at("mqtt", "event-2") == 8.0
    assert journal.owed.counts().dropped == 1
    assert [(one.at, one.event.text) for one in journal.events.of(BrokerAway)] == [(9.0, "gone")]
    assert journal.events.of(Loaded) == [], "what no longer fits is left out"
    assert journal.audit.verify() is None
    assert journal.audit.head()[0] == 2


def test_everything_is_carried_over_and_the_old_journal_stays_byte_for_byte(
    old: Path, report: Report, version: int
) -> None:
    before = digests(old)
    with Journal.open(old) as journal:
        check(journal, report, version)
        assert journal.owed.next_seq() == 40 + SEQ_AHEAD + 1
        journal.audit.add("alice", "login")
        assert journal.audit.verify() is None
        assert journal.series.set_stat_of_study(PSEUDONYM) == 1
    assert digests(old) == before
    assert sorted(path.name for path in old.iterdir()) == [
        LEDGER_NAME, JOURNAL_NAME, f"{JOURNAL_NAME}.lock", f"{JOURNAL_NAME}.users", OLD_NAME,
        f"{OLD_NAME}-wal",
    ]  # fmt: skip


def test_what_happens_later_is_not_overwritten_by_the_old_journal(old: Path) -> None:
    with Journal.open(old) as journal:
        journal.series.set(SeriesKey("7", "7.1"), "open")
    with Journal.open(old) as journal:
        assert journal.series.get(SeriesKey("7", "7.1")) is not None


def test_what_was_said_before_is_not_said_again(
    old: Path, report: Report, version: int, commit_to: Callable[[Journal, Report], None]
) -> None:
    with Journal.open(old) as journal:
        journal.owed.ack("mqtt", ["event-1"])
        commit_to(journal, report)
        assert all(is_about(row.body, report) for row in journal.owed.waiting("mqtt", 9))
        assert min(row.seq or 0 for row in journal.owed.waiting("mqtt", 9)) > SEQ_AHEAD


@pytest.mark.parametrize("names_lost", [False, True])
def test_the_power_may_be_cut_before_every_step(
    old: Path, report: Report, version: int, cut_disk, power_cut, names_lost: bool, tmp_path: Path
) -> None:
    before = digests(old)
    cuts = 0
    while True:
        state = tmp_path / f"cut-{cuts}"
        shutil.copytree(old, state)
        try:
            Journal.open(state, disk=cut_disk(state, cuts, names_lost=names_lost)).close()
        except power_cut:
            cuts += 1
        else:
            break
        assert digests(state) == before
        with Journal.open(state) as journal:
            check(journal, report, version)
        assert not list(state.glob(".journal*/*")), "what the try left is gone"
    assert cuts >= 5


def test_a_full_disk_leaves_the_old_journal_alone_and_nothing_behind(old: Path) -> None:
    class Full(Disk):
        def rename(self, source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

    names = sorted(path.name for path in old.iterdir())
    with pytest.raises(StateUnusable, match="No space left"):
        Journal.open(old, disk=Full())
    assert (
        sorted(p.name for p in old.iterdir() if not p.name.endswith((".lock", ".users"))) == names
    )


def test_a_release_that_still_writes_is_named(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copyfile

    def copied(source: Path, target: Path) -> None:
        copy(source, target)
        with (old / f"{OLD_NAME}-wal").open("ab") as log:  # the other release goes on
            log.write(b"more")

    monkeypatch.setattr(migrate.shutil, "copyfile", copied)
    with pytest.raises(StateUnusable) as refused:
        Journal.open(old)
    assert refused.value.code == "journal_in_use"
    assert "Stop all stages" in refused.value.remedy


@pytest.fixture
def previous_release(old: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the old journal open and does nothing."""
    program = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
        "db.execute('SELECT * FROM series').fetchall(); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(old / OLD_NAME)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process
        process.kill()


def test_a_previous_release_that_only_waits_is_in_the_way_too(
    old: Path, previous_release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "PATIENCE_S", 0.0)
    with pytest.raises(StateUnusable) as refused:
        Journal.open(old)
    assert refused.value.code == "journal_in_use"
    assert not (old / JOURNAL_NAME).exists()


def test_the_end_of_the_previous_release_is_waited_for(
    old: Path, report: Report, version: int, previous_release, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def sleep(_seconds: float) -> None:
        looks.append(_seconds)
        if len(looks) == 2:
            previous_release.kill()
            previous_release.wait()

    monkeypatch.setattr(migrate.time, "sleep", sleep)
    with Journal.open(old) as journal:
        check(journal, report, version)
    assert len(looks) == 2


def test_an_old_journal_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / OLD_NAME) as db:
        db.execute("PRAGMA user_version = 3")
    db.close()
    with pytest.raises(StateUnusable) as refused:
        Journal.open(tmp_path)
    assert refused.value.code == "journal_too_new"


@pytest.mark.parametrize("damage", [b"this is no database", b"\xff" * 4096])
def test_an_old_journal_that_is_damaged_is_named_and_stays_as_it_is(
    old: Path, damage: bytes
) -> None:
    (old / f"{OLD_NAME}-wal").unlink()
    (old / OLD_NAME).write_bytes(damage * 9)
    before = digests(old)
    with pytest.raises(StateUnusable, match=rf"{OLD_NAME} cannot be taken over") as refused:
        Journal.open(old)
    assert "backup" in refused.value.remedy
    assert digests(old) == before
    assert not (old / JOURNAL_NAME).exists()
    assert not list(old.glob(".journal*"))


def test_who_only_reads_an_old_journal_is_told_who_takes_it_over_and_makes_nothing(
    old: Path,
) -> None:
    names = sorted(path.name for path in old.iterdir())
    with pytest.raises(StateUnusable) as refused:
        Journal.read(old)
    assert refused.value.code == "journal_waits"
    assert "scanside run" in refused.value.remedy
    assert sorted(path.name for path in old.iterdir()) == names


def test_an_old_journal_that_is_empty_is_a_fresh_start(tmp_path: Path) -> None:
    (tmp_path / OLD_NAME).touch()
    assert Journal.read(tmp_path) is None
    with Journal.open(tmp_path) as journal:
        assert journal.owed.next_seq() == 1


@pytest.fixture
def commit_to(noon) -> Callable[[Journal, Report], None]:
    from appliance.results import destinations  # noqa: PLC0415

    def committed(journal: Journal, report: Report) -> None:
        key = SeriesKey(STUDY, SERIES)
        owed = destinations.of_report(report, key, naming=NAMING, at=noon)
        journal.commit_report(report, key, owed=owed, series_state="analysed")

    return committed
