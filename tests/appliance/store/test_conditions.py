"""How each stage does, from its lock and its beats."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.stages import STAGES
from appliance.stages import of as of_settings
from appliance.store import conditions
from appliance.store.conditions import (
    ALLOWED_S,
    STARTING_S,
    STEPS_OF,
    Condition,
    Seen,
    State,
    is_starting,
    look,
    reasons,
    untouched,
)
from appliance.store.heartbeat import REMEDIES, START, Beat, Heart, Trouble, TroubleCode, living

NOW = 100_000.0


def beat(
    step: str = "", *, age: float = 0.0, began: float = 0.0, troubles: tuple[Trouble, ...] = ()
) -> Beat:
    """What a stage said `age` seconds ago."""
    return Beat(
        stage="work", pid=1, boot="b", began=began, tick=NOW - age, step=step, since=NOW - age,
        oldest=NOW - 40.0, troubles=troubles,
    )  # fmt: skip


def of(**seen: Seen) -> dict[str, Condition]:
    return conditions.conditions(seen, NOW)


OLD = Seen(True, beat())
"""A stage that runs since long ago."""


@pytest.mark.parametrize("step", sorted(ALLOWED_S))
def test_a_step_may_last_as_long_as_the_table_says_and_no_longer(step: str) -> None:
    alive = State.STARTING if step == START else State.RUNNING
    within, beyond = (Seen(True, beat(step, age=ALLOWED_S[step] + more)) for more in (-1, 1))
    assert of(work=within)["work"].state is alive
    stuck = of(work=beyond)["work"]
    assert stuck.state is State.STUCK
    assert f"{ALLOWED_S[step]:.0f} s are allowed" in stuck.text
    assert "came 40 s ago" in stuck.text


def test_a_step_that_goes_on_for_hours_and_makes_progress_is_not_stuck() -> None:
    long = beat("judge").model_copy(update={"since": NOW - 20_000.0})
    found = of(work=Seen(True, long))["work"]
    assert found.state is State.RUNNING
    assert "`judge` for 20000 s" in found.text


def test_a_stage_without_a_process_is_down_and_one_that_never_ran_is_absent() -> None:
    found = of(publish=OLD, work=Seen(False, beat()), retain=Seen(None, None))
    assert [one.state for one in found.values()] == [State.RUNNING, State.DOWN, State.ABSENT]
    assert [one.ill for one in found.values()] == [False, True, True]
    assert reasons(found) == ("work_down", "retain_down")


def test_while_the_appliance_starts_what_is_not_there_yet_is_starting() -> None:
    just = Seen(True, beat(began=NOW - STARTING_S + 1))
    found = of(publish=just, work=Seen(False, beat()), retain=Seen(None, None))
    assert reasons(found) == ("work_starting", "retain_starting")
    assert all(map(is_starting, reasons(found)))
    late = of(publish=just, receive=OLD, work=Seen(False, beat()))
    assert reasons(late) == ("work_down",), "the appliance runs, and work has gone"


def test_a_machine_where_nothing_ever_ran_has_no_reasons(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    found = look(settings)
    assert list(found) == [row.name for row in of_settings(settings)]
    assert untouched(found)
    assert reasons(found) == ()


def test_a_process_that_says_nothing_is_running() -> None:
    assert of(work=Seen(True, None))["work"].state is State.RUNNING


def test_the_troubles_of_a_stage_that_runs_are_reasons_and_those_of_a_dead_one_are_not() -> None:
    code = TroubleCode.ASSOCIATIONS_FULL
    ill = beat(troubles=(Trouble(code=code, text="32 are open", remedy=REMEDIES[code]),))
    assert reasons(of(receive=Seen(True, ill), work=OLD)) == ("associations_full",)
    assert reasons(of(receive=Seen(False, ill), work=OLD)) == ("receive_down",)


def test_one_trouble_of_two_stages_is_one_reason() -> None:
    code = TroubleCode.JOURNAL_DAMAGED
    ill = Seen(True, beat(troubles=(Trouble(code=code, text="page 7", remedy=REMEDIES[code]),)))
    assert reasons(of(receive=ill, work=ill)) == ("journal_damaged",)


def test_a_real_process_is_seen_to_start_to_serve_and_to_end(tmp_path: Path) -> None:
    with living(tmp_path, "retain"):
        with living(tmp_path, "work") as heart:
            assert look(Settings(state=tmp_path), ["work"])["work"].state is State.STARTING
            heart.beat()
            assert look(Settings(state=tmp_path), ["work"])["work"].state is State.RUNNING
        assert look(Settings(state=tmp_path), ["work"])["work"].state is State.DOWN
        # within its first minute the appliance starts
        assert look(Settings(state=tmp_path), ["work", "retain"])["work"].state is State.STARTING


def test_a_beat_that_an_earlier_process_left_does_not_speak_for_the_next_one(
    tmp_path: Path,
) -> None:
    Heart(tmp_path, "work").beat("judge")
    with living(tmp_path, "work"):
        assert look(Settings(state=tmp_path), ["work"])["work"].state is State.STARTING


def test_the_table_of_steps_names_stages_and_steps_that_there_are() -> None:
    assert STEPS_OF.keys() <= {row.name for row in STAGES}
    assert {step for steps in STEPS_OF.values() for step in steps} == set(ALLOWED_S)
