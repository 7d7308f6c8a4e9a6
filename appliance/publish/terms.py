"""On which terms a connection to the broker is asked for: protocol, retained, QoS. Pure.

Rules (clauses: MQTT 5.0, and 3.1.1 where it says so)
- The best terms are asked for first: v5, a retained will, QoS 1.
- A v5 broker says what it lacks in CONNACK (3.2.2.2): 0x9A no retained messages, 0x9B no QoS 1.
  That is then asked for without, at once. What it lacks is also in the properties of a CONNACK that
  accepts (3.2.2.3.4, 3.2.2.3.5); the link keeps to them.
- A broker that hangs up on v5 without a CONNACK, as old ones do, is spoken to in 3.1.1, where the
  settings allow it. 3.1.1 has no words for what a broker lacks: it hangs up (4.8), so less and less
  is asked for, and then v5 again.
- After a connection that worked the best terms are asked for again: the broker may only have been
  starting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Protocol = Literal["5", "3.1.1"]
Wanted = Literal["5", "3.1.1", "auto"]
"""[mqtt] protocol."""
Outcome = Literal["accepted", "unsupported", "no_retain", "no_qos", "closed", "other"]
"""How an attempt to connect ended. `closed`: there was no CONNACK."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked for. `retain`: whether messages may be retained; `qos`: the highest."""

    protocol: Protocol = "5"
    retain: bool = True
    qos: Literal[0, 1] = 1


LADDER = (
    Terms("3.1.1"),
    Terms("3.1.1", retain=False),
    Terms("3.1.1", qos=0),
    Terms("3.1.1", retain=False, qos=0),
)
"""What is asked for in turn of a 3.1.1 broker that hangs up without a word."""
OUTCOMES: dict[int, Outcome] = {
    0x00: "accepted",
    0x84: "unsupported",
    0x9A: "no_retain",
    0x9B: "no_qos",
}
"""Reasons of CONNACK (3.2.2.2); all others say nothing about the terms."""


def best(wanted: Wanted) -> Terms:
    """What is asked for first."""
    return Terms("3.1.1" if wanted == "3.1.1" else "5")


def following(wanted: Wanted, tried: Terms, outcome: Outcome) -> Terms:
    """What is asked for after `tried` ended so."""
    match outcome:
        case "accepted":
            return best(wanted)
        case "no_retain":
            return replace(tried, retain=False)
        case "no_qos":
            return replace(tried, qos=0)
        case "unsupported" if wanted == "auto":
            return Terms("3.1.1" if tried.protocol == "5" else "5")
        case "closed" if tried.protocol == "5":
            return Terms("3.1.1") if wanted == "auto" else tried
        case "closed":
            rung = LADDER.index(tried) + 1
            return LADDER[rung] if rung < len(LADDER) else best(wanted)
        case _:
            return tried
