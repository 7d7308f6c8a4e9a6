"""Shutters and collimators: what of an image is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from appliance.errors import SeriesRefused
from appliance.reasons import Code
from appliance.series import radiograph
from rigs.xray import Xray

RECTANGLE = {
    "CollimatorShape": "RECTANGULAR",
    "CollimatorUpperHorizontalEdge": 11,
    "CollimatorLowerHorizontalEdge": 80,
    "CollimatorLeftVerticalEdge": 0,
    "CollimatorRightVerticalEdge": 70,
}
CIRCLE = {
    "ShutterShape": "CIRCULAR",
    "CenterOfCircularShutter": [48, 40],
    "RadiusOfCircularShutter": 20,
}
TRIANGLE = {
    "ShutterShape": "POLYGONAL",
    "VerticesOfThePolygonalShutter": [1, 1, 96, 1, 96, 80],
}


def shown(xray: Xray, **tags: Any) -> Any:
    return radiograph.read(xray.bytes(xray.image(**tags))).shown


def test_a_rectangle_shows_its_edges_which_may_lie_outside(xray: Xray) -> None:
    there = shown(xray, **RECTANGLE)
    assert there[10:80, :70].all()
    assert there.sum() == 70 * 70


def test_a_circle_shows_what_is_within_its_radius(xray: Xray) -> None:
    there = shown(xray, **CIRCLE)
    assert there[47, 39]
    assert there[47 - 20, 39]
    assert not there[47 - 21, 39]
    assert there.sum() == pytest.approx(np.pi * 20**2, rel=0.02)


def test_a_polygon_shows_its_inside(xray: Xray) -> None:
    there = shown(xray, **TRIANGLE)
    assert there[95, 0]
    assert there[90, 40]
    assert not there[10, 70]


def test_of_several_shapes_that_is_shown_which_all_show(xray: Xray) -> None:
    both = shown(xray, **RECTANGLE, **CIRCLE)
    assert np.array_equal(both, shown(xray, **RECTANGLE) & shown(xray, **CIRCLE))
    assert both.any()


@pytest.mark.parametrize(
    "tags",
    [
        {"ShutterShape": "ROUND"},
        {"ShutterShape": "CIRCULAR"},
        {**CIRCLE, "CenterOfCircularShutter": [900, 900]},
        {**RECTANGLE, "CollimatorUpperHorizontalEdge": 90},
        {**TRIANGLE, "VerticesOfThePolygonalShutter": [1, 1, 96, 1]},
    ],
)
def test_a_shape_that_is_not_described_or_leaves_nothing_is_refused(
    xray: Xray, tags: dict[str, Any]
) -> None:
    with pytest.raises(SeriesRefused) as caught:
        shown(xray, **tags)
    assert caught.value.reason.code is Code.INVALID_VALUE
