"""Patches for the proposal network: targets go where their nodules go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.quality.implant import SHAPE_MM, Shape, sphere_diameter
from training.implant.hosts import Host, Target
from training.implant.nodules import find_places
from training.learn.warp import Move
from training.read.volume import Volume
from training.recipes.lung_nodule import proposal_patches
from training.recipes.lung_nodule.proposal_patches import (
    BODY_STRIDE,
    GRID_MM,
    SIDE,
    STRIDE,
    UNKNOWN,
    Drawing,
    Patch,
    draw_targets,
    mirrored,
    sample,
    seen,
)

PLAIN = Drawing(implants=0.6, decoys=0, noise_hu=0, faint=0, real=0, thin=0, hard=0)


def ball() -> Shape:
    axis = (np.arange(12) - 5.5) / 5.5
    inside = sum(g**2 for g in np.meshgrid(axis, axis, axis)) < 1
    occupied = (inside * 255).astype(np.uint8)
    return Shape(occupied, sphere_diameter(float(inside.sum()) * SHAPE_MM**3), 1)


def empty_host() -> Host:
    lungs = np.zeros((93, 75, 75), bool)
    lungs[12:81, 12:63, 12:63] = True
    fine = np.full(lungs.shape, -850, np.float32)
    volume = Volume("v", np.full((70, 160, 160), -850, np.float32), (2.0, 0.7, 0.7), (0, 0, 0))
    return Host(volume, 0.0, find_places(lungs, fine, 1.5, ~lungs), (), np.zeros_like(lungs))


@pytest.mark.long
@pytest.mark.parametrize("turned", [1.0, 0.0])
def test_a_target_is_the_cell_of_its_nodule_however_the_patch_is_turned(turned: float) -> None:
    drawing = replace(PLAIN, turned=turned, smallest_mm=9, largest_mm=16, turn_deg=40)
    rng, host = np.random.default_rng(0), empty_host()
    away, ratios = [], []
    for _ in range(60):
        patch = sample(rng, host, [ball()] * 20, drawing)
        peaks = np.argwhere(patch.heat == 1)
        # alone, whole and in air all around: matter is what is above -700 HU
        if len(peaks) != 1 or (peaks < 2).any() or (peaks > 13).any() or patch.image.min() < 0.05:
            continue
        matter = np.clip(patch.image - 0.21, 0, None)
        voxels = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"))
        middle = (matter * voxels).sum((1, 2, 3)) / matter.sum()
        away.append((middle + 0.5) / STRIDE - 0.5 - peaks[0])
        volume = float((patch.image > 0.45).sum()) * GRID_MM**3
        ratios.append(sphere_diameter(volume) / np.exp(patch.size[tuple(peaks[0])]))
    assert len(away) >= 8
    # a cell is the nearest one to its nodule: within half a cell, no side preferred
    assert np.median(np.abs(away), axis=0).max() < 0.45
    assert np.abs(np.median(away, axis=0)).max() < 0.3
    assert np.median(ratios) == pytest.approx(1, abs=0.12)


def test_the_same_generator_gives_the_same_patch() -> None:
    host, shapes = empty_host(), [ball()] * 20
    one, other = (sample(np.random.default_rng(7), host, shapes, Drawing()) for _ in range(2))
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.heat, other.heat)


def test_targets_lie_where_their_nodules_are() -> None:
    heat, size, weight = draw_targets([Target((42.5, 22.5, 12.5), 9.0)])
    assert np.argwhere(heat == 1).tolist() == [[8, 4, 2]]
    assert size[8, 4, 2] == pytest.approx(np.log(9.0))
    assert weight.min() == 1


def test_around_a_lesion_marked_by_eye_only_its_middle_counts() -> None:
    heat, _, weight = draw_targets([Target((42.5, 42.5, 42.5), 12.0)], real=1)
    assert weight[8, 8, 8] == 1
    assert weight[8, 8, 9] == 0
    assert weight[0, 0, 0] == 1
    assert heat[8, 8, 8] == 1


def test_mirroring_moves_image_and_targets_alike() -> None:
    heat, size, weight = draw_targets([Target((42.5, 22.5, 12.5), 9.0)])
    image = np.kron(heat, np.ones((STRIDE,) * 3, np.float32))
    for seed in range(6):
        patch = mirrored(np.random.default_rng(seed), Patch(image, heat, size, weight, heat))
        assert np.array_equal(patch.image[::STRIDE, ::STRIDE, ::STRIDE], patch.heat)
        assert np.array_equal(patch.body, patch.heat)


@pytest.mark.long
@pytest.mark.parametrize("turned", [1.0, 0.0])
def test_the_body_is_where_the_nodule_is_however_the_patch_is_turned(turned: float) -> None:
    drawing = replace(PLAIN, turned=turned, smallest_mm=9, largest_mm=16, turn_deg=40, thick=0)
    rng, host, alike = np.random.default_rng(4), empty_host(), []
    n = SIDE // BODY_STRIDE
    for _ in range(30):
        patch = sample(rng, host, [ball()] * 20, drawing)
        if patch.body.max() < 0.9 or patch.image.min() < 0.05:
            continue
        pooled = patch.image.reshape((n, BODY_STRIDE) * 3).mean((1, 3, 5))
        alike.append(np.corrcoef(pooled.ravel(), patch.body.ravel())[0, 1])
    assert len(alike) >= 5
    # lines and hollows are no part of a body
    assert np.median(alike) > 0.9


def test_a_nodule_that_nobody_can_see_counts_neither_way(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = replace(PLAIN, implants=3, smallest_mm=6, largest_mm=9, thick=0)
    host, shapes = empty_host(), [ball()] * 20
    plain = [sample(np.random.default_rng(s), host, shapes, drawing) for s in range(6)]
    monkeypatch.setattr(proposal_patches, "FAINT_HU", 1e9)
    faint = [sample(np.random.default_rng(s), host, shapes, drawing) for s in range(6)]
    assert max(p.heat.max() for p in plain) == 1
    assert min(p.weight.min() for p in plain) == 1
    for one, other in zip(plain, faint, strict=True):
        assert other.heat.max() == 0
        # what was a centre is now left out, in the heat and in the body
        assert not other.weight[one.heat == 1].any()
        assert (other.body[one.body > 0.5] == UNKNOWN).all()
        assert other.body.max() <= 0.5


@pytest.mark.parametrize("field", ["spots", "unsure"])
def test_what_may_be_a_nodule_counts_neither_way(field: str) -> None:
    drawing = replace(PLAIN, implants=0)
    host = empty_host()
    plain = [sample(np.random.default_rng(s), host, [], drawing) for s in range(6)]
    middle = tuple(
        n * s / 2 for n, s in zip(host.volume.hu.shape, host.volume.spacing, strict=True)
    )
    host = replace(host, **{field: (Target(middle, 12.0),)})
    spots = [sample(np.random.default_rng(s), host, [], drawing) for s in range(6)]
    assert min(p.weight.min() for p in plain) == 1
    seen_in = [p for p in spots if (p.weight == 0).any()]
    assert seen_in
    for one, other in zip(spots, plain, strict=True):
        assert np.array_equal(one.image, other.image)
        assert one.heat.max() == 0
        assert (one.weight == 0).any() == (one.body == UNKNOWN).any()
        # a ball of 12 mm and a cell around it: 5 cells of 5 mm across at most
        assert np.ptp(np.argwhere(one.weight == 0), axis=0).max(initial=0) <= 4


def test_the_boxed_mass_is_ignored_where_the_turned_patch_shows_it() -> None:
    host = empty_host()
    host.ignored[46:50, 10:14, 36:40] = True  # mm 69-75, 15-21, 54-60
    edge = np.array([30.0, 0.0, 15.0])
    still = seen(host, edge, np.ones(3), Move(np.eye(3), np.zeros(3)), SIDE)
    # from the patch's edge: 42 mm, 18 mm, 42 mm, in cells of 5 mm
    assert still[8, 3, 8] == 0
    assert still[0, 0, 0] == 1
    quarter = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    turned = seen(host, edge, np.ones(3), Move(quarter, np.zeros(3)), SIDE)
    gone = np.argwhere(turned == 0).mean(0) - 7.5
    # a voxel o of the patch is read at quarter @ o: what lies there lies at its transpose
    assert gone == pytest.approx(quarter.T @ (np.argwhere(still == 0).mean(0) - 7.5), abs=0.6)
