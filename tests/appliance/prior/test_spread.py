"""The point spread of made-up trunks that were blurred by a known Gaussian."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliance.prior import spread
from rigs.blurred import stacked, trunk

PIXEL = 0.7
WITHIN = 0.15


@pytest.mark.parametrize(
    ("along_z_mm", "in_plane_mm", "slice_mm"),
    [
        (0.6, 0.9, 1.25),
        (1.0, 0.4, 1.25),
        (1.4, 0.5, 5.0),
        pytest.param(0.5, 0.35, 1.0, marks=pytest.mark.long),
        pytest.param(0.6, 0.5, 1.25, marks=pytest.mark.long),
        pytest.param(1.4, 0.6, 2.5, marks=pytest.mark.long),
    ],
)
def test_a_known_blur_is_found_within_15_percent(
    along_z_mm: float, in_plane_mm: float, slice_mm: float
) -> None:
    side = 256 if slice_mm == 5 else 192  # a line of thick slices needs a surface that is even
    made = trunk(along_z_mm, in_plane_mm, (slice_mm, PIXEL, PIXEL), noise_hu=25, side=side)
    found = spread.measured(made)
    assert found is not None
    assert found == pytest.approx((along_z_mm, in_plane_mm), rel=WITHIN)


def test_the_sharper_of_two_kernels_is_told() -> None:
    sharp, soft = (spread.in_plane(trunk(0.6, mm, (1.25, PIXEL, PIXEL))) for mm in (0.4, 0.6))
    assert sharp is not None
    assert soft is not None
    assert 0.1 < soft - sharp < 0.3


def test_a_kernel_that_overshoots_is_as_sharp_as_can_be_said() -> None:
    made = trunk(0.6, 0.3, (1.25, PIXEL, PIXEL), noise_hu=0)
    hu = np.stack([plane.native for plane in made.planes]).astype(np.float32)
    around = sum(np.roll(hu, step, axis) for axis in (1, 2) for step in (-1, 1)) / 4
    steep = stacked(np.rint(hu + 1.5 * (hu - around)).astype(np.int16), made.spacing_mm)
    assert spread.in_plane(steep) == pytest.approx(spread.LEAST * PIXEL, rel=0.05)


def test_a_thin_sheet_in_the_air_is_no_edge() -> None:
    made = trunk(0.6, 0.5, (1.25, PIXEL, PIXEL), noise_hu=0)
    hu = np.stack([plane.native for plane in made.planes])
    hu[:, ::9][hu[:, ::9] < -990] = 100  # blankets, with nothing but air on either side
    assert spread.in_plane(stacked(hu, made.spacing_mm)) == pytest.approx(0.5, rel=WITHIN)


def test_padding_that_cuts_the_body_is_no_edge() -> None:
    made = trunk(0.9, 0.9, (1.25, PIXEL, PIXEL))
    hu = np.stack([plane.native for plane in made.planes])
    y, x = np.ogrid[: hu.shape[1], : hu.shape[2]]
    hu[:, (y - 96) ** 2 + (x - 96) ** 2 > 75**2] = -1000  # a round field in the body's sides
    hu[:20] = -1000  # and a body that ends with the images
    found = spread.measured(stacked(hu, made.spacing_mm, padding=True))
    assert found == pytest.approx((0.9, 0.9), rel=WITHIN)


def test_without_edges_of_air_and_tissue_nothing_is_said() -> None:
    flat = stacked(np.full((40, 64, 64), 40, np.int16), (1.25, PIXEL, PIXEL))
    assert spread.measured(flat) is None
    assert spread.measured(stacked(np.full((2, 8, 8), 40, np.int16), (1.25, 1.0, 1.0))) is None


def test_a_body_without_slopes_says_nothing_along_z() -> None:
    made = trunk(0.6, 0.5, (1.25, PIXEL, PIXEL))
    low = replace(made, planes=made.planes[:40], z_mm=made.z_mm[:40])  # below the shoulders
    assert spread.in_plane(low) == pytest.approx(0.5, rel=WITHIN)
    assert spread.measured(low) is None


def test_slices_at_uneven_places_say_nothing_along_z() -> None:
    made = trunk(0.6, 0.5, (1.25, PIXEL, PIXEL))
    kept = [k for k in range(len(made.planes)) if k != 50]
    holed = replace(made, planes=tuple(made.planes[k] for k in kept), z_mm=made.z_mm[kept])
    assert spread.along_z(holed, 0.5) is None
