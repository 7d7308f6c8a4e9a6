"""One thread opens, another goes on: what is taken, given up and closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, get_ident

import pytest

from appliance.runtime.beside import Beside, GivenUp, Opening

WAIT_S = 60


class Rig:
    """Openings that are held until they are let go."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.opened: list[str] = []
        self.news = Event()
        self.threads: set[int] = set()
        self.beside: Beside[str] = Beside(self.closed.append, self.news.set)
        self.begun: dict[str, Event] = {}
        self.go: dict[str, Event] = {}

    def held(self, name: str) -> Callable[[], str]:
        begun = self.begun.setdefault(name, Event())
        go = self.go.setdefault(name, Event())

        def opened() -> str:
            self.threads.add(get_ident())
            begun.set()
            while not go.wait(0.01):
                self.beside.go_on()
            self.opened.append(name)
            return name

        return opened

    def take(self, digest: str, name: str | None = None) -> str:
        return self.beside.take((digest, name), self.held(name or digest))


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.beside.close()


def test_nobody_waits_and_what_is_open_is_given_once(rig: Rig) -> None:
    for _ in range(3):
        with pytest.raises(Opening):
            rig.take("a")
    assert rig.begun["a"].wait(WAIT_S)
    assert not rig.news.is_set()
    rig.go["a"].set()
    assert rig.news.wait(WAIT_S)
    assert rig.take("a") == "a"
    assert rig.opened == ["a"]
    assert get_ident() not in rig.threads
    assert rig.closed == []


def test_who_must_wait_does_and_says_that_he_lives(rig: Rig) -> None:
    turns: list[None] = []

    def alive() -> None:
        turns.append(None)
        rig.go["a"].set()

    assert rig.beside.take(("a", None), rig.held("a"), wait=alive) == "a"
    assert turns


def test_what_went_wrong_is_raised_where_it_is_taken_and_can_be_tried_again(rig: Rig) -> None:
    def broken() -> str:
        raise MemoryError

    with pytest.raises(Opening):
        rig.beside.take(("a", None), broken)
    assert rig.news.wait(WAIT_S)
    with pytest.raises(MemoryError):
        rig.beside.take(("a", None), broken)
    rig.held("a")
    rig.go["a"].set()
    assert rig.beside.take(("a", None), rig.held("a"), wait=lambda: None) == "a"


def test_what_is_given_up_ends_at_its_next_step_and_the_next_one_begins(rig: Rig) -> None:
    with pytest.raises(Opening):
        rig.take("a")
    assert rig.begun["a"].wait(WAIT_S)
    rig.beside.only({"b"})
    with pytest.raises(Opening):
        rig.take("b")
    assert rig.begun["b"].wait(WAIT_S), "the thread is free although nobody let `a` go"
    rig.go["b"].set()
    assert rig.beside.take(("b", None), rig.held("b"), wait=lambda: None) == "b"
    assert rig.opened == ["b"]


def test_what_was_opened_and_is_not_wanted_any_more_is_closed(rig: Rig) -> None:
    with pytest.raises(Opening):
        rig.take("a")
    rig.go["a"].set()
    assert rig.news.wait(WAIT_S)
    rig.beside.only({"b"})
    assert rig.closed == ["a"]


def test_another_opening_of_the_same_bundle_takes_the_place_of_the_first(rig: Rig) -> None:
    """Its file was mended while it was read."""
    with pytest.raises(Opening):
        rig.take("a", "first")
    assert rig.begun["first"].wait(WAIT_S)
    with pytest.raises(Opening):
        rig.take("a", "second")
    rig.go["first"].set()
    rig.go["second"].set()
    assert rig.beside.take(("a", "second"), rig.held("second"), wait=lambda: None) == "second"
    assert rig.closed == ["first"]


def test_at_the_end_nothing_is_left_open_and_nobody_waits_for_what_was_given_up() -> None:
    rig = Rig()
    for name in ("a", "b"):
        with pytest.raises(Opening):
            rig.take(name)
    assert rig.begun["a"].wait(WAIT_S)
    rig.beside.close()
    assert rig.opened == []
    assert not rig.begun["b"].is_set()
    with pytest.raises(GivenUp):
        rig.beside.go_on()


class Steps:
    """An opening of three steps."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.done: list[int] = []
        self.begun, self.ended = Event(), Event()

    def begin(self) -> None:
        with pytest.raises(Opening):
            self.rig.beside.take(("a", None), self._opened)
        assert self.begun.wait(WAIT_S)

    def _opened(self) -> str:
        self.begun.set()
        for step in range(3):
            self.rig.beside.pause()
            self.done.append(step)
        self.ended.set()
        return "a"


def test_no_step_begins_while_a_series_is_analysed(rig: Rig) -> None:
    steps = Steps(rig)
    with rig.beside.first():
        steps.begin()
        assert not steps.ended.wait(0.2)
        assert steps.done == []
    assert steps.ended.wait(WAIT_S)


def test_analyses_without_end_hold_up_a_bundle_and_do_not_keep_it_away(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.runtime.beside.YIELD_S", 0.01)
    steps = Steps(rig)
    with rig.beside.first():
        steps.begin()
        assert steps.ended.wait(WAIT_S)


def test_a_step_that_waits_is_given_up_when_the_bundle_is_not_wanted_any_more(rig: Rig) -> None:
    steps = Steps(rig)
    with rig.beside.first():
        steps.begin()
        rig.beside.only(())
    rig.beside.close()
    assert steps.done == []


def test_who_analyses_never_waits_for_himself(rig: Rig) -> None:
    with rig.beside.first():
        rig.beside.pause()
