"""What spans the parts of the journal: one transaction a call."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.report import Report, SeriesKey
from appliance.results import message, mqtt
from appliance.results.mqtt import Envelope
from appliance.results.owed import Owed
from appliance.store.events import BrokerAway
from appliance.store.journal import JOURNAL_NAME, Journal, Manner
from rigs.reports import NAMING


def waiting(journal: Journal) -> list[Envelope]:
    rows = journal.owed.waiting("mqtt", 10_000)
    return [Envelope.model_validate_json(row.body or b"") for row in rows]


def test_a_report_is_committed_with_all_its_messages_and_a_replay_adds_nothing(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], received, commit
) -> None:
    report = make_report()
    journal.owed.add([received()])
    for _ in range(2):
        commit(report, instances=10)
    rows = journal.owed.waiting("mqtt", 10)
    assert [row.seq for row in rows] == [1, 2, 3]
    found = waiting(journal)
    assert [one.topic for one in found] == [
        f"study/{NAMING.study('1.2')}/event",
        f"study/{NAMING.study('1.2')}/event",
        "finding/routine",
    ]
    payloads = [json.loads(one.payload) for one in found]
    assert [payload["seq"] for payload in payloads] == [1, 2, 3]
    assert [payload["event_id"] for payload in payloads] == [row.key for row in rows]
    assert journal.reports.get(report.report_id) == report
    (series,) = journal.series.all()
    assert (series.key, series.state, series.instances) == (key, "analysed", 10)
    assert journal.series.set_stat_of_study(report.study.pseudonym) == 1


def test_a_transaction_that_fails_half_way_leaves_nothing(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], received
) -> None:
    report = make_report()

    def owed() -> Iterator[Owed]:
        yield received()
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        journal.commit_report(report, key, owed=owed(), series_state="analysed")
    assert journal.reports.get(report.report_id) is None
    assert journal.owed.waiting("mqtt", 10) == []
    assert journal.series.all() == []
    assert journal.owed.next_seq() == 1


def _commit_forever(state: Path, noon: datetime, queue: Any) -> None:
    with Journal.open(state) as journal:
        for n in range(10_000):
            said = message.of_series(
                "received", SeriesKey("1.2", "1.2.3"), naming=NAMING, slices=n, at=noon
            )
            journal.owed.add([mqtt.enveloped(said)])
            queue.put(n)


def test_what_was_committed_survives_kill_9(tmp_path: Path, noon: datetime) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_commit_forever, args=(tmp_path, noon, queue))
    process.start()
    done = [queue.get(timeout=60) for _ in range(20)]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with Journal.open(tmp_path) as journal:
        slices = [json.loads(one.payload)["slices"] for one in waiting(journal)]
        assert slices[: len(done)] == done


def test_a_series_is_forgotten_with_all_that_hangs_on_it_and_not_while_it_is_owed_or_changes(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], arrive, commit
) -> None:
    other = SeriesKey("1.9", key.series)
    arrive(1, 1.0)
    arrive(1, 2.0, of=other)
    commit(make_report())
    (kept, of_other) = journal.kept()
    assert (kept.series.key, kept.owed, kept.final) == (key, 2, True)
    assert (of_other.series.key, of_other.owed, of_other.final) == (other, 0, False)
    assert not journal.forget(kept.series), "something is owed"
    journal.owed.ack("mqtt", [row.key for row in journal.owed.waiting("mqtt", 9)])
    journal.series.set(key, "analysed", instances=2)
    assert not journal.forget(kept.series), "it changed since"
    assert journal.forget(journal.kept()[0].series)
    assert journal.series.get(key) is None
    assert journal.series.arrivals(key) == []
    assert journal.reports.latest(key) is None
    assert journal.owed.counts().delivered == 0
    assert [s.key for s in journal.series.all()] == [other]
    assert len(journal.series.arrivals(other)) == 1


def test_what_is_settled_and_of_no_series_is_purged_when_it_is_old(
    journal: Journal, received
) -> None:
    journal.owed.add(received(n) for n in range(3))
    one, two, _ = (row.key for row in journal.owed.waiting("mqtt", 3))
    journal.owed.ack("mqtt", [one])
    journal.owed.never("mqtt", two, "x")
    journal.events.add(BrokerAway(text="why"))
    journal.purge(float("-inf"))
    assert journal.owed.counts().delivered == len(journal.events.of(BrokerAway)) == 1
    journal.purge(float("inf"))
    assert journal.owed.delivered_at("mqtt", one) is None
    assert (journal.owed.counts().waiting, journal.owed.counts().dead) == (1, 1)
    assert not journal.events.of(BrokerAway)


def test_what_a_stage_asks_again_and_again_is_found_by_an_index_in_its_order(
    journal: Journal, key: SeriesKey
) -> None:
    """However many rows there are: nothing is sorted, and no row that is not meant is read."""
    asked: list[str] = []
    db = journal._db._db
    db.set_trace_callback(asked.append)
    journal.events.of(BrokerAway, 1)
    journal.owed.waiting("mqtt", 20)
    journal.owed.ready("archive", 20)
    journal.owed.uncomposed(["archive"], 20)
    journal.owed.counts()
    journal.owed.counts("mqtt")
    journal.series.all("open")
    journal.reports.next_revision(key, "d")
    with journal._db.write() as inside:
        journal.owed.purge_in(inside, 1.0)
    db.set_trace_callback(None)
    asked = [sql for sql in asked if sql.startswith(("SELECT", "DELETE"))]
    plans = {
        sql: [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in asked
    }
    assert len(plans) >= 14
    for sql, plan in plans.items():
        assert not [step for step in plan if "SCAN" in step or "TEMP" in step], sql
    (purged,) = (plan for sql, plan in plans.items() if sql.startswith("DELETE"))
    assert "study_uid" in purged[0]


def test_a_stage_that_cannot_mend_waits_until_another_has(tmp_path: Path) -> None:
    Journal.open(tmp_path).close()
    (tmp_path / JOURNAL_NAME).write_bytes(b"no journal")

    def mend() -> None:
        Journal.open(tmp_path, manner=Manner.MEND).close()

    mender = threading.Timer(0.2, mend)
    mender.start()
    with Journal.awaited(tmp_path) as journal:
        assert journal.series.all() == []
    mender.join()


def test_what_a_journal_in_memory_has_goes_over_into_the_real_one(
    journal: Journal, key: SeriesKey
) -> None:
    with Journal.in_memory() as spare:
        one = spare.series.association_opened(calling_ae="CT1", called_ae="S", host="10.0.0.5")
        spare.series.arrived(one, key, calling_ae="CT1", instances=3, at=9.0, first_at=4.0)
        spare.series.association_ended(one, "released")
        spare.events.add(BrokerAway(text="why"))
        spare.copy_to(journal)
    (arrival,) = journal.series.arrivals(key)
    assert (arrival.first_at, arrival.last_at, arrival.instances) == (4.0, 9.0, 3)
    assert arrival.association.outcome == "released"
    assert [row.calling_ae for row in journal.series.all("open")] == ["CT1"]
    assert [one.event.text for one in journal.events.of(BrokerAway)] == ["why"]
