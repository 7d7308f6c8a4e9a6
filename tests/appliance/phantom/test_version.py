"""Whoever changes a pixel of the phantom raises its version."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from appliance.phantom import radiograph
from appliance.phantom.chest import Phantom, chest
from appliance.phantom.version import VERSION

DIGESTS = {
    1: {
        "avx512bw": {
            "chest": "8dd3b34f543f2564b1ff55bb302c50b2053446958532064784e34291df019e7e",
            "radiograph": "3a3f46e6785a472a31af2dc8e41a0bbb55e5edbfb3ce1a1f9651acca480aaef5",
        },
        "avx2": {
            "chest": "727c381470dc76383151073e23ee8f80fa1a6ee6e34fed6b34dbbeba000a4555",
            "radiograph": "f55e216b616e33cb428150383cde8a525b5635e890a4ed77c12ddc14132fffe1",
        },
    },
}
"""Of every version that bundles were recorded with; a line is added, none is changed. NumPy's sine,
exponential and power differ in their last digit between instruction sets, so each has its own."""


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    """Of this version, as the best instructions of this processor reckon it."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    for instructions, digests in DIGESTS[VERSION].items():
        if instructions in flags:
            return digests
    pytest.skip(f"no digest is recorded for a processor without {' or '.join(DIGESTS[VERSION])}")


@pytest.fixture(scope="module")
def body() -> Phantom:
    """The phantom of bundles, in slices that are thicker, so that it is made in seconds: all that
    draws it has its part in it."""
    return chest(spacing_mm=(3.5, 0.7, 0.7))


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def test_the_version_has_its_digests() -> None:
    assert max(DIGESTS) == VERSION


def test_the_pixels_are_those_of_this_version(body: Phantom, digests: dict[str, str]) -> None:
    assert digest(body.hu) == digests["chest"]


def test_the_pixels_of_the_radiograph_are_too(body: Phantom, digests: dict[str, str]) -> None:
    picture = radiograph.projected(radiograph.consolidated(body))
    assert digest(picture) == digests["radiograph"]
