"""The contract that every destination of the registry keeps, through the real journal.

A second destination that keeps it too stands beside them, so that one destination alone does not
hide what it does to another.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from appliance.report import (
    BackendRef,
    BundleRef,
    Finding,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)
from appliance.results import destinations
from appliance.results.destinations import DESTINATIONS
from appliance.results.owed import Destination, File, Owed, Withdrawn
from appliance.stages import STAGES
from appliance.store.delivery import Forbidden, State
from appliance.store.journal import Journal
from rigs.reports import NAMING

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
KEY = SeriesKey("1.2", "1.2.3")
STUDY = NAMING.study(KEY.study)


class Archive:
    """Another destination: the report's file, without a number."""

    name, stage, numbered = "archive", "publish", False

    def of_event(self, *_: Any, **__: Any) -> Iterator[Owed]:
        return iter(())

    def of_report(self, report: Report, key: SeriesKey, **_: Any) -> Iterator[Owed]:
        path = File(PurePosixPath("reports", str(report.report_id), "report.dcm"))
        yield Owed(
            self.name, f"{report.report_id} {report.stage.value} {report.edition}", key, path
        )

    def of_withdrawal(
        self, report_id: Any, key: SeriesKey, *, edition: int = 1, **_: Any
    ) -> Iterator[Owed]:
        yield Owed(self.name, f"{report_id} superseded {edition}", key, b"withdrawn")

    def described(self, key: str, body: bytes | None) -> str:
        return key


ALL: tuple[Destination, ...] = (*DESTINATIONS, Archive())


@pytest.fixture(params=ALL, ids=lambda one: one.name)
def destination(request: pytest.FixtureRequest) -> Destination:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as opened:
        yield opened


def a_report(images: str = "b", **changes: Any) -> Report:
    bundle = BundleRef(name="lung-nodule", version="1.0.0", digest="a" * 64)
    findings = tuple(
        Finding(
            id=n, tracking_uid=f"2.25.{n}", kind="nodule", score=0.9, threshold=0.5,
            center_lps_mm=(0.0, 0.0, 0.0), box_lps_mm=(0.0, 0.0, 0.0, 1.0, 1.0, 1.0), key_image=0,
        )
        for n in (1, 2)
    )  # fmt: skip
    fields = {
        "report_id": NAMING.report(KEY, bundle.digest, images * 64),
        "input_digest": images * 64,
        "revision": 1,
        "status": Status.ANALYSED,
        "stage": Stage.FINAL,
        "study": StudyRef(pseudonym=STUDY),
        "series": SeriesRef(slices=10),
        "bundle": bundle,
        "backend": BackendRef(name="reference", precision="fp32"),
        "findings": findings,
    }
    return Report(**{**fields, **changes})


def commit(journal: Journal, report: Report, **more: Any) -> None:
    owed = destinations.of_report(report, KEY, naming=NAMING, at=NOON, to=ALL, **more)
    journal.commit_report(report, KEY, owed=owed, series_state="analysed", instances=10)


def keys(journal: Journal, destination: Destination) -> list[str]:
    return [row.key for row in journal.owed.waiting(destination.name, 1000)]


def test_names_are_unique_and_each_is_delivered_by_a_stage() -> None:
    assert len({one.name for one in ALL}) == len(ALL)
    assert {one.stage for one in ALL} <= {stage.name for stage in STAGES}


def test_a_report_is_owed_in_order_with_what_it_withdraws_first(
    journal: Journal, destination: Destination
) -> None:
    old = a_report("d")
    report = a_report(revision=2, supersedes=old.report_id)
    other = uuid.UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
    commit(journal, report, withdraws=[Withdrawn(other, 1, KEY)])
    expected = [
        *destination.of_withdrawal(other, KEY, naming=NAMING, at=NOON),
        *destination.of_report(report, KEY, naming=NAMING, at=NOON),
    ]
    assert keys(journal, destination) == [one.key for one in expected]
    assert {one.series for one in expected} == {KEY}
    assert {one.destination for one in expected} == {destination.name}


def test_a_later_edition_of_a_report_and_its_withdrawal_are_owed_beside_the_earlier(
    journal: Journal, destination: Destination
) -> None:
    commit(journal, a_report())
    first = keys(journal, destination)
    again = a_report(edition=2)
    commit(journal, again)
    commit(journal, again)
    second = keys(journal, destination)
    assert second[: len(first)] == first
    assert len(second) == len(first) + 1, "its findings are not repeated"
    gone = [
        owed.key
        for n in (1, 2, 2)
        for owed in destination.of_withdrawal(
            again.report_id, KEY, naming=NAMING, at=NOON, edition=n
        )
    ]
    assert gone[0] != gone[1] == gone[2]


def test_each_key_is_owed_once_whatever_is_said_again(
    journal: Journal, destination: Destination
) -> None:
    for _ in range(2):
        commit(journal, a_report())
        event = destinations.of_event("received", KEY, naming=NAMING, slices=1, at=NOON, to=ALL)
        journal.announce(KEY, event, pseudonym=STUDY)
    found = keys(journal, destination)
    assert len(found) == len(set(found)) >= 1


def test_what_is_owed_survives_a_restart_as_it_was(
    tmp_path: Path, destination: Destination
) -> None:
    with Journal.open(tmp_path) as journal:
        commit(journal, a_report())
        before = journal.owed.waiting(destination.name, 10)
    with Journal.open(tmp_path) as journal:
        assert journal.owed.waiting(destination.name, 10) == before
        for row in before:
            assert destination.described(row.key, row.body)
            assert (row.body is None) != (row.file is None)


def test_it_waits_until_it_is_taken_and_a_refusal_counts(
    journal: Journal, destination: Destination
) -> None:
    commit(journal, a_report())
    first, *rest = keys(journal, destination)
    assert journal.owed.later(destination.name, first, "busy") == 1
    assert keys(journal, destination) == [first, *rest], "it keeps its place"
    journal.owed.ack(destination.name, [first])
    assert keys(journal, destination) == rest
    assert journal.owed.delivered_at(destination.name, first) is not None


def test_what_is_dead_is_not_sent_until_a_person_retries_or_drops_it(
    journal: Journal, destination: Destination
) -> None:
    commit(journal, a_report())
    first, *rest = keys(journal, destination)
    journal.owed.never(destination.name, first, "too large")
    assert keys(journal, destination) == rest
    assert journal.owed.retry("alice", first) == 1
    assert keys(journal, destination) == [first, *rest], "in its old place"
    assert journal.owed.drop("alice", first) == 1
    assert keys(journal, destination) == rest
    with pytest.raises(Forbidden):
        journal.owed.retry("alice", first)
    assert journal.owed.again(destination.name, [first]) == 0


def test_what_was_delivered_is_owed_again_where_the_consumer_asks(
    journal: Journal, destination: Destination
) -> None:
    commit(journal, a_report())
    owed = keys(journal, destination)
    journal.owed.ack(destination.name, owed)
    assert keys(journal, destination) == []
    assert journal.owed.again(destination.name, [*owed, "unknown"]) == len(owed)
    assert keys(journal, destination) == owed


def test_another_destination_that_is_down_changes_nothing(
    journal: Journal, destination: Destination
) -> None:
    for images in "bde":
        commit(journal, a_report(images))
    others = [one for one in ALL if one is not destination]
    for other in others:
        journal.owed.later(other.name, keys(journal, other)[0], "down")
        journal.owed.never(other.name, keys(journal, other)[-1], "down")
    owed = keys(journal, destination)
    journal.owed.ack(destination.name, owed)
    assert journal.owed.counts(destination.name).delivered == len(owed)
    assert journal.owed.counts(destination.name).waiting == 0
    assert all(journal.owed.counts(other.name).delivered == 0 for other in others)
    assert {row.destination for row in journal.owed.listed(State.DEAD)} == {
        other.name for other in others
    }


def test_only_what_asks_for_a_number_draws_one_and_the_others_make_no_gap(
    journal: Journal, destination: Destination
) -> None:
    for images in "bde":
        commit(journal, a_report(images))
    seqs = [row.seq for row in journal.owed.waiting(destination.name, 100)]
    assert all((seq is not None) == destination.numbered for seq in seqs)
    drawn = [
        row.seq for one in ALL for row in journal.owed.waiting(one.name, 100) if row.seq is not None
    ]
    assert sorted(drawn) == list(range(1, len(drawn) + 1))
    assert journal.owed.next_seq() == len(drawn) + 1


def test_a_destination_that_draws_a_number_unasked_is_a_fault_of_ours() -> None:
    class Wrong(Archive):
        numbered = True

    with pytest.raises(ValueError, match="numbered"):
        list(destinations.of_report(a_report(), KEY, naming=NAMING, at=NOON, to=(Wrong(),)))


def test_the_report_that_is_superseded_is_withdrawn_once_in_the_edition_that_stood(
    journal: Journal, destination: Destination
) -> None:
    old = a_report("d")
    report = a_report(revision=2, supersedes=old.report_id)
    commit(journal, report, withdraws=[Withdrawn(old.report_id, 3, KEY)])
    whole = list(destination.of_report(report, KEY, naming=NAMING, at=NOON, superseded=3))
    assert keys(journal, destination) == [one.key for one in whole]
