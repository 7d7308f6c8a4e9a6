"""Effusion and collapsed lung: where gravity takes them, and how dense they are."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from scipy import ndimage

from rigs.two_lungs import TwoLungs, two_lungs
from training.implant.disease.paint import Sick, Wanted, paint


@pytest.fixture(scope="module")
def host() -> TwoLungs:
    return two_lungs()


def painted(host: TwoLungs, wanted: Wanted, seed: int) -> Sick:
    return paint(np.random.default_rng(seed), host.chest(), [wanted])


@pytest.mark.parametrize("seed", range(4))
def test_fluid_lies_behind_and_has_the_density_of_water(host: TwoLungs, seed: int) -> None:
    sick = painted(host, Wanted("effusion", 300), seed)
    mask = sick.masks["effusion"]
    core = ndimage.binary_erosion(mask)
    assert -5 < sick.hu[core].mean() < 30
    for lung in host.chest().lungs:
        here = mask[lung.part]
        back = np.broadcast_to(lung.back, here.shape)
        height = np.broadcast_to(lung.height, here.shape)
        assert back[here].mean() > back[lung.inside].mean() + 0.2
        assert height[here].mean() < height[lung.inside].mean()
        columns = here.any((0, 2))
        thick = here.sum((0, 2))[columns]
        rows = lung.inside.sum((0, 2))[columns]
        assert thick[-1] / rows[-1] > thick[0] / rows[0], "thicker the further below"


@pytest.mark.parametrize("seed", range(4))
def test_no_dark_line_stays_between_fluid_and_wall(host: TwoLungs, seed: int) -> None:
    sick = painted(host, Wanted("effusion", 300), seed)
    for lung in host.chest().lungs:
        fluid = sick.masks["effusion"][lung.part]
        beside_lung = ndimage.binary_dilation(lung.inside & ~fluid, np.ones((3, 3, 3)))
        at_wall = ndimage.binary_dilation(fluid) & lung.takes & ~beside_lung & (lung.depth_mm < 3)
        assert (at_wall & ~lung.inside).sum() > 100
        assert (sick.hu[lung.part][at_wall] > -200).all()


def test_fluid_brings_collapsed_lung_along_as_a_mask_of_its_own(host: TwoLungs) -> None:
    found = [painted(host, Wanted("effusion", 300), seed) for seed in range(6)]
    both = [s for s in found if "atelectasis" in s.masks]
    assert len(both) >= 1
    for sick in both:
        assert not (sick.masks["atelectasis"] & sick.masks["effusion"]).any()
        beside = ndimage.binary_dilation(sick.masks["effusion"], iterations=10)
        assert (beside[sick.masks["atelectasis"]]).mean() > 0.95


@pytest.mark.parametrize("seed", range(6))
def test_collapsed_lung_holds_no_air_and_lies_behind(host: TwoLungs, seed: int) -> None:
    sick = painted(host, Wanted("atelectasis", 120), seed)
    mask = sick.masks["atelectasis"]
    assert 0 < np.median(sick.hu[ndimage.binary_erosion(mask)]) < 120
    back = np.arange(mask.shape[1])
    assert back[np.nonzero(mask)[1]].mean() > back[np.nonzero(host.right | host.left)[1]].mean()
