"""Lung masks from logits: morphology against scipy, coverage and sides on chests made of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from appliance.bundle.heads import SegmentHead
from appliance.errors import Poisoned
from appliance.interpret import segment
from appliance.preprocess import plan
from appliance.reasons import Code
from appliance.records import Box, Mask, Tensor

HEAD = SegmentHead(output="logits", min_ml=1.0, close_mm=9.0)
volumes = arrays(bool, st.tuples(*[st.integers(1, 9)] * 3), elements=st.booleans())


def chest(grid, *boxes: Box) -> Mask:
    voxels = np.zeros(grid.shape, bool)
    for box in boxes:
        voxels[tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))] = True
    return Mask("lungs", voxels, grid)


def logits_of(mask: Mask, padded: tuple[int, int, int]) -> np.ndarray:
    logits = np.full((1, 1, *padded), 9.0, np.float32)  # the padding shouts
    z, y, x = mask.grid.shape
    logits[0, 0, :z, :y, :x] = np.where(mask.voxels, 2.0, -2.0)
    return logits


def segmented(mask: Mask, head: SegmentHead = HEAD) -> Mask:
    padded = tuple(n + 5 for n in mask.grid.shape)
    image = Tensor(None, (1, 1, *padded), mask.grid)
    return segment.mask({"logits": logits_of(mask, padded)}, image, head)


@settings(deadline=None, max_examples=200)
@given(volumes)
def test_parts_are_scipys(voxels):
    labels, sizes = segment.parts(voxels)
    expected, count = ndimage.label(voxels)
    assert len(sizes) == count
    assert np.array_equal(labels > 0, voxels)
    pairs = set(zip(labels.ravel().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(labels))
    assert sizes.sum() == voxels.sum()
    assert np.array_equal(np.bincount(labels.ravel(), minlength=count + 1)[1:], sizes)


@given(volumes)
def test_a_part_lies_in_its_box_and_each_place_names_its_part(voxels):
    found = segment.found_in(voxels)
    labels, _ = segment.parts(voxels)
    for part, box in enumerate(ndimage.find_objects(labels), start=1):
        assert found.box(part) == box
        assert np.array_equal(found.of(part, box), labels[box] == part)
    for step in (1, 2):
        at, owner = found.places(step)
        assert np.array_equal(at, np.argwhere(labels[::step, ::step, ::step]) * step)
        assert np.array_equal(owner, labels[tuple(at.T)])
    assert all(found.at(place) == labels[tuple(place)] for place in found.places(1)[0].tolist())


def test_a_long_winding_part_is_one():
    voxels = np.zeros((9, 9, 9), bool)
    voxels[::2, 4, 1:8] = True
    voxels[1::4, 4, 7] = voxels[3::4, 4, 1] = True
    _, sizes = segment.parts(voxels)
    assert len(sizes) == 1


@settings(deadline=None, max_examples=100)
@given(volumes, st.sampled_from([0.0, 1.0, 2.5, 4.0]), st.sampled_from([1.0, 1.4, 3.0]))
def test_closing_is_scipys_with_a_ball(voxels, radius, dz):
    spacing = (dz, 1.0, 1.3)
    reach = [int(radius / s) for s in spacing]
    index = np.meshgrid(
        *[np.arange(-r, r + 1) * s for r, s in zip(reach, spacing, strict=True)], indexing="ij"
    )
    ball = sum(i**2 for i in index) <= radius**2 + 1e-6
    room = np.pad(voxels, [(r, r) for r in reach])
    expected = ndimage.binary_closing(np.pad(room, 6), ball)[6:-6, 6:-6, 6:-6]
    inner = tuple(slice(r, r + n) for r, n in zip(reach, voxels.shape, strict=True))
    assert np.array_equal(segment.closed(voxels, radius, spacing), expected[inner])


@settings(deadline=None, max_examples=100)
@given(volumes)
def test_filling_is_scipys(voxels):
    assert np.array_equal(segment.filled(voxels), ndimage.binary_fill_holes(voxels))


def test_two_lungs_stay_two_and_what_they_enclose_is_lung(grid_of):
    grid = grid_of((30, 30, 40))
    truth = chest(grid, Box((4, 4, 3), (26, 26, 18)), Box((4, 4, 21), (26, 26, 37)))
    holed = Mask("lungs", truth.voxels.copy(), grid)
    holed.voxels[10:20, 10:20, 8:14] = False  # a consolidation within
    holed.voxels[14:16, 3:12, 30:32] = False  # a vessel from the border
    holed.voxels[1, 1, 1] = True  # a speck
    out = segmented(holed).voxels
    mouth = np.zeros(grid.shape, bool)
    mouth[14:16, 4:6, 30:32] = True  # a ball cannot close a corner
    assert np.array_equal(out | mouth, truth.voxels)


def test_the_threshold_is_a_probability(grid_of):
    truth = chest(grid_of((10, 10, 10)), Box((2, 2, 2), (8, 8, 8)))
    for threshold, kept in ((0.5, True), (0.85, True), (0.9, False)):  # sigmoid(2) = 0.88
        head = HEAD.model_copy(update={"threshold": threshold})
        assert segmented(truth, head).voxels.any() == kept


def test_small_parts_go(grid_of):
    grid = grid_of((20, 20, 20))
    truth = chest(grid, Box((1, 1, 1), (11, 11, 11)), Box((15, 15, 15), (18, 18, 18)))
    kept = segmented(truth, HEAD.model_copy(update={"min_ml": 20.0}))
    assert segment.millilitres(kept) == pytest.approx(27.0)
    assert segment.millilitres(segmented(truth)) == pytest.approx(27 + 0.729, abs=0.8)
    assert not segmented(truth, HEAD.model_copy(update={"min_ml": 100.0})).voxels.any()


def test_closing_adds_nothing_at_the_border(grid_of):
    grid = grid_of((20, 24, 24))
    truth = chest(grid, Box((0, 0, 0), (20, 9, 24)), Box((0, 15, 0), (20, 24, 24)))
    assert np.array_equal(segmented(truth).voxels, truth.voxels)


def test_logits_that_do_not_cover_the_grid_fail(grid_of):
    image = Tensor(None, (1, 1, 8, 8, 8), grid_of((8, 8, 8)))
    with pytest.raises(Poisoned):
        segment.mask({"logits": np.zeros((1, 1, 8, 7, 8), np.float32)}, image, HEAD)
    with pytest.raises(ValueError, match="grid"):
        segment.mask({"logits": np.zeros((1, 1, 8, 8, 8), np.float32)}, Tensor(0, (1,), None), HEAD)


COVERAGES = [
    ((4, 26), "covered"),
    ((0, 26), "cut_feet"),
    ((4, 30), "cut_head"),
    ((0, 30), "cut_both"),
]


@pytest.mark.parametrize(("ends", "lungs"), COVERAGES)
def test_a_mask_that_meets_an_end_is_cut_there(grid_of, stack_of, ends, lungs):
    grid = grid_of((30, 30, 40))
    mask = chest(grid, Box((ends[0], 4, 3), (ends[1], 26, 18)))
    stack = stack_of(grid)
    cover = segment.coverage(mask, stack)
    assert cover.lungs == lungs
    assert cover.z_mm == pytest.approx((20.0, 20 + 29 * 3))
    found = segment.limitations(mask, cover, stack)
    assert [r.code for r in found] == ([] if lungs == "covered" else [Code.LUNGS_NOT_COVERED])
    ends_said = {"cut_feet": "the lower end", "cut_head": "the upper end", "cut_both": "both ends"}
    assert [r.text for r in found] == [
        f"The lungs reach beyond {ends_said[r]} of the series." for r in [lungs] if r in ends_said
    ]


def test_a_tip_that_just_touches_the_end_is_not_cut(grid_of, stack_of):
    grid = grid_of((30, 30, 40))
    mask = chest(grid, Box((2, 4, 3), (26, 26, 18)), Box((0, 4, 4), (2, 7, 7)))  # 0.81 cm2
    assert segment.coverage(mask, stack_of(grid)).lungs == "covered"


def test_no_mask_is_unknown_and_an_empty_one_absent(grid_of, stack_of):
    grid = grid_of((30, 30, 40))
    assert segment.coverage(None, stack_of(grid)).lungs == "unknown"
    assert segment.coverage(chest(grid), stack_of(grid)).lungs == "absent"


def test_how_far_the_lungs_reach_and_whether_both_are_there_is_said(grid_of, stack_of):
    grid = grid_of((30, 30, 40))
    right, left = Box((4, 4, 3), (26, 26, 18)), Box((6, 4, 22), (27, 26, 37))
    cover = segment.coverage(chest(grid, right, left), stack_of(grid))
    assert cover.lungs_z_mm == pytest.approx((20 + 4 * 3, 20 + 26 * 3))
    assert cover.sides == "both"
    cover = segment.coverage(chest(grid, right), stack_of(grid))
    assert cover.lungs_z_mm == pytest.approx((20 + 4 * 3, 20 + 25 * 3))
    assert cover.sides == "one", "which one, nobody can say"
    assert segment.coverage(chest(grid), stack_of(grid)).sides is None


@pytest.mark.parametrize("about", ["x", "y"])
def test_of_slices_that_stand_askew_the_highest_and_lowest_voxel_tell_the_reach(
    grid_of, stack_of, about
):
    cos, sin = np.cos(np.radians(15)), np.sin(np.radians(15))
    about_x = np.array([[0, sin, cos], [0, cos, -sin], [1, 0, 0]])
    about_y = np.array([[sin, 0, cos], [0, 1, 0], [cos, 0, -sin]])
    grid = grid_of((30, 30, 40), axes={"x": about_x, "y": about_y}[about])
    mask = chest(grid, Box((4, 4, 3), (26, 26, 18)), Box((6, 4, 22), (27, 26, 37)))
    heights = plan.to_lps(grid, np.argwhere(mask.voxels))[:, 2]
    cover = segment.coverage(mask, stack_of(grid))
    assert cover.lungs_z_mm == pytest.approx((heights.min(), heights.max()), abs=0.01)


def test_lungs_at_the_edge_of_the_field_of_view_are_a_limit(grid_of, stack_of):
    grid = grid_of((30, 40, 40))
    inside = chest(grid, Box((4, 10, 8), (26, 30, 30)))
    beside = chest(grid, Box((4, 10, 0), (26, 30, 30)))
    cover = segment.coverage(inside, stack_of(grid))
    assert segment.limitations(inside, cover, stack_of(grid)) == ()
    (limit,) = segment.limitations(beside, cover, stack_of(grid))
    assert limit.code is Code.TRUNCATED_FOV
    assert "40 cm2" in limit.text
    corner = chest(grid, Box((4, 3, 3), (26, 15, 15)))  # within the square, beyond the circle
    assert segment.limitations(corner, cover, stack_of(grid)) == ()
    (limit,) = segment.limitations(corner, cover, stack_of(grid, padding=True))
    assert limit.code is Code.TRUNCATED_FOV


def test_the_side_is_that_of_the_nearest_lung(grid_of):
    grid = grid_of((30, 30, 60), origin=(-90.0, -50.0, 0.0))
    # the left lung reaches over the middle in front, as around a small heart
    mask = chest(
        grid,
        Box((0, 0, 4), (30, 30, 20)),
        Box((0, 0, 40), (30, 30, 56)),
        Box((0, 0, 24), (30, 4, 40)),
    )
    right, left, lingula = ((10, 15, 12), (10, 15, 45), (10, 2, 25))
    points = [plan.vector(plan.to_lps(grid, index)) for index in (right, left, lingula)]
    assert segment.sides(mask, points) == ("right", "left", "left")
    assert segment.side_of(mask, points[0]) == "right"
    assert segment.sides(mask, []) == ()
    hilum = plan.vector(plan.to_lps(grid, (10, 15, 22)))
    assert segment.side_of(mask, hilum) == "right"
    far = (500.0, 0.0, 0.0)
    assert segment.side_of(mask, far) == "left"


def test_lungs_in_one_part_are_split_in_the_middle_and_one_lung_has_no_side(grid_of):
    grid = grid_of((30, 30, 60))
    both = chest(grid, Box((0, 2, 4), (30, 28, 56)))
    points = [plan.vector(plan.to_lps(grid, (10, 15, x))) for x in (10, 50)]
    assert segment.sides(both, points) == ("right", "left")
    one = chest(grid, Box((0, 2, 4), (30, 28, 22)))
    assert segment.sides(one, points) == (None, None)
    assert segment.sides(chest(grid), points) == (None, None)


def test_sides_follow_the_patient_and_not_the_array(grid_of, axes):
    grid = grid_of((40, 40, 40), axes=axes)
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    away = plan.to_lps(grid, index) - plan.to_lps(grid, (19.5, 19.5, 19.5))
    deep = np.abs(away[..., 1:]).max(-1) < 50
    voxels = deep & (np.abs(np.abs(away[..., 0]) - 30) < 22)
    mask = Mask("lungs", voxels, grid)
    middle = plan.to_lps(grid, (19.5, 19.5, 19.5))
    points = [plan.vector(middle + np.array([x, 5.0, -8.0])) for x in (-30.0, 30.0)]
    assert segment.sides(mask, points) == ("right", "left")


def test_nearby_voxels_are_those_in_reach(grid_of, axes):
    grid = grid_of((12, 14, 16), spacing=(5.0, 2.0, 3.0), axes=axes)
    voxels = np.random.default_rng(0).random(grid.shape) < 0.3
    point = plan.to_lps(grid, (3.3, 9.1, 14.8))
    near, away = segment.nearby(voxels, grid, point, 9.0)
    every = np.argwhere(voxels)
    true = np.linalg.norm(plan.to_lps(grid, every) - point, axis=1)
    assert np.allclose(np.sort(away[away <= 9]), np.sort(true[true <= 9]), rtol=0.02)
    assert {tuple(i) for i in every[true <= 8.9]} <= {tuple(i) for i in near}


def test_one_lung_alone_is_a_limitation_and_two_are_none(grid_of):
    grid = grid_of((60, 90, 110))  # 180 x 270 x 330 mm
    right, left = Box((5, 15, 8), (55, 75, 48)), Box((5, 15, 60), (55, 75, 100))
    assert [r.code for r in segment.one_lung(chest(grid, right))] == [Code.ONE_LUNG]
    assert segment.one_lung(chest(grid, right, left)) == ()
    assert segment.one_lung(chest(grid)) == ()
