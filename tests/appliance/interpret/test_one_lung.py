"""The side of a lung that is missing, on bodies and lungs made of boxes that lie in any way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliance.interpret import one_lung, segment
from appliance.preprocess import plan
from appliance.reasons import Code
from appliance.records import Grid, Mask, Stack

SHARE = 0.2
SHAPE = (64, 64, 64)
"""Of 4 mm: every way to lie holds the body."""
Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Ends along x, y and z, in LPS mm from the middle of the grid."""
BODY: Box = ((-115, 115), (-75, 75), (-120, 120))
RIGHT: Box = ((-95, -15), (-55, 55), (-80, 80))
LEFT: Box = ((15, 95), (-55, 55), (-80, 80))


def inside(grid: Grid, box: Box) -> np.ndarray:
    at = plan.to_lps(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
    away = at - plan.to_lps(grid, np.subtract(grid.shape, 1) / 2)
    low, high = np.transpose(box)
    return np.asarray(((away >= low) & (away <= high)).all(axis=-1))


def body(grid: Grid, stack_of, box: Box = BODY) -> Stack:
    """Planes that show a body of muscle in air; what the lungs are made of does not matter."""
    hu = np.where(inside(grid, box), 40, -1000).astype(np.int16)
    bare = stack_of(grid)
    planes = tuple(replace(p, native=hu[k]) for k, p in enumerate(bare.planes))
    return replace(bare, planes=planes)


def lungs(grid: Grid, *boxes: Box) -> Mask:
    voxels = np.zeros(grid.shape, bool)
    for box in boxes:
        voxels |= inside(grid, box)
    return Mask("lungs", voxels, grid)


def said(mask: Mask, stack: Stack, share: float | None = SHARE) -> list[str]:
    reasons = one_lung.limitation(mask, segment.coverage(mask, stack), stack, share)
    assert {r.code for r in reasons} <= {Code.ONE_LUNG}
    return [r.text for r in reasons]


@pytest.fixture
def grid(grid_of):
    return grid_of(SHAPE, (4.0, 4.0, 4.0))


def test_the_side_is_the_patients_however_the_images_lie(grid_of, stack_of, axes):
    lying = grid_of(SHAPE, (4.0, 4.0, 4.0), axes=axes)
    stack = body(lying, stack_of)
    assert said(lungs(lying, RIGHT), stack)[0].startswith("The left lung is missing")
    assert said(lungs(lying, LEFT), stack)[0].startswith("The right lung is missing")
    assert said(lungs(lying, RIGHT, LEFT), stack) == []


@pytest.mark.parametrize(("top", "missing"), [(-45, False), (-55, True)])
def test_a_lung_is_missing_below_a_share_of_the_other_one(grid, stack_of, top, missing):
    """Of 160 mm 35 or 25 are left, that is .22 or .16 of the volume."""
    rest: Box = (*LEFT[:2], (-80, top))
    texts = said(lungs(grid, RIGHT, rest), body(grid, stack_of))
    assert bool(texts) == missing
    assert not missing or "15 % of the right one's volume" in texts[0]


def test_a_lung_that_has_grown_over_the_middle_is_of_one_side_as_a_whole(grid, stack_of):
    """A fifth of it and more lies beyond the middle."""
    grown: Box = ((-90, 25), *RIGHT[1:])
    (text,) = said(lungs(grid, grown), body(grid, stack_of))
    assert text == "The left lung is missing or opaque: 0 % of the right one's volume."


def test_both_lungs_in_one_part_are_split_in_the_middle(grid, stack_of):
    bridge: Box = ((-20, 20), (-10, 10), (-10, 10))
    joined = lungs(grid, RIGHT, LEFT, bridge)
    assert said(joined, body(grid, stack_of)) == []
    left, right = one_lung.volumes_ml(joined, middle_of(grid))
    assert left == pytest.approx(right, rel=0.05)


def middle_of(grid: Grid) -> float:
    return float(plan.to_lps(grid, np.subtract(grid.shape, 1) / 2)[0])


def test_the_middle_is_that_of_the_body_and_not_of_the_images(grid, stack_of):
    """A patient who lies 16 mm aside: the lung that is left reaches over the middle of the images,
    and a table beside does not count."""
    aside = body(grid, stack_of, ((-99, 125), *BODY[1:]))
    table = inside(grid, ((-125, -110), (100, 120), (-120, 120)))
    planes = tuple(
        replace(p, native=np.where(table[k], 200, p.native).astype(np.int16))
        for k, p in enumerate(aside.planes)
    )
    stack = replace(aside, planes=planes)
    z = plan.extent(stack)
    assert one_lung.middle_mm(stack, z) == pytest.approx(middle_of(grid) + 13, abs=4)
    empty = replace(
        stack, planes=tuple(replace(p, native=np.full_like(p.native, -1000)) for p in planes)
    )
    assert one_lung.middle_mm(empty, z) == pytest.approx(middle_of(grid), abs=0.1)


def test_the_middle_is_that_of_the_largest_thing_wherever_it_lies(grid, stack_of):
    """Something small in the middle of the images is not the body beside it."""
    one = body(grid, stack_of, ((20, 120), *BODY[1:]))
    small = inside(grid, ((-30, 10), *BODY[1:]))
    planes = tuple(
        replace(p, native=np.where(small[k], 40, p.native).astype(np.int16))
        for k, p in enumerate(one.planes)
    )
    stack = replace(one, planes=planes)
    found = one_lung.middle_mm(stack, plan.extent(stack))
    assert found == pytest.approx(middle_of(grid) + 70, abs=4)


def test_nothing_names_a_side_of_what_the_images_do_not_show(grid, stack_of):
    stack = body(grid, stack_of)
    cut: Box = (*RIGHT[:2], (-130, 80))
    assert said(lungs(grid, cut), stack) == ["Only one lung was found."]
    aside: Box = ((-130, -15), *RIGHT[1:])
    assert said(lungs(grid, aside), stack) == ["Only one lung was found."]
    assert said(lungs(grid, cut, LEFT), stack) == []


def test_without_a_share_the_rule_of_before_stands(grid, stack_of):
    stack = body(grid, stack_of)
    small: Box = (*LEFT[:2], (-80, -70))
    assert said(lungs(grid, RIGHT), stack, None) == ["Only one lung was found."]
    assert said(lungs(grid, RIGHT, small), stack, None) == []
    assert said(lungs(grid), stack) == []
