"""The outbox: in order, each key once, numbers without a gap, states by the table."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath

import pytest

from appliance.report import Report, SeriesKey
from appliance.results import message, mqtt
from appliance.results.owed import File, Owed
from appliance.store.delivery import Forbidden, State
from appliance.store.journal import Journal
from rigs.reports import NAMING


def keys(journal: Journal, destination: str = "mqtt") -> list[str]:
    return [row.key for row in journal.owed.waiting(destination, 1000)]


def test_what_is_owed_waits_until_it_was_taken_and_a_person_decides_about_the_dead(
    journal: Journal, received
) -> None:
    owed = [received(n) for n in range(4)]
    one, two, three, four = (o.key for o in owed)
    journal.owed.add(owed)
    journal.owed.ack("mqtt", [one])
    assert journal.owed.later("mqtt", two, "broker away") == 1
    assert keys(journal) == [two, three, four]
    journal.owed.never("mqtt", three, "too large")
    journal.owed.never("mqtt", four, "too large")
    dead = journal.owed.listed(State.DEAD)
    assert [(row.key, row.last_error) for row in dead] == [
        (three, "too large"),
        (four, "too large"),
    ]
    assert journal.owed.retry("alice", 3) == 1
    assert journal.owed.drop("alice", 4) == 1
    assert journal.owed.drop("alice", two) == 1
    counts = journal.owed.counts()
    assert (counts.waiting, counts.delivered, counts.dead, counts.dropped) == (1, 1, 0, 2)
    assert counts.oldest_waiting is not None
    assert [(r.action, r.detail) for r in journal.audit.rows()] == [
        ("outbox_drop", {"key": two, "count": 1}),
        ("outbox_drop", {"seq": 4, "count": 1}),
        ("outbox_retry", {"seq": 3, "count": 1}),
    ]
    assert journal.owed.delivered_at("mqtt", one) is not None
    assert journal.owed.delivered_at("mqtt", two) is None
    assert journal.owed.delivered_at("mqtt", "unknown") is None


def test_all_that_is_dead_is_retried_at_once_and_nothing_dead_is_no_decision(
    journal: Journal, received
) -> None:
    assert journal.owed.retry("alice") == 0
    journal.owed.add(received(n) for n in range(3))
    for key in keys(journal)[:2]:
        journal.owed.never("mqtt", key, "x")
    assert journal.owed.retry("alice") == 2
    assert len(keys(journal)) == 3
    assert [row.attempts for row in journal.owed.waiting("mqtt", 3)] == [0, 0, 0]
    assert [r.detail for r in journal.audit.rows()] == [{"seq": None, "count": 2}]


def test_a_decision_that_makes_no_sense_changes_nothing_and_is_not_audited(
    journal: Journal, received
) -> None:
    journal.owed.add([received()])
    (key,) = keys(journal)
    with pytest.raises(Forbidden):
        journal.owed.retry("alice", 1)
    journal.owed.ack("mqtt", [key])
    with pytest.raises(Forbidden):
        journal.owed.drop("alice", 1)
    assert journal.owed.retry("alice", 99) == journal.owed.drop("alice", "unknown") == 0
    assert journal.owed.counts().delivered == 1
    assert not journal.audit.rows()


def test_one_key_is_decided_about_wherever_it_is_still_owed(journal: Journal) -> None:
    journal.owed.add(Owed(name, "k", None, b"x") for name in ("one", "two", "three"))
    journal.owed.ack("one", ["k"])
    journal.owed.never("two", "k", "no")
    assert journal.owed.retry("alice", "k") == 1
    assert (keys(journal, "one"), keys(journal, "two")) == ([], ["k"])
    assert journal.owed.drop("alice", "k") == 2
    with pytest.raises(Forbidden):
        journal.owed.drop("alice", "k")
    assert (journal.owed.counts().delivered, journal.owed.counts().dropped) == (1, 2)


def test_an_answer_that_comes_late_is_no_error_and_only_an_ack_is_believed(
    journal: Journal, received
) -> None:
    journal.owed.add([received(n) for n in range(2)])
    dropped, dead = keys(journal)
    journal.owed.drop("alice", dropped)
    journal.owed.never("mqtt", dead, "PUBACK 0x90")
    for key in (dropped, dead):
        journal.owed.later("mqtt", key, "late")
        journal.owed.never("mqtt", key, "late")
    counts = journal.owed.counts()
    assert (counts.dropped, counts.dead) == (1, 1)
    assert [row.last_error for row in journal.owed.listed(State.DEAD)] == ["PUBACK 0x90"]
    journal.owed.ack("mqtt", [dead, dropped, "unknown"])
    assert journal.owed.counts().delivered == 2
    assert journal.owed.later("mqtt", "unknown", "x") == 0


def test_again_takes_all_messages_of_one_report_and_its_withdrawal(
    journal: Journal, make_report: Callable[..., Report], commit
) -> None:
    old = make_report()
    commit(old)
    commit(make_report(images="d" * 64, revision=2, supersedes=old.report_id))
    journal.owed.ack("mqtt", keys(journal))

    def of(report: Report) -> list[str]:
        rows = journal.owed.of_study("mqtt", "1.2")
        return [row.key for row in rows if mqtt.is_about(row.body, report)]

    assert journal.owed.again("mqtt", of(old)) == 3
    assert keys(journal)[-1] == str(NAMING.event(old.report_id, "superseded"))
    assert of(make_report(images="e" * 64)) == []


def test_what_was_dropped_is_not_sent_again(journal: Journal, received) -> None:
    journal.owed.add([received()])
    (key,) = keys(journal)
    journal.owed.drop("alice", key)
    assert journal.owed.again("mqtt", [key]) == 0
    assert keys(journal) == []


def test_acknowledgements_that_came_together_are_one_transaction(
    journal: Journal, received
) -> None:
    journal.owed.add([received(n) for n in range(20)])
    said: list[str] = []
    journal._db._db.set_trace_callback(said.append)
    journal.owed.ack("mqtt", keys(journal)[:19])
    journal._db._db.set_trace_callback(None)
    assert said.count("COMMIT") == 1
    counts = journal.owed.counts()
    (left,) = journal.owed.waiting("mqtt", 20)
    assert (counts.delivered, counts.waiting, counts.oldest_waiting) == (19, 1, left.created)


def test_a_destination_sees_its_own_in_its_own_order_and_draws_no_number_unasked(
    journal: Journal, key: SeriesKey, received
) -> None:
    archive = [Owed("archive", str(n), key, b"bytes %d" % n) for n in range(2)]
    file = Owed("archive", "file", key, File(PurePosixPath("reports/1/a.dcm")))
    journal.owed.add([archive[0], received(1), file, received(2), archive[1]])
    assert [row.seq for row in journal.owed.waiting("mqtt", 10)] == [1, 2]
    rows = journal.owed.waiting("archive", 10)
    assert [(r.key, r.seq, r.body, r.file) for r in rows] == [
        ("0", None, b"bytes 0", None),
        ("file", None, None, "reports/1/a.dcm"),
        ("1", None, b"bytes 1", None),
    ]
    journal.owed.ack("archive", ["0"])
    journal.owed.never("archive", "file", "the archive does not take it")
    assert (journal.owed.counts("archive").delivered, journal.owed.counts("mqtt").delivered) == (
        1,
        0,
    )
    assert journal.owed.counts().dead == 1
    assert journal.owed.drop("alice", "file") == 1


def test_a_key_that_its_destination_knows_is_dropped_silently_and_draws_no_number(
    journal: Journal, received
) -> None:
    journal.owed.add([received(1), received(1), Owed("archive", received(1).key, None, b"other")])
    journal.owed.add([received(1), received(2)])
    assert [row.seq for row in journal.owed.waiting("mqtt", 10)] == [1, 2]
    assert len(keys(journal, "archive")) == 1


ORDERED = PurePosixPath("outgoing/a.dcm")


def order(journal: Journal, key: SeriesKey, *names: str, to: str = "archive") -> None:
    journal.owed.add(Owed(to, name, key, b"an order") for name in names)


def test_what_is_ordered_is_sent_once_it_is_composed_and_its_series_need_not_wait_for_it(
    journal: Journal, key: SeriesKey, received
) -> None:
    journal.series.set(key, "analysed", instances=1)
    journal.owed.add([received()])
    order(journal, key, "one", "two")
    order(journal, key, "three", to="other")
    names = [row.key for row in journal.owed.uncomposed(["other", "archive"], 9)]
    assert (names, journal.owed.ready("archive", 9)) == (["one", "two", "three"], [])
    assert [row.key for row in journal.owed.uncomposed(["archive"], 1)] == ["one"]
    assert journal.owed.uncomposed([], 9) == []
    journal.owed.composed("archive", "one", ORDERED)
    journal.owed.composed("archive", "one", PurePosixPath("outgoing/later.dcm"))
    (ready,) = journal.owed.ready("archive", 9)
    assert (ready.key, ready.file, ready.body) == ("one", str(ORDERED), b"an order")
    assert [row.key for row in journal.owed.uncomposed(["archive"], 9)] == ["two"]
    (kept,) = journal.kept()
    assert kept.owed == 2, "two and three"
    assert not journal.forget(kept.series)
    journal.owed.composed("archive", "two", ORDERED)
    journal.owed.composed("other", "three", ORDERED)
    assert journal.forget(kept.series)
    assert [row.key for row in journal.owed.ready("archive", 9)] == ["one", "two"]


def test_what_composing_finds_empty_is_dropped_with_its_reason_and_hinders_no_deletion(
    journal: Journal, key: SeriesKey
) -> None:
    journal.series.set(key, "analysed", instances=1)
    order(journal, key, "empty", "sent")
    journal.owed.ack("archive", ["sent"])
    for name in ("empty", "sent", "unknown"):
        journal.owed.empty("archive", name, "no frame of reference")
    (dropped,) = journal.owed.listed(State.DROPPED)
    assert (dropped.key, dropped.last_error) == ("empty", "no frame of reference")
    assert journal.owed.counts().delivered == 1
    assert journal.forget(journal.kept()[0].series)


def test_a_refusal_that_does_not_count_is_kept_as_the_last_error(
    journal: Journal, key: SeriesKey
) -> None:
    order(journal, key, "one")
    assert journal.owed.later("archive", "one", "full", counts=False) == 0
    assert journal.owed.later("archive", "one", "no clear word") == 1
    assert journal.owed.later("archive", "one", "full again", counts=False) == 1
    (row,) = journal.owed.waiting("archive", 9)
    assert (row.attempts, row.last_error) == (1, "full again")


def test_what_is_owed_in_another_form_waits_in_the_place_of_the_first_one(
    journal: Journal, key: SeriesKey
) -> None:
    journal.series.set(key, "analysed", instances=1)
    order(journal, key, "one", "sent")
    journal.owed.ack("archive", ["sent"])
    again = Owed("archive", "one older", key, b"another order")
    gone = Owed("archive", "one older", SeriesKey("9", "9.9"), b"another order")
    assert not journal.order_instead("archive", "one", "refused", gone), "its series is gone"
    assert not journal.order_instead("archive", "sent", "refused", again), "it does not wait"
    assert [row.key for row in journal.owed.waiting("archive", 9)] == ["one"]
    assert journal.order_instead("archive", "one", "refused", again)
    assert [row.key for row in journal.owed.waiting("archive", 9)] == ["one older"]
    (dropped,) = journal.owed.listed(State.DROPPED)
    assert (dropped.key, dropped.last_error) == ("one", "refused")


def _post_many(state: Path, number: int, noon: datetime) -> None:
    with Journal.open(state) as journal:
        for n in range(25):
            key, slices = SeriesKey("1.2", "1.2.3"), number * 100 + n
            said = message.of_series("received", key, naming=NAMING, slices=slices, at=noon)
            journal.owed.add([mqtt.enveloped(said)])
            journal.owed.next_seq()
            journal.audit.add("test", "posted", n=n)


def test_several_processes_open_and_write_at_once_without_a_gap_or_a_double(
    tmp_path: Path, noon: datetime
) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_post_many, args=(tmp_path, n, noon)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    with Journal.open(tmp_path) as journal:
        rows = journal.owed.waiting("mqtt", 1000)
        seqs = [row.seq or 0 for row in rows]
        assert len(set(seqs)) == 75
        assert seqs == sorted(seqs)
        assert journal.owed.next_seq() == 151
        assert journal.audit.verify() is None
        for row in rows:
            payload = json.loads(mqtt.Envelope.model_validate_json(row.body or b"").payload)
            assert payload["seq"] == row.seq
