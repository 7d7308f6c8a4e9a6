"""What is measured of one radiograph, on the input of the network."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.quality import radiograph
from appliance.watching.quality import RadiographQuality

IMAGE = np.clip(
    cv2.GaussianBlur(np.random.default_rng(4).normal(0.5, 1.0, (28, 28)), (0, 0), 1.5) + 0.0, 0, 1
).astype(np.float32)


def measured(image: NDArray[np.floating]) -> RadiographQuality:
    return radiograph.measured(image.astype(np.float32)[None, None])


def value(image: NDArray[np.floating], name: str) -> float:
    found = getattr(measured(image), name)
    assert found is not None
    return float(found)


def test_figures_of_a_ramp_are_those_of_a_ramp() -> None:
    ramp = np.tile(np.linspace(0, 1, 29), (29, 1))
    found = measured(ramp)
    assert found.mean == pytest.approx(0.5, abs=1e-5)
    assert found.contrast == pytest.approx(ramp.std(), abs=1e-5)
    assert found.laplacian == pytest.approx(0, abs=1e-5)
    assert found.halves == pytest.approx(ramp[:, :14].mean() - ramp[:, 15:].mean(), abs=1e-5)
    dot = np.zeros((28, 28))
    dot[9, 9] = 1
    inner = np.zeros((26, 26))
    inner[8, 8] = -4
    inner[[7, 9, 8, 8], [8, 8, 7, 9]] = 1
    assert measured(dot).laplacian == pytest.approx(inner.std(), abs=1e-5)


def test_each_figure_moves_with_what_it_is_for() -> None:
    assert value(IMAGE**0.8, "mean") > value(IMAGE, "mean") + 0.02
    assert value(0.8 * IMAGE, "contrast") == pytest.approx(0.8 * value(IMAGE, "contrast"), abs=1e-5)
    soft = cv2.GaussianBlur(IMAGE, (0, 0), 1.0)
    assert value(soft, "laplacian") < 0.7 * value(IMAGE, "laplacian")
    aside = IMAGE * np.linspace(0.5, 1, 28)
    assert value(aside[:, ::-1], "halves") == pytest.approx(-value(aside, "halves"), abs=1e-5)
    assert abs(value(aside, "halves")) > 0.05


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 9), (9, 1)])
def test_what_an_image_is_too_small_for_is_not_said(shape: tuple[int, int]) -> None:
    found = measured(np.full(shape, 0.5))
    assert found.mean == 0.5
    assert found.laplacian is None
    assert (found.halves is None) == (shape[1] < 2)


def test_what_is_no_number_is_not_said() -> None:
    spoilt = IMAGE.copy()
    spoilt[3, 3] = np.nan
    assert measured(spoilt) == RadiographQuality(halves=None)
