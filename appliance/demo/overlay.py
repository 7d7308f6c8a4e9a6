"""A radiograph with the heat map of a finding over it.

Rules of this module:

1. Pure: arrays in, an image out.
2. The image as it is shown, upright, with the patient's right on the left. Only evidence for the
   finding is coloured: what is zero or less in the map stays grey; the rest is as strong as its
   share of the largest.
3. The caption says what every output of Scanside says; below it the notice of the bundle.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import projection
from appliance.records import Radiograph
from appliance.results.capture import STRONGEST, heat_on

WIDTH = 640
LINE = 24

F64 = NDArray[np.float64]
Colours = NDArray[np.uint8]


def overlay(
    image: Radiograph, values: NDArray[np.float32], to_stored: F64, caption: str, notice: str
) -> Colours:
    """The picture, BGR, `WIDTH` pixels wide."""
    grey = np.rint(255 * projection.display(image)).astype(np.uint8)
    share = heat_on(image, values, to_stored)[..., None] * STRONGEST
    hot = cv2.applyColorMap(np.rint(share[..., 0] / STRONGEST * 255).astype(np.uint8),
                            cv2.COLORMAP_INFERNO)  # fmt: skip
    mixed = (1 - share) * grey[..., None] + share * hot
    rows, columns = grey.shape
    size = (WIDTH, max(1, round(rows * image.aspect * WIDTH / columns)))
    shown = cv2.resize(mixed.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    page = np.zeros((size[1] + 2 * LINE, WIDTH, 3), np.uint8)
    page[LINE:-LINE] = shown
    for text, y in ((caption, 17), (notice, page.shape[0] - 7)):
        plain = text.encode("ascii", "replace").decode()
        cv2.putText(page, plain, (8, y), cv2.FONT_HERSHEY_DUPLEX, 0.45, (236, 232, 228), 1,
                    cv2.LINE_AA)  # fmt: skip
    return page
