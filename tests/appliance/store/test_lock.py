"""One process of a kind for each state folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store.lock import alone, is_held


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with alone(tmp_path / "state", "work"):
        with (
            pytest.raises(StateUnusable, match="another `scanside work`") as refused,
            alone(tmp_path / "state", "work"),
        ):
            pass
        assert refused.value.code == "already_running"
        with alone(tmp_path / "state", "run"), alone(tmp_path / "other", "work"):
            pass
    with alone(tmp_path / "state", "work"):
        pass


def test_others_see_whether_it_is_held_and_looking_takes_nothing_away(tmp_path: Path) -> None:
    assert is_held(tmp_path, "work") is None
    with alone(tmp_path, "work"):
        assert is_held(tmp_path, "work") is True
    assert is_held(tmp_path, "work") is False
    with alone(tmp_path, "work"):
        pass
