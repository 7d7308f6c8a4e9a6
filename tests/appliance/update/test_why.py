"""The codes of why not."""

from __future__ import annotations

from appliance.update.why import REMEDIES, Why, WhyNot


def test_each_code_has_a_remedy_that_is_a_sentence_or_a_line_to_type() -> None:
    assert set(REMEDIES) == set(Why)
    assert all(len(text) > 20 for text in REMEDIES.values())
    assert len(set(REMEDIES.values())) == len(Why)


def test_a_reason_is_said_in_one_line_with_its_code_and_remedy() -> None:
    line = WhyNot(code=Why.WINDOW, text="the window is closed").one_line()
    assert line.startswith("the window is closed [window] Wait for the window")
    assert "\n" not in line
