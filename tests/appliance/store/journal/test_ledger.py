"""The ledger: whole lines count, and only those."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store.journal import ledger
from appliance.store.journal.ledger import (
    Contents,
    DrawnEntry,
    Entry,
    ForgottenEntry,
    Ledger,
    OwedEntry,
    ReportEntry,
    SettledEntry,
    decoded,
    encoded,
)
from rigs.cuts import Counted, Full


def owed(key: str, seq: int = 1) -> OwedEntry:
    return OwedEntry(
        destination="mqtt",
        key=key,
        seq=seq,
        study="1.2",
        series="1.2.3",
        content="aGVsbG8=",
        file=None,
        created=1.0,
    )


REPORT = ReportEntry(
    study="1.2",
    series="1.2.3",
    report_id="one",
    stage="final",
    state="analysed",
    instances=10,
    created=2.0,
    report="{}",
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.touch()
    kept = Ledger(path)
    for entry in (owed("a", 4), owed("b", 9), REPORT):
        kept.note(entry)
        kept.write()
        kept.committed()
    found = ledger.read(path)
    assert list(found.owed.values()) == [owed("a", 4), owed("b", 9)]
    assert found.owed["mqtt", "a"].body == b"hello"
    assert list(found.reports.values()) == [REPORT]
    assert found.seq == 9


def test_what_is_settled_is_owed_no_more_until_it_is_owed_again() -> None:
    entries: list[Entry] = [owed("a"), owed("b"), SettledEntry(destination="mqtt", keys=("a",))]
    assert list(Contents.of(iter(entries)).owed) == [("mqtt", "b")]
    assert list(Contents.of(iter([*entries, owed("a")])).owed) == [("mqtt", "b"), ("mqtt", "a")]


def test_of_a_series_that_was_deleted_nothing_is_left_but_the_numbers() -> None:
    found = Contents.of(
        iter([owed("a", 7), REPORT, ForgottenEntry(study="1.2", series="1.2.3"), DrawnEntry(seq=3)])
    )
    assert (found.owed, found.reports, found.seq) == ({}, {}, 7)


def test_a_line_that_is_not_whole_costs_itself_alone() -> None:
    lines = [encoded([owed("a")]), encoded([owed("b"), REPORT]), encoded([owed("c")])]
    middle = bytearray(lines[1])
    for at in range(1, len(middle) - 1):
        changed = middle.copy()
        changed[at] ^= 1
        keys = [e.key for e in decoded(lines[0] + changed + lines[2]) if isinstance(e, OwedEntry)]
        assert keys in (["a", "c"], ["a", "b", "c"]), at
        assert keys == ["a", "c"], at
    for cut in range(len(middle) - 1):
        found = list(decoded(lines[0] + bytes(middle[:cut]) + lines[2]))
        assert found == [owed("a"), owed("c")], cut


def test_a_transaction_that_fails_takes_its_line_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(before := encoded([owed("a")]))
    kept = Ledger(path)
    kept.note(owed("b"))
    kept.write()
    assert path.read_bytes() != before
    kept.take_back()
    assert path.read_bytes() == before
    kept.note(owed("c"))
    kept.take_back()
    kept.write()
    assert path.read_bytes() == before


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(before := encoded([owed("a")]))
    kept = Ledger(path, Full())
    kept.note(owed("b"))
    with pytest.raises(StateUnusable, match="No space left"):
        kept.write()
    assert path.read_bytes() == before


def test_what_was_delivered_is_noted_without_a_sync(tmp_path: Path) -> None:
    path, disk = tmp_path / "ledger", Counted()
    path.touch()
    kept = Ledger(path, disk)
    kept.note(SettledEntry(destination="mqtt", keys=("a",)), lasting=False)
    kept.write()
    assert disk.did["sync_file"] == 0
    kept.note(owed("b"))
    kept.note(owed("c"))
    kept.write()
    assert disk.did["sync_file"] == 1, "one for a transaction"


def of_a_later_release() -> bytes:
    """A line with what that one knows, in between what is known here."""
    known = [{**one.model_dump(mode="json"), "later": 1} for one in (owed("a"), owed("b", 2))]
    text = json.dumps([known[0], {"kind": "moved", "to": "x"}, known[1]]).encode()
    return b"\n%08x %s\n" % (zlib.crc32(text), text)


def test_of_a_line_of_a_later_release_what_is_known_here_counts() -> None:
    assert list(decoded(of_a_later_release())) == [owed("a"), owed("b", 2)]


def test_what_only_a_later_release_knows_is_kept_for_it() -> None:
    data = encoded([owed("c")]) + of_a_later_release()
    text = b'[{"kind": "moved", "to": "x"}]'
    kept = b"\n%08x %s\n" % (zlib.crc32(text), text)
    assert ledger.foreign(data) == kept
    assert ledger.foreign(kept) == kept, "however often it is written anew"
    assert ledger.foreign(encoded([owed("c"), REPORT])) == b""


@pytest.mark.parametrize("text", [b"{}", b"null", b"[1]", b"\xff", b'[{"kind": 1}]'])
def test_a_whole_line_that_is_no_list_of_entries_is_no_entry(text: bytes) -> None:
    assert list(decoded(b"\n%08x %s\n" % (zlib.crc32(text), text))) == []
