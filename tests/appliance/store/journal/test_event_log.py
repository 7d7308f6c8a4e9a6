"""Facts that a person may ask for, by their kind."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from appliance.report import BundleRef
from appliance.store import events
from appliance.store.events import AssociationRefused, BrokerAway, Event, InstanceRefused, Loaded
from appliance.store.journal import Journal

KINDS = [
    kind
    for _, kind in inspect.getmembers(events, inspect.isclass)
    if issubclass(kind, Event) and kind is not Event
]


def refused(subject: str) -> AssociationRefused:
    return AssociationRefused(subject=subject, text="why", remedy="add it", host="h", called_ae="S")


def test_events_are_found_by_kind_the_newest_first(journal: Journal) -> None:
    journal.events.add(refused("CT1"))
    image = InstanceRefused(
        subject="1.2.3", status="C000", code="bad_uid", text="why", association="a"
    )
    journal.events.add(image)
    journal.events.add(refused("CT2"))
    found = journal.events.of(AssociationRefused)
    assert [one.event for one in found] == [refused("CT2"), refused("CT1")]
    assert found[0].at >= found[1].at
    assert [one.event for one in journal.events.of(InstanceRefused)] == [image]
    assert [one.event.subject for one in journal.events.of(AssociationRefused, 1)] == ["CT2"]


def test_an_event_comes_back_as_it_was_written(journal: Journal) -> None:
    loaded = Loaded(bundles=(BundleRef(name="b", version="1.0.0", digest="d" * 64),), backend=None)
    journal.events.add(loaded)
    assert [one.event for one in journal.events.of(Loaded)] == [loaded]


@pytest.mark.parametrize("detail", ["{", "7", "null", '{"other": 1}'])
def test_a_row_that_does_not_fit_its_record_is_left_out(journal: Journal, detail: str) -> None:
    journal.events.add(BrokerAway(text="before"))
    with journal._db.write() as db:
        db.execute(
            "INSERT INTO events (at, kind, subject, detail) VALUES (1.0, 'broker_away', 'x', ?)",
            (detail,),
        )
    assert [one.event.text for one in journal.events.of(BrokerAway)] == ["before"]


def test_a_row_to_which_a_later_release_has_added_something_counts_without_it(
    journal: Journal,
) -> None:
    with journal._db.write() as db:
        db.execute(
            """INSERT INTO events (at, kind, subject, detail)
            VALUES (1.0, 'broker_away', 'mqtt', '{"text": "a", "more": 1}')"""
        )
    assert [one.event for one in journal.events.of(BrokerAway)] == [BrokerAway(text="a")]


def test_of_what_anybody_can_bring_about_an_hour_has_so_many_events(tmp_path: Path) -> None:
    now = [1000.0]
    with Journal.open(tmp_path, clock=lambda: now[0]) as journal:
        added = journal.events.add_rationed
        assert [added(refused(f"CT{n}"), most=2, within_s=60) for n in range(4)] == [
            True,
            True,
            False,
            False,
        ]
        assert added(BrokerAway(text="another kind"), most=2, within_s=60)
        now[0] += 60
        assert added(refused("later"), most=2, within_s=60)
        now[0] -= 500  # the clock was set back: what lies ahead of it keeps nobody silent
        assert added(refused("back"), most=2, within_s=60)
        assert len(journal.events.of(AssociationRefused)) == 4


def test_every_kind_has_its_own_name() -> None:
    assert len({kind.kind for kind in KINDS}) == len(KINDS) >= 8
    assert all(kind.__doc__ for kind in KINDS)
