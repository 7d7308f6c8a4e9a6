"""The audit chain: append-only, and changes behind its back show."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.store.journal import JOURNAL_NAME, Journal


@pytest.fixture
def chain(journal: Journal, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    for n in range(5):
        journal.audit.add("alice", "bundle_activated", name=f"b{n}")
    assert journal.audit.verify() is None
    with sqlite3.connect(tmp_path / JOURNAL_NAME) as db:
        yield db
    db.close()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET actor = 'mallory' WHERE id = 3", "DELETE FROM audit WHERE id = 3"],
)
def test_the_audit_table_refuses_to_change(chain: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="audit rows"):
        chain.execute(statement)


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE audit SET actor = 'mallory' WHERE id = 3", 3),
        ("UPDATE audit SET at = at + 1 WHERE id = 1", 1),
        ("UPDATE audit SET detail = '{}' WHERE id = 5", 5),
        ("DELETE FROM audit WHERE id = 2", 2),
        ("DELETE FROM audit WHERE id = 1", 1),
        ("DELETE FROM audit WHERE id = 5", 5),
        (
            """INSERT INTO audit (id, at, actor, action, detail, previous, hash)
            SELECT 6, 1.0, '', '', '{}', hash, hash FROM audit WHERE id = 5""",
            6,
        ),
    ],
)
def test_tampering_behind_the_triggers_shows_in_the_chain(
    journal: Journal, chain: sqlite3.Connection, statement: str, first_bad: int
) -> None:
    chain.executescript("DROP TRIGGER audit_never_changes; DROP TRIGGER audit_never_shrinks;")
    chain.execute(statement)
    chain.commit()
    assert journal.audit.verify() == first_bad


def test_the_head_of_the_chain_can_be_held_elsewhere(journal: Journal) -> None:
    assert journal.audit.head() == (0, "0" * 64)
    journal.audit.add("alice", "login")
    number, digest = journal.audit.head()
    assert (number, len(digest)) == (1, 64)
