"""A message that costs connections is sent alone, then dead; a broken broker buries nothing."""

from __future__ import annotations

from appliance.publish.suspicion import Suspicion
from appliance.store.patience import Patience

PATIENCE = Patience(1.0, 30.0, refusals=10, losses=3)


def test_after_three_losses_it_is_sent_alone_and_after_three_more_it_is_dead() -> None:
    suspicion = Suspicion(PATIENCE)
    seen = []
    for _ in range(6):
        seen.append(suspicion.alone)
        dead = suspicion.lost("a")
    assert seen == [False, False, False, True, True, True]
    assert dead


def test_only_losses_on_the_same_message_count() -> None:
    suspicion = Suspicion(PATIENCE)
    for key in "abcabcabc":
        assert not suspicion.lost(key)
    assert not suspicion.alone


def test_what_comes_after_a_dead_one_goes_alone_until_one_is_taken() -> None:
    suspicion = Suspicion(PATIENCE)
    assert [suspicion.lost("a") for _ in range(6)][-1]
    assert suspicion.alone
    assert [suspicion.lost("b") for _ in range(3)] == [False, False, True]
    suspicion.taken(["c"])
    assert not suspicion.alone


def test_one_that_is_taken_after_all_is_not_suspected_any_more() -> None:
    suspicion = Suspicion(PATIENCE)
    for _ in range(5):
        suspicion.lost("a")
    suspicion.taken(["a"])
    assert not suspicion.alone
    assert not suspicion.lost("a")
    assert not suspicion.alone


def test_others_that_are_taken_do_not_clear_it() -> None:
    suspicion = Suspicion(PATIENCE)
    for _ in range(3):
        suspicion.lost("a")
        suspicion.taken(["b"])
    assert suspicion.alone
