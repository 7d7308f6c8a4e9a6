"""The states of what is owed to a destination, as one table. Pure; the journal's SQL asks it.

    waiting     owed: it is sent, and sent again, until it was taken
    delivered   taken by the destination
    committed   the destination has promised to keep it (DICOM storage commitment, PS3.4 J)
    dead        it can never be delivered as it is: kept and shown, not sent; a person decides
    dropped     given up by a person; or there was nothing to show, or it is owed in another form

Rules
- What the other side answers (ack, commit, later, never) may come late, in any state, and is no
  error: an ack and a commitment are always believed, whatever became of it meanwhile, and an ack
  takes no commitment back; a refusal only counts while it waits.
- Composing may find that there is nothing to show (`empty`): what waits is dropped then, and what
  does not wait any more is no affair of composing.
- What the destination takes in no such form is owed in another one (`replaced`): what waits is
  dropped then, and nothing else changes.
- A destination that denies to have what it took (PS3.4 J, 0112) is sent it `again`. What it took
  and does not promise to keep (`unkept`) is dead; that says nothing of what it has not taken.
- What a person or a command asks (retry, again, drop) is refused where it makes no sense: only what
  is dead is tried again by `retry`; `again` sends once more whatever was not dropped; only what is
  still owed can be dropped.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import Final

from appliance.errors import ScansideError


class State(str, Enum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    COMMITTED = "committed"
    DEAD = "dead"
    DROPPED = "dropped"


class Event(str, Enum):
    ACK = "ack"
    """The destination has taken it."""
    COMMIT = "commit"
    """The destination has promised to keep it."""
    LATER = "later"
    """Refused for now, or not answered: to be tried again."""
    NEVER = "never"
    """Refused for good, or tried often enough."""
    EMPTY = "empty"
    """Composing found nothing to show: there is nothing to send."""
    REPLACED = "replaced"
    """It is owed in another form, which the destination may take."""
    UNKEPT = "unkept"
    """The destination has taken it, and does not promise to keep it."""
    RETRY = "retry"
    """A person lets a dead one be sent again."""
    AGAIN = "again"
    """The consumer asks for it once more (the command `resend`)."""
    DROP = "drop"
    """A person gives it up."""


class Forbidden(ScansideError):
    """The event makes no sense in this state."""

    code = "delivery_forbidden"
    remedy = "`scanside outbox list` shows what waits and what is dead."


FIRST: Final = State.WAITING
"""The state of what is newly owed."""
OWED: Final = (State.WAITING, State.DEAD)
"""Its series is not deleted yet."""
SETTLED: Final = (State.DELIVERED, State.COMMITTED, State.DROPPED)

_W, _D, _C, _X, _G = State
TABLE: Final = MappingProxyType(
    {
        (_W, Event.ACK): _D,
        (_W, Event.COMMIT): _C,
        (_W, Event.LATER): _W,
        (_W, Event.NEVER): _X,
        (_W, Event.EMPTY): _G,
        (_W, Event.REPLACED): _G,
        (_W, Event.UNKEPT): _W,
        (_W, Event.AGAIN): _W,
        (_W, Event.DROP): _G,
        (_D, Event.ACK): _D,
        (_D, Event.COMMIT): _C,
        (_D, Event.LATER): _D,
        (_D, Event.NEVER): _D,
        (_D, Event.EMPTY): _D,
        (_D, Event.REPLACED): _D,
        (_D, Event.UNKEPT): _X,
        (_D, Event.AGAIN): _W,
        (_C, Event.ACK): _C,
        (_C, Event.COMMIT): _C,
        (_C, Event.LATER): _C,
        (_C, Event.NEVER): _C,
        (_C, Event.EMPTY): _C,
        (_C, Event.REPLACED): _C,
        (_C, Event.UNKEPT): _C,
        (_C, Event.AGAIN): _W,
        (_X, Event.ACK): _D,
        (_X, Event.COMMIT): _C,
        (_X, Event.LATER): _X,
        (_X, Event.NEVER): _X,
        (_X, Event.EMPTY): _X,
        (_X, Event.REPLACED): _X,
        (_X, Event.UNKEPT): _X,
        (_X, Event.RETRY): _W,
        (_X, Event.AGAIN): _W,
        (_X, Event.DROP): _G,
        (_G, Event.ACK): _D,
        (_G, Event.COMMIT): _C,
        (_G, Event.LATER): _G,
        (_G, Event.NEVER): _G,
        (_G, Event.EMPTY): _G,
        (_G, Event.REPLACED): _G,
        (_G, Event.UNKEPT): _G,
    }
)
"""(state, event) -> state. A pair that is not here is forbidden."""


def after(state: State, event: Event) -> State:
    """The state after the event; Forbidden where the event makes no sense in this state."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise Forbidden(f"what is {state.value} cannot have {event.value!r}") from None


def sources(event: Event) -> tuple[State, ...]:
    """The states in which the event is allowed."""
    return tuple(state for state in State if (state, event) in TABLE)
