"""The order in which series are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.report import Priority
from appliance.work.priority import first

WAITS = st.tuples(st.sampled_from(["routine", "stat"]), st.floats(0, 1e6))


@pytest.mark.parametrize(
    ("waiting", "taken"),
    [
        ({"a": ("routine", 2.0), "b": ("routine", 1.0)}, "b"),
        ({"a": ("routine", 1.0), "b": ("stat", 2.0)}, "b"),
        ({"a": ("stat", 3.0), "b": ("stat", 2.0), "c": ("routine", 1.0)}, "b"),
    ],
)
def test_stat_goes_first_and_among_equals_what_waits_longest(
    waiting: dict[str, tuple[Priority, float]], taken: str
) -> None:
    assert first(waiting) == taken


@given(st.dictionaries(st.integers(), WAITS, min_size=1))
def test_nothing_routine_is_taken_while_something_stat_waits(
    waiting: dict[int, tuple[Priority, float]],
) -> None:
    taken = waiting[first(waiting)]
    urgent = [at for priority, at in waiting.values() if priority == "stat"]
    assert taken[0] == ("stat" if urgent else "routine")
    assert taken[1] == min(urgent or [at for _, at in waiting.values()])
