"""To which slot a way back leads."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from appliance.apply import slotting
from appliance.apply.notes import Done
from appliance.release.record import Recall, Recalled
from appliance.update.plan import Named
from appliance.update.states import State
from appliance.update.steps import Steps
from rigs.applied import FIRST, Applied
from rigs.releasing import Simulated

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)


def named(version: str) -> Named:
    return Named(name="scanside", version=version, digest=version[-1] * 64)


def recall(*those: Named) -> Recall:
    entries = [
        Recalled(what="appliance", name="scanside", version=one.version, digest=one.digest,
                 reason="it is wrong", at=AT)
        for one in those
    ]  # fmt: skip
    return Recall(number=1, made=AT, entries=tuple(entries))


def test_it_leads_to_the_newest_that_is_good_where_the_one_before_is_not(tmp_path: Path) -> None:
    box = Applied(tmp_path, Simulated.begun())
    for number in (2, 3, 4):
        box.slots.put(number, f"stable/{number}.json", named(f"0.1.{number}"))
    box.slots.switch(2)
    bad = Done(rolled_back=("stable/4.json",))
    good = slotting.good
    assert good(box.box(), bad, None, None, but=2) == 1, "what ran before"
    assert good(box.box(), Done(), None, recall(FIRST), but=2) == 4
    assert good(box.box(), bad, None, recall(FIRST), but=2) == 3, "4 went back once"
    waits = Steps(release="stable/3.json", state=State.READY, slot=3, begun=AT)
    assert good(box.box(), bad, waits, recall(FIRST), but=2) is None, "3 never ran"
    runs = Steps(release="stable/3.json", state=State.CONFIRMED, slot=3, begun=AT)
    assert good(box.box(), bad, runs, recall(FIRST), but=2) == 3
