"""`scanside drift ack|accept|tune|withdraw` where the state folder is another user's: asked of
`apply`, and followed until `work` has answered.

Rules
- `apply` writes down what is decided (apply/decided.py), and knows no proposal. So what became of
  it is asked for, by the hash of what was written: another act, older or newer, has another one.
- What `work` refuses is the error that it is on a box without slots, with its code and remedy.
- `work` obeys between two series. It is waited for WAIT_S, and said after SILENT_S that it is. Who
  waited in vain is told so, and that what was decided stays: exit 0, as of a rule of `scanside
  update` by which something waits.
- While another slot takes over nobody answers; that is waited for too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from appliance.apply.requests import Answer, Request
from appliance.errors import StateUnusable
from appliance.settings import Settings
from appliance.verbs import drift, update
from appliance.verbs.drift import Decision

WAIT_S: Final = 60.0
SILENT_S: Final = 1.0
AGAIN_S: Final = 10.0
"""Between two lines that say that it is waited for."""
LOOK_S: Final = 0.3
DONE: Final = "done: {}."
NOTED: Final = "noted: {}. It counts as soon as no series is being analysed."
LATE: Final = (
    "noted: {row}. `work` has not answered within {waited:.0f} s: it analyses a series, or does "
    "not run. Nothing is lost, it obeys as soon as it can; then `sudo -u scanside scanside drift` "
    "shows what is."
)
WAITS: Final = "Waiting for `work`, which obeys between two series: {left:.0f} s more at most."


def decided(
    settings: Settings, decision: Decision, row: str, *, say: Callable[[str], object] = print
) -> str:
    """What became of it, for a terminal. ScansideError as `work` says, and where it cannot be
    asked."""
    try:
        request = Request.model_validate({"verb": drift.ACTIONS[decision], "row": row.lower()})
    except ValidationError as e:
        raise drift.unknown(row) from e
    noted = update.accepted(update.asked(settings, request))
    if not noted.act:  # by an `apply` of before, while the slots are switched
        return NOTED.format(noted.text)
    about = Request(verb="drift_answer", act=noted.act)
    obeyed = followed(
        lambda: update.asked(settings, about), say=lambda said: say(f"noted: {noted.text}. {said}")
    )
    if obeyed is None:
        return LATE.format(row=noted.text, waited=WAIT_S)
    return DONE.format(", ".join(one for one in (noted.text, obeyed.text) if one))


def followed(
    ask: Callable[[], Answer],
    *,
    say: Callable[[str], object],
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Answer | None:
    """Ask until `work` has obeyed; None where it has not within WAIT_S. ScansideError as it says
    where it refuses."""
    began = clock()
    say_at = began + SILENT_S
    while True:
        try:
            answer = update.accepted(ask())
        except StateUnusable:  # of `update.asked` alone: nobody answers
            answer = Answer(ok=True)
        if answer.obeyed:
            return answer
        now = clock()
        if now - began >= WAIT_S:
            return None
        if now >= say_at:
            say(WAITS.format(left=WAIT_S - now + began))
            say_at = now + AGAIN_S
        sleep(LOOK_S)
