"""PSNR and SSIM are those of scikit-image, slice by slice."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.quality.faithful.likeness import Likeness

F64 = NDArray[np.float64]


def pair(seed: int) -> tuple[F64, F64]:
    random = np.random.default_rng(seed)
    y, x = np.indices((64, 80))
    disc = ((x - 40) / 25.0) ** 2 + ((y - 30) / 18.0) ** 2 < 1
    one = -850 + 900 * disc + random.normal(0, 40, (64, 80))
    return one, one + random.normal(0, 60, one.shape) + 15 * np.sin(x / 5.0)


def of(*pairs: tuple[F64, F64]) -> tuple[float | None, float | None]:
    alike = Likeness()
    for one, other in pairs:
        alike.add(one, other)
    return alike.ssim, alike.psnr_db


@pytest.mark.parametrize(
    ("seed", "ssim", "psnr_db"),
    [(1, 0.6967209704203542, 27.420458343957357), (2, 0.6885835065308259, 27.225986891472456)],
)
def test_both_are_those_of_scikit_image(seed: int, ssim: float, psnr_db: float) -> None:
    """Of scikit-image 0.26.0, with the arguments that likeness.py names, on clip(HU, -1000, 400) +
    1000."""
    assert of(pair(seed)) == pytest.approx((ssim, psnr_db), rel=1e-6)


def test_slices_are_pooled() -> None:
    each = [of(pair(seed)) for seed in (1, 2)]
    ssim, psnr_db = of(pair(1), pair(2))
    assert ssim == pytest.approx(np.mean([one[0] for one in each]))
    errors = [10 ** (-one[1] / 10) for one in each if one[1] is not None]
    assert psnr_db == pytest.approx(-10 * np.log10(np.mean(errors)))


def test_what_lies_beyond_the_range_does_not_count() -> None:
    one = np.full((32, 32), 500.0)
    assert of((one, one + 1000)) == (pytest.approx(1.0), None)


def test_a_slice_without_a_window_has_no_ssim() -> None:
    one = np.zeros((8, 40))
    ssim, psnr_db = of((one, one + 14))
    assert ssim is None
    assert psnr_db == pytest.approx(40.0)
