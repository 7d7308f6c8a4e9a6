"""Whoever changes a pixel of the phantom raises its version."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from appliance.phantom import radiograph
from appliance.phantom.chest import Phantom, chest
from appliance.phantom.version import VERSION

DIGESTS = {
    1: {
        "chest": "8dd3b34f543f2564b1ff55bb302c50b2053446958532064784e34291df019e7e",
        "radiograph": "3a3f46e6785a472a31af2dc8e41a0bbb55e5edbfb3ce1a1f9651acca480aaef5",
    },
}
"""Of every version that bundles were recorded with; a line is added, none is changed."""


@pytest.fixture(scope="module")
def body() -> Phantom:
    """The phantom of bundles, in slices that are thicker, so that it is made in seconds: all that
    draws it has its part in it."""
    return chest(spacing_mm=(3.5, 0.7, 0.7))


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def test_the_pixels_are_those_of_this_version(body: Phantom) -> None:
    assert max(DIGESTS) == VERSION
    assert digest(body.hu) == DIGESTS[VERSION]["chest"]


def test_the_pixels_of_the_radiograph_are_too(body: Phantom) -> None:
    picture = radiograph.projected(radiograph.consolidated(body))
    assert digest(picture) == DIGESTS[VERSION]["radiograph"]
