"""Consolidation, ground glass and many small opacities look like what they are called."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from scipy import ndimage

from rigs.two_lungs import LUNG_HU, TwoLungs, two_lungs
from training.implant.disease.paint import Sick, Wanted, paint


@pytest.fixture(scope="module")
def host() -> TwoLungs:
    return two_lungs((2.0, 1.5, 1.5))


def painted(host: TwoLungs, wanted: Wanted, seed: int) -> Sick:
    return paint(np.random.default_rng(seed), host.chest(), [wanted])


def contrast(host: TwoLungs, hu: np.ndarray, mask: np.ndarray) -> float:
    """How much brighter the vessels are than the rest of a mask."""
    vessel = host.hu > -200
    return float(hu[mask & vessel].mean() - hu[mask & ~vessel].mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.long
def test_consolidation_has_no_air_but_in_bronchi_and_hides_vessels(
    host: TwoLungs, seed: int
) -> None:
    sick = painted(host, Wanted("consolidation", 150), seed)
    mask = ndimage.binary_erosion(sick.masks["consolidation"], iterations=2)
    assert -100 <= np.median(sick.hu[mask]) <= 100
    assert abs(contrast(host, sick.hu, mask)) < 30
    filled = ndimage.binary_fill_holes(sick.masks["consolidation"])
    bronchi = filled & ~sick.masks["consolidation"]
    assert 0 < bronchi.sum() < 0.1 * mask.sum()
    assert sick.hu[bronchi].mean() < -350


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.long
def test_ground_glass_lets_vessels_be_seen_and_has_no_sharp_rim(host: TwoLungs, seed: int) -> None:
    sick = painted(host, Wanted("ground_glass", 200), seed)
    mask = sick.masks["ground_glass"]
    lung = host.hu < -500
    assert -750 < np.median(sick.hu[mask & lung]) < -300
    assert contrast(host, sick.hu, mask) > 300
    inside = ndimage.binary_erosion(host.right | host.left, iterations=3)
    raised = ndimage.gaussian_filter(np.where(lung, sick.hu - host.hu, 0), (0.5, 0.7, 0.7))
    steps = np.abs(np.diff(raised, axis=2))[inside[:, :, 1:] & lung[:, :, 1:] & lung[:, :, :-1]]
    assert np.percentile(steps, 99) < 0.35 * raised[mask & lung].mean() + 15


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.long
def test_many_opacities_lie_in_both_lungs_near_the_pleura_and_are_small(
    host: TwoLungs, seed: int
) -> None:
    sick = painted(host, Wanted("multifocal", 150), seed)
    mask = sick.masks["multifocal"]
    assert -800 < np.median(sick.hu[mask & (host.hu < -500)]) < -300
    rims: list[tuple[float, float]] = []
    for lung in host.chest().lungs:
        here = mask[lung.part] & lung.inside
        spots, count = ndimage.label(here)
        sizes = ndimage.sum_labels(here, spots, range(1, count + 1)) * 0.0045
        assert (sizes > 0.05).sum() >= 2
        rims.append((lung.rim_mm[here].mean(), lung.rim_mm[lung.inside].mean()))
        for part in ndimage.find_objects(spots):
            across = [(p.stop - p.start) * s for p, s in zip(part, host.spacing, strict=True)]
            assert max(across) < 90, "two or three that touch, no more"
    spots_mm, lungs_mm = np.mean(rims, axis=0)
    assert spots_mm < 0.85 * lungs_mm, "near the ribs"
    assert sick.hu[mask].mean() > LUNG_HU + 80
