"""Masses are scored by their own calibration, take the nodules at their rim with them, and have the
axes, volume and box of the body that their network draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from appliance.bundle.heads import BodyHead, DetectHead, MassHead
from appliance.errors import Poisoned
from appliance.interpret import mass
from appliance.preprocess import plan
from appliance.records import Candidate, Grid, Mask, Tensor

HEAD = MassHead(
    detect=DetectHead(heat="heat", log_diameter="size", stride=4, top_k=8, within_mm=30.0),
    scale=2.0,
    bias=-1.0,
    threshold=0.5,
    least_mm=25.0,
)
PLACES = [(1, 1, 1), (1, 1, 5), (5, 5, 3)]


def kept(grid, *peaks: tuple[float, float], head: MassHead = HEAD):
    """(logit, diameter) of cells far apart -> masses; all of the grid is lung."""
    heat, size = np.full((1, 1, 7, 7, 7), -9.0), np.full((1, 1, 7, 7, 7), np.log(5.0))
    for cell, (logit, diameter) in zip(PLACES, peaks, strict=False):
        heat[(0, 0, *cell)], size[(0, 0, *cell)] = logit, np.log(diameter)
    outputs = {"heat": heat.astype(np.float32), "size": size.astype(np.float32)}
    lungs = Mask("lungs", np.ones(grid.shape, bool), grid)
    return mass.kept(outputs, Tensor(None, (1, 1, 28, 28, 28), grid), head, lungs)


@pytest.fixture
def grid(grid_of):
    return grid_of((28, 28, 28))


def test_a_mass_has_its_own_score_and_place(grid, grid_of, axes):
    lying = grid_of((28, 28, 28), axes=axes)
    (one,) = kept(lying, (1.5, 55.0))
    assert one.score == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert one.logits == {"mass": 1.5}
    assert one.diameter_mm == pytest.approx(55.0)
    assert one.center_lps_mm == pytest.approx(plan.to_lps(lying, (5.5, 5.5, 5.5)), abs=0.1)


def test_masses_reach_the_threshold_and_the_least_diameter_best_first(grid):
    found = kept(grid, (0.6, 40.0), (2.0, 30.0), (3.0, 24.0))
    assert [m.logits["mass"] for m in found] == pytest.approx([2.0, 0.6])
    assert kept(grid, (0.4, 40.0)) == ()
    assert len(kept(grid, (0.5, 25.1))) == 1


def test_nothing_is_a_mass_where_the_head_does_not_reach(grid):
    far = HEAD.model_copy(update={"detect": HEAD.detect.model_copy(update={"min_logit": 5.0})})
    assert kept(grid, (4.0, 40.0), head=far) == ()


def at(x: float, diameter: float) -> Candidate:
    return Candidate((x, 0.0, 0.0), diameter, {"propose": 1.0}, 0.7)


def test_a_candidate_within_the_radius_of_a_mass_is_part_of_it():
    masses = [at(0.0, 50.0), at(200.0, 30.0)]
    candidates = [at(x, 8.0) for x in (24.9, 25.1, -10.0, 190.0, 100.0, 215.1)]
    assert [c.center_lps_mm[0] for c in mass.outside(candidates, masses)] == [25.1, 100.0, 215.1]
    assert mass.outside(candidates, []) == tuple(candidates)


# bodies (version 3 of the line)


BODY = BodyHead(output="body")
GRIDS = {"even": (3.0, 3.0, 3.0), "uneven": (4.0, 2.5, 3.0)}
RADII = np.array([14.0, 18.0, 30.0])
"""Of an ellipsoid, in mm, along the rows of a turn."""


def ellipsoid(grid: Grid, center: np.ndarray, radii: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Logits [z, y, x] that are the distance from the surface in mm, to first order."""
    at = plan.to_lps(grid, np.moveaxis(np.indices(grid.shape), 0, -1)) - center
    along = at @ turn.T
    out = np.linalg.norm(along / radii, axis=-1)
    slope = np.maximum(np.linalg.norm(along / np.square(radii), axis=-1), 1e-9)
    return np.asarray((1 - out) * out / slope, np.float32)


def drawn(grid: Grid, *logits: np.ndarray, head: BodyHead = BODY) -> mass.Parts:
    """What a network draws; its output is padded, and the padding shouts."""
    padded = np.full((1, 1, *(n + 3 for n in grid.shape)), 9.0, np.float32)
    z, y, x = grid.shape
    padded[0, 0, :z, :y, :x] = np.max(logits, axis=0) if logits else -9.0
    return mass.parts({"body": padded}, Tensor(None, padded.shape, grid), head)


def found(center: Sequence[float], diameter: float, score: float = 0.9) -> Candidate:
    return Candidate(plan.vector(center), diameter, {"mass": 1.0}, score)


def middle(grid: Grid, *mm: float) -> np.ndarray:
    """The middle of a grid, and so many mm (x, y, z) from there."""
    ends = np.subtract(grid.shape, 1) / 2
    return plan.to_lps(grid, ends) + np.array(mm or (0.0, 0.0, 0.0))


def in_plane(grid: Grid, degrees: float) -> np.ndarray:
    """The directions z, y, x of a grid, turned in its plane."""
    z, y, x = (grid.to_lps[:3, i] / grid.spacing_mm[i] for i in range(3))
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([z, c * y + s * x, -s * y + c * x])


@pytest.mark.parametrize("spacing", GRIDS.values(), ids=GRIDS)
def test_the_body_of_a_mass_has_the_axes_volume_and_box_of_an_ellipsoid_however_it_lies(
    grid_of, stack_of, axes, spacing
):
    grid = grid_of((24, 36, 34), spacing, axes=axes)
    center, turn = middle(grid, 0.7, -0.4, 1.1), in_plane(grid, 30)
    parts = drawn(grid, ellipsoid(grid, center, RADII, turn))
    (one,) = mass.measured([found(center, 50.0)], parts, stack_of(grid))
    assert one.why is None
    assert one.body.long_mm == pytest.approx(60, abs=0.6)
    assert one.body.short_mm == pytest.approx(36, abs=0.6)
    assert one.body.volume_mm3 == pytest.approx(4 / 3 * np.pi * np.prod(RADII), rel=0.03)
    half = np.sqrt(((RADII[:, None] * turn) ** 2).sum(axis=0))
    assert one.body.box_lps_mm == pytest.approx([*(center - half), *(center + half)], abs=0.6)
    assert one.body.density is None
    count = np.count_nonzero(one.body.mask.voxels)
    assert count * np.prod(spacing) == pytest.approx(one.body.volume_mm3, rel=0.03)


@pytest.fixture
def wide(grid_of):
    return grid_of((34, 40, 44))


def ball(grid: Grid, center: np.ndarray, radius: float) -> np.ndarray:
    return ellipsoid(grid, center, np.full(3, radius), np.eye(3))


def test_of_a_body_in_two_parts_the_one_that_fills_the_detectors_ball_is_measured(wide, stack_of):
    large, small = middle(wide, -10.0, 0, 0), middle(wide, 26.0, 0, 0)
    parts = drawn(wide, ball(wide, large, 20.0), ball(wide, small, 9.0))
    between = found(middle(wide, 14.0, 0, 0), 40.0)
    (one,) = mass.measured([between], parts, stack_of(wide))
    assert one.body.mean_mm == pytest.approx(40, abs=0.5)
    assert one.body.box_lps_mm[3] < small[0] - 9, "the small part is not of the mass"


def test_a_cavity_counts_as_part_of_the_mass(wide, stack_of):
    center = middle(wide)
    hollow = np.minimum(ball(wide, center, 22.0), -ball(wide, center, 12.0))
    parts = drawn(wide, hollow)
    (one,) = mass.measured([found(center, 44.0)], parts, stack_of(wide))
    assert one.body.volume_mm3 == pytest.approx(4 / 3 * np.pi * 22**3, rel=0.03)
    assert one.body.mean_mm == pytest.approx(44, abs=0.5)
    inside = Candidate(plan.vector(center), 8.0, {"propose": 1.0}, 0.8)
    assert mass.apart([inside], [one]) == ()


def test_a_threshold_other_than_a_half_moves_the_surface(wide, stack_of):
    logits = ball(wide, middle(wide), 22.0)
    sizes = []
    for threshold in (0.2, 0.5, 0.8):
        parts = drawn(wide, logits, head=BodyHead(output="body", threshold=threshold))
        (one,) = mass.measured([found(middle(wide), 44.0)], parts, stack_of(wide))
        sizes.append(one.body.mean_mm)
    assert sizes == pytest.approx([44 + 2 * 1.386, 44, 44 - 2 * 1.386], abs=0.5)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [-1, 1])
def test_a_body_at_the_border_is_not_measured_and_the_reason_is_said(wide, stack_of, axis, end):
    half = np.subtract(wide.shape, 1) / 2 * 3.0
    way = np.zeros(3)
    way[2 - axis] = end * (half[axis] - 18.0)  # x, y, z
    center = middle(wide, *way)
    parts = drawn(wide, ball(wide, center, 20.0))
    (one,) = mass.measured([found(center, 40.0)], parts, stack_of(wide))
    assert one.body is None
    assert one.why == "its outline reaches the edge of the images"


@pytest.mark.parametrize("away_mm", [0.0, 40.0])
def test_an_empty_body_leaves_the_detectors_diameter_and_says_so(wide, stack_of, away_mm):
    other = (ball(wide, middle(wide, away_mm, 0, 0), 10.0),) if away_mm else ()
    masses = [found(middle(wide, -5.0, 0, 0), 40.0)]
    (one,) = mass.measured(masses, drawn(wide, *other), stack_of(wide))
    assert (one.mass, one.body) == (masses[0], None)
    assert one.why == "the network drew no outline there"


@pytest.mark.parametrize(("detected", "agrees"), [(90, False), (70, True), (21, True), (18, False)])
def test_a_body_of_quite_another_size_than_was_detected_is_not_the_masses(
    wide, stack_of, detected, agrees
):
    parts = drawn(wide, ball(wide, middle(wide), 20.0))
    (one,) = mass.measured([found(middle(wide), detected)], parts, stack_of(wide))
    assert (one.body is not None) == agrees
    assert agrees or f"40 mm in the mean, the detector says {detected} mm" in one.why


def test_what_lies_in_a_body_or_at_its_rim_is_part_of_the_mass_and_nothing_else_is(wide, stack_of):
    """The detector's ball of 50 mm reaches far beyond the flat body along y."""
    center = middle(wide)
    parts = drawn(wide, ellipsoid(wide, center, np.array([30.0, 14.0, 20.0]), np.eye(3)))
    masses = mass.measured([found(center, 50.0)], parts, stack_of(wide))
    places = [(28.0, 0, 0), (0, 15.0, 0), (0, 22.0, 0), (40.0, 0, 0)]
    nodules = [at(x, 8.0) for x in range(4)]
    nodules = [
        replace(c, center_lps_mm=plan.vector(middle(wide, *p)))
        for c, p in zip(nodules, places, strict=True)
    ]
    assert mass.apart(nodules, masses) == tuple(nodules[2:])
    bodiless = [mass.Measured(masses[0].mass)]
    assert mass.apart(nodules, bodiless) == (nodules[0], nodules[3])


def test_two_masses_in_one_body_are_the_better_one(wide, stack_of):
    body = ellipsoid(wide, middle(wide), np.array([40.0, 18.0, 18.0]), np.eye(3))
    best = found(middle(wide, -18.0, 0, 0), 36.0, 0.9)
    second = found(middle(wide, 22.0, 0, 0), 34.0, 0.8)
    (one,) = mass.measured([best, second], drawn(wide, body), stack_of(wide))
    assert one.mass is best
    assert one.body.long_mm == pytest.approx(80, abs=0.6)


def test_without_bodies_masses_stay_as_they_were(wide, stack_of):
    masses = [found(middle(wide), 40.0), found(middle(wide, 5.0, 0, 0), 30.0)]
    assert [m.mass for m in mass.measured(masses, None, stack_of(wide))] == masses


CUBE_MM = 48 * 0.8


def test_a_nodule_in_a_thing_that_leaves_its_cube_is_measured_by_that_thing(wide, stack_of):
    center = middle(wide, -8.0, 0, 0)
    fits = middle(wide, 48.0, 0, 0)
    parts = drawn(wide, ball(wide, center, 30.0), ball(wide, fits, 10.0))
    rim = replace(at(0, 25.0), center_lps_mm=plan.vector(middle(wide, -32.0, 0, 0)), score=0.95)
    inner = replace(at(0, 20.0), center_lps_mm=plan.vector(middle(wide, -6.0, 0, 0)), score=0.6)
    small = replace(at(0, 18.0), center_lps_mm=plan.vector(fits), score=0.7)
    beside = replace(at(0, 6.0), center_lps_mm=plan.vector(middle(wide, -8.0, 38, 0)), score=0.8)
    large, others = mass.overgrown([inner, small, beside, rim], parts, stack_of(wide), CUBE_MM)
    assert [one.mass for one in large] == [rim], "two nodules in one thing are one, the best"
    assert large[0].body.mean_mm == pytest.approx(60, abs=0.5)
    assert others == (small, beside)


def test_a_thing_that_fits_into_a_cube_leaves_that_of_a_nodule_at_its_side(wide, stack_of):
    parts = drawn(wide, ball(wide, middle(wide), 14.0))
    for aside, leaves in ((0.0, False), (3.0, False), (9.0, True)):
        nodule = replace(at(0, 20.0), center_lps_mm=plan.vector(middle(wide, aside, 0, 0)))
        large, others = mass.overgrown([nodule], parts, stack_of(wide), CUBE_MM)
        assert bool(large) == leaves
        assert bool(others) != leaves


def test_a_large_thing_that_is_cut_off_leaves_the_nodules_diameter(wide, stack_of):
    half = (wide.shape[2] - 1) / 2 * 3.0
    center = middle(wide, half - 15.0, 0, 0)
    parts = drawn(wide, ball(wide, center, 25.0))
    nodule = replace(at(0, 22.0), center_lps_mm=plan.vector(center))
    (one,), others = mass.overgrown([nodule], parts, stack_of(wide), CUBE_MM)
    assert (one.mass, one.body, others) == (nodule, None, ())
    assert one.why == "its outline reaches the edge of the images"


def test_a_nodule_outside_the_images_or_of_all_parts_is_in_none(wide, stack_of):
    parts = drawn(wide, ball(wide, middle(wide), 25.0))
    out = [at(9e3, 9.0), replace(at(0, 9.0), center_lps_mm=plan.vector(middle(wide, 40, 0, 0)))]
    assert mass.overgrown(out, parts, stack_of(wide), CUBE_MM) == ((), tuple(out))


def test_a_body_that_does_not_cover_the_grid_fails(grid):
    short = np.zeros((1, 1, 28, 28, 27), np.float32)
    with pytest.raises(Poisoned) as error:
        mass.parts({"body": short}, Tensor(None, short.shape, grid), BODY)
    assert error.value.code == "backend_failed"
