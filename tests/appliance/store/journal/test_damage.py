"""When the journal's file is looked at, and what is found there."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.report import Report, SeriesKey
from appliance.store.heartbeat import Heart, TroubleCode, read
from appliance.store.journal import JOURNAL_NAME, Journal, Manner, damage
from rigs.killed import left_in_the_log


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A state folder whose log a killed process has left."""
    left_in_the_log(tmp_path, *(f"1.2.{n}" for n in range(12)))
    return tmp_path


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were looked at."""
    seen: list[Path] = []
    wrong = damage.wrong

    def counted(path: Path) -> str | None:
        seen.append(path)
        return wrong(path)

    monkeypatch.setattr(damage, "wrong", counted)
    return seen


def test_after_a_clean_end_in_the_same_boot_nobody_looks(tmp_path: Path, looks: list[Path]) -> None:
    Journal.open(tmp_path).close()
    with Journal.open(tmp_path), Journal.open(tmp_path):
        pass
    Journal.open(tmp_path).close()
    assert looks == []


@pytest.mark.parametrize("what", ["killed", "another boot", "changed by somebody", "suspected"])
def test_else_the_first_one_looks_and_the_others_rely_on_it(
    killed: Path, looks: list[Path], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = killed / JOURNAL_NAME
    if what != "killed":
        Journal.open(killed).close()
        looks.clear()
    if what == "another boot":
        monkeypatch.setattr(damage, "boot_id", lambda: "another")
    elif what == "changed by somebody":
        os.utime(path)
    elif what == "suspected":
        damage.suspect(path, sqlite3.OperationalError("no such column: state"))
    with Journal.open(killed), Journal.open(killed):
        assert looks == [path]


def test_who_is_in_a_hurry_does_not_wait_for_a_look(killed: Path, looks: list[Path]) -> None:
    with pytest.raises(StateUnusable) as refused:
        Journal.open(killed, manner=Manner.HURRY)
    assert refused.value.code == "journal_not_ready"
    assert looks == []
    with Journal.open(killed), Journal.open(killed, manner=Manner.HURRY) as beside:
        assert len(beside.series.all()) == 12


def test_a_log_that_a_kill_or_a_power_cut_has_left_is_no_damage(killed: Path) -> None:
    log = killed / f"{JOURNAL_NAME}-wal"
    whole = log.read_bytes()
    assert not damage.breaks_off(log)
    for cut in range(0, len(whole), 999):
        log.write_bytes(whole[:cut])
        assert not damage.breaks_off(log), cut
    log.write_bytes(whole[:-3000] + bytes(3000))  # its last blocks never reached the disk
    assert not damage.breaks_off(log)


def test_a_log_that_is_damaged_before_its_end_is_found(killed: Path) -> None:
    """SQLite itself would go on with what lies before, and lose the rest without a word."""
    log = killed / f"{JOURNAL_NAME}-wal"
    whole = log.read_bytes()
    for at in (5, 20, 28, 40, 60, 1000, len(whole) // 2):
        changed = bytearray(whole)
        changed[at] ^= 1
        log.write_bytes(changed)
        assert damage.breaks_off(log), at
    assert damage.wrong(killed / JOURNAL_NAME)
    with pytest.raises(StateUnusable) as refused:
        Journal.open(killed)
    assert refused.value.code == "journal_damaged"
    with Journal.open(killed, manner=Manner.MEND) as journal:
        assert journal.series.all() == [], "nothing of it is in the spool or was said"
    told = damage.read(killed)
    assert told is not None
    assert told.file is not None
    assert (killed / f"{told.file}-wal").read_bytes() == bytes(changed)


def test_a_damage_that_is_met_at_work_is_mended_at_the_next_start_and_not_met_again(
    tmp_path: Path, key: SeriesKey, make_report: Callable[..., Report]
) -> None:
    """Both have it open; the one that meets it ends, and so does the other at its next step."""
    report = make_report()
    with Journal.open(tmp_path) as one, Journal.open(tmp_path) as other:
        one.commit_report(report, key, owed=[], series_state="analysed", instances=1)
        with one._db.write() as db:
            db.execute("UPDATE reports SET json = substr(json, 2)")
        with pytest.raises(StateUnusable) as met:
            one.reports.latest(key)
        assert met.value.code == "journal_damaged"
        with Journal.open(tmp_path, manner=Manner.MEND) as mended:
            assert mended.reports.latest(key) == report
            with pytest.raises(StateUnusable) as replaced:
                other.series.set(key, "open")
            assert replaced.value.code == "journal_replaced"
            one.close()
            other.close()
            assert mended.reports.latest(key) == report
            mended.series.set(key, "open")
        with Journal.open(tmp_path) as again:
            assert again.series.get(key) is not None


def test_a_file_that_was_damaged_before_its_last_user_left_word_of_it_is_mended(
    tmp_path: Path, key: SeriesKey
) -> None:
    """Its word is that of the damaged file, so nobody looks until it is to be used."""
    path = tmp_path / JOURNAL_NAME
    with Journal.open(tmp_path) as journal:
        journal.series.set(key, "open")
        journal._db._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"no journal at all" * 500)
        path.with_name(f"{path.name}-wal").unlink()
    assert damage.is_as_left(path, path.with_name(f"{path.name}.users").read_bytes())
    for manner, code in ((Manner.HURRY, "journal_not_ready"), (Manner.LOOK, "journal_damaged")):
        with pytest.raises(StateUnusable) as refused:
            Journal.open(tmp_path, manner=manner)
        assert refused.value.code == code
    Journal.open(tmp_path, manner=Manner.MEND).close()
    Journal.open(tmp_path, manner=Manner.HURRY).close()
    told = damage.read(tmp_path)
    assert told is not None
    assert told.why == "file is not a database"


def test_what_is_no_text_where_text_should_be_is_a_damage(tmp_path: Path, key: SeriesKey) -> None:
    with Journal.open(tmp_path) as journal:
        journal.series.set(key, "open")
        with journal._db.write() as db:
            db.execute("UPDATE series SET calling_ae = CAST(x'd8d8' AS TEXT)")
        with pytest.raises(StateUnusable) as met:
            journal.series.all()
        assert met.value.code == "journal_damaged"
        assert str(damage.suspected(tmp_path / JOURNAL_NAME)).startswith(damage.CERTAINLY)


def test_a_schema_that_is_no_text_is_a_damage(tmp_path: Path) -> None:
    """Python raises UnicodeDecodeError there, which is no error of SQLite."""
    Journal.open(tmp_path).close()
    path = tmp_path / JOURNAL_NAME
    data = bytearray(path.read_bytes())
    data[data.index(b"CREATE TABLE events") + 8] = 0xD8
    path.write_bytes(data)
    assert damage.wrong(path)


def test_a_full_disk_and_a_lock_are_no_reason_to_suspect_the_file(tmp_path: Path) -> None:
    for text in ("database or disk is full", "database is locked", "unable to open database file"):
        damage.suspect(tmp_path / JOURNAL_NAME, sqlite3.OperationalError(text))
    assert damage.suspected(tmp_path / JOURNAL_NAME) is None


def test_a_journal_that_is_gone_is_a_damage_and_none_that_was_never_there(tmp_path: Path) -> None:
    assert Journal.read(tmp_path) is None
    Journal.open(tmp_path).close()
    (tmp_path / JOURNAL_NAME).unlink()
    for opening in (Journal.open, Journal.read):
        with pytest.raises(StateUnusable, match="it is gone"):
            opening(tmp_path)


def test_the_trouble_lasts_until_a_person_confirms(tmp_path: Path) -> None:
    Journal.open(tmp_path).close()
    (tmp_path / JOURNAL_NAME).write_bytes(b"no journal")
    Journal.open(tmp_path, manner=Manner.MEND).close()
    heart = Heart(tmp_path, "work")
    damage.tell(tmp_path, heart)
    heart.beat()
    beat = read(tmp_path, "work")
    assert beat is not None
    (trouble,) = beat.troubles
    told = damage.read(tmp_path)
    assert told is not None
    assert trouble.code is TroubleCode.JOURNAL_DAMAGED
    assert str(told.file) in trouble.text
    damage.confirm(tmp_path)
    damage.tell(tmp_path, heart)
    heart.beat()
    assert read(tmp_path, "work").troubles == ()  # type: ignore[union-attr]
    assert (tmp_path / str(told.file)).exists()


def test_a_record_of_damage_that_cannot_be_read_is_still_one(tmp_path: Path) -> None:
    (tmp_path / damage.DAMAGE_NAME).write_bytes(b"{")
    told = damage.read(tmp_path)
    assert told is not None
    assert "cannot be read" in told.sentence()


def test_what_is_owed_is_held_against_the_ledger(
    tmp_path: Path, received: Callable[..., object]
) -> None:
    with Journal.open(tmp_path) as journal:
        journal.owed.add([received()])  # type: ignore[list-item]
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in tmp_path.iterdir():
        if name.is_file():
            shutil.copy(name, copy)
    with sqlite3.connect(copy / JOURNAL_NAME) as db:
        db.execute("UPDATE owed SET body = CAST(replace(body, 'slices', 'slicez') AS BLOB)")
    db.close()
    with pytest.raises(StateUnusable, match="is not what it was"):
        Journal.open(copy)
