"""Shapes from outlines, and the one that is picked for a size."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
from appliance.quality.implant import SHAPE_MM
from training.implant.shapes import occupancy_of


def test_outlines_exclude_the_pixels_they_run_on() -> None:
    square = np.array([[10, 10], [10, 20], [20, 20], [20, 10]], np.int32)
    occupied = occupancy_of([(float(z), square) for z in range(6)], 1.0)
    # 9 x 9 pixels of 1 mm inside the outline, 6 slices of 1 mm
    assert occupied.sum() * SHAPE_MM**3 == pytest.approx(81 * 6, rel=0.12)
