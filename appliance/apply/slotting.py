"""To which slot a way back leads. Pure but for what the box says of its slots."""

from __future__ import annotations

from appliance.apply.box import Box
from appliance.apply.notes import Done
from appliance.release.record import Recall
from appliance.update.states import RUNS
from appliance.update.steps import Steps


def good(box: Box, done: Done, steps: Steps | None, recall: Recall | None, but: int) -> int | None:
    """`previous`, else the newest; never slot `but`, what was recalled, what went back by itself or
    by hand, nor what never ran. None where there is no other."""
    bad = set(done.rolled_back)
    if steps is not None and steps.state not in RUNS:
        bad.add(steps.release)
    found = [
        one.slot
        for one in box.slots.complete()
        if one.slot != but
        and one.release not in bad
        and (recall is None or recall.names(one.appliance.digest) is None)
    ]
    before = box.slots.previous()
    return before if before in found else max(found, default=None)
