"""How a chest moves: most at the diaphragm, not at the wall, and without a fold."""

from __future__ import annotations

import numpy as np
import pytest

from rigs.made_chest import made_chest
from training.errors import DataError
from training.implant.pairs import fields
from training.implant.pairs.fields import FIELD_MM, Frame


@pytest.fixture(scope="module")
def frame() -> Frame:
    return fields.frame_of(made_chest(FIELD_MM).lungs)


def test_a_breath_moves_the_base_most_and_the_apex_not(frame: Frame) -> None:
    for seed in range(5):
        along_z = np.abs(fields._breath(np.random.default_rng(seed), frame)[0])
        middle = along_z.shape[1] // 2
        column = along_z[:, middle, along_z.shape[2] // 4]
        lungs = np.flatnonzero((frame.height[:, 0, 0] > 0) & (frame.height[:, 0, 0] <= 1))
        base, apex = column[lungs[0]], column[lungs[-1]]
        assert base > 3 * apex
        assert base <= fields.BREATH_MM


def test_a_breath_leaves_the_wall_beside_the_lungs_where_it_is(frame: Frame) -> None:
    along_z = np.abs(fields._breath(np.random.default_rng(0), frame)[0])
    assert along_z[:, :, 0].max() < 0.2 * along_z.max()
    assert along_z[:, 0, :].max() < 0.2 * along_z.max()


@pytest.mark.parametrize("make", [fields.moved, fields.bumped])
def test_no_field_folds_and_the_same_seed_gives_the_same(make: object, frame: Frame) -> None:
    assert callable(make)
    for seed in range(4):
        one, again = (make(np.random.default_rng(seed), frame) for _ in range(2))
        assert one.shape == frame.at_mm.shape
        assert fields.jacobian(one).min() > fields.LEAST_JACOBIAN
        assert np.array_equal(one, again)
        assert np.abs(one).max() > 1


def test_the_jacobian_of_a_stretch_is_the_product_of_its_factors(frame: Frame) -> None:
    factors = np.array([0.1, -0.05, 0.2], np.float32)[:, None, None, None]
    found = fields.jacobian((frame.at_mm * factors).astype(np.float32))
    assert np.allclose(found, 1.1 * 0.95 * 1.2, atol=1e-4)


def test_a_chest_without_lungs_is_refused() -> None:
    with pytest.raises(DataError, match="without lungs"):
        fields.frame_of(np.zeros((4, 4, 4), bool))
