"""Implants: where they are and how large, against what was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.quality.implant import (
    SHAPE_MM,
    Block,
    Nodule,
    Shape,
    implant,
    on_grid,
    pick_shape,
    sphere_diameter,
    turned,
)
from rigs.balls import ball

Spacing = tuple[float, float, float]


def block(hu: np.ndarray, spacing: Spacing) -> Block:
    return Block(hu, spacing, 0.0)


@pytest.mark.parametrize("spacing", [(2.0, 0.7, 0.7), (5.0, 0.8, 0.8), (1.0, 1.0, 1.0)])
def test_a_shape_on_the_grid_keeps_volume_and_centre(spacing: Spacing) -> None:
    shape = ball(9.0)
    centre = (31.3, 24.9, 27.2)
    empty = block(np.zeros([int(60 / s) for s in spacing], np.float32), spacing)
    occupied, part = on_grid(shape.occupancy.astype(np.float32) / 255, SHAPE_MM, centre, empty)
    volume = float(occupied.sum()) * float(np.prod(spacing))
    assert sphere_diameter(volume) == pytest.approx(shape.diameter_mm, rel=0.01)
    for axis in range(3):
        at = (np.arange(part[axis].start, part[axis].stop) + 0.5) * spacing[axis]
        others = tuple(a for a in range(3) if a != axis)
        profile = occupied.sum(others)
        assert float((profile * at).sum() / profile.sum()) == pytest.approx(centre[axis], abs=0.2)


def test_a_solid_implant_has_its_truth_in_the_image() -> None:
    rng = np.random.default_rng(1)
    hu = np.full((40, 80, 80), -850, np.float32)
    spacing, centre = (1.5, 0.75, 0.75), (29.0, 31.0, 27.0)
    shape = ball(10.0)
    plain = Shape(shape.occupancy, shape.diameter_mm, 1)
    truth = implant(rng, block(hu, spacing), centre, Nodule(plain, 12.0, "calcified"))
    assert truth is not None
    risen = np.clip((hu + 850) / (hu.max() + 850), 0, 1)
    z, y, x = np.meshgrid(
        *[(np.arange(n) + 0.5) * s for n, s in zip(hu.shape, spacing, strict=True)], indexing="ij"
    )
    for axis, wanted in zip((z, y, x), centre, strict=True):
        assert float((axis * risen).sum() / risen.sum()) == pytest.approx(wanted, abs=1.0)
    assert truth.center_mm == centre
    assert truth.diameter_mm == 12.0
    assert sphere_diameter(float(risen.sum()) * float(np.prod(spacing))) == pytest.approx(
        12, rel=0.15
    )


def test_solid_matter_does_not_darken_its_host() -> None:
    hu = np.full((20, 40, 40), -900, np.float32)
    hu[:, :, 22:] = 900
    nodule = Nodule(ball(8.0), 8.0, "solid")
    assert implant(np.random.default_rng(2), block(hu, (2, 1, 1)), (20, 20, 20), nodule)
    assert hu[:, :, 22:].min() == 900
    assert hu[:, :, :22].max() > -100


def test_what_would_lie_inside_the_wall_is_not_implanted() -> None:
    hu = np.full((20, 40, 40), 40, np.float32)
    nodule = Nodule(ball(8.0), 8.0, "solid")
    assert implant(np.random.default_rng(2), block(hu, (2, 1, 1)), (20, 20, 20), nodule) is None
    assert (hu == 40).all()


def test_an_implant_outside_the_block_is_refused() -> None:
    hu = np.zeros((4, 8, 8), np.float32)
    with pytest.raises(ValueError, match="outside"):
        implant(
            np.random.default_rng(3),
            block(hu, (1, 1, 1)),
            (90, 4, 4),
            Nodule(ball(5.0), 5.0, "solid"),
        )


def test_turning_keeps_the_matter() -> None:
    rng = np.random.default_rng(4)
    matter = rng.random((3, 4, 5)).astype(np.float32)
    assert turned(rng, matter).sum() == pytest.approx(matter.sum())


def test_a_shape_of_about_the_size_is_picked() -> None:
    shapes = [Shape(np.ones((2, 2, 2), np.uint8), float(d), 1) for d in np.linspace(4, 30, 200)]
    rng = np.random.default_rng(5)
    picked = [pick_shape(rng, shapes, 10.0).diameter_mm for _ in range(50)]
    assert min(picked) >= 10 / 1.51
    assert max(picked) <= 10 * 1.51
    assert pick_shape(rng, shapes, 60.0).diameter_mm > 25


def test_a_spread_that_is_given_is_the_one_that_is_used() -> None:
    """Of a block that names none it is drawn."""
    steepest = []
    for spread in (0.2, 1.2):
        hu = np.full((20, 60, 60), -850, np.float32)
        one = Block(hu, (2.0, 0.5, 0.5), 0.0, 0.5, spread)
        assert implant(np.random.default_rng(6), one, (20, 15, 15), Nodule(ball(9.0), 9.0, "solid"))
        steepest.append(float(np.abs(np.diff(hu[10, 30])).max()))
    assert steepest[0] > 1.5 * steepest[1]
