"""The states of an update: every pair of state and event, allowed and forbidden."""

from __future__ import annotations

import pytest

from appliance.errors import ScansideError
from appliance.update.states import ENDED, FIRST, RUNS, Event, Forbidden, State, after

NOT_YET = {
    Event.WRONG: State.REFUSED,
    Event.RECALLED: State.REFUSED,
    Event.NEWER: State.REPLACED,
}
ALLOWED = {
    State.FETCHING: {**NOT_YET, Event.DONE: State.BUILDING, Event.CUT: State.FETCHING},
    State.BUILDING: {**NOT_YET, Event.DONE: State.PROVING, Event.CUT: State.BUILDING},
    State.PROVING: {**NOT_YET, Event.DONE: State.READY, Event.CUT: State.PROVING},
    State.READY: {**NOT_YET, Event.DONE: State.SWITCHING, Event.CUT: State.READY},
    State.SWITCHING: {
        Event.DONE: State.TRIAL,
        Event.SICK: State.RETURNING,
        Event.CUT: State.SWITCHING,
    },
    State.TRIAL: {
        Event.DONE: State.CONFIRMED,
        Event.SICK: State.RETURNING,
        Event.BACK: State.RETURNING,
        Event.RECALLED: State.RETURNING,
        Event.CUT: State.TRIAL,
    },
    State.CONFIRMED: {
        Event.BACK: State.RETURNING,
        Event.RECALLED: State.RETURNING,
        Event.CUT: State.CONFIRMED,
    },
    State.RETURNING: {Event.DONE: State.ROLLED_BACK, Event.CUT: State.RETURNING},
    State.ROLLED_BACK: {Event.AGAIN: State.FETCHING, Event.CUT: State.ROLLED_BACK},
    State.REFUSED: {Event.AGAIN: State.FETCHING, Event.CUT: State.REFUSED},
    State.REPLACED: {Event.CUT: State.REPLACED},
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
    assert "scanside update status" in refused.value.remedy


def test_what_runs_is_left_by_putting_back_what_ran_before_and_by_no_other_way() -> None:
    for state in RUNS:
        for event in Event:
            if (state, event) in PAIRS and event in ALLOWED[state]:
                assert after(state, event) in {*RUNS, State.ROLLED_BACK}
    assert ALLOWED[State.RETURNING].keys() == {Event.DONE, Event.CUT}


def test_every_state_is_reached_and_every_update_may_end() -> None:
    reached = {FIRST}
    while more := {after(s, e) for s in reached for e in ALLOWED[s]} - reached:
        reached |= more
    assert reached == set(State)
    for state in State:
        ends = {state}
        while more := {after(s, e) for s in ends for e in ALLOWED[s]} - ends:
            ends |= more
        assert ends & set(ENDED)
