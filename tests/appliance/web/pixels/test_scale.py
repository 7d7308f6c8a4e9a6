"""How large a pixel of a radiograph is, and in which plane (PS3.3 10.7.1.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from appliance.series import elements, radiograph
from appliance.web.pixels import scale
from rigs.xray import Xray


def said(**tags: Any) -> scale.Scale | None:
    made = Xray()
    data = made.bytes(made.image(**tags))
    return scale.of(elements.parse(data, scale.TAGS, pixels=False, max_bytes=1 << 20).elements)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, ((0.2, 0.1), "detector")),
        ({"PixelSpacing": [0.2, 0.1]}, ((0.2, 0.1), "detector")),
        ({"PixelSpacing": [0.18, 0.09]}, ((0.18, 0.09), "patient")),
        (
            {"PixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "FIDUCIAL"},
            ((0.2, 0.1), "patient"),
        ),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.3, 0.3]}, ((0.3, 0.3), "unknown")),
        ({"ImagerPixelSpacing": None}, None),
        ({"ImagerPixelSpacing": [0, 0.1]}, None),
    ],
)
def test_the_plane_is_said_only_as_far_as_the_image_says_it(
    tags: dict[str, Any], expected: tuple[tuple[float, float], str] | None
) -> None:
    found = said(**({"ImagerPixelSpacing": [0.2, 0.1]} | tags))
    assert (None if found is None else (found.spacing_mm, found.at)) == expected


@pytest.mark.parametrize(
    ("lies", "width"), [(["L", "F"], 0.1), (["R", "F"], 0.1), (["F", "L"], 0.2)]
)
def test_an_image_that_is_turned_has_the_width_of_its_rows(lies: list[str], width: float) -> None:
    tags: dict[str, Any] = {"ImagerPixelSpacing": [0.2, 0.1], "PatientOrientation": lies}
    made = Xray()
    upright = radiograph.read(made.bytes(made.image(**tags)))
    found = said(**tags)
    assert found is not None
    assert found.width_mm(np.asarray(upright.to_stored)) == pytest.approx(width)
