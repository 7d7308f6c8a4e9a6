"""The journal: one transaction a call, an outbox, a chain."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import StateUnusable
from appliance.report import Report, Stage
from appliance.results.message import Outgoing, of_report, of_series
from appliance.store.journal import ANY, Journal

STUDY, SERIES = "1.2", "1.2.3"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.open(path) as opened:
        yield opened


def received(at: datetime, slices: int = 1) -> Outgoing:
    return of_series("received", study="c" * 32, series_uid=SERIES, slices=slices, at=at)


def commit(journal: Journal, report: Report, at: datetime, **more: Any) -> None:
    journal.commit_report(
        report,
        series_uid=SERIES,
        study_uid=STUDY,
        messages=list(of_report(report, series_uid=SERIES, at=at)),
        series_state="analysed",
        **more,
    )


def arrive(journal: Journal, instances: int, at: float, association: str | None = None) -> str:
    association = association or journal.association_opened(
        calling_ae="CT1", called_ae="SCANSIDE", host="10.0.0.5"
    )
    journal.arrived(
        association,
        series_uid=SERIES,
        study_uid=STUDY,
        calling_ae="CT1",
        instances=instances,
        at=at,
    )
    return association


# Associations and series


def test_an_association_is_followed_from_its_first_instance_to_its_end(journal: Journal) -> None:
    association = arrive(journal, 1, 100.0)
    arrive(journal, 300, 160.0, association)
    journal.association_ended(association, "released")
    journal.association_ended(association, "lost")
    (arrival,) = journal.associations_of(SERIES)
    assert (arrival.first_at, arrival.last_at, arrival.instances) == (100.0, 160.0, 300)
    assert arrival.association.outcome == "released", "the first outcome stays"
    series = journal.series_of(SERIES)
    assert series is not None
    assert (series.state, series.calling_ae, series.last_at) == ("open", "CT1", 160.0)


def test_late_slices_open_a_judged_series_again_and_the_count_at_the_end_does_not(
    journal: Journal,
) -> None:
    association = arrive(journal, 1, 100.0)
    journal.set_series(SERIES, STUDY, "analysed", instances=300)
    arrive(journal, 300, 160.0, association)
    assert [s.state for s in journal.series()] == ["analysed"]
    arrive(journal, 1, 200.0)
    assert [s.state for s in journal.series("open")] == ["open"]


def test_slices_of_a_new_association_open_a_series_whose_earlier_ones_were_never_counted(
    journal: Journal,
) -> None:
    arrive(journal, 1, 100.0)  # and its receiver was killed after eight
    journal.set_series(SERIES, STUDY, "analysed", instances=8)
    arrive(journal, 1, 200.0)
    assert [s.state for s in journal.series()] == ["open"]


def test_attempts_are_counted_before_they_are_made_and_start_anew_with_new_slices(
    journal: Journal,
) -> None:
    arrive(journal, 1, 100.0)
    assert [journal.begin_attempt(SERIES) for _ in range(3)] == [1, 2, 3]
    journal.set_series(SERIES, STUDY, "failed", instances=1)
    arrive(journal, 1, 200.0)
    series = journal.series_of(SERIES)
    assert series is not None
    assert (series.state, series.attempts) == ("open", 0)


def test_associations_of_a_dead_process_are_recovered_as_lost_and_others_are_not(
    journal: Journal,
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        doomed = journal.association_opened(
            calling_ae="CT1", called_ae="SCANSIDE", host="10.0.0.5", pid=other.pid
        )
        ours = arrive(journal, 1, 1.0)
        assert journal.recover_associations() == []
        other.kill()
    assert journal.recover_associations() == [doomed]
    assert [a.id for a in journal.open_associations()] == [ours]


# Reports and the outbox


def test_a_report_is_committed_with_all_its_messages_and_a_replay_adds_nothing(
    journal: Journal, make_report: Callable[..., Report], noon: datetime
) -> None:
    report = make_report()
    journal.post([received(noon)], series_uid=SERIES)
    for _ in range(2):
        commit(journal, report, noon, instances=10)
    waiting = journal.waiting(10)
    assert [m.seq for m in waiting] == [1, 2, 3]
    assert [m.topic for m in waiting] == [
        f"study/{'c' * 32}/event",
        f"study/{'c' * 32}/event",
        "finding/routine",
    ]
    assert [json.loads(m.payload)["seq"] for m in waiting] == [1, 2, 3]
    assert json.loads(waiting[1].payload)["event_id"] == waiting[1].event_id
    assert journal.report(report.report_id) == report
    assert journal.reports_of_study(STUDY) == [report]
    assert [s.state for s in journal.series()] == ["analysed"]


def test_a_transaction_that_fails_half_way_leaves_nothing(
    journal: Journal, make_report: Callable[..., Report], noon: datetime
) -> None:
    report = make_report()

    def messages() -> Iterator[Outgoing]:
        yield received(noon)
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        journal.commit_report(
            report,
            series_uid=SERIES,
            study_uid=STUDY,
            messages=messages(),  # type: ignore[arg-type]
            series_state="analysed",
        )
    assert journal.report(report.report_id) is None
    assert journal.waiting(10) == []
    assert journal.next_seq() == 1


def test_the_final_report_comes_before_its_preliminary_and_a_higher_revision_before_both(
    journal: Journal, make_report: Callable[..., Report], noon: datetime
) -> None:
    preliminary = make_report(stage=Stage.PRELIMINARY)
    final = make_report()
    commit(journal, final, noon)
    commit(journal, preliminary, noon)
    digest = final.bundle.digest if final.bundle else None
    assert journal.latest_report(SERIES) == final
    assert journal.next_revision(SERIES, digest) == 2
    assert journal.next_revision(SERIES, digest, final.input_digest) == 1
    assert journal.next_revision(SERIES, None) == 1
    later = make_report(images="d" * 64, revision=2, supersedes=final.report_id)
    commit(journal, later, noon)
    assert journal.latest_report(SERIES, digest) == later
    assert journal.latest_report(SERIES, None) is None
    assert journal.latest_report(SERIES, ANY) == later
    assert journal.recent_reports(1) == [later]


def test_messages_are_owed_until_delivered_and_a_person_decides_about_the_dead(
    journal: Journal, noon: datetime
) -> None:
    journal.post([received(noon, n) for n in range(4)])
    journal.delivered(1)
    assert journal.failed(2, "broker away") == 1
    assert [m.seq for m in journal.waiting(10)] == [2, 3, 4]
    journal.bury(3, "too large")
    journal.bury(4, "too large")
    assert [(m.seq, m.last_error) for m in journal.dead()] == [(3, "too large"), (4, "too large")]
    assert journal.retry("alice", 3) == 1
    assert journal.drop("alice") == 1
    assert journal.drop("alice", 2) == 1
    counts = journal.outbox_counts()
    assert (counts.waiting, counts.delivered, counts.dead, counts.dropped) == (1, 1, 0, 2)
    assert counts.oldest_waiting is not None
    assert [r.action for r in journal.audit_rows()] == [
        "outbox_drop",
        "outbox_drop",
        "outbox_retry",
    ]
    event = of_series("received", study="c" * 32, series_uid=SERIES, slices=0, at=noon)
    assert journal.delivered_at(event.message.event_id) is not None
    assert journal.delivered_at("unknown") is None


def _post_many(path: Path, number: int, noon: datetime) -> None:
    with Journal.open(path) as journal:
        for n in range(25):
            journal.post([received(noon, number * 100 + n)])
            journal.next_seq()
            journal.audit("test", "posted", n=n)


def test_several_processes_open_and_write_at_once_without_a_gap_or_a_double(
    path: Path, noon: datetime
) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_post_many, args=(path, n, noon)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    with Journal.open(path) as journal:
        seqs = [m.seq for m in journal.waiting(1000)]
        assert len(set(seqs)) == 75
        assert seqs == sorted(seqs)
        assert journal.next_seq() == 151
        assert journal.verify_audit() is None


def _commit_forever(path: Path, noon: datetime, queue: Any) -> None:
    with Journal.open(path) as journal:
        for n in range(10_000):
            journal.post([received(noon, n)])
            queue.put(n)


def test_what_was_committed_survives_kill_9(path: Path, noon: datetime) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_commit_forever, args=(path, noon, queue))
    process.start()
    done = [queue.get(timeout=60) for _ in range(20)]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with Journal.open(path) as journal:
        slices = [json.loads(m.payload)["slices"] for m in journal.waiting(10_000)]
        assert slices[: len(done)] == done


def test_a_journal_of_a_newer_version_is_refused_with_a_remedy(path: Path) -> None:
    Journal.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StateUnusable) as refused:
        Journal.open(path)
    assert refused.value.code == "journal_too_new"
    assert "Update the appliance" in refused.value.remedy


def test_a_journal_of_version_1_keeps_its_series_and_learns_priorities(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.set_series("1.2.3", "1.2", "open")
    with sqlite3.connect(path) as db:  # as version 1 made it
        db.execute("ALTER TABLE series DROP COLUMN priority")
        db.execute("PRAGMA user_version = 1")
    db.close()
    with Journal.open(path) as journal:
        assert [(s.series_uid, s.priority) for s in journal.series()] == [("1.2.3", "routine")]
        journal.set_stat("1.2.3")
    with Journal.open(path) as journal:
        assert [s.priority for s in journal.series()] == ["stat"]


def test_what_is_stat_stays_so_when_more_of_it_arrives_and_when_it_is_judged(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.set_series("1.2.3", "1.2", "open")
        journal.set_stat("1.2.3", "9.9")
        one = journal.association_opened(calling_ae="CT1", called_ae="S", host="h")
        journal.arrived(
            one, series_uid="1.2.3", study_uid="1.2", calling_ae="CT1", instances=1, at=1.0
        )
        journal.set_series("1.2.3", "1.2", "analysed", instances=1)
        assert [(s.series_uid, s.priority) for s in journal.series()] == [("1.2.3", "stat")]


def test_a_file_that_is_no_journal_is_state_unusable(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StateUnusable):
        Journal.open(path)


# Facts and the chain


def test_events_are_found_by_kind_the_newest_first(journal: Journal) -> None:
    journal.event("association_refused", "CT1", text="why")
    journal.event("instance_refused", "1.2.3", status="C000")
    journal.event("association_refused", "CT2", text="why")
    assert [e.subject for e in journal.events("association_refused")] == ["CT2", "CT1"]
    assert len(journal.events()) == 3


@pytest.fixture
def chain(journal: Journal, path: Path) -> Iterator[sqlite3.Connection]:
    for n in range(5):
        journal.audit("alice", "bundle_activated", name=f"b{n}")
    assert journal.verify_audit() is None
    with sqlite3.connect(path) as db:
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
        ("INSERT INTO audit SELECT 6, 1.0, '', '', '{}', hash, hash FROM audit WHERE id = 5", 6),
    ],
)
def test_tampering_behind_the_triggers_shows_in_the_chain(
    journal: Journal, chain: sqlite3.Connection, statement: str, first_bad: int
) -> None:
    chain.executescript("DROP TRIGGER audit_never_changes; DROP TRIGGER audit_never_shrinks;")
    chain.execute(statement)
    chain.commit()
    assert journal.verify_audit() == first_bad


def test_the_head_of_the_chain_can_be_held_elsewhere(journal: Journal) -> None:
    assert journal.audit_head() == (0, "0" * 64)
    journal.audit("alice", "login")
    number, digest = journal.audit_head()
    assert (number, len(digest)) == (1, 64)
