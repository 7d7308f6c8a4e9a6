"""Heat maps with known centres come back as candidates and findings at those places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bundle.heads import DetectHead
from appliance.errors import Poisoned
from appliance.interpret import detect
from appliance.preprocess import plan
from appliance.records import Candidate, Grid, Mask, Stack, Tensor

HEAD = DetectHead(heat="heat", log_diameter="size", stride=4, top_k=24, within_mm=4.0)
SHAPE = (30, 35, 38)


def cells_of(grid: Grid) -> tuple[int, int, int]:
    """Cells of a volume that was padded to a multiple of 16."""
    return tuple((n + -n % 16) // 4 for n in grid.shape)


def outputs_of(grid: Grid, *blobs: tuple[tuple[float, float, float], float, float]) -> dict:
    """Heat of (voxel index, peak logit, diameter) blobs: Gaussian in sigmoid space, as trained."""
    cells = cells_of(grid)
    at = (np.moveaxis(np.indices(cells), 0, -1) + 0.5) * 4 - 0.5
    heat, size = np.full(cells, -9.0), np.full(cells, np.log(5.0))
    for index, logit, diameter in blobs:
        squared = ((at - np.asarray(index)) ** 2).sum(-1) / 4**2
        chance = np.exp(-squared / (2 * 0.7**2)) / (1 + np.exp(-logit))
        heat = np.maximum(heat, np.log(chance + 1e-9) - np.log1p(-chance + 1e-9))
        size = np.where(squared < 2, np.log(diameter), size)
    return {
        "heat": heat[None, None].astype(np.float32),
        "size": size[None, None].astype(np.float32),
    }


def everywhere(grid: Grid) -> Mask:
    return Mask("lungs", np.ones(grid.shape, bool), grid)


def proposed(grid: Grid, *blobs, head: DetectHead = HEAD, mask: Mask | None = None):
    outputs = outputs_of(grid, *blobs)
    image = Tensor(None, outputs["heat"].shape, grid)
    return detect.candidates(outputs, image, head, mask or everywhere(grid))


def test_a_known_centre_is_found_in_the_patient(grid_of, axes):
    grid = grid_of(SHAPE, spacing=(1.25, 1.25, 1.25), axes=axes)
    index = (17.2, 21.9, 8.6)
    (found,) = proposed(grid, (index, 2.0, 7.0))
    error = np.linalg.norm(np.subtract(found.center_lps_mm, plan.to_lps(grid, index)))
    assert error < 1.25  # a quarter of a cell
    assert found.diameter_mm == pytest.approx(7.0, rel=1e-5)
    assert found.logits.keys() == {"propose"}
    assert found.score == pytest.approx(1 / (1 + np.exp(-found.logits["propose"])))


@settings(deadline=None, max_examples=60)
@given(*[st.floats(4, n - 5) for n in SHAPE])
def test_the_centroid_is_nearer_than_the_cell(grid_of, z, y, x):
    grid = grid_of(SHAPE, spacing=(1.25, 1.25, 1.25))
    best = proposed(grid, ((z, y, x), 2.0, 7.0))[0]
    index = plan.to_index(grid, best.center_lps_mm)
    assert np.abs(index - (z, y, x)).max() < 1.3
    assert len(proposed(grid, ((z, y, x), 2.0, 7.0))) == 1


def test_candidates_come_best_first_and_at_most_top_k(grid_of):
    grid = grid_of((40, 40, 40))
    blobs = [
        ((5.5, 5.5, 5.5), 0.0, 6.0),
        ((5.5, 5.5, 33.5), 2.0, 6.0),
        ((33.5, 5.5, 5.5), 1.0, 6.0),
    ]
    found = proposed(grid, *blobs)
    logits = [c.logits["propose"] for c in found]
    assert logits == sorted(logits, reverse=True)
    assert len(found) == 3
    fewer = proposed(grid, *blobs, head=HEAD.model_copy(update={"top_k": 2}))
    assert fewer == found[:2]


def test_of_two_peaks_within_a_radius_the_better_stays(grid_of):
    grid = grid_of((40, 40, 40), spacing=(1.0, 1.0, 1.0))
    a, b = (9.5, 9.5, 9.5), (9.5, 9.5, 17.5)  # 8 mm apart
    assert len(proposed(grid, (a, 1.0, 6.0), (b, 2.0, 6.0))) == 2
    for diameters in ((20.0, 6.0), (6.0, 20.0)):
        (kept,) = proposed(grid, (a, 1.0, diameters[0]), (b, 2.0, diameters[1]))
        assert np.linalg.norm(plan.to_index(grid, kept.center_lps_mm) - b) < 1


def test_weak_peaks_are_none(grid_of):
    grid = grid_of((40, 40, 40))
    head = HEAD.model_copy(update={"min_logit": -2.0})
    assert proposed(grid, ((9.5, 9.5, 9.5), -3.0, 6.0), head=head) == ()
    assert len(proposed(grid, ((9.5, 9.5, 9.5), -1.0, 6.0), head=head)) == 1


def test_a_peak_in_the_padding_is_none(grid_of):
    grid = grid_of((30, 33, 40))
    near = HEAD.model_copy(update={"within_mm": 20.0})
    assert proposed(grid, ((9.5, 33.5, 9.5), 3.0, 6.0), head=near) == ()
    assert len(proposed(grid, ((9.5, 29.5, 9.5), 3.0, 6.0), head=near)) == 1


@pytest.mark.parametrize(("diameter", "kept"), [(6.0, 0), (16.0, 0), (26.0, 1)])
def test_the_middle_of_a_large_nodule_may_lie_beyond_the_mask_by_its_radius(
    grid_of, diameter: float, kept: int
):
    grid = grid_of((40, 40, 40), spacing=(1.0, 1.0, 1.0))
    voxels = np.zeros(grid.shape, bool)
    voxels[:, :, :10] = True  # the peak lies 12 voxels beside it
    peak, mask = ((21.5, 21.5, 21.5), 3.0, diameter), Mask("lungs", voxels, grid)
    head = HEAD.model_copy(update={"within_radii": 1.0})
    assert len(proposed(grid, peak, head=head, mask=mask)) == kept
    assert proposed(grid, peak, mask=mask) == ()


def test_a_flat_map_gives_no_two_candidates_at_one_place(grid_of):
    grid = grid_of((32, 32, 32), spacing=(1.0, 1.0, 1.0))
    flat = {"heat": np.zeros((1, 1, 8, 8, 8), np.float32)}
    flat["size"] = np.full((1, 1, 8, 8, 8), np.log(10.0), np.float32)
    head = HEAD.model_copy(update={"top_k": 512})
    image = Tensor(None, (1, 1, 32, 32, 32), grid)
    found = detect.candidates(flat, image, head, everywhere(grid))
    assert found == detect.candidates(flat, image, head, everywhere(grid))
    centres = np.array([c.center_lps_mm for c in found])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 99 * np.eye(len(centres))
    assert gaps.min() >= 5.0


@pytest.mark.parametrize(("gap_mm", "near"), [(0, True), (4, True), (6, False), (12, False)])
def test_a_point_is_within_a_mask_that_a_coarser_grid_has_near_it(grid_of, axes, gap_mm, near):
    coarse = grid_of((20, 20, 20), spacing=(2.0, 2.0, 2.0), axes=axes)
    voxels = np.zeros(coarse.shape, bool)
    voxels[:, :, 10 + gap_mm // 2] = True
    point = plan.vector(plan.to_lps(coarse, (10.2, 10, 10)))
    assert detect.within(Mask("lungs", voxels, coarse), point, 5.0) == near
    assert detect.within(Mask("lungs", voxels, coarse), point, 0.0) == (gap_mm == 0)


def test_no_mask_voxel_is_within_reach_of_a_point_off_its_grid(grid_of):
    coarse = grid_of((20, 20, 20), spacing=(2.0, 2.0, 2.0))
    mask = everywhere(coarse)
    for index, near in (((-2, 5, 5), True), ((-4, 5, 5), False), ((5, 500, 5), False)):
        point = plan.vector(plan.to_lps(coarse, index))
        assert detect.within(mask, point, 5.0) == near


def test_candidates_far_from_the_mask_are_dropped_before_top_k(grid_of):
    grid = grid_of((40, 40, 40), spacing=(1.0, 1.0, 1.0))
    voxels = np.zeros(grid.shape, bool)
    voxels[:, :, :16] = True
    head = HEAD.model_copy(update={"top_k": 1})
    blobs = [((9.5, 9.5, 33.5), 3.0, 6.0), ((9.5, 9.5, 9.5), 1.0, 6.0)]
    (kept,) = proposed(grid, *blobs, head=head, mask=Mask("lungs", voxels, grid))
    assert plan.to_index(grid, kept.center_lps_mm)[2] < 16
    empty = Mask("lungs", np.zeros(grid.shape, bool), grid)
    assert proposed(grid, *blobs, mask=empty) == ()


def test_a_stray_diameter_does_not_end_the_line(grid_of):
    grid = grid_of((32, 32, 32))
    outputs = outputs_of(grid, ((9.5, 9.5, 9.5), 1.0, 6.0))
    image = Tensor(None, (1, 1, 32, 32, 32), grid)
    for value, diameter in ((900.0, 200.0), (-900.0, 0.5)):
        stray = {**outputs, "size": np.full_like(outputs["size"], value)}
        assert detect.candidates(stray, image, HEAD, everywhere(grid))[0].diameter_mm == (
            pytest.approx(diameter)
        )


def test_outputs_that_do_not_cover_the_grid_fail(grid_of):
    grid = grid_of((32, 32, 32))
    image = Tensor(None, (1, 1, 32, 32, 32), grid)
    for heat, size in (((1, 1, 7, 8, 8), (1, 1, 7, 8, 8)), ((1, 1, 8, 8, 8), (1, 1, 8, 8, 9))):
        outputs = {"heat": np.zeros(heat, np.float32), "size": np.zeros(size, np.float32)}
        with pytest.raises(Poisoned) as error:
            detect.candidates(outputs, image, HEAD, everywhere(grid))
        assert error.value.code == "backend_failed"


# findings


def found(grid: Grid, stack: Stack, *candidates: Candidate, **over):
    voxels = np.zeros(grid.shape, bool)
    voxels[:, :, 2:18] = voxels[:, :, 22:38] = True
    knobs = {"threshold": 0.5, "least_mm": 0.0, "most": 32, **over}
    return detect.findings(candidates, stack, Mask("lungs", voxels, grid), **knobs)


def candidate(grid: Grid, index, diameter: float = 6.0, score: float = 0.8) -> Candidate:
    return Candidate(plan.vector(plan.to_lps(grid, index)), diameter, {}, score)


@pytest.fixture
def grid(grid_of) -> Grid:
    return grid_of((20, 20, 40))


def test_a_finding_says_where_it_is(grid, stack_of):
    (one,) = found(grid, stack_of(grid), candidate(grid, (7.3, 9, 30), 6.04))
    assert one.id == 1
    assert one.kind == "nodule"
    assert one.urgency.value == "routine"
    assert one.center_lps_mm == pytest.approx((-100 + 90, -50 + 27, 20 + 21.9))
    assert one.box_lps_mm[:3] == pytest.approx([v - 3.02 for v in one.center_lps_mm])
    assert one.box_lps_mm[3:] == pytest.approx([v + 3.02 for v in one.center_lps_mm])
    assert one.diameter_mm == 6.0
    assert not one.measured
    assert one.side == "left"
    assert one.key_image == 7
    assert one.key_sop_instance_uid == "1.2.7"


def test_findings_reach_the_threshold_and_are_numbered_by_score(grid, stack_of):
    scores = [0.7, 0.2, 0.9, 0.5]
    several = [candidate(grid, (5, 5, 5 + 8 * i), score=s) for i, s in enumerate(scores)]
    out = found(grid, stack_of(grid), *several)
    assert [f.score for f in out] == [0.9, 0.7, 0.5]
    assert [f.id for f in out] == [1, 2, 3]
    assert {f.threshold for f in out} == {0.5}
    assert found(grid, stack_of(grid), *several, most=2) == out[:2]
    assert found(grid, stack_of(grid), *several, threshold=0.95) == ()


def test_a_finding_below_the_sure_score_is_unsure_and_keeps_its_place(grid, stack_of):
    stack = stack_of(grid)
    seen = [candidate(grid, (10, 10, 10), score=0.9), candidate(grid, (10, 10, 30), score=0.89)]
    silent = found(grid, stack, *seen)
    said = found(grid, stack, *seen, sure_from=0.9)
    assert [f.certainty for f in silent] == [None, None]
    assert [(f.certainty, f.unsure_why) for f in said] == [
        ("sure", ()),
        ("unsure", (detect.DOUBTFUL_SCORE,)),
    ]
    assert [f.place_lps_mm for f in said] == [f.place_lps_mm for f in silent]


def test_findings_below_the_least_diameter_are_left_out_of_a_limited_series(grid, stack_of):
    several = [candidate(grid, (5, 5, 5), 7.9), candidate(grid, (5, 5, 30), 8.0)]
    assert len(found(grid, stack_of(grid), *several)) == 2
    (one,) = found(grid, stack_of(grid), *several, least_mm=8.0)
    assert one.diameter_mm == 8.0


def test_findings_of_several_detectors_are_numbered_by_score_with_their_bodies(grid, stack_of):
    one = found(grid, stack_of(grid), candidate(grid, (5, 5, 5), 40.0, 0.6))
    rest = [candidate(grid, (5, 5, 30), score=0.9), candidate(grid, (9, 9, 9), 7.0, score=0.5)]
    two = found(grid, stack_of(grid), *rest)
    bodies = [Mask("", np.ones((1, 1, n), bool), grid) for n in (1, 2, 3)]
    pairs = [(one[0], bodies[0]), (two[0], None), (two[1], bodies[2])]
    ranked, masks = detect.ranked(pairs, least_mm=0.0, most=32)
    assert [(f.id, f.score, f.kind) for f in ranked] == [
        (1, 0.9, "nodule"), (2, 0.6, "mass"), (3, 0.5, "nodule")
    ]  # fmt: skip
    assert [(m.name, m.voxels.size) for m in masks] == [("finding-2", 1), ("finding-3", 3)]
    ranked, masks = detect.ranked(pairs, least_mm=6.5, most=32)
    assert [(f.id, f.score) for f in ranked] == [(1, 0.6), (2, 0.5)]
    assert [m.name for m in masks] == ["finding-1", "finding-2"]
    ranked, masks = detect.ranked(pairs, least_mm=0.0, most=2)
    assert ([f.id for f in ranked], [m.name for m in masks]) == ([1, 2], ["finding-2"])


@pytest.mark.parametrize(
    ("diameter", "kind", "given_mm"),
    [(2.9, "nodule", None), (3.0, "nodule", 3.0), (30.0, "nodule", 30.0), (30.1, "mass", 30.1)],
)
def test_very_small_is_not_measured_and_very_large_is_a_mass(
    grid, stack_of, diameter, kind, given_mm
):
    (one,) = found(grid, stack_of(grid), candidate(grid, (5, 5, 5), diameter))
    assert one.kind == kind
    assert one.diameter_mm == given_mm


def test_all_that_was_scored_is_kept_the_highest_first_whatever_the_threshold():
    low = Candidate((1.0, 2.0, 3.0), 4.0, {}, 0.2)
    high = Candidate((4.0, 5.0, 6.0), 7.0, {}, 0.7)
    for order in ((low, high), (high, low)):
        kept = detect.scores(order, 0.5)
        assert kept.threshold == 0.5
        assert [one.score for one in kept.candidates] == [0.7, 0.2]
        assert [one.center_lps_mm for one in kept.candidates] == [(4, 5, 6), (1, 2, 3)]
        assert [one.diameter_mm for one in kept.candidates] == [7.0, 4.0]
