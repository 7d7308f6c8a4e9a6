"""How planes lie to each other."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from appliance.series import pose


def test_small_angles_are_exact() -> None:
    assert pose.angle((1, 0, 0), (math.cos(1e-9), math.sin(1e-9), 0)) == pytest.approx(1e-9)
    assert pose.angle((1, 0, 0), (-1, 0, 0)) == pytest.approx(math.pi)


def test_the_normal_points_to_the_head_whatever_the_columns_do(make: Any) -> None:
    planes = [make.plane(0), make.plane(1), make.plane(2, column=(0, -1, 0))]
    assert pose.vector(pose.normal_of(planes)) == (0, 0, 1)
    np.testing.assert_allclose(pose.along(planes, pose.normal_of(planes)), [0, 1, 2])


def test_the_usual_orientation_is_that_of_most(make: Any) -> None:
    planes = [make.plane(0, column=(0, 0, -1)), make.plane(1), make.plane(2)]
    usual = pose.usual(planes)
    assert usual is planes[1]
    assert pose.turned_by(planes[0], usual) == pytest.approx(math.pi / 2)


def test_the_odd_ones_are_told_from_the_most_common_value() -> None:
    assert pose.odd([3, 1, 3, 2], lambda v: v) == (3, [1, 2])
    assert pose.odd([2, 1], lambda v: v) == (1, [2]), "of equals the lowest"


def test_spacings_within_half_a_percent_are_one() -> None:
    assert pose.same_spacing((0.7, 0.7), (0.7005, 0.7))
    assert not pose.same_spacing((0.7, 0.7), (0.71, 0.7))


def test_an_image_is_named_by_its_number_else_by_its_place(make: Any) -> None:
    plane = make.plane(4, number=7)
    assert pose.name(plane) == "image 7"
    assert pose.name(replace(plane, frame=2)) == "image 7 frame 3"
    bare = replace(plane, header=replace(plane.header, instance_number=None))
    assert (pose.name(bare), pose.image(bare.header)) == ("image at z 4.0 mm", "image")
    assert pose.names([plane] * 5) == "image 7, image 7, image 7 and 2 more"
