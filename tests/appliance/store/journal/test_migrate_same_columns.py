"""The journal of schema 3 or 4 becomes one of today, whose tables have the columns of theirs."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path, PurePosixPath

import pytest

from appliance.errors import StateUnusable
from appliance.report import Report, SeriesKey
from appliance.results import destinations, mqtt
from appliance.results.owed import File, Owed
from appliance.store.delivery import State
from appliance.store.events import BrokerAway
from appliance.store.journal import JOURNAL_NAME, Journal, damage
from appliance.store.journal.ledger import LEDGER_NAME
from appliance.store.journal.migrate import NAME_3, NAME_4, OLD_NAME, SEQ_AHEAD
from rigs.reports import NAMING

KEY = SeriesKey("1.2", "1.2.3")
STATES = ("waiting", "delivered", "dead", "dropped")
TABLES = ("associations", "series", "arrivals", "reports", "owed", "events", "audit")
OF_4 = ("told", "commitments", "uncommitted", "relayed")


@pytest.fixture(params=[3, 4])
def version(request: pytest.FixtureRequest) -> int:
    """The schema before."""
    return int(request.param)


@pytest.fixture
def name(version: int) -> str:
    """The file of the journal before."""
    return {3: NAME_3, 4: NAME_4}[version]


@pytest.fixture
def report(make_report: Callable[..., Report]) -> Report:
    return make_report()


@pytest.fixture
def old(tmp_path: Path, report: Report, noon: datetime, version: int, name: str) -> Path:
    """A state folder with a journal of the schema before and its ledger. Its rows are those of a
    journal of today, which has the same columns."""
    state = tmp_path / "state"
    state.mkdir()
    today = tmp_path / "today"
    today.mkdir()
    with Journal.open(today) as journal:
        journal.series.association_opened(calling_ae="CT1", called_ae="S", host="h")
        owed = destinations.of_report(report, KEY, naming=NAMING, at=noon, to=[mqtt.Mqtt()])
        journal.commit_report(report, KEY, owed=owed, series_state="analysed", instances=9)
        for one in STATES:
            journal.owed.add([Owed("archive", one, KEY, one.encode())])
        journal.owed.ack("archive", ["delivered"])
        journal.owed.never("archive", "dead", "why")
        journal.owed.drop("alice", "dropped")
        journal.owed.add([Owed("archive", "file", None, File(PurePosixPath("outgoing/a.dcm")))])
        journal.events.add(BrokerAway(text="gone"))
        journal.told.keep(report.report_id, "final", 1, "what it said")
    schema = Path(__file__).with_name(f"schema-{version}.sql").read_text()
    with closing(sqlite3.connect(state / name, isolation_level=None)) as db:
        db.executescript(f"{schema}PRAGMA user_version = {version};")
        db.execute("ATTACH ? AS today", (str(today / JOURNAL_NAME),))
        for table in (*TABLES, *(OF_4 if version == 4 else ())):
            named = db.execute("SELECT name FROM pragma_table_info(?, 'main')", (table,)).fetchall()
            names = ", ".join(name for (name,) in named)
            db.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM today.{table}")
        db.execute("REPLACE INTO counters SELECT * FROM today.counters")
    (state / f"journal-{version}.ledger").write_bytes((today / LEDGER_NAME).read_bytes())
    return state


def digests(state: Path) -> dict[str, str]:
    """Of all that the release before has written."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in state.glob("journal-[34].*")
    }


def check(journal: Journal, report: Report, version: int) -> None:
    assert [(s.key, s.state, s.instances) for s in journal.series.all()] == [(KEY, "analysed", 9)]
    assert journal.reports.get(report.report_id) == report
    assert [a.calling_ae for a in journal.series.open_associations()] == ["CT1"]
    counts = journal.owed.counts("archive")
    assert (counts.waiting, counts.delivered, counts.committed) == (2, 1, 0)
    assert (counts.dead, counts.dropped) == (1, 1)
    assert [row.key for row in journal.owed.uncomposed(["archive"], 9)] == ["waiting"]
    assert [row.file for row in journal.owed.ready("archive", 9)] == ["outgoing/a.dcm"]
    assert [r.last_error for r in journal.owed.listed(State.DEAD)] == ["why"]
    assert all(mqtt.is_about(row.body, report) for row in journal.owed.waiting("mqtt", 9))
    assert [one.event.text for one in journal.events.of(BrokerAway)] == ["gone"]
    assert journal.audit.verify() is None
    assert journal.audit.head()[0] == 1
    assert journal.commitments.due("archive", 9) == [], "what was delivered has no file"
    assert journal.told.all(report.report_id) == (["what it said"] if version == 4 else [])
    assert journal.feedback.all() == []


def test_all_of_it_is_carried_over_and_the_file_before_stays_byte_for_byte(
    old: Path, report: Report, version: int
) -> None:
    before = digests(old)
    with pytest.raises(StateUnusable, match="earlier release") as refused:
        Journal.read(old)
    assert refused.value.code == "journal_waits"
    with Journal.open(old) as journal:
        check(journal, report, version)
        assert journal.owed.next_seq() > SEQ_AHEAD
        journal.owed.composed("archive", "waiting", PurePosixPath("outgoing/b.dcm"))
    assert digests(old) == before
    with Journal.open(old) as journal:
        assert len(journal.owed.ready("archive", 9)) == 2, "this release goes on with its own"


def test_the_newest_journal_is_taken_over_and_not_the_one_before_it(
    old: Path, report: Report, version: int
) -> None:
    (old / OLD_NAME).write_bytes(b"no database at all")
    with Journal.open(old) as journal:
        check(journal, report, version)


def test_the_power_may_be_cut_before_every_step(
    old: Path, report: Report, cut_disk, power_cut, tmp_path: Path, version: int
) -> None:
    before = digests(old)
    cuts = 0
    while True:
        state = tmp_path / f"cut-{cuts}"
        shutil.copytree(old, state)
        try:
            Journal.open(state, disk=cut_disk(state, cuts, names_lost=False)).close()
        except power_cut:
            cuts += 1
        else:
            break
        assert digests(state) == before
        with Journal.open(state) as journal:
            check(journal, report, version)
    assert cuts >= 5


def test_a_damaged_journal_is_left_to_the_release_that_wrote_it(old: Path, name: str) -> None:
    data = bytearray((old / name).read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    (old / name).write_bytes(data)
    before = digests(old)
    with pytest.raises(StateUnusable, match="damaged") as refused:
        Journal.open(old)
    assert "release before" in refused.value.remedy
    assert digests(old) == before
    assert not (old / JOURNAL_NAME).exists()


def test_a_journal_that_was_about_to_be_made_anew_is_left_to_the_release_that_does(
    old: Path,
) -> None:
    damage.write(old, damage.Damage(at=1.0, why="a bad page", file=None), damage.DISK)
    with pytest.raises(StateUnusable, match="a bad page"):
        Journal.open(old)
    assert not (old / JOURNAL_NAME).exists()
