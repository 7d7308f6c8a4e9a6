"""How far an update is, written down before each work."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.update import steps as journal
from appliance.update.places import Places
from appliance.update.plan import Named
from appliance.update.states import TABLE, Event, Forbidden, State
from appliance.update.steps import MOST_TEXTS, Steps, advance
from appliance.update.why import Why, WhyNot
from rigs.cuts import Cut, PowerCut

BEGUN = Steps(
    release="stable/7.json",
    state=State.FETCHING,
    bundles=(Named(name="lung-nodule", version="1.2.0", digest="a" * 64),),
    begun=datetime(2026, 11, 29, 15, 0, tzinfo=timezone.utc),
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(*(tmp_path / name for name in ("root", "trusted", "downloads", "state")))
    made.trusted.mkdir()
    return made


def test_where_no_update_was_ever_begun_there_is_no_record(places: Places) -> None:
    assert journal.read(places) is None


def test_what_is_written_is_read_again(places: Places) -> None:
    why = WhyNot(code=Why.BUSY, text="a study is under way", release="stable/7.json")
    steps = BEGUN.model_copy(update={"state": State.READY, "slot": 3, "why": (why,)})
    journal.write(places, steps)
    assert journal.read(places) == steps


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_a_step_follows_the_table_of_states_and_nothing_else(state: State, event: Event) -> None:
    steps = BEGUN.model_copy(update={"state": state})
    if (state, event) in TABLE:
        assert advance(steps, event).state == TABLE[state, event]
    else:
        with pytest.raises(Forbidden):
            advance(steps, event)


def test_what_happened_is_told_in_order_and_why_it_waits_is_told_only_while_it_does() -> None:
    why = WhyNot(code=Why.WINDOW, text="it is outside of the window")
    built = advance(BEGUN, Event.DONE, text="fetched 12 MB", why=(why,))
    proved = advance(built, Event.DONE, text="built slot 3")
    assert built.why == (why,)
    assert (proved.texts, proved.why) == (("fetched 12 MB", "built slot 3"), ())
    assert advance(proved, Event.CUT).texts == proved.texts


def test_an_update_that_is_cut_ever_again_does_not_grow_for_ever() -> None:
    steps = BEGUN
    for n in range(MOST_TEXTS + 5):
        steps = advance(steps, Event.CUT, text=f"the power was away, {n}")
    assert len(steps.texts) == MOST_TEXTS
    assert steps.texts[-1] == f"the power was away, {MOST_TEXTS + 4}"


def test_an_update_that_is_tried_again_gets_another_slot() -> None:
    back = BEGUN.model_copy(update={"state": State.ROLLED_BACK, "slot": 3})
    assert advance(back, Event.CUT).slot == 3
    again = advance(back, Event.AGAIN)
    assert (again.state, again.slot, again.release) == (State.FETCHING, None, BEGUN.release)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"schema": "scanside.steps/2"}', b"\xff"])
def test_a_damaged_record_stops_updates_and_says_what_to_do(places: Places, data: bytes) -> None:
    (places.trusted / "steps.json").write_bytes(data)
    with pytest.raises(StateUnusable, match="how far the update is") as said:
        journal.read(places)
    assert said.value.code == "update_steps"
    assert str(places.trusted / "steps.json") in said.value.remedy


def test_a_power_cut_at_any_step_leaves_the_record_of_before_or_of_after(places: Places) -> None:
    after = advance(BEGUN, Event.DONE)
    counted = Cut(None)
    journal.write(places, after, counted)
    for at in range(counted.steps):
        journal.write(places, BEGUN)
        with pytest.raises(PowerCut):
            journal.write(places, after, Cut(at))
        assert journal.read(places) in (BEGUN, after)
