"""What a page shows of the journal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import PurePosixPath

import pytest

from appliance.report import Report, SeriesKey, Stage
from appliance.results import message, mqtt
from appliance.results.pacs import Pacs
from appliance.store.journal import Journal
from appliance.store.journal.shown import GROUPS, Group, Wanted
from appliance.store.rows import Place, Sender
from rigs.reports import NAMING

ALL = Wanted()


def a_study(
    journal: Journal, number: int, *, first_at: float, ae: str = "CT1", state: str = "analysed"
) -> SeriesKey:
    key = SeriesKey(f"1.2.{number}", f"1.2.{number}.1")
    association = journal.series.association_opened(
        calling_ae=ae, called_ae="SCANSIDE", host="10.0.0.5"
    )
    journal.series.arrived(association, key, calling_ae=ae, instances=number, at=first_at)
    journal.announce(key, (), pseudonym=NAMING.study(key.study))
    journal.series.set(key, state, instances=number)  # type: ignore[arg-type]
    return key


def uids(journal: Journal, wanted: Wanted = ALL) -> list[str]:
    return [study.study_uid for study in journal.shown.studies(wanted, None, 100)]


def test_pages_go_on_behind_the_last_study_whatever_comes_meanwhile(journal: Journal) -> None:
    assert not journal.shown.any()
    for number in range(1, 8):
        a_study(journal, number, first_at=1000.0 + number // 2)  # two come at each time
    first = journal.shown.studies(ALL, None, 3)
    a_study(journal, 99, first_at=2000.0)
    second = journal.shown.studies(ALL, first[-1].place, 3)
    third = journal.shown.studies(ALL, second[-1].place, 3)
    seen = [study.study_uid for study in (*first, *second, *third)]
    assert seen == [f"1.2.{number}" for number in (7, 6, 5, 4, 3, 2, 1)]
    assert uids(journal)[0] == "1.2.99"
    assert journal.shown.any()


def test_a_page_of_ten_thousand_studies_is_read_in_order_of_an_index(journal: Journal) -> None:
    with journal._db.write() as db:
        db.executemany(
            """INSERT INTO series (study_uid, series_uid, state, calling_ae, first_at, last_at,
            updated, pseudonym) VALUES (?, ?, 'analysed', ?, ?, ?, 0, ?)""",
            [
                (f"1.{n}", f"1.{n}.{m}", f"CT{n % 5}", 1e9 + n, 1e9 + n + m, f"{n:032x}")
                for n in range(10_000)
                for m in range(3)
            ],
        )
    page = journal.shown.studies(ALL, Place(1e9 + 100, 10**9), 50)
    assert [study.study_uid for study in page] == [f"1.{n}" for n in range(100, 50, -1)]
    steps = journal._db._db.execute(
        "EXPLAIN QUERY PLAN SELECT study_uid, min(first_at) FROM series GROUP BY study_uid"
    ).fetchall()
    assert any("USING INDEX" in str(step["detail"]) for step in steps)  # no sort of all rows
    assert len(journal.shown.senders()) == 5


@pytest.mark.parametrize(
    ("group", "found"),
    [
        ("arriving", {"open", "complete"}),
        ("analysed", {"analysed"}),
        ("not_analysed", {"refused", "failed"}),
        ("set_aside", {"set_aside"}),
    ],
)
def test_a_group_shows_the_studies_of_its_states(
    journal: Journal, group: Group, found: set[str]
) -> None:
    states = ("open", "complete", "analysed", "set_aside", "refused", "failed")
    for number, state in enumerate(states, 1):
        a_study(journal, number, first_at=1000.0 + number, state=state)
    expected = {f"1.2.{number}" for number, state in enumerate(states, 1) if state in found}
    assert set(uids(journal, Wanted(group=group))) == expected
    assert set(GROUPS) == {"arriving", "analysed", "not_analysed", "set_aside"}


def test_a_study_of_which_one_series_was_refused_is_among_both(journal: Journal) -> None:
    key = a_study(journal, 1, first_at=1000.0)
    other = SeriesKey(key.study, "1.2.1.2")
    journal.series.set(other, "refused", instances=3)
    assert uids(journal, Wanted(group="analysed")) == [key.study]
    assert uids(journal, Wanted(group="not_analysed")) == [key.study]
    assert uids(journal, Wanted(group="set_aside")) == []


def test_the_list_is_filtered_by_scanner_time_and_the_beginning_of_a_pseudonym(
    journal: Journal,
) -> None:
    one = a_study(journal, 1, first_at=1000.0)
    two = a_study(journal, 2, first_at=2000.0, ae="CT2")
    assert journal.shown.scanners() == ["CT1", "CT2"]
    assert uids(journal, Wanted(scanner="CT2")) == [two.study]
    assert uids(journal, Wanted(since=1500.0)) == [two.study]
    assert uids(journal, Wanted(pseudonym=NAMING.study(one.study)[:9])) == [one.study]
    assert uids(journal, Wanted(pseudonym="0" * 32)) == []
    assert journal.shown.study(NAMING.study(two.study)) == two.study
    assert journal.shown.study("0" * 32) is None


def test_a_series_is_counted_while_it_arrives_and_its_report_that_counts_is_found(
    journal: Journal,
    key: SeriesKey,
    arrive: Callable[..., str],
    commit: Callable[..., None],
    make_report: Callable[..., Report],
) -> None:
    arrive(10, 100.0)
    arrive(4, 120.0)
    (received,) = journal.shown.series([key.study])
    assert (received.series.key, received.images) == (key, 14)
    commit(make_report(stage=Stage.PRELIMINARY))
    final = make_report()
    commit(final)
    commit(make_report(images="d" * 64, revision=2, stage=Stage.PRELIMINARY))
    later = make_report(images="d" * 64, revision=2)
    assert [r.revision for _, r in journal.shown.latest([key.study])] == [2]
    commit(later)
    assert journal.shown.latest([key.study]) == [(key, later)]
    assert journal.shown.latest(["1.99"]) == []


def test_what_was_said_of_a_series_names_it_and_says_when_it_was_complete(
    journal: Journal, key: SeriesKey, noon: datetime
) -> None:
    assert journal.shown.name(key) is None
    for event in ("received", "complete"):
        sent = message.of_series(event, key, naming=NAMING, slices=9, at=noon)  # type: ignore[arg-type]
        journal.announce(key, [mqtt.enveloped(sent, key)], pseudonym=NAMING.study(key.study))
    assert journal.shown.name(key) == NAMING.series(key)
    told = journal.shown.told(key)
    assert [one.said.event for one in told] == ["received", "complete"]
    assert journal.shown.judged([key.study]) == {key: told[1].row.created}
    assert journal.shown.last_told() is None
    journal.owed.ack(mqtt.MQTT, [told[0].row.key])
    assert journal.shown.last_told() is not None


def test_what_archives_were_owed_is_found_after_its_series_let_go_of_it(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], noon: datetime
) -> None:
    archive, report = Pacs("pacs", ("sr",), "final"), make_report()
    journal.owed.add(archive.of_report(report, key, naming=NAMING, at=noon))
    (row,) = journal.shown.sent(report.report_id, ["pacs"])
    journal.owed.composed("pacs", row.key, PurePosixPath("outgoing/x.dcm"))
    (row,) = journal.shown.sent(report.report_id, ["pacs", "other"])
    assert row.file == "outgoing/x.dcm"
    (queue,) = journal.shown.queues()
    assert (queue.destination, queue.waiting, queue.dead) == ("pacs", 1, 0)
    assert queue.oldest_waiting == row.created


def test_the_longest_pause_of_a_scanner_lies_between_two_of_its_studies(journal: Journal) -> None:
    for number, at in enumerate((1000.0, 1100.0, 5000.0), 1):
        a_study(journal, number, first_at=at)
    a_study(journal, 9, first_at=200.0, ae="CT9")
    assert journal.shown.senders() == [
        Sender("CT1", 3, 5000.0, 3900.0),
        Sender("CT9", 1, 200.0, None),
    ]
