"""The states of what is owed: every pair of state and event, allowed and forbidden."""

from __future__ import annotations

import pytest

from appliance.errors import ScansideError
from appliance.store.delivery import FIRST, OWED, SETTLED, Event, Forbidden, State, after, sources

WAITING, DELIVERED, COMMITTED, DEAD, DROPPED = State
ALLOWED = {
    WAITING: {
        Event.ACK: DELIVERED,
        Event.COMMIT: COMMITTED,
        Event.LATER: WAITING,
        Event.NEVER: DEAD,
        Event.EMPTY: DROPPED,
        Event.REPLACED: DROPPED,
        Event.UNKEPT: WAITING,
        Event.AGAIN: WAITING,
        Event.DROP: DROPPED,
    },
    DELIVERED: {
        Event.ACK: DELIVERED,
        Event.COMMIT: COMMITTED,
        Event.LATER: DELIVERED,
        Event.NEVER: DELIVERED,
        Event.EMPTY: DELIVERED,
        Event.REPLACED: DELIVERED,
        Event.UNKEPT: DEAD,
        Event.AGAIN: WAITING,
    },
    COMMITTED: {
        Event.ACK: COMMITTED,
        Event.COMMIT: COMMITTED,
        Event.LATER: COMMITTED,
        Event.NEVER: COMMITTED,
        Event.EMPTY: COMMITTED,
        Event.REPLACED: COMMITTED,
        Event.UNKEPT: COMMITTED,
        Event.AGAIN: WAITING,
    },
    DEAD: {
        Event.ACK: DELIVERED,
        Event.COMMIT: COMMITTED,
        Event.LATER: DEAD,
        Event.NEVER: DEAD,
        Event.EMPTY: DEAD,
        Event.REPLACED: DEAD,
        Event.UNKEPT: DEAD,
        Event.RETRY: WAITING,
        Event.AGAIN: WAITING,
        Event.DROP: DROPPED,
    },
    DROPPED: {
        Event.ACK: DELIVERED,
        Event.COMMIT: COMMITTED,
        Event.LATER: DROPPED,
        Event.NEVER: DROPPED,
        Event.EMPTY: DROPPED,
        Event.REPLACED: DROPPED,
        Event.UNKEPT: DROPPED,
    },
}
PAIRS = [(state, event) for state in State for event in Event]


@pytest.mark.parametrize(("state", "event"), [p for p in PAIRS if p[1] in ALLOWED[p[0]]])
def test_an_allowed_event_leads_to_its_state(state: State, event: Event) -> None:
    assert after(state, event) == ALLOWED[state][event]


@pytest.mark.parametrize(("state", "event"), [p for p in PAIRS if p[1] not in ALLOWED[p[0]]])
def test_a_forbidden_event_is_an_error_that_names_both(state: State, event: Event) -> None:
    with pytest.raises(Forbidden) as refused:
        after(state, event)
    assert isinstance(refused.value, ScansideError)
    assert state.value in refused.value.text
    assert event.value in refused.value.text
    assert "scanside outbox" in refused.value.remedy


def test_a_late_ack_is_always_believed_and_a_refusal_never_undoes_anything() -> None:
    assert {after(state, Event.ACK) for state in State if state != COMMITTED} == {DELIVERED}
    assert {after(state, Event.COMMIT) for state in State} == {COMMITTED}
    assert after(COMMITTED, Event.ACK) == COMMITTED
    for event in (Event.LATER, Event.NEVER):
        assert all(after(state, event) == state for state in State if state != WAITING)


@pytest.mark.parametrize("event", [Event.EMPTY, Event.REPLACED])
def test_what_is_empty_or_owed_in_another_form_is_dropped_only_while_it_waits(event: Event) -> None:
    assert after(WAITING, event) == DROPPED
    assert all(after(state, event) == state for state in State if state != WAITING)


def test_only_what_was_taken_can_be_unkept() -> None:
    assert after(DELIVERED, Event.UNKEPT) == DEAD
    assert all(after(state, Event.UNKEPT) == state for state in State if state != DELIVERED)


def test_the_states_in_which_an_event_is_allowed_are_known() -> None:
    for event in Event:
        assert sources(event) == tuple(s for s in State if event in ALLOWED[s])


def test_what_is_new_is_owed_and_what_is_owed_is_not_settled() -> None:
    assert FIRST in OWED
    assert set(OWED) | set(SETTLED) == set(State)
    assert not set(OWED) & set(SETTLED)
