"""A damaged journal is set aside, and the new one owes, knows and counts what the old one did."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from appliance.errors import StateUnusable
from appliance.report import Report, SeriesKey, Stage
from appliance.results import destinations, mqtt
from appliance.results.owed import Owed
from appliance.store.delivery import State
from appliance.store.files import Disk
from appliance.store.journal import JOURNAL_NAME, Journal, Manner, damage
from appliance.store.journal.ledger import LEDGER_NAME
from appliance.store.journal.migrate import SEQ_AHEAD
from appliance.store.spool import Spool
from rigs.reports import NAMING

SEED = 20261129
PAGE = 4096


def said(journal: Journal) -> list[tuple[str, int | None, bytes | None]]:
    """What waits, in order."""
    return [(row.key, row.seq, row.body) for row in journal.owed.waiting("mqtt", 10_000)]


def reported(journal: Journal) -> list[Report]:
    return sorted(journal.reports.recent(1000), key=lambda r: (str(r.report_id), r.stage.value))


def store(state: Path, key: SeriesKey, count: int) -> None:
    spool = Spool(state)
    for n in range(count):
        temp = spool.incoming_path()
        temp.write_bytes(b"an instance")
        spool.store(temp, key.study, key.series, f"1.{n}", lambda one, other: False)


@pytest.fixture
def state(tmp_path: Path, make_report: Callable[..., Report], noon: datetime) -> Path:
    """A device with three series: two were reported, one of them twice; much of it is owed."""
    folder = tmp_path / "state"
    folder.mkdir()
    keys = [SeriesKey("1.2", f"1.2.{n}") for n in (3, 4, 5)]
    for key in keys:
        store(folder, key, 10)
    with Journal.open(folder) as journal:
        first = make_report("1.2.3", images="1" * 64, stage=Stage.PRELIMINARY)
        final = make_report("1.2.3", images="1" * 64)
        second = make_report(
            "1.2.3", images="2" * 64, revision=2, supersedes=final.report_id
        )  # fmt: skip
        other = make_report("1.2.4", images="3" * 64)
        for report, key in (
            (first, keys[0]), (final, keys[0]), (second, keys[0]), (other, keys[1]),
        ):  # fmt: skip
            owed = list(
                destinations.of_report(report, key, at=noon, naming=NAMING, to=[mqtt.Mqtt()])
            )
            final_one = report.stage is Stage.FINAL
            journal.commit_report(
                report,
                key,
                owed=owed,
                series_state="analysed" if final_one else "open",
                instances=10 if final_one else None,
            )
        rows = journal.owed.waiting("mqtt", 100)
        journal.owed.ack("mqtt", [rows[0].key, rows[1].key])
        journal.owed.never("mqtt", rows[2].key, "too large")
        journal.series.set(keys[2], "open")
        for n in range(50):
            journal.audit.add("alice", "login", note="x" * 200, n=n)
    return folder


def broken(state: Path, how: Callable[[bytearray], None]) -> None:
    path = state / JOURNAL_NAME
    data = bytearray(path.read_bytes())
    how(data)
    path.write_bytes(data)


def first_page(data: bytearray) -> None:
    data[100 : PAGE // 2] = bytes(PAGE // 2 - 100)


def facts(state: Path) -> dict[str, Any]:
    with Journal.open(state) as journal:
        rows = journal.owed.waiting("mqtt", 100)
        dead = [row.key for row in journal.owed.listed(State.DEAD)]
        return {
            "reports": reported(journal),
            "owed": {*(row.key for row in rows), *dead},
            "series": {s.key: (s.state, s.instances) for s in journal.series.all()},
            "seq": journal.owed.next_seq(),
            "head": journal.audit.head(),
        }


def test_the_new_journal_knows_owes_and_counts_what_the_old_one_did(state: Path) -> None:
    before = facts(state)
    old = (state / JOURNAL_NAME).read_bytes()
    broken(state, first_page)
    damaged = (state / JOURNAL_NAME).read_bytes()
    with Journal.open(state, manner=Manner.MEND) as journal:
        assert reported(journal) == before["reports"]
        assert {row.key for row in journal.owed.waiting("mqtt", 100)} == before["owed"]
        rows = {s.key: (s.state, s.instances) for s in journal.series.all()}
        assert rows == before["series"]
        assert journal.series.set_stat_of_study(before["reports"][0].study.pseudonym) == 2
        # what the file cannot say any more, the ledger does
        assert journal.owed.next_seq() > SEQ_AHEAD
        assert journal.audit.verify() is None
        (first,) = journal.audit.rows()
        assert (first.action, first.detail["head"]) == ("journal_damaged", "it could not be read")
    told = damage.read(state)
    assert told is not None
    assert told.finished
    assert told.file is not None
    assert told.sentence().count(told.file) == 1
    assert (state / told.file).read_bytes() == damaged != old
    with Journal.open(state) as journal:
        assert reported(journal) == before["reports"], "it is whole, and opened by all"


def test_what_archives_were_told_survives_filed_or_not_in_its_order(state: Path) -> None:
    with Journal.open(state) as journal:
        report = journal.reports.recent(1)[0].report_id
        journal.told.keep(report, "preliminary", 1, "first")
        (state / "reports" / str(report)).mkdir(parents=True)
        journal.tidy(state)
        journal.told.keep(report, "final", 1, "second")
        journal.told.keep(report, "final older at pacs", 1, "to one")
        assert (state / "reports" / str(report) / "preliminary-1.told").exists()
    broken(state, first_page)
    with Journal.open(state, manner=Manner.MEND) as journal:
        assert journal.told.all(report) == ["first", "second"]
        assert journal.told.kept(report, "final older at pacs", 1) == "to one"
        assert journal.told.keep(report, "final", 1, "anew") == "second"


def test_where_the_old_file_can_still_be_read_its_numbers_and_its_audit_go_on(state: Path) -> None:
    before = facts(state)
    with sqlite3.connect(state / JOURNAL_NAME) as db:
        db.execute("PRAGMA user_version = 77")
    db.close()
    with Journal.open(state, manner=Manner.MEND) as journal:
        assert journal.owed.next_seq() == before["seq"] + SEQ_AHEAD + 1
        (first,) = journal.audit.rows()
        row, head = before["head"]
        assert first.detail["head"] == f"row {row}, {head}"
        assert first.previous == "0" * 64


def test_a_message_keeps_its_bytes_and_its_place(state: Path) -> None:
    with Journal.open(state) as journal:
        before = said(journal)
    (state / JOURNAL_NAME).unlink()
    with Journal.open(state, manner=Manner.MEND) as journal:
        after = [row for row in said(journal) if row in before]
        assert after == before
    assert damage.read(state).file is None  # type: ignore[union-attr]


def test_reports_that_were_filed_come_back_although_the_ledger_forgot_them(
    state: Path, make_report: Callable[..., Report]
) -> None:
    with Journal.open(state) as journal:
        before = reported(journal)
        owed = [row.key for row in journal.owed.waiting("mqtt", 100)]
        journal.owed.ack("mqtt", owed)
        journal.tidy(state)
    (state / LEDGER_NAME).unlink()
    Path(state / JOURNAL_NAME).write_bytes(b"no database at all" * 1000)
    with Journal.open(state, manner=Manner.MEND) as journal:
        assert reported(journal) == before
        key = SeriesKey("1.2", "1.2.3")
        digest = before[0].bundle.digest if before[0].bundle else None
        assert journal.reports.next_revision(key, digest) == 3
        assert journal.owed.waiting("mqtt", 9) == []


def test_what_a_failed_transaction_would_have_owed_is_not_owed(
    state: Path, make_report: Callable[..., Report], noon: datetime
) -> None:
    key, report = SeriesKey("1.2", "1.2.5"), make_report("1.2.5", images="9" * 64)
    owed = list(destinations.of_report(report, key, at=noon, naming=NAMING, to=[mqtt.Mqtt()]))
    with Journal.open(state) as journal:
        size = (state / LEDGER_NAME).stat().st_size

        def commit() -> None:
            with journal._db.write() as db:
                db.execute("PRAGMA defer_foreign_keys = 1")
                db.execute("INSERT INTO arrivals VALUES ('none', '1.2', '1.2.5', 1, 1, 1)")
                journal.owed.add_in(db, owed)

        with pytest.raises(StateUnusable, match="FOREIGN KEY"):
            commit()
        assert (state / LEDGER_NAME).stat().st_size == size
    (state / JOURNAL_NAME).unlink()
    with Journal.open(state, manner=Manner.MEND) as journal:
        assert str(owed[0].key) not in {row.key for row in journal.owed.waiting("mqtt", 100)}


def test_a_transaction_that_a_kill_ended_is_taken_out_by_the_next_work(
    state: Path, make_report: Callable[..., Report], noon: datetime
) -> None:
    """Its line is there, and the journal knows nothing of it: it was never said."""
    key, report = SeriesKey("1.2", "1.2.5"), make_report("1.2.5", images="9" * 64)
    owed = list(destinations.of_report(report, key, at=noon, naming=NAMING, to=[mqtt.Mqtt()]))
    journal_alone = (state / JOURNAL_NAME).read_bytes()
    with Journal.open(state) as journal:
        journal.commit_report(report, key, owed=owed, series_state="analysed", instances=10)
    (state / JOURNAL_NAME).write_bytes(journal_alone)
    with Journal.open(state, manner=Manner.MEND) as journal:
        assert journal.reports.get(report.report_id) is None
        journal.tidy(state)
    assert damage.read(state) is None
    assert str(report.report_id).encode() not in (state / LEDGER_NAME).read_bytes()


def test_a_second_damage_names_the_file_of_the_first_one_too(state: Path) -> None:
    for _ in range(2):
        broken(state, first_page)
        Journal.open(state, manner=Manner.MEND).close()
    told = damage.read(state)
    assert told is not None
    assert len({told.file, *told.earlier}) == 2
    assert all((state / name).exists() for name in (told.file, *told.earlier) if name)


def test_a_full_disk_loses_nothing_and_the_next_start_tries_again(state: Path) -> None:
    class Full(Disk):
        def sync_file(self, path: Path) -> None:
            if path.name == JOURNAL_NAME:
                raise OSError(28, "No space left on device")
            super().sync_file(path)

    before = facts(state)
    broken(state, first_page)
    with pytest.raises(StateUnusable, match="No space left") as refused:
        Journal.open(state, disk=Full(), manner=Manner.MEND)
    assert "tries again" in refused.value.remedy
    with pytest.raises(StateUnusable) as waits:
        Journal.open(state)
    assert waits.value.code == "journal_damaged"
    with Journal.open(state, manner=Manner.MEND) as journal:
        assert reported(journal) == before["reports"]
        assert {row.key for row in journal.owed.waiting("mqtt", 100)} == before["owed"]


@pytest.mark.parametrize("names_lost", [False, True])
def test_the_power_may_be_cut_before_every_step(
    state: Path, cut_disk: Any, power_cut: Any, names_lost: bool, tmp_path: Path
) -> None:
    before = facts(state)
    broken(state, first_page)
    damaged = (state / JOURNAL_NAME).read_bytes()
    cuts = 0
    while True:
        copy = tmp_path / f"cut-{cuts}"
        shutil.copytree(state, copy)
        try:
            disk = cut_disk(copy, cuts, names_lost=names_lost)
            Journal.open(copy, disk=disk, manner=Manner.MEND).close()
        except power_cut:
            cuts += 1
        else:
            break
        with Journal.open(copy, manner=Manner.MEND) as journal:
            assert reported(journal) == before["reports"], f"cut {cuts}"
            assert {row.key for row in journal.owed.waiting("mqtt", 100)} == before["owed"]
            assert journal.owed.next_seq() > SEQ_AHEAD
        told = damage.read(copy)
        assert told is not None
        assert told.file is not None
        assert (copy / told.file).read_bytes() == damaged, f"cut {cuts}"
        assert not (copy / f".{JOURNAL_NAME}.tmp").exists()
        shutil.rmtree(copy)
    assert cuts >= 10


def flips(state: Path, count: int) -> list[int]:
    """Offsets, spread over all pages."""
    size = (state / JOURNAL_NAME).stat().st_size
    random_ = random.Random(SEED)
    pages = [random_.randrange(size // PAGE) for _ in range(count)]
    head = [16, 18, 19, 20, 28, 44, 56, 60, 63, 105]  # fields of the first page that decide much
    return head + [page * PAGE + random_.randrange(PAGE) for page in pages]


def survives(state: Path, before: dict[str, Any], what: str) -> None:
    """Whatever was found or not: all that was said is known, and all that is owed is owed."""
    with Journal.open(state, manner=Manner.MEND) as journal:
        rows = journal.owed.waiting("mqtt", 100)
        dead = [row.key for row in journal.owed.listed(State.DEAD)]
        assert {*(row.key for row in rows), *dead} >= before["owed"], what
        for row in rows:
            payload = mqtt.Envelope.model_validate_json(row.body or b"").payload
            assert json.loads(payload)["seq"] == row.seq, what
        journal.audit.add("alice", "login")
        journal.owed.ack("mqtt", [row.key for row in rows])
        assert journal.owed.waiting("mqtt", 9) == [], what


def test_one_flipped_bit_anywhere_loses_nothing_that_is_owed(state: Path, tmp_path: Path) -> None:
    flip_and_open(state, tmp_path, 40)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_one_flipped_bit_in_each_of_many_places_loses_nothing_that_is_owed(
    state: Path, tmp_path: Path
) -> None:
    flip_and_open(state, tmp_path, 1500)


def flip_and_open(state: Path, tmp_path: Path, count: int) -> None:
    before = facts(state)
    for n, offset in enumerate(flips(state, count)):
        copy = tmp_path / f"flip-{n}"
        shutil.copytree(state, copy)
        broken(copy, lambda data, at=offset, bit=n % 8: _flip(data, at, bit))  # type: ignore[misc]
        survives(copy, before, f"bit {n % 8} of byte {offset}")
        shutil.rmtree(copy)


def _flip(data: bytearray, at: int, bit: int) -> None:
    data[at] ^= 1 << bit


def test_a_page_of_zeros_and_a_file_cut_short_lose_nothing_that_is_owed(
    state: Path, tmp_path: Path
) -> None:
    before = facts(state)
    size = (state / JOURNAL_NAME).stat().st_size

    def zero(at: int) -> Callable[[bytearray], None]:
        def change(data: bytearray) -> None:
            data[at : at + PAGE] = bytes(PAGE)

        return change

    def short(to: int) -> Callable[[bytearray], None]:
        def change(data: bytearray) -> None:
            del data[to:]

        return change

    changes = {f"zeros at {at}": zero(at) for at in range(0, size, PAGE)}
    changes |= {f"cut at {to}": short(to) for to in (0, 50, 100, 1000, PAGE, 3 * PAGE, size - 7)}
    for n, (what, change) in enumerate(changes.items()):
        copy = tmp_path / f"change-{n}"
        shutil.copytree(state, copy)
        broken(copy, change)
        survives(copy, before, what)
        shutil.rmtree(copy)


def test_of_a_report_the_latest_edition_counts_wherever_it_was_kept(
    state: Path, make_report: Callable[..., Report]
) -> None:
    """It was filed, and its line in the ledger is damaged: the line of the one before is whole."""
    key, first = SeriesKey("1.2", "1.2.5"), make_report("1.2.5", images="9" * 64)
    later = first.model_copy(update={"edition": 2})
    with Journal.open(state) as journal:
        for report in (first, later):
            journal.commit_report(report, key, owed=[], series_state="analysed", instances=10)
        journal.tidy(state)
    *others, last = (state / LEDGER_NAME).read_bytes().rstrip(b"\n").split(b"\n")
    assert b'edition\\":2' in last
    (state / LEDGER_NAME).write_bytes(b"\n".join([*others, b"0" + last[1:], b""]))
    (state / JOURNAL_NAME).unlink()
    with Journal.open(state, manner=Manner.MEND) as journal:
        assert journal.reports.get(first.report_id) == later


def test_a_series_whose_images_were_discarded_is_news_when_they_come_again(state: Path) -> None:
    key = SeriesKey("1.2", "1.2.4")
    with Journal.open(state) as journal:
        before = reported(journal)
        journal.discard(key)
        journal.tidy(state)
    (state / JOURNAL_NAME).unlink()
    with Journal.open(state, manner=Manner.MEND) as journal:
        row = journal.series.get(key)
        assert row
        assert (row.state, row.instances) == ("analysed", 0)
        assert reported(journal) == before


def test_a_series_that_arrives_while_another_restates_it_arrives_still(
    state: Path, make_report: Callable[..., Report]
) -> None:
    one, other = SeriesKey("1.2", "1.2.5"), SeriesKey("1.2", "1.2.4")
    with Journal.open(state) as journal:
        journal.series.set(other, "open")
        said = journal.reports.latest(other)
        assert said
        journal.commit_report(
            make_report("1.2.5", images="9" * 64),
            one,
            owed=[],
            series_state="analysed",
            restated=[(other, said.model_copy(update={"edition": 2}), "analysed")],
        )
    (state / JOURNAL_NAME).unlink()
    with Journal.open(state, manner=Manner.MEND) as journal:
        row, again = journal.series.get(other), journal.reports.latest(other)
        assert row
        assert again
        assert (row.state, again.edition) == ("open", 2)


def test_nothing_of_a_deleted_series_comes_back(
    state: Path, make_report: Callable[..., Report]
) -> None:
    """Not where its report was just filed when the power was cut, nor where another series of its
    study restates it meanwhile."""
    key, other = SeriesKey("1.2", "1.2.4"), SeriesKey("1.2", "1.2.5")
    with Journal.open(state) as journal:
        journal.owed.ack("mqtt", [row.key for row in journal.owed.waiting("mqtt", 100)])
        journal.tidy(state)
        row, gone = journal.series.get(key), journal.reports.latest(key)
        assert row
        assert gone
        assert journal.forget(row)
        journal.commit_report(
            make_report("1.2.5", images="9" * 64),
            other,
            owed=[],
            series_state="analysed",
            restated=[(key, gone.model_copy(update={"edition": 2}), "analysed")],
        )
        assert journal.reports.get(gone.report_id) is None
    assert (state / "reports" / str(gone.report_id) / "final.entry").exists()
    shutil.rmtree(Spool(state).folder(key))
    (state / JOURNAL_NAME).unlink()
    with Journal.open(state, manner=Manner.MEND) as journal:
        assert journal.reports.get(gone.report_id) is None
        assert journal.series.get(key) is None


def test_what_was_composed_is_composed_still_and_what_was_empty_is_not_owed(state: Path) -> None:
    key, path = SeriesKey("1.2", "1.2.4"), PurePosixPath("outgoing/one.dcm")
    with Journal.open(state) as journal:
        journal.owed.add(Owed("archive", name, key, b"order") for name in ("a", "b", "c", "d"))
        journal.owed.composed("archive", "b", path)
        journal.owed.ack("archive", ["c"])
        journal.owed.composed("archive", "c", path)
        journal.owed.empty("archive", "d", "nothing to show")
    (state / JOURNAL_NAME).unlink()
    with Journal.open(state, manner=Manner.MEND) as journal:
        rows = journal.owed.waiting("archive", 9)
        assert [(r.key, r.body, r.file) for r in rows] == [
            ("a", b"order", None),
            ("b", b"order", str(path)),
        ]
        assert [row.key for row in journal.owed.uncomposed(["archive"], 9)] == ["a"]
