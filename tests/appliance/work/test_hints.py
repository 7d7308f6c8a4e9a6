"""What one sleep of `work` ends with: whoever rang, and whatever they sent."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from appliance.report import SeriesKey
from appliance.store import bell, hint
from appliance.store.hint import Hint
from appliance.work.hints import Hints, wait


def heard(state: Path, *sent: Hint | bytes) -> Hints:
    """What `work` makes of these."""
    (state / "run").mkdir(exist_ok=True)
    ours, signals = socket.socketpair()
    with closing(ours), closing(signals), bell.hearing(state, "work") as hints:
        for one in sent:
            if isinstance(one, Hint):
                hint.send(state, one)
            else:
                bell.ring(state, "work", one)
        return wait(hints, signals, 0.0)


def test_where_to_look_that_an_association_ended_and_that_something_is_ordered_are_told_apart(
    tmp_path: Path,
) -> None:
    image, end, order = Hint(study="1.2", series="1.3"), Hint(association="a"), Hint(ordered=True)
    assert heard(tmp_path) == Hints()
    assert heard(tmp_path, image) == Hints(frozenset({SeriesKey("1.2", "1.3")}))
    assert heard(tmp_path, end) == Hints(ended=True)
    assert heard(tmp_path, order) == Hints(ordered=True)
    all_at_once = heard(tmp_path, order, image, end)
    assert all_at_once == Hints(frozenset({SeriesKey("1.2", "1.3")}), ended=True, ordered=True)


@pytest.mark.parametrize("sent", [b"", b"{}", b"[1]", b'{"study": "../..", "series": "1"}'])
def test_a_hint_that_is_none_is_dropped(tmp_path: Path, sent: bytes) -> None:
    assert heard(tmp_path, sent, Hint(ordered=True)) == Hints(ordered=True)


def test_where_hints_may_be_lost_all_is_looked_at_orders_too(tmp_path: Path) -> None:
    full = heard(tmp_path, *[Hint(association=str(n)) for n in range(bell.QUEUE)])
    assert (full.full, full.ordered) == (True, True)
