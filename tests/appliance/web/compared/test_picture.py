"""A PNG that other programs read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from appliance.web.compared.picture import png


def test_other_programs_read_the_same_grey() -> None:
    grey = np.arange(6 * 11, dtype=np.uint8).reshape(6, 11)
    with Image.open(io.BytesIO(png(6, 11, grey.tobytes()))) as found:
        assert found.mode == "L"
        assert np.array_equal(np.asarray(found), grey)


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (2, 2), (5, -1)])
def test_bytes_that_are_no_image_are_refused(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match="no image"):
        png(rows, columns, bytes(5))
