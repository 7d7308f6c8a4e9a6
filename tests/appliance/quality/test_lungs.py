"""Whether the lungs are whole in the images."""

from __future__ import annotations

import pytest

from appliance.interpret import segment
from appliance.quality import lungs as measured
from rigs.slices import body, lungs


def test_the_area_in_the_end_planes_is_that_of_the_lungs() -> None:
    made = [body()] * 6
    whole, inside = lungs(made), lungs(made, 1, 5)
    area = float(whole.voxels[0].sum()) / 100
    assert measured.ends_cm2(whole) == pytest.approx((area, area))
    assert measured.ends_cm2(inside) == (0.0, 0.0)
    assert measured.ends_cm2(lungs(made, 0, 3)) == pytest.approx((area, 0.0))


def test_without_lungs_there_is_no_area() -> None:
    assert measured.ends_cm2(lungs([body()] * 3, 0, 0)) is None


def test_the_limit_at_the_side_is_that_of_the_report() -> None:
    assert measured.SIDE_CM2 == segment.SIDE_CM2
