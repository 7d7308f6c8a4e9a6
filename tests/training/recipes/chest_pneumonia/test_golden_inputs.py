"""The golden image of the pneumonia network."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from training.recipes.chest_pneumonia.golden_inputs import radiograph  # noqa: E402


def test_the_golden_image_is_our_phantom_from_the_front() -> None:
    image = radiograph(1)
    assert image.shape == (28, 28)
    lungs, middle = image[10:16, 6:9].mean(), image[10:16, 13:15].mean()
    assert lungs < middle, "the spine is bright, the lungs are dark"
    assert image[24:].mean() > image[10:16, 6:9].mean(), "the belly is below"
