"""Random fields have the size that was asked for in mm; a threshold leaves so many voxels."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from training.errors import DataError
from training.implant.disease.fields import cloud, threshold


def shift_alike(field: np.ndarray, spacing_mm: float, shift_mm: float) -> float:
    """Correlation of a field with itself so far along x."""
    step = round(shift_mm / spacing_mm)
    return float(np.corrcoef(field[:, :, :-step].ravel(), field[:, :, step:].ravel())[0, 1])


@pytest.mark.parametrize("spacing", [1.0, 2.0, 4.0])
def test_a_cloud_is_as_coarse_in_mm_on_every_grid(spacing: float) -> None:
    shape = (int(120 / spacing),) * 3
    field = cloud(np.random.default_rng(1), shape, (spacing,) * 3, 16.0)
    assert field.std() == pytest.approx(1)
    assert shift_alike(field, spacing, 8.0) == pytest.approx(0.75, abs=0.12)
    assert abs(shift_alike(field, spacing, 64.0)) < 0.35


def test_a_threshold_leaves_exactly_so_many_voxels() -> None:
    rng = np.random.default_rng(2)
    field = rng.standard_normal((9, 9, 9)).astype(np.float32)
    free = rng.random((9, 9, 9)) < 0.5
    for count in (1, 100, int(free.sum())):
        assert (free & (field >= threshold(field, free, count))).sum() == count
    with pytest.raises(DataError, match="ask for less"):
        threshold(field, free, int(free.sum()) + 1)
