"""How often a destination is asked again."""

from __future__ import annotations

from appliance.store.delivery import Event
from appliance.store.patience import Fault, Patience

USUAL = Patience(shortest_s=1.0, longest_s=30.0, refusals=10)


def test_pauses_grow_from_one_to_thirty_seconds_with_jitter() -> None:
    lowest = [USUAL.pause_s(n, lambda: 0.0) for n in range(1, 9)]
    highest = [USUAL.pause_s(n, lambda: 1.0) for n in range(1, 9)]
    assert lowest == sorted(lowest)
    assert lowest[0] == 1.0
    assert highest[-1] == 30.0
    assert all(1.0 <= low < high <= 30.0 for low, high in zip(lowest, highest, strict=True))
    assert USUAL.pause_s(10_000, lambda: 1.0) == 30.0


def test_what_is_wrong_itself_is_dead_at_once() -> None:
    assert USUAL.verdict(Fault.OWN, 0) is Event.NEVER


def test_what_is_forbidden_is_dead_after_so_many_refusals() -> None:
    verdicts = [USUAL.verdict(Fault.FORBIDDEN, n) for n in range(1, 12)]
    assert verdicts == [Event.LATER] * 9 + [Event.NEVER] * 2


def test_what_the_other_side_cannot_take_now_is_never_dead() -> None:
    assert USUAL.verdict(Fault.PASSING, 10_000) is Event.LATER
