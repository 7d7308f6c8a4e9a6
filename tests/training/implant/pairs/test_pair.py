"""Exact pairs: the field lays one exam over the other, and lesions are where it says."""

from __future__ import annotations

import numpy as np
import pytest

from rigs.made_chest import made_chest
from training.errors import DataError
from training.implant.pairs import pair as pairs
from training.implant.pairs.fields import FIELD_MM, Frame, moved
from training.implant.pairs.pair import Chest, Pair


@pytest.fixture(scope="module")
def chest() -> Chest:
    return made_chest()


@pytest.fixture(scope="module")
def drawn(chest: Chest) -> list[Pair]:
    return [pairs.drawn(np.random.default_rng(seed), chest, moved) for seed in range(4)]


def grid(pair: Pair) -> np.ndarray:
    axes = [(np.arange(n) + 0.5) * pair.grid_mm for n in pair.fixed.shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def test_the_field_lays_moving_over_fixed(drawn: list[Pair]) -> None:
    """Noise, kernels and lesions of one exam alone remain."""
    for pair in drawn:
        field = pairs.finer(pair.field, round(FIELD_MM / pair.grid_mm))
        voxels = ((grid(pair) + field) / pair.grid_mm - 0.5).astype(np.float32)
        laid = pairs.sampled((pair.moving + 1000)[None], voxels)[0] - 1000
        lungs = pair.fixed_lungs & (
            pairs.sampled(pair.moving_cover[None].astype(np.float32), voxels)[0] > 0.99
        )
        before = np.abs(pair.moving - pair.fixed)[lungs].mean()
        after = np.abs(laid - pair.fixed)[lungs].mean()
        assert after < 0.6 * before


def test_points_follow_the_field_and_lie_in_the_lungs(drawn: list[Pair]) -> None:
    for pair in drawn:
        here, there = pair.points[:, 0], pair.points[:, 1]
        assert np.allclose(there - here, pairs.at_points(pair.field, here))
        z, y, x = np.floor(here / pair.grid_mm).astype(int).T
        assert pair.fixed_lungs[z, y, x].all()
        assert len(here) == 300


def test_new_and_gone_lesions_are_in_one_exam_alone(chest: Chest) -> None:
    found = set()
    for seed in range(12):
        pair = pairs.drawn(np.random.default_rng(seed), chest, moved, lesions=6)
        for one in pair.lesions:
            now = near(pair.fixed, one.center_mm, pair)
            before = near(pair.moving, one.prior_center_mm, pair)
            if one.hu < -50 or one.diameter_mm < 16 or now is None or before is None:
                continue
            if one.state == "new":
                assert now > before + 150
            if one.state == "gone":
                assert before > now + 150
            found.add(one.state)
    assert found >= {"new", "gone"}


def near(image: np.ndarray, center_mm: tuple[float, float, float], pair: Pair) -> float | None:
    """Mean HU of a cube of 12 mm; None where the exam does not cover it."""
    at = np.floor(np.array(center_mm) / pair.grid_mm).astype(int)
    part = tuple(slice(i - 1, i + 2) for i in at)
    cube = image[part]
    return float(cube.mean()) if cube.size == 27 and cube.min() > -1000 else None


def test_a_grown_lesion_is_larger_now_and_an_equal_one_is_not(drawn: list[Pair]) -> None:
    for pair in drawn:
        for one in pair.lesions:
            grown = one.diameter_mm > one.prior_diameter_mm
            assert grown == (one.state == "grown")


def test_lungs_that_widen_are_thinner(chest: Chest) -> None:
    def shrunk(rng: np.random.Generator, frame: Frame) -> np.ndarray:
        """Of moving only the middle is seen in fixed: fixed is wider than moving."""
        return (frame.at_mm * -0.15).astype(np.float32)

    pair = pairs.drawn(np.random.default_rng(3), chest, shrunk, lesions=0)
    air = [
        float(np.median(hu[lungs])) + 1000
        for hu, lungs in ((pair.fixed, pair.fixed_lungs), (pair.moving, pair.moving_lungs))
    ]
    assert air[0] == pytest.approx(air[1] * 0.85**3, rel=0.12)


def test_the_same_seed_gives_the_same_pair(chest: Chest) -> None:
    one, again = (pairs.drawn(np.random.default_rng(9), chest, moved) for _ in range(2))
    assert np.array_equal(one.fixed, again.fixed)
    assert np.array_equal(one.moving, again.moving)
    assert one.lesions == again.lesions


def test_a_host_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="nobody is no host"):
        pairs.chest_of("nobody", 4.0)
    with pytest.raises(DataError, match="phantom-x is no host"):
        pairs.chest_of("phantom-x", 4.0)
