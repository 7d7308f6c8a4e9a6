"""Emphysema, bullae, honeycombing and cavities: how dark they are, and their walls."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from scipy import ndimage

from rigs.two_lungs import TwoLungs, two_lungs
from training.implant.disease.layers import Kind
from training.implant.disease.paint import Sick, Wanted, paint


@pytest.fixture(scope="module")
def host() -> TwoLungs:
    return two_lungs((2.0, 1.5, 1.5))


def painted(host: TwoLungs, kind: Kind, ml: float, seed: int) -> Sick:
    return paint(np.random.default_rng(seed), host.chest(), [Wanted(kind, ml)])


@pytest.mark.parametrize("seed", range(2))
def test_emphysema_is_below_the_density_mask_by_its_volume(host: TwoLungs, seed: int) -> None:
    sick = painted(host, "emphysema", 300, seed)
    lungs, mask = host.right | host.left, sick.masks["emphysema"]
    assert (host.hu[lungs] < -950).mean() < 0.01
    assert (sick.hu[mask] < -950).mean() > 0.8
    voxel = float(np.prod(host.spacing)) / 1000
    assert (sick.hu[lungs] < -950).sum() * voxel == pytest.approx(300, rel=0.25)
    dense = host.hu > -200
    assert (sick.hu[dense] > -300).mean() > 0.999, "vessels and walls stay"
    upper = mask[mask.shape[0] // 2 :].sum()
    assert upper > 0.55 * mask.sum()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.long
def test_a_bulla_is_air_under_the_pleura_in_a_wall(host: TwoLungs, seed: int) -> None:
    sick = painted(host, "bulla", 60, seed)
    mask = sick.masks["bulla"]
    core = ndimage.binary_erosion(mask, iterations=2)
    assert sick.hu[core].mean() < -950
    within = ndimage.distance_transform_edt(host.right | host.left, sampling=host.spacing) > 5
    ring = ndimage.binary_dilation(mask) & ~mask & within & (host.hu < -500)
    assert sick.hu[ring].mean() > host.hu[ring].mean() + 60
    spots, count = ndimage.label(mask)
    for lung in host.chest().lungs:
        touching = np.unique(spots[lung.part][lung.inside & (lung.depth_mm < 8)])
        assert len(touching) > 1
    assert count >= 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.long
def test_a_honeycomb_has_dark_cells_and_dense_walls_under_the_pleura(
    host: TwoLungs, seed: int
) -> None:
    sick = painted(host, "honeycombing", 100, seed)
    mask = sick.masks["honeycombing"]
    values = sick.hu[mask]
    assert (values < -800).mean() > 0.04
    assert (values > -500).mean() > 0.2
    for lung in host.chest().lungs:
        here = mask[lung.part]
        assert np.median(lung.depth_mm[here]) < 12
        height = np.broadcast_to(lung.height, here.shape)
        assert height[here].mean() < height[lung.inside].mean()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.long
def test_a_cavity_is_gas_in_a_dense_wall(host: TwoLungs, seed: int) -> None:
    sick = painted(host, "cavity", 60, seed)
    mask = sick.masks["cavity"]
    assert (sick.hu[mask] > -50).mean() > 0.2
    assert (sick.hu[mask] < -850).mean() > 0.02
    outer = mask & ~ndimage.binary_erosion(mask, iterations=3)
    assert sick.hu[outer].mean() > -400, "the wall is closed"
