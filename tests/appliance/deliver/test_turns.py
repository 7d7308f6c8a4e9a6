"""Which object is next: pure, with a clock of the test's own."""

from __future__ import annotations

import pytest

from appliance.deliver.turns import Turns
from appliance.dicom.statuses import TRIES
from appliance.store.delivery import State
from appliance.store.rows import OwedRow


def row(key: str, attempts: int = 0) -> OwedRow:
    return OwedRow(
        id=int(key), destination="pacs", key=key, seq=None, body=b"", file="outgoing/x.dcm",
        created=0.0, state=State.WAITING, delivered_at=None, attempts=attempts, last_error=None,
    )  # fmt: skip


@pytest.fixture
def turns() -> Turns:
    return Turns(TRIES, lambda: 0.0)


def first(turns: Turns, *rows: OwedRow, tick: float = 0.0) -> str | None:
    found = turns.first(rows[: turns.room], tick)
    return found.key if found else None


def test_the_oldest_goes_first(turns: Turns) -> None:
    assert first(turns) is None
    assert first(turns, row("1"), row("2")) == "1"
    turns.taken("1")
    assert first(turns, row("2")) == "2"


def test_what_was_refused_rests_while_others_go_on_and_each_rest_is_longer(turns: Turns) -> None:
    rests, tick = [], 0.0
    for attempts in range(1, 5):
        began = tick
        assert first(turns, row("1", attempts), tick=tick) is None
        assert first(turns, row("1", attempts), row("2"), tick=tick) == "2"
        while first(turns, row("1", attempts), tick=tick) is None:
            tick += 10.0
        rests.append(tick - began)
    assert rests == [330.0, 660.0, 1320.0, 1320.0]
    assert sum(rests) > 3600.0, "five tries take more than an hour"


def test_a_restart_shortens_no_rest_and_a_person_ends_it(turns: Turns) -> None:
    assert first(turns, row("1", 3), tick=1000.0) is None
    assert first(turns, row("1", 3), tick=1000.0 + 1319.0) is None
    assert first(turns, row("1", 0), tick=1000.0) == "1"
    assert turns.room == 1


def test_an_object_that_costs_associations_lets_the_others_pass_after_three(turns: Turns) -> None:
    rows = [row("1"), row("2")]
    for _ in range(TRIES.losses):
        assert first(turns, *rows) == "1"
        assert not turns.lost("1")
    assert first(turns, *rows) == "2"
    for _ in range(100):
        assert not turns.lost("1"), "an archive that is away kills nothing"
    turns.taken("2")
    assert turns.lost("1"), "it took another one, and not this"
    assert not turns.lost("1")


def test_of_objects_that_all_cost_associations_the_one_that_cost_least_is_next(
    turns: Turns,
) -> None:
    rows = [row("1"), row("2")]
    for key in ("1", "2"):
        for _ in range(TRIES.losses):
            turns.lost(key)
    assert first(turns, *rows) == "1"
    turns.lost("1")
    assert first(turns, *rows) == "2"


def test_what_does_not_wait_any_more_is_forgotten(turns: Turns) -> None:
    for _ in range(TRIES.losses):
        turns.lost("1")
    assert first(turns, row("1"), row("2", 1)) == "1"
    assert turns.room == 3
    assert first(turns, row("3")) == "3"
    assert turns.room == 1
