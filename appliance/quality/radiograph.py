"""One radiograph, as the network sees it -> what is measured of it. Pure.

All on the network's input [y, x], in its own unit (0 to 1 after a window), so that a change that
the network does not see counts for nothing.

- `mean`: of all pixels. Exposure and gamma move it.
- `contrast`: SD of all pixels.
- `laplacian`: SD of the discrete Laplacian (4 neighbours) of the inner pixels: how much differs
  from pixel to pixel, by noise or by sharpness. Blur lowers it.
- `halves`: mean of the left half of the image less that of the right one, the middle column of an
  odd number left out. A flip turns its sign, a patient who lies aside moves it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.watching.quality import RadiographQuality

DIGITS = 5


def measured(values: NDArray[np.float32]) -> RadiographQuality:
    """values: [1, 1, y, x], as records.View has them."""
    image = values[0, 0].astype(np.float64)
    half = image.shape[1] // 2
    inner = image[1:-1, 1:-1]
    beside = image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:]
    return RadiographQuality(
        mean=_rounded(image.mean()) if image.size else None,
        contrast=_rounded(image.std()) if image.size else None,
        laplacian=_rounded((beside - 4 * inner).std()) if inner.size else None,
        halves=_rounded(image[:, :half].mean() - image[:, -half:].mean())
        if half and image.size
        else None,
    )


def _rounded(value: np.floating) -> float | None:
    return round(float(value), DIGITS) + 0.0 if np.isfinite(value) else None
