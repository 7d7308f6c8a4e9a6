"""Scars are thin and reach the pleura; metal is bright and has rays in its slices alone."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from scipy import ndimage

from rigs.two_lungs import TwoLungs, two_lungs
from training.implant.disease.paint import Wanted, paint


@pytest.fixture(scope="module")
def host() -> TwoLungs:
    return two_lungs((2.0, 1.5, 1.5))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.long
def test_a_scar_is_a_dense_band_that_reaches_the_pleura(host: TwoLungs, seed: int) -> None:
    sick = paint(np.random.default_rng(seed), host.chest(), [Wanted("scar", 10)])
    mask = sick.masks["scar"]
    assert sick.hu[mask].mean() > -450
    inside = ndimage.distance_transform_edt(mask, sampling=host.spacing)
    assert np.percentile(inside[mask], 90) < 4, "thin"
    spots, _ = ndimage.label(ndimage.binary_dilation(mask))
    for lung in host.chest().lungs:
        at_wall = np.unique(spots[lung.part][lung.inside & (lung.depth_mm < 5)])
        whole = np.isin(spots[lung.part], at_wall[at_wall > 0]) & mask[lung.part]
        assert whole.sum() > 0.8 * mask[lung.part].sum()


def test_metal_is_bright_and_its_rays_stay_in_its_slices(host: TwoLungs) -> None:
    sick = paint(np.random.default_rng(4), host.chest(), [Wanted("metal", 0.6)])
    mask = sick.masks["metal"]
    assert sick.hu[mask].mean() > 600
    assert sick.hu[mask].max() > 1500
    slices = mask.any((1, 2))
    near = ndimage.binary_dilation(slices, iterations=4)
    changed = sick.hu != host.hu
    assert not changed[~near].any()
    far = ndimage.distance_transform_edt(~mask, sampling=host.spacing)
    rays = changed & (far > 15) & slices[:, None, None]
    change = np.abs(sick.hu - host.hu)
    assert change[rays & (far < 40)].mean() > 1.5 * change[rays & (far > 80)].mean()
    assert (sick.hu[rays] >= -1024).all()
