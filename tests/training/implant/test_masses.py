"""Implanted masses: where they are, what they leave alone, and when there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from scipy import ndimage

from appliance.quality.implant import SHAPE_MM, Block, Shape
from training.implant.hosts import Target
from training.implant.masses import (
    UNKNOWN,
    Chest,
    MassHost,
    draw_place,
    grain_of,
    large,
    place_of,
    put_fluid,
    put_mass,
    same_shape,
    with_masses,
)
from training.implant.shapes import shape_of
from training.read.volume import Volume

SPACING = (3.0, 3.0, 3.0)


def ball(diameter_mm: float = 15.0) -> Shape:
    n = int(np.ceil(diameter_mm / SHAPE_MM)) + 2
    axis = (np.arange(n) - (n - 1) / 2) * SHAPE_MM
    far = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis)))
    shape = shape_of(np.clip((diameter_mm / 2 - far) / SHAPE_MM + 0.5, 0, 1).astype(np.float32), 1)
    assert shape is not None
    return shape


def chest(size: int = 48, wall_x: int = 32) -> Chest:
    """Lung up to x = `wall_x` voxels, then muscle; two voxels of outside air at the end."""
    hu = np.full((size,) * 3, -850, np.float32)
    hu[:, :, wall_x:] = 50
    hu[:, :, -2:] = -1000
    inside = np.zeros(hu.shape, bool)
    inside[:, :, :wall_x] = True
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return Chest(Block(hu, SPACING, 0.0), np.asarray(depth * 3, np.float32))


def host(size: int = 64, lesion_mm: float = 12.0) -> MassHost:
    """One lung like a ball in a block of muscle."""
    at = np.indices((size,) * 3) - (size - 1) / 2
    inside = np.sqrt((at**2).sum(0)) < 0.42 * size
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    hu = np.where(inside, -850, 50).astype(np.float32)
    volume = Volume("made-up", hu, SPACING, (0.0, 0.0, 0.0))
    lesion = Target((96.0, 96.0, 80.0), lesion_mm)
    return MassHost(volume, hu, np.asarray(depth * 3, np.float32), 5.0, (), (lesion,))


@pytest.mark.parametrize("seed", range(4))
def test_a_mass_in_the_lung_has_its_truth_in_the_image(seed: int) -> None:
    here = chest()
    before = here.block.hu.copy()
    centre = np.array([72.0, 70.0, 48.0])
    mass = put_mass(np.random.default_rng(seed), here, centre, ball(), 40.0)
    assert mass is not None
    assert np.linalg.norm(np.array(mass.center_mm) - centre) < 2.0
    assert mass.diameter_mm == pytest.approx(40, rel=0.08)
    changed = here.block.hu > before + 100
    at = (np.array(ndimage.center_of_mass(changed)) + 0.5) * 3
    assert np.linalg.norm(at - centre) < 4.0
    assert mass.place == "isolated"


def test_of_a_mass_in_the_wall_only_what_can_be_seen_is_truth() -> None:
    here = chest()
    mass = put_mass(np.random.default_rng(1), here, np.array([72.0, 72.0, 96.0]), ball(), 40.0)
    assert mass is not None
    assert mass.center_mm[2] < 96 - 4, "half of it lies in muscle of its own density"
    assert mass.diameter_mm == pytest.approx(40 * 0.5 ** (1 / 3), rel=0.1)
    assert mass.place == "wall"


@pytest.mark.parametrize("spacing", [SPACING, (2.0, 3.0, 4.0)])
def test_the_outline_is_the_share_of_each_voxel_that_is_mass(spacing: Any) -> None:
    here = chest()
    here = Chest(Block(here.block.hu, spacing, 0.0), here.depth_mm)
    before = here.block.hu.copy()
    centre = np.array([24.3, 23.6, 15.9]) * spacing
    mass = put_mass(np.random.default_rng(0), here, centre, ball(), 40.0)
    assert mass is not None
    assert mass.outline.min() == 0
    assert mass.outline.max() == pytest.approx(1, abs=1e-3)
    at = (np.indices(before.shape)[(slice(None), *mass.part)] + 0.5).reshape(3, -1).T * spacing
    assert mass.outline.sum() * np.prod(spacing) == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.05)
    middle = (at * mass.outline.reshape(-1, 1)).sum(axis=0) / mass.outline.sum()
    assert middle == pytest.approx(centre, abs=0.2)
    changed = here.block.hu > before + 425
    own = np.zeros(before.shape, bool)
    own[mass.part] = mass.outline > 0.5
    assert np.count_nonzero(changed ^ own) < 0.15 * np.count_nonzero(own)


def test_where_nobody_sees_a_mass_end_its_outline_is_unknown() -> None:
    here = chest()
    mass = put_mass(np.random.default_rng(1), here, np.array([72.0, 72.0, 96.0]), ball(), 40.0)
    assert mass is not None
    outline = np.zeros(here.block.hu.shape, np.float32)
    outline[mass.part] = mass.outline
    assert (outline[:, :, :32] >= 0).all()
    unknown = outline == UNKNOWN
    assert np.count_nonzero(unknown) == pytest.approx(0.5 * 4 / 3 * np.pi * (20 / 3) ** 3, rel=0.3)
    assert not unknown[:, :, :32].any()
    assert (outline[:, :, 32:] <= 0.05).all()


def test_a_mass_ends_at_the_skin() -> None:
    here = chest()
    put = put_mass(np.random.default_rng(1), here, np.array([72.0, 72.0, 96.0]), ball(), 96.0)
    assert put is not None
    assert (here.block.hu[:, :, -2:] < -900).all()


def test_what_would_lie_outside_the_lung_is_not_implanted() -> None:
    here = chest()
    before = here.block.hu.copy()
    centre = np.array([72.0, 72.0, 110.0])
    assert put_mass(np.random.default_rng(1), here, centre, ball(), 40.0) is None
    assert np.array_equal(here.block.hu, before)


def test_places_let_enough_of_a_mass_lie_in_the_lung() -> None:
    here, rng = chest(), np.random.default_rng(2)
    drawn = [draw_place(rng, here, 45.0) for _ in range(60)]
    found = [at for at in drawn if at is not None]
    assert len(found) > 40
    done = [put_mass(np.random.default_rng(3), chest(), at, ball(), 45.0) for at in found[:12]]
    assert sum(m is not None for m in done) >= 10
    assert draw_place(rng, Chest(here.block, np.full_like(here.depth_mm, -5)), 45.0) is None


def test_places_are_named_by_what_they_hang_on() -> None:
    inside = np.zeros((20, 40, 60), bool)
    inside[:, 5:35, 4:26] = inside[:, 5:35, 34:56] = True
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    both = Chest(Block(np.zeros(inside.shape, np.float32), SPACING, 0), (depth * 3).astype("f4"))
    assert place_of(both, (30, 60, 24 * 3), 40.0) == "mediastinum"
    assert place_of(both, (30, 60, 5 * 3), 40.0) == "wall"
    assert place_of(both, (30, 60, 15 * 3), 24.0) == "isolated"


def test_fluid_stays_in_the_lung() -> None:
    here = chest()
    before = here.block.hu.copy()
    put_fluid(np.random.default_rng(4), here)
    changed = np.abs(here.block.hu - before) > 50
    assert changed.any()
    assert (here.depth_mm[changed] > -6).all()
    assert np.argwhere(changed)[:, 1].mean() > 24, "fluid lies at the back"


def test_the_same_seed_puts_the_same_masses() -> None:
    shapes = [ball(d) for d in (9.0, 13.0, 18.0)]
    first, masses = with_masses(host(), shapes, 3)
    again, same = with_masses(host(), shapes, 3)
    assert masses == same
    assert masses
    assert np.array_equal(first.hu, again.hu)
    assert {s.diameter_mm for s in large(shapes)} == {s.diameter_mm for s in shapes[1:]}


def test_masses_keep_clear_of_each_other_and_of_lesions() -> None:
    marked = host(lesion_mm=60.0)
    lesion = marked.lesions[0]
    for seed in range(4):
        masses = with_masses(marked, [ball()], seed)[1]
        taken = [lesion, *(Target(m.center_mm, m.diameter_mm) for m in masses)]
        for i, one in enumerate(taken):
            for other in taken[:i]:
                gap = np.linalg.norm(np.array(one.center_mm) - other.center_mm)
                assert gap > (one.diameter_mm + other.diameter_mm) / 2


def test_the_noise_of_a_coarse_grid_is_that_of_its_tissue() -> None:
    rng = np.random.default_rng(5)
    hu = (50 + 8 * rng.standard_normal((24, 40, 40))).astype(np.float32)
    assert grain_of(hu) == pytest.approx(8, rel=0.25)
    assert grain_of(np.full((24, 40, 40), -900, np.float32)) == 10.0


def test_a_shape_is_cut_or_its_end_repeated() -> None:
    array = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    assert same_shape(array, (1, 2, 5)).tolist() == [[[0, 1, 2, 3, 3], [4, 5, 6, 7, 7]]]
