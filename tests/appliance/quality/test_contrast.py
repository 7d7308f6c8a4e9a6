"""Whether contrast medium was given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliance.preprocess import fast
from appliance.quality import contrast
from appliance.records import Grid, Mask
from rigs.slices import body, lungs, stack


def images(blood_hu: float) -> list[np.ndarray]:
    return [body(blood_hu=blood_hu, seed=k) for k in range(12)]


@pytest.mark.parametrize(
    ("blood_hu", "given"), [(45.0, "no"), (220.0, "yes"), (130.0, "yes"), (88.0, "unknown")]
)
def test_blood_is_compared_with_muscle(blood_hu: float, given: str) -> None:
    made = images(blood_hu)
    found = contrast.blood(stack(made), lungs(made))
    assert found == pytest.approx(blood_hu, abs=12)
    assert contrast.given(found, 50.0) == given


def test_the_grid_of_the_lungs_may_be_coarser_than_the_slices() -> None:
    made = images(220)
    whole, mask = stack(made), lungs(made)
    coarse = whole
    planes = tuple(
        replace(p, resampled={2.0: fast.inplane(p.native, p.geometry.spacing_mm, 2.0)})
        for p in coarse.planes
    )
    to_lps = mask.grid.to_lps @ np.diag([1.0, 2.0, 2.0, 1.0])
    grid = Grid((12, 120, 120), (2.0, 2.0, 2.0), to_lps)
    half = Mask("lungs", mask.voxels[:, ::2, ::2], grid)
    assert contrast.blood(replace(whole, planes=planes), half) == pytest.approx(220, abs=12)
    assert contrast.blood(whole, half) == pytest.approx(220, abs=12), "made anew where it is not"


def test_nothing_is_said_where_nothing_is_known() -> None:
    made = images(220)
    nothing = lungs(made, 0, 0)
    assert contrast.blood(stack(made), nothing) is None
    one_alone = lungs(made)
    one_alone.voxels[:, :, 120:] = False
    assert contrast.blood(stack(made), one_alone) is None
    assert contrast.given(None, 50.0) == contrast.given(100.0, None) == "unknown"
