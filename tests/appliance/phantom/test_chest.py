"""The phantom: the same seed gives the same bytes, and the truth is where it says it is."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.phantom.chest import Nodule, Phantom, chest

COARSE = (5.0, 2.5, 2.5)
FINE = (3.0, 2.5, 2.5)


@pytest.fixture(scope="module")
def coarse() -> Phantom:
    return chest(1, spacing_mm=COARSE)


@pytest.fixture(scope="module")
def asked() -> Phantom:
    """Four asked nodules, without noise."""
    nodules = (
        Nodule((-60.0, 10.0, -20.0), 14.0, "solid", 40.0),
        Nodule((-75.0, -30.0, 10.0), 12.0, "ground_glass", -600.0),
        Nodule((60.0, 20.0, 30.0), 10.0, "calcified", 320.0),
        Nodule((70.0, 30.0, -40.0), 14.0, "part_solid", 20.0),
    )
    return chest(3, spacing_mm=FINE, noise_hu=0.0, nodules=nodules)


@pytest.fixture(scope="module")
def bare() -> Phantom:
    """The same chest without any."""
    return chest(3, spacing_mm=FINE, noise_hu=0.0, nodules=())


def voxel(p: Phantom, at: tuple[float, float, float]) -> tuple[int, int, int]:
    x, y, z = (round((at[k] - p.origin_lps_mm[k]) / p.spacing_mm[2 - k]) for k in range(3))
    return z, y, x


def distance(p: Phantom, at: tuple[float, float, float]) -> np.ndarray:
    """Distance of every voxel to a point, mm."""
    axes = [
        np.arange(n) * p.spacing_mm[k] + p.origin_lps_mm[2 - k] - at[2 - k]
        for k, n in enumerate(p.hu.shape)
    ]
    return np.sqrt(
        axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2
    )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    first, again, other = (chest(s, spacing_mm=(10.0, 5.0, 5.0)) for s in (1, 1, 3))
    assert again.hu.tobytes() == first.hu.tobytes()
    assert again.nodules == first.nodules
    assert other.nodules != first.nodules
    assert other.hu.tobytes() != first.hu.tobytes()


@pytest.mark.long
def test_nodules_do_not_move_with_the_grid(coarse: Phantom) -> None:
    assert chest(1, spacing_mm=(10.0, 5.0, 5.0)).nodules == coarse.nodules


def test_the_default_set_is_what_screening_sees(coarse: Phantom) -> None:
    sizes = [n.diameter_mm for n in coarse.nodules]
    assert 4 <= min(sizes) < 6
    assert max(sizes) <= 20
    assert sum(6 <= s <= 20 for s in sizes) >= 10
    densities = [n.density for n in coarse.nodules]
    assert densities.count("solid") > len(densities) / 2
    assert set(densities) == {"solid", "part_solid", "ground_glass", "calcified"}
    sides = [n.center_lps_mm[0] > 0 for n in coarse.nodules]
    assert 5 <= sum(sides) <= len(sides) - 5
    for i, a in enumerate(coarse.nodules):
        for b in coarse.nodules[i + 1 :]:
            assert np.linalg.norm(np.subtract(a.center_lps_mm, b.center_lps_mm)) > 25


def test_nodules_are_dense_and_what_is_around_them_is_mostly_lung(coarse: Phantom) -> None:
    for n in coarse.nodules:
        d = distance(coarse, n.center_lps_mm)
        r = n.diameter_mm / 2
        # some lie at the chest wall or beside a vessel
        shell = np.percentile(coarse.hu[(d > r + 4) & (d < r + 9)], 30)
        assert shell < -750, n
        if n.diameter_mm >= 10:
            inside = coarse.hu[d < 0.45 * r]
            # averaged over 5 mm slices even part of a large nodule's middle is partial volume
            assert np.median(inside) > shell + 120, n


def test_density_and_volume_are_as_asked(asked: Phantom, bare: Phantom) -> None:
    for n in asked.nodules:
        d = distance(asked, n.center_lps_mm)
        core = float(np.median(asked.hu[d < 2.2]))
        assert abs(core - n.hu) < (60 if n.hu < 100 else 90), (n, core)
    # equivalent diameter: the excess mass over lung, in units of the nodule's own density
    ball = asked.nodules[0]
    d = distance(asked, ball.center_lps_mm)
    gain = (asked.hu[d < 14].astype(float) - bare.hu[d < 14]).sum() / (ball.hu + 850)
    diameter = (gain * float(np.prod(FINE)) * 6 / np.pi) ** (1 / 3)
    assert diameter == pytest.approx(ball.diameter_mm, abs=0.9)


def test_the_truth_centre_is_the_centre_of_what_was_drawn(asked: Phantom, bare: Phantom) -> None:
    gain = np.maximum(asked.hu.astype(float) - bare.hu, 0)
    for n in asked.nodules:
        weight = np.where(distance(asked, n.center_lps_mm) < n.diameter_mm, gain, 0)
        k, j, i = (
            float((weight.sum(axis=ax) * np.arange(weight.shape[m])).sum() / weight.sum())
            for m, ax in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1)))
        )
        found = (
            asked.origin_lps_mm[0] + i * FINE[2],
            asked.origin_lps_mm[1] + j * FINE[1],
            asked.origin_lps_mm[2] + k * FINE[0],
        )
        assert np.linalg.norm(np.subtract(found, n.center_lps_mm)) < 1.6, n


def test_a_chest_is_in_the_volume(coarse: Phantom) -> None:
    hu = coarse.hu
    voxel_l = float(np.prod(coarse.spacing_mm)) / 1e6
    z, y, x = voxel(coarse, (0.0, 0.0, 0.0))
    # at the carina: air in the airway, bone behind it, both lungs beside, air outside
    assert hu[z + 8, :, x - 2 : x + 3].min() < -850
    assert hu[z, y + 10 : y + 30, x - 2 : x + 3].max() > 150
    for side in (-70, 70):
        k, j, i = voxel(coarse, (float(side), 20.0, -20.0))
        assert -930 < np.median(hu[k - 1 : k + 2, j - 4 : j + 5, i - 4 : i + 5]) < -780
    assert np.median(hu[:, :8, :]) < -950
    # below the domes lies the liver on the right: +x is left
    k, j, i = voxel(coarse, (-80.0, 0.0, -170.0))
    assert np.median(hu[k, j - 3 : j + 4, i - 3 : i + 4]) == pytest.approx(58, abs=20)
    lung = ((hu > -940) & (hu < -700)).sum() * voxel_l
    assert 3.0 < lung < 7.5
    # the lungs are covered: no lung in the first and in the last slice
    inner = (slice(40, 105), slice(45, 98))
    for end in (0, -1):
        assert ((hu[end][inner] > -940) & (hu[end][inner] < -700)).mean() < 0.02
    assert hu.min() >= -1024
    assert hu.max() > 500


def test_noise_has_the_asked_strength_and_is_correlated() -> None:
    quiet = chest(3, spacing_mm=(30.0, 0.7, 0.7), rows=64, noise_hu=0.0, nodules=())
    loud = chest(3, spacing_mm=(30.0, 0.7, 0.7), rows=64, noise_hu=30.0, nodules=())
    noise = (loud.hu.astype(float) - quiet.hu)[2:6]
    assert np.std(noise) == pytest.approx(30, rel=0.2)
    assert np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1] > 0.3


def test_spacing_must_be_square_and_positive() -> None:
    with pytest.raises(ValueError, match="square"):
        chest(1, spacing_mm=(5.0, 2.5, 2.0))
    with pytest.raises(ValueError, match="positive"):
        chest(1, spacing_mm=(0.0, 2.5, 2.5))
