"""The states of one update, as one table. Pure; the step journal of `apply` will ask it.

    fetching     what the release needs is being fetched
    building     its slot, or its bundle, is being made
    proving      golden cases and the phantom run on what was made
    ready        made and proved: it waits for the moment at which it may run
    switching    the links are being changed
    trial        it runs, and may still go back by itself
    confirmed    it runs
    returning    what ran before is being put back
    rolled_back  what ran before runs again
    refused      it never ran, and will not by itself
    replaced     it never ran, and a newer release took its place

Rules
- A state is written down before its work begins. So after a power cut the box does that work once
  more (`cut` changes no state), and each work is such that twice does no harm.
- What has not run yet may be refused, recalled or replaced at once. What runs is only ever left by
  putting back what ran before (`returning`), and from there no other way leads.
- What was refused or rolled back is tried again only because a person says so (`again`).
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import Final

from appliance.errors import ScansideError


class State(str, Enum):
    FETCHING = "fetching"
    BUILDING = "building"
    PROVING = "proving"
    READY = "ready"
    SWITCHING = "switching"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    RETURNING = "returning"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    REPLACED = "replaced"


class Event(str, Enum):
    DONE = "done"
    """The work of this state is done, and checked."""
    WRONG = "wrong"
    """It cannot be done with this release: damaged, not proved, too large."""
    SICK = "sick"
    """It runs badly, or a stage does not start."""
    BACK = "back"
    """A person goes back to what ran before."""
    RECALLED = "recalled"
    """The fleet team has recalled it."""
    NEWER = "newer"
    """A newer release is there."""
    AGAIN = "again"
    """A person lets it be tried again."""
    CUT = "cut"
    """The power was away, and has come back."""


class Forbidden(ScansideError):
    """The event makes no sense in this state."""

    code = "update_forbidden"
    remedy = "`scanside update status` shows how far the update is."


FIRST: Final = State.FETCHING
"""The state of an update that begins."""
RUNS: Final = (State.SWITCHING, State.TRIAL, State.CONFIRMED, State.RETURNING)
"""What is new may be running, in whole or in part."""
ENDED: Final = (State.CONFIRMED, State.ROLLED_BACK, State.REFUSED, State.REPLACED)
"""Nothing is left to do by itself."""

_NEXT: Final = MappingProxyType(
    {
        State.FETCHING: State.BUILDING,
        State.BUILDING: State.PROVING,
        State.PROVING: State.READY,
        State.READY: State.SWITCHING,
        State.SWITCHING: State.TRIAL,
        State.TRIAL: State.CONFIRMED,
        State.RETURNING: State.ROLLED_BACK,
    }
)
_NOT_YET: Final = (State.FETCHING, State.BUILDING, State.PROVING, State.READY)
TABLE: Final = MappingProxyType(
    {(state, Event.CUT): state for state in State}
    | {(state, Event.DONE): following for state, following in _NEXT.items()}
    | {(state, Event.WRONG): State.REFUSED for state in _NOT_YET}
    | {(state, Event.RECALLED): State.REFUSED for state in _NOT_YET}
    | {(state, Event.NEWER): State.REPLACED for state in _NOT_YET}
    | {
        (State.SWITCHING, Event.SICK): State.RETURNING,
        (State.TRIAL, Event.SICK): State.RETURNING,
        (State.TRIAL, Event.BACK): State.RETURNING,
        (State.TRIAL, Event.RECALLED): State.RETURNING,
        (State.CONFIRMED, Event.BACK): State.RETURNING,
        (State.CONFIRMED, Event.RECALLED): State.RETURNING,
        (State.ROLLED_BACK, Event.AGAIN): State.FETCHING,
        (State.REFUSED, Event.AGAIN): State.FETCHING,
    }
)
"""(state, event) -> state. A pair that is not here is forbidden."""


def after(state: State, event: Event) -> State:
    """The state after the event; Forbidden where the event makes no sense in this state."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise Forbidden(f"an update that is {state.value} cannot have {event.value!r}") from None
