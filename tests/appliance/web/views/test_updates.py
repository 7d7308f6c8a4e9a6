"""How updates stand, on the page of health."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.store.updating import Updating
from appliance.update.states import State
from appliance.web.views import updates


def said(**change: Any) -> Updating:
    values = {"version": "0.2.0", "slot": 2, "release": "stable/1.json", "state": "confirmed"}
    return Updating(**{**values, **change})


def test_a_box_without_slots_has_no_such_section() -> None:
    assert updates.sections(None) == ()


def test_a_confirmed_release_asks_for_nobody() -> None:
    (section,) = updates.sections(said())
    assert section.sign == "ok"
    assert [line.text.key for line in section.lines] == [
        "health.update_slot",
        "health.update_confirmed",
    ]


@pytest.mark.parametrize(
    ("changed", "sign", "text", "remedy"),
    [
        ({"state": "trial"}, "wait", "health.update_trial", ""),
        ({"state": "switching"}, "wait", "health.update_under_way", ""),
        ({"state": "rolled_back"}, "look", "health.update_not_taken", "scanside update status"),
        ({"hold": True}, "look", "health.update_held", "scanside update release"),
        ({"accept": "stable/2.json"}, "look", "health.update_waits", "scanside update accept"),
        ({"recalled": True}, "stop", "health.update_recalled", "scanside update now"),
    ],
)
def test_each_thing_that_is_other_than_usual_is_a_line_with_what_to_type(
    changed: dict[str, Any], sign: str, text: str, remedy: str
) -> None:
    (section,) = updates.sections(said(**changed))
    assert section.sign == sign
    (line,) = [one for one in section.lines if one.text.key == text]
    assert (line.sign, line.remedy) == (sign, remedy)


@pytest.mark.parametrize("state", State)
def test_every_state_of_an_update_has_its_line(state: State) -> None:
    (section,) = updates.sections(said(state=state.value))
    assert len(section.lines) == 2
