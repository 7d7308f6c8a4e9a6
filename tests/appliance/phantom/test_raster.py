"""Values between voxels."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.phantom.raster import between


def test_a_linear_volume_is_met_exactly_and_beyond_its_border_it_goes_on_as_at_it() -> None:
    z, y, x = np.indices((4, 5, 6)).astype(np.float32)
    volumes = [2 * z - y + 3 * x, z * 0 + 7]
    index = np.array([[1.5, 2.25, 3.75], [0.0, 4.0, 5.0], [-3.0, 9.0, 2.5]])
    sloped, flat = between(volumes, index)
    assert sloped == pytest.approx([12.0, 11.0, 0 - 4 + 7.5])
    assert flat == pytest.approx([7.0, 7.0, 7.0])
