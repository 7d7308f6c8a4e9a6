"""The file of the journal: opening it, and reading it without a trace."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

import appliance
from appliance.errors import StateUnusable
from appliance.report import SeriesKey
from appliance.store.delivery import State
from appliance.store.journal import JOURNAL_NAME, Journal
from appliance.store.journal.ledger import LEDGER_NAME
from appliance.store.journal.steps import made
from rigs.killed import left_in_the_log


def left(folder: Path) -> dict[str, str]:
    """Every file but SQLite's shared memory -> its digest."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.endswith("-shm")
    }


def uids(state: Path) -> list[str] | None:
    journal = Journal.read(state)
    if journal is None:
        return None
    with journal:
        return [series.series_uid for series in journal.series.all()]


@pytest.mark.parametrize("opening", [Journal.open, Journal.read])
@pytest.mark.parametrize("said", [0, 99])
def test_a_journal_that_a_later_release_keeps_to_itself_is_refused_with_a_remedy(
    tmp_path: Path, opening, said: int
) -> None:
    """It says so, or it does not say who may use it."""
    Journal.open(tmp_path).close()
    with sqlite3.connect(tmp_path / JOURNAL_NAME) as db:
        db.execute("CREATE TABLE more (what TEXT)")
        db.execute("PRAGMA user_version = 99")
        db.execute(f"PRAGMA application_id = {said}")
    db.close()
    with pytest.raises(StateUnusable) as refused:
        opening(tmp_path)
    assert refused.value.code == "journal_too_new"
    assert "Update the appliance" in refused.value.remedy


@pytest.mark.parametrize("opening", [Journal.open, Journal.read])
def test_a_file_that_is_no_journal_is_state_unusable(tmp_path: Path, opening) -> None:
    (tmp_path / JOURNAL_NAME).write_bytes(b"not a database" * 100)
    with pytest.raises(StateUnusable):
        opening(tmp_path)


def test_a_folder_that_is_not_there_is_state_unusable_and_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable):
        Journal.open(tmp_path / "not")
    assert Journal.read(tmp_path / "not") is None
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_was_never_finished_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).touch()
    assert Journal.read(tmp_path) is None
    with Journal.open(tmp_path) as journal:
        assert journal.series.all() == []


def test_a_reader_leaves_the_folder_as_it_is_after_all_stages_have_ended(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.series.set(SeriesKey("1.2", "1.2.3"), "open")
    before = left(tmp_path)
    assert uids(tmp_path) == ["1.2.3"]
    assert left(tmp_path) == before
    known = ("", ".lock", ".users")
    expected = sorted([LEDGER_NAME, *(JOURNAL_NAME + suffix for suffix in known)])
    assert sorted(p.name for p in tmp_path.iterdir()) == expected


def test_a_reader_leaves_the_folder_as_it_is_while_a_stage_writes(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.series.set(SeriesKey("1.2", "1.2.3"), "open")
        before = left(tmp_path)
        reader = Journal.read(tmp_path)
        assert reader is not None
        with reader:
            journal.series.set(SeriesKey("1.2", "1.2.4"), "open")
            assert len(reader.series.all()) == 2, "what is committed meanwhile is seen"
        assert left(tmp_path).keys() == before.keys()


@pytest.mark.parametrize("index", ["left", "lost"])
def test_a_reader_sees_what_a_killed_stage_left_in_the_log_and_does_not_repair_it(
    tmp_path: Path, index: str
) -> None:
    left_in_the_log(tmp_path, "1.2.3")
    assert (tmp_path / f"{JOURNAL_NAME}-wal").stat().st_size > 0
    if index == "lost":  # as a power cut may leave it
        (tmp_path / f"{JOURNAL_NAME}-shm").unlink()
    before, names = left(tmp_path), sorted(p.name for p in tmp_path.iterdir())
    assert uids(tmp_path) == ["1.2.3"]
    assert left(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_a_reader_that_meets_the_end_of_the_last_stage_reads_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite removes the index first, then the log: here the log goes while it is looked for."""
    with Journal.open(tmp_path) as journal:
        journal.series.set(SeriesKey("1.2", "1.2.3"), "open")
    log, copy = tmp_path / f"{JOURNAL_NAME}-wal", shutil.copyfile
    log.touch()

    def copied(source: Path, target: Path) -> None:
        log.unlink(missing_ok=True)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", copied)
    assert uids(tmp_path) == ["1.2.3"]


def test_no_stage_starts_while_a_log_without_its_index_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal.open(tmp_path).close()
    (tmp_path / f"{JOURNAL_NAME}-wal").touch()
    copy, free = shutil.copyfile, []

    def copied(source: Path, target: Path) -> None:
        opener = (tmp_path / f"{JOURNAL_NAME}.lock").open("rb+")
        with opener, contextlib.suppress(BlockingIOError):
            fcntl.flock(opener, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free.append(source)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", copied)
    assert uids(tmp_path) == []
    assert free == []


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    Journal.open(tmp_path).close()
    reader = Journal.read(tmp_path)
    assert reader is not None
    with reader, pytest.raises(StateUnusable, match="readonly"):
        reader.audit.add("alice", "login")


def test_a_path_with_odd_characters_is_opened_and_read(tmp_path: Path) -> None:
    state = tmp_path / "a b?c#d%20"
    state.mkdir()
    with Journal.open(state) as journal:
        journal.series.set(SeriesKey("1.2", "1.2.3"), "open")
    assert uids(state) == ["1.2.3"]
    shutil.rmtree(state)


def test_the_schema_knows_the_states_of_deliveries_and_the_code_says_its_name_once() -> None:
    owed = re.search(r"CREATE TABLE owed.*?STRICT", made(), re.S)
    assert owed is not None
    check = re.search(r"state IN \(([^)]*)\)", owed[0])
    assert check is not None
    assert re.findall(r"'(\w+)'", check[1]) == [state.value for state in State]
    root = Path(appliance.__file__).parent
    texts = [path.read_text() for path in root.rglob("*.py")]
    assert sum(text.count(f'"{JOURNAL_NAME}"') for text in texts) == 1
