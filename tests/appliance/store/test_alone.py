"""One process of a kind for each state folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store.alone import alone


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
