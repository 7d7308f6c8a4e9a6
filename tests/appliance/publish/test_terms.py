"""On which terms a connection is asked for."""

from __future__ import annotations

import pytest

from appliance.publish.terms import LADDER, Terms, best, following

V5, OLD = Terms("5"), Terms("3.1.1")


@pytest.mark.parametrize(
    ("wanted", "tried", "outcome", "expected"),
    [
        ("auto", V5, "accepted", V5),
        ("auto", V5, "unsupported", OLD),
        ("auto", V5, "closed", OLD),
        ("auto", V5, "other", V5),
        ("auto", OLD, "accepted", V5),
        ("auto", OLD, "other", OLD),
        ("auto", OLD, "unsupported", V5),
        ("5", V5, "unsupported", V5),
        ("5", V5, "closed", V5),
        ("3.1.1", OLD, "accepted", OLD),
        ("5", V5, "no_retain", Terms("5", retain=False)),
        ("5", V5, "no_qos", Terms("5", qos=0)),
        ("5", Terms("5", retain=False), "no_qos", Terms("5", retain=False, qos=0)),
        ("5", Terms("5", retain=False), "accepted", V5),
        ("3.1.1", Terms("3.1.1", qos=0), "accepted", OLD),
    ],
)
def test_what_is_asked_for_next(wanted, tried, outcome, expected) -> None:
    assert following(wanted, tried, outcome) == expected


@pytest.mark.parametrize(("wanted", "then"), [("3.1.1", OLD), ("auto", V5)])
def test_of_a_3_1_1_broker_that_hangs_up_less_and_less_is_asked_for(wanted, then) -> None:
    asked = [OLD]
    while asked[-1] in LADDER and len(asked) <= len(LADDER):
        asked.append(following(wanted, asked[-1], "closed"))
    assert asked == [*LADDER, then]
    assert LADDER[-1] == Terms("3.1.1", retain=False, qos=0)


def test_a_broker_that_lacks_something_again_and_again_is_not_asked_at_once_for_ever() -> None:
    asked = best("5")
    for outcome in ("no_retain", "no_qos", "no_retain", "no_qos"):
        asked = following("5", asked, outcome)
    assert following("5", asked, "no_qos") == asked  # the stage then waits
