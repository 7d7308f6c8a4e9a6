"""The doorbell: a datagram wakes a stage."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store import bell


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def test_to_ring_where_nobody_hears_is_no_error(tmp_path: Path) -> None:
    bell.ring(tmp_path, "publish")
    bell.ring(Path("/" + "x" * 300), "publish")


def test_rings_are_heard_in_order_with_what_they_say_and_only_by_their_stage(state: Path) -> None:
    with bell.hearing(state, "work") as work, bell.hearing(state, "publish") as publish:
        assert bell.take(work) == []
        bell.ring(state, "work", b"one")
        bell.ring(state, "work", b"two")
        assert bell.take(work) == [b"one", b"two"]
        assert bell.take(work) == bell.take(publish) == []


def test_a_full_queue_does_not_stop_who_rings_and_shows_to_who_hears(state: Path) -> None:
    with bell.hearing(state, "publish") as heard:
        for _ in range(5000):
            bell.ring(state, "publish")
        assert bell.QUEUE <= len(bell.take(heard)) < 5000


def test_a_socket_left_by_a_killed_stage_is_replaced(state: Path) -> None:
    with bell.hearing(state, "publish"):
        pass
    assert (state / "run" / "publish.sock").is_socket()
    with bell.hearing(state, "publish") as heard:
        bell.ring(state, "publish")
        assert bell.take(heard)


def test_only_its_own_user_may_ring(state: Path) -> None:
    with bell.hearing(state, "work"):
        assert stat.S_IMODE((state / "run" / "work.sock").stat().st_mode) == 0o600


def test_a_path_too_long_for_a_socket_names_the_setting(tmp_path: Path) -> None:
    with (
        pytest.raises(StateUnusable, match="too long") as e,
        bell.hearing(tmp_path / ("x" * 120), "work"),
    ):
        pass
    assert "`state`" in e.value.remedy
