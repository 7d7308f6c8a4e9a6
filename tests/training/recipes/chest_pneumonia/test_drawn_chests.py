"""The drawn chests that a network of frontal views must keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from appliance.phantom.chest import Phantom, chest
from training.recipes.chest_pneumonia import drawn_chests


def coarse(seed: int = 1, **_: Any) -> Phantom:
    """The phantom in voxels of 6 mm."""
    return chest(seed, spacing_mm=(6.0, 6.0, 6.0))


def test_each_is_drawn_healthy_and_ill_where_its_name_says(monkeypatch: Any) -> None:
    monkeypatch.setattr(drawn_chests, "chest", coarse)
    found = drawn_chests.pictures()
    assert len(found) == 1 + 5 * 4
    for picture in found.values():
        assert picture.shape == (28, 28)
        assert 0 <= picture.min() < picture.max() <= 1
    assert np.array_equal(found["the demo's"], found["phantom 1, both lower lungs"])
    healthy = found["phantom 1, healthy"]
    for side, columns in (("right", slice(3, 11)), ("left", slice(17, 25))):
        more = found[f"phantom 1, {side} lower lung"] - healthy
        inside = more[10:18, columns].mean()
        assert inside > 0.1
        assert inside > 3 * abs(np.delete(more[10:18], np.r_[columns], axis=1)).mean()


def test_the_lowest_is_named() -> None:
    assert drawn_chests.lowest({"a": 0.9, "b": 0.2, "c": 0.5}) == ("b", 0.2)
