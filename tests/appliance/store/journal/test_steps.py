"""The journal grows in its file, and the release before goes on with what its successor left."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import pytest

from appliance.errors import StateUnusable
from appliance.report import Report, SeriesKey
from appliance.store.events import BrokerAway
from appliance.store.journal import JOURNAL_NAME, Journal, Manner, damage, steps
from appliance.store.journal.part import Part
from appliance.store.journal.steps import Header, Step
from appliance.store.rows import ToCompare
from rigs import later

NEXT = steps.newest() + 1


def said(state: Path) -> Header:
    """What the file says of itself."""
    with closing(sqlite3.connect(state / JOURNAL_NAME)) as db:
        return steps.header(db)


def successor(
    monkeypatch: pytest.MonkeyPatch, last: int = NEXT, *, min_reader: int = steps.FIRST
) -> None:
    """From here on this process is a later release, with made-up steps up to this schema."""
    made = later.steps_to(last, min_reader)
    monkeypatch.setattr(steps, "STEPS", MappingProxyType({**steps.STEPS, **made}))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A state folder with an empty journal of the first schema that grows in its file."""
    with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as db:
        db.executescript(f"PRAGMA journal_mode = WAL;BEGIN;{steps.made(steps.FIRST)}COMMIT;")
    return tmp_path


@pytest.fixture
def filled(
    tmp_path: Path, make_report: Callable[..., Report], key: SeriesKey, received
) -> Path:  # fmt: skip
    """A state folder with a journal: of today's schema, or where `first` made it of that one."""
    with Journal.open(tmp_path) as journal:
        association = journal.series.association_opened(calling_ae="CT1", called_ae="S", host="h")
        journal.series.arrived(association, key, calling_ae="CT1", instances=9, at=1.0)
        journal.commit_report(
            make_report(), key, owed=[received()], series_state="analysed", instances=9
        )
        journal.events.add(BrokerAway(text="gone"))
        journal.audit.add("alice", "login")
        journal.told.keep(make_report().report_id, "final", 1, "what it said")
    return tmp_path


# What a step may do.


def objects(db: sqlite3.Connection) -> dict[tuple[str, str, str], str]:
    """(type, name, table) -> the statement that made it."""
    rows = db.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master")
    return {(row[0], row[1], row[2]): row[3] for row in rows}


def columns(db: sqlite3.Connection, table: str) -> dict[str, tuple[object, ...]]:
    """name -> (place, type, not null, default, place in the key, hidden)"""
    rows = db.execute(f"PRAGMA table_xinfo({table})").fetchall()
    return {row[1]: (row[0], *row[2:]) for row in rows}


def rows(db: sqlite3.Connection, table: str, names: list[str]) -> list[tuple[object, ...]]:
    return db.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY rowid").fetchall()


def broken_rules(state: Path, number: int, step: Step) -> list[str]:
    """What a step, taken by a filled journal of the schema before, does beyond adding."""
    with closing(sqlite3.connect(state / JOURNAL_NAME, isolation_level=None)) as db:
        assert steps.header(db).schema == number - 1
        before = objects(db)
        tables = [name for kind, name, _ in before if kind == "table"]
        known = {table: columns(db, table) for table in tables}
        names = {name for table in tables for name in known[table]}
        content = {table: rows(db, table, [*known[table]]) for table in tables}
        db.execute("BEGIN")
        for statement in step.statements:
            db.execute(statement)
        after = objects(db)
        found = [f"{kind} {name} is gone" for kind, name, _ in before.keys() - after.keys()]
        found += [
            f"{kind} {name} is another"
            for kind, name, of in before.keys() & after.keys()
            if kind != "table" and before[kind, name, of] != after[kind, name, of]
        ]
        for kind, name, of in after.keys() - before.keys():
            if kind not in ("table", "index") or (
                of in known and "UNIQUE" in after[kind, name, of]
            ):
                found.append(f"{kind} {name} on {of}")
            if kind == "table" and db.execute(f"PRAGMA foreign_key_list({name})").fetchall():
                found.append(f"{name} refers to others")
        for table in [one for one in tables if ("table", one, one) in after]:
            now = columns(db, table)
            if {name: now.get(name) for name in known[table]} != known[table]:
                found.append(f"columns of {table} are others")
            elif rows(db, table, [*known[table]]) != content[table]:
                found.append(f"rows of {table} are others")
            for name in now.keys() - known[table].keys():
                _, _, not_null, default, in_key, hidden = now[name]
                if not_null or default is not None or in_key or hidden:
                    found.append(f"{table}.{name} is no plain column that may be null")
                if name in names:
                    found.append(f"{table}.{name}: another table has a column of this name")
            if more := {"CHECK", "REFERENCES", "COLLATE"} & {*_added(before, after, table)}:
                found.append(f"{table}: a column has a constraint, {more}")
        db.execute("ROLLBACK")
    return found


def _added(
    before: Mapping[tuple[str, str, str], str],
    after: Mapping[tuple[str, str, str], str],
    table: str,
) -> list[str]:
    """The words that a table's statement has more often than before."""
    words = [
        one["table", table, table].replace("(", " ( ").upper().split() for one in (before, after)
    ]
    left = list(words[1])
    for word in words[0]:
        if word in left:
            left.remove(word)
    return left


def test_every_step_only_adds(first: Path, filled: Path) -> None:
    assert said(first).schema == steps.FIRST
    for number, step in sorted(steps.STEPS.items()):
        assert broken_rules(filled, number, step) == []
        with closing(sqlite3.connect(filled / JOURNAL_NAME, isolation_level=None)) as db:
            steps.take(db, number)
    assert broken_rules(filled, NEXT, later.step(NEXT)) == [], "the made-up one too"


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE timings",
        "DROP INDEX owed_in_order",
        "DROP TRIGGER audit_never_changes",
        "ALTER TABLE series DROP COLUMN failed_with",
        "ALTER TABLE series RENAME COLUMN failed_with TO made_of",
        "ALTER TABLE told RENAME TO said",
        "ALTER TABLE series ADD COLUMN more TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE series ADD COLUMN more TEXT DEFAULT 'x'",
        "ALTER TABLE series ADD COLUMN more TEXT CHECK (more != '')",
        "ALTER TABLE series ADD COLUMN more TEXT REFERENCES told (report_id)",
        "ALTER TABLE series ADD COLUMN more TEXT AS (state) VIRTUAL",
        "ALTER TABLE arrivals ADD COLUMN calling_ae TEXT",
        "CREATE UNIQUE INDEX once ON events (at)",
        "CREATE TRIGGER no BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END",
        "CREATE TABLE more (id TEXT REFERENCES associations (id))",
        "UPDATE series SET state = 'failed'",
        "INSERT INTO counters (name, value) VALUES ('more', 1)",
        "DELETE FROM events",
    ],
)
def test_a_step_that_does_more_is_found(filled: Path, statement: str) -> None:
    assert broken_rules(filled, NEXT, Step((statement,), steps.newest()))


def test_the_release_before_may_use_what_a_step_leaves() -> None:
    numbers = sorted(steps.STEPS)
    assert numbers == list(range(steps.FIRST + 1, steps.newest() + 1))
    readers = [steps.STEPS[n].min_reader for n in numbers]
    assert readers == sorted(readers), "what one step keeps to itself, the next does not give back"
    assert all(steps.FIRST <= reader < n for n, reader in zip(numbers, readers, strict=True))


# This release on the journal of its successor.


def test_a_journal_of_a_later_schema_is_opened_read_and_written_and_keeps_what_was_added(
    filled: Path, make_report: Callable[..., Report]
) -> None:
    later.grow(filled)
    with closing(sqlite3.connect(filled / JOURNAL_NAME, isolation_level=None)) as db:
        db.execute(f"UPDATE series SET series_{NEXT} = 'news'")
        db.execute(f"INSERT INTO extra_{NEXT} (id, said) VALUES (1, 'news')")
    with Journal.open(filled) as journal:
        assert journal.reports.get(make_report().report_id) == make_report()
        again = SeriesKey("1.2", "1.2.4")
        journal.commit_report(make_report("1.2.4"), again, owed=[], series_state="analysed")
        assert not journal.migrate("work"), "it is ahead of this release"
        assert journal.audit.verify() is None
        series = journal.series.get(again)
        assert series is not None
        assert journal.forget(series)
    assert said(filled) == (NEXT, steps.newest())
    with closing(sqlite3.connect(filled / JOURNAL_NAME)) as db:
        assert db.execute(f"SELECT series_{NEXT} FROM series").fetchall() == [("news",)]
        assert db.execute(f"SELECT said FROM extra_{NEXT}").fetchall() == [("news",)]
    reader = Journal.read(filled)
    assert reader is not None
    with reader:
        assert len(reader.reports.recent(9)) == 1


def test_a_journal_of_a_later_schema_is_looked_at_and_is_whole(filled: Path) -> None:
    later.grow(filled)
    assert damage.wrong(filled / JOURNAL_NAME) is None


def test_a_journal_of_a_later_schema_without_a_column_of_this_one_is_damaged(filled: Path) -> None:
    later.grow(filled)
    with closing(sqlite3.connect(filled / JOURNAL_NAME)) as db:
        db.execute("ALTER TABLE series DROP COLUMN failed_with")
    assert damage.wrong(filled / JOURNAL_NAME) == "its tables are not those of a journal"


@pytest.mark.parametrize("version", [0, 4, NEXT, 2**30])
def test_a_schema_that_the_tables_belie_is_a_damage(filled: Path, version: int) -> None:
    with closing(sqlite3.connect(filled / JOURNAL_NAME)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    assert damage.wrong(filled / JOURNAL_NAME) == f"it says that its version is {version}"


@pytest.mark.parametrize("reader", [1, NEXT, -(2**31)])
def test_a_min_reader_that_its_schema_belies_is_a_damage(filled: Path, reader: int) -> None:
    with closing(sqlite3.connect(filled / JOURNAL_NAME)) as db:
        db.execute(f"PRAGMA application_id = {reader}")
    assert "is for schema" in str(damage.wrong(filled / JOURNAL_NAME))


def test_a_damaged_journal_of_a_later_schema_is_made_anew_as_one_of_this_release(
    filled: Path, make_report: Callable[..., Report]
) -> None:
    later.grow(filled)
    with closing(sqlite3.connect(filled / JOURNAL_NAME, isolation_level=None)) as db:
        db.execute("UPDATE counters SET value = 0 WHERE name = 'seq'")
    with Journal.open(filled, manner=Manner.MEND) as journal:
        assert journal.reports.get(make_report().report_id) == make_report()
        assert len(journal.owed.waiting("mqtt", 9)) == 1
        assert journal.told.all(make_report().report_id) == ["what it said"]
    assert said(filled) == (steps.newest(), steps.min_reader(steps.newest()))


def test_a_journal_that_does_not_say_who_may_use_it_is_for_its_own_schema(filled: Path) -> None:
    with closing(sqlite3.connect(filled / JOURNAL_NAME)) as db:
        db.execute("PRAGMA application_id = 0")
    assert said(filled) == (steps.newest(), steps.newest())
    assert damage.wrong(filled / JOURNAL_NAME) is None
    Journal.open(filled).close()


# Its successor on a journal of this release.


class Extras(Part):
    """Of a later release: what it says in a table that its step has made."""

    def say(self, text: str) -> bool:
        """Whether there is such a table."""
        with self._db.write() as db:
            if steps.header(db).schema < NEXT:
                return False
            db.execute(f"INSERT INTO extra_{NEXT} (said) VALUES (?)", (text,))
        return True


def test_a_successor_works_on_the_schema_before_until_it_is_confirmed_and_then_on_its_own(
    filled: Path, make_report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as installed:
        successor(installed)
        with Journal.open(filled) as journal, Journal.open(filled) as beside:
            extras = Extras(beside._db, lambda: 1.0)
            journal.commit_report(
                make_report("1.2.4"), SeriesKey("1.2", "1.2.4"), owed=[], series_state="analysed"
            )
            assert not extras.say("too early"), "what needs the table goes without it"
            assert said(filled).schema == NEXT - 1
            assert journal.migrate("work")
            assert extras.say("news"), "who has it open meanwhile sees it at once"
            assert not journal.migrate("work"), "once is enough"
            (row,) = journal.audit.of(["journal migrate"])
            assert (row.actor, row.detail) == ("work", {"from": NEXT - 1, "to": NEXT})
        assert damage.wrong(filled / JOURNAL_NAME) is None
        assert said(filled) == (NEXT, steps.FIRST)
    with Journal.open(filled) as journal:  # this release, rolled back to
        assert len(journal.reports.recent(9)) == 2


def test_a_new_journal_is_made_as_one_that_took_every_step(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    successor(monkeypatch)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    Journal.open(fresh).close()
    with Journal.open(filled) as journal:
        journal.migrate("work")
    assert said(fresh) == said(filled)
    shapes = []
    for state in (fresh, filled):
        with closing(sqlite3.connect(state / JOURNAL_NAME)) as db:
            shapes.append(objects(db))
    assert shapes[0] == shapes[1]


def test_who_skips_a_release_takes_the_steps_that_it_cannot_do_without(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    successor(monkeypatch, NEXT + 2)
    Journal.open(filled).close()
    assert said(filled) == (NEXT + 1, steps.FIRST), "the release before still starts on it"


def test_who_skips_a_release_that_must_not_be_skipped_is_refused_and_changes_nothing(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    successor(monkeypatch, NEXT + 2, min_reader=NEXT)
    with pytest.raises(StateUnusable, match="has schema") as refused:
        Journal.open(filled)
    assert refused.value.code == "journal_too_old"
    assert "between" in refused.value.remedy
    assert said(filled).schema == NEXT - 1


def test_a_step_that_fails_leaves_the_journal_as_it_was(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Step((*later.step(NEXT).statements, "CREATE TABLE audit (id TEXT)"), steps.FIRST)
    monkeypatch.setattr(steps, "STEPS", MappingProxyType({**steps.STEPS, NEXT: bad}))
    with Journal.open(filled) as journal:
        with pytest.raises(StateUnusable, match="audit"):
            journal.migrate("work")
        assert len(journal.reports.recent(9)) == 1
    assert said(filled).schema == NEXT - 1
    monkeypatch.undo()
    damage.clear(filled / JOURNAL_NAME)
    assert damage.wrong(filled / JOURNAL_NAME) is None


def test_a_release_of_schema_5_goes_on_with_a_journal_of_this_one_and_this_one_on_its_own(
    first: Path, filled: Path, make_report: Callable[..., Report], key: SeriesKey
) -> None:
    """On trial it writes what schema 5 holds, and notes nothing of comparisons."""
    wanted = ToCompare(str(make_report().report_id), key.study, key.series, "d" * 64, False)
    with Journal.open(first) as journal:
        journal.commit_report(
            make_report(), key, owed=[], series_state="analysed", compares=[wanted], instances=9
        )
        assert not journal.comparisons.any()
        assert journal.comparisons.to_do() == []
        assert not journal.series.may_be_silent()
        assert said(first).schema == steps.FIRST
        assert journal.migrate("work")
        assert journal.uncompared() == [(key, make_report())]
    assert said(filled) == (6, 5), "the release before starts on it"
