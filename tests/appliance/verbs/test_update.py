"""`scanside update ...` at a terminal: what was asked for is followed to its end, line by line."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from appliance.apply.requests import STATUS, Answer, Request, Status
from appliance.errors import StateUnusable
from appliance.settings import Settings
from appliance.update.plan import Named
from appliance.update.states import State
from appliance.update.steps import Steps
from appliance.update.why import Why, WhyNot
from appliance.verbs import update

AT = datetime(2026, 7, 1, tzinfo=timezone.utc)


def status(**change: Any) -> Status:
    said: dict[str, Any] = {
        "at": AT,
        "channel": "stable",
        "url": "https://updates.example",
        "appliance": Named(name="scanside", version="0.1.0", digest="a" * 64),
        "slot": 1,
        "previous": None,
        "bundles": (),
        "highest": 0,
        "hold": False,
    }
    return Status(**{**said, **change})


def steps(state: State, *texts: str) -> Steps:
    return Steps(release="stable/1.json", state=state, begun=AT, texts=texts)


def test_each_step_is_said_once_until_it_is_on_trial_also_while_nobody_answers() -> None:
    answers: list[Status | None] = [
        status(seen=0),
        status(seen=1, busy=True, steps=steps(State.FETCHING, "it is taken")),
        status(seen=1, busy=True, steps=steps(State.BUILDING, "it is taken", "it is here")),
        None,
        status(seen=1, steps=steps(State.TRIAL, "it is taken", "it is here", "it runs, on trial")),
    ]

    def ask() -> Answer:
        now = answers.pop(0)
        if now is None:
            raise StateUnusable("nobody answers")
        return Answer(ok=True, status=now)

    said: list[str] = []
    found = update.followed(ask, 1, say=said.append, sleep=lambda _: None, clock=lambda: 0.0)
    assert said == ["it is taken", "it is here", "it runs, on trial"]
    assert found.steps is not None
    assert not answers


@pytest.mark.parametrize("patient", [True, False])
def test_now_waits_for_a_moment_between_two_series_and_says_so_once(patient: bool) -> None:
    busy = WhyNot(code=Why.BUSY, text="a series is under way")
    ready, trial = steps(State.READY, "it is proved"), steps(State.TRIAL, "it is proved", "it runs")
    answers = [
        status(seen=1, steps=ready, why=(busy,)),
        status(seen=1, steps=ready, why=(busy,)),
        status(seen=1, steps=trial),
    ]
    said: list[str] = []
    found = update.followed(
        lambda: Answer(ok=True, status=answers.pop(0)), 1, patient=patient,
        say=said.append, sleep=lambda _: None, clock=lambda: 0.0,
    )  # fmt: skip
    assert said == ([busy.one_line(), "it runs"] if patient else [busy.one_line()])
    assert found.steps == (trial if patient else ready)


def test_who_never_answers_again_is_given_up() -> None:
    ticks = iter(range(0, 10_000, 50))

    def ask() -> Answer:
        raise StateUnusable("nobody answers", code="update_not_running")

    with pytest.raises(StateUnusable):
        update.followed(
            ask, 1, say=lambda _: None, sleep=lambda _: None, clock=lambda: float(next(ticks))
        )


def test_the_status_says_why_nothing_happens_and_what_to_type() -> None:
    held = WhyNot(code=Why.HELD, text="updates are held on this box")
    lines = "\n".join(update.shown(status(hold=True, why=(held,), recalled="it misses nodules")))
    assert "scanside update release" in lines
    assert "RECALLED    it misses nodules" in lines
    assert "scanside 0.1.0 in slot 1" in lines


def test_without_apply_the_status_is_read_from_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"state": tmp_path, "update": {"root": tmp_path, "trusted": tmp_path}}
    settings = Settings.model_validate(said)
    with pytest.raises(StateUnusable):
        update.done(settings, Request(verb="status"), as_json=False)
    (tmp_path / STATUS).write_text(status().model_dump_json(by_alias=True))
    assert update.done(settings, Request(verb="status"), as_json=False) == 0
    shown = capsys.readouterr()
    assert "scanside 0.1.0" in shown.out
    assert "does not run" in shown.err
    with pytest.raises(StateUnusable) as refused:
        update.done(settings, Request(verb="hold"), as_json=False)
    assert refused.value.code == "update_not_running"
