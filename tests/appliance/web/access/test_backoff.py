"""Pauses after failed logins are those of one account at one address."""

from __future__ import annotations

import pytest

from appliance.web.access import backoff
from appliance.web.access.backoff import Backoff


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_first_failures_cost_nothing_and_then_the_pause_doubles(clock: Clock) -> None:
    tried = Backoff(clock)
    waits = []
    for _ in range(6):
        tried.failed("a", "x")
        waits.append(tried.wait_s("a", "x"))
    assert waits == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0]
    clock.at += 5.0
    assert tried.wait_s("a", "x") == 3.0
    clock.at += 3.0
    assert tried.wait_s("a", "x") == 0.0


def test_no_pause_is_longer_than_the_longest(clock: Clock) -> None:
    tried = Backoff(clock)
    for _ in range(2000):
        tried.failed("a", "x")
    assert tried.wait_s("a", "x") == backoff.LONGEST_S


def test_who_fails_on_purpose_keeps_nobody_else_out(clock: Clock) -> None:
    tried = Backoff(clock)
    for _ in range(50):
        tried.failed("ward", "attacker")
    assert tried.wait_s("ward", "attacker") > 0
    assert tried.wait_s("ward", "bedside") == 0.0
    assert tried.wait_s("other", "attacker") == 0.0


def test_a_login_that_works_and_an_hour_forget(clock: Clock) -> None:
    tried = Backoff(clock)
    for _ in range(5):
        tried.failed("a", "x")
        tried.failed("b", "x")
    tried.worked("a", "x")
    assert tried.wait_s("a", "x") == 0.0
    clock.at += backoff.FORGET_S + 1
    assert tried.wait_s("b", "x") == 0.0
    tried.failed("b", "x")
    assert tried.wait_s("b", "x") == 0.0


def test_invented_names_take_no_memory_without_end(clock: Clock) -> None:
    tried = Backoff(clock)
    for number in range(3 * backoff.MOST):
        tried.failed(str(number), "x")
    assert len(tried._failed) == backoff.MOST
