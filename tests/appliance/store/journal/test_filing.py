"""Reports go from the ledger into files, and the ledger stays short."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from appliance.report import Report, SeriesKey
from appliance.store.journal import JOURNAL_NAME, Journal, Manner, filing, ledger
from appliance.store.journal.ledger import LEDGER_NAME

Commit = Callable[..., None]


def ids(entries: Iterable[ledger.ReportEntry]) -> set[str]:
    return {entry.report_id for entry in entries}


def test_reports_are_filed_some_at_a_time_and_none_is_missing_meanwhile(
    journal: Journal, tmp_path: Path, make_report: Callable[..., Report], commit: Commit
) -> None:
    count = filing.MOST + 10
    reports = [make_report(images=f"{n:064x}", revision=n + 1) for n in range(count)]
    for report in reports:
        commit(report, instances=10)
    expected = {str(report.report_id) for report in reports}
    for _ in range(3):
        journal.tidy(tmp_path)
        in_ledger = ids(ledger.read(tmp_path / LEDGER_NAME).reports.values())
        assert ids(filing.filed(tmp_path)) | in_ledger == expected
        rows = journal.owed.waiting("mqtt", 10_000)
        journal.owed.ack("mqtt", [row.key for row in rows])
    assert ids(filing.filed(tmp_path)) == expected
    (one, *_) = filing.filed(tmp_path)
    assert (one.key, one.state, one.instances) == (SeriesKey("1.2", "1.2.3"), "analysed", 10)
    size = (tmp_path / LEDGER_NAME).stat().st_size
    journal.tidy(tmp_path)
    assert (tmp_path / LEDGER_NAME).stat().st_size <= size < filing.SMALL


def test_what_was_told_is_filed_with_its_report_and_goes_with_it(
    journal: Journal, tmp_path: Path, make_report: Callable[..., Report], commit: Commit
) -> None:
    report, gone = make_report(), make_report(images="e" * 64)
    commit(report)
    (tmp_path / "reports" / str(report.report_id)).mkdir(parents=True)
    for one in (report, gone):
        journal.told.keep(one.report_id, "final", 1, "x" * filing.SMALL)
    journal.tidy(tmp_path)
    (filed,) = filing.filed_told(tmp_path)
    assert (filed.report_id, filed.told) == (str(report.report_id), "x" * filing.SMALL)
    assert not ledger.read(tmp_path / LEDGER_NAME).told, "neither is needed there any more"
    assert not (tmp_path / "reports" / str(gone.report_id)).exists()


def test_what_is_owed_stays_in_the_ledger_however_short_it_becomes(
    journal: Journal, tmp_path: Path, make_report: Callable[..., Report], commit: Commit
) -> None:
    for n in range(30):
        commit(make_report(images=f"{n:064x}", revision=n + 1))
    owed = [row.key for row in journal.owed.waiting("mqtt", 1000)]
    journal.owed.ack("mqtt", owed[:-1])
    size = (tmp_path / LEDGER_NAME).stat().st_size
    for _ in range(2):
        journal.tidy(tmp_path)
    assert list(ledger.read(tmp_path / LEDGER_NAME).owed) == [("mqtt", owed[-1])]
    assert (tmp_path / LEDGER_NAME).stat().st_size < size / 10
    journal.owed.again("mqtt", owed[:1])
    assert [key for _, key in ledger.read(tmp_path / LEDGER_NAME).owed] == [owed[-1], owed[0]]


def test_what_a_later_release_has_entered_stays_in_the_ledger_when_it_is_written_anew(
    journal: Journal, tmp_path: Path, make_report: Callable[..., Report], commit: Commit
) -> None:
    text = b'[{"kind": "moved", "to": "x"}]'
    later = b"\n%08x %s\n" % (zlib.crc32(text), text)
    with (tmp_path / LEDGER_NAME).open("ab") as file:
        file.write(later)
    for n in range(30):
        commit(make_report(images=f"{n:064x}", revision=n + 1))
    journal.owed.ack("mqtt", [row.key for row in journal.owed.waiting("mqtt", 1000)])
    size = (tmp_path / LEDGER_NAME).stat().st_size
    journal.tidy(tmp_path)
    left = (tmp_path / LEDGER_NAME).read_bytes()
    assert len(left) < size / 10
    assert left.count(later) == 1


def test_a_journal_without_a_ledger_gets_one_with_all_in_it(
    tmp_path: Path, make_report: Callable[..., Report], key: SeriesKey, received
) -> None:
    with Journal.open(tmp_path) as journal:
        journal.commit_report(
            make_report(), key, owed=[received()], series_state="analysed", instances=4
        )
        number = journal.owed.next_seq()
    before = ledger.read(tmp_path / LEDGER_NAME)
    (tmp_path / LEDGER_NAME).unlink()
    Journal.open(tmp_path).close()
    after = ledger.read(tmp_path / LEDGER_NAME)
    assert after.owed == before.owed
    assert after.reports == before.reports
    assert after.seq == number


def test_the_numbers_go_on_where_all_was_delivered(
    journal: Journal, tmp_path: Path, received
) -> None:
    for n in range(400):
        journal.owed.add([received(n)])
    journal.owed.ack("mqtt", [row.key for row in journal.owed.waiting("mqtt", 1000)])
    number = journal.owed.next_seq()
    journal.tidy(tmp_path)
    found = ledger.read(tmp_path / LEDGER_NAME)
    assert (found.owed, found.seq) == ({}, number)


def test_a_file_that_cannot_be_read_is_left_out(
    journal: Journal, tmp_path: Path, make_report: Callable[..., Report], commit: Commit
) -> None:
    for n in range(2):
        commit(make_report(images=f"{n:064x}", revision=n + 1))
    journal.tidy(tmp_path)
    one, _ = sorted((tmp_path / "reports").glob("*/final.entry"))
    one.write_bytes(one.read_bytes()[:-9])
    assert len(list(filing.filed(tmp_path))) == 1


def test_an_edition_that_a_kill_kept_from_being_committed_is_never_filed(
    tmp_path: Path, make_report: Callable[..., Report], key: SeriesKey, received
) -> None:
    """The journal has the report in the edition before, which is filed in its place."""
    first = make_report()
    with Journal.open(tmp_path) as journal:
        journal.commit_report(first, key, owed=[received(1)], series_state="analysed", instances=4)
    alone = (tmp_path / JOURNAL_NAME).read_bytes()
    with Journal.open(tmp_path) as journal:
        later = first.model_copy(update={"edition": 2})
        journal.commit_report(later, key, owed=[received(2)], series_state="analysed", instances=4)
    (tmp_path / JOURNAL_NAME).write_bytes(alone)
    with Journal.open(tmp_path, manner=Manner.MEND) as journal:
        journal.tidy(tmp_path)
        assert len(journal.owed.waiting("mqtt", 9)) == 1
    (tmp_path / JOURNAL_NAME).unlink()
    with Journal.open(tmp_path, manner=Manner.MEND) as journal:
        assert journal.reports.get(first.report_id) == first
        assert len(journal.owed.waiting("mqtt", 9)) == 1
