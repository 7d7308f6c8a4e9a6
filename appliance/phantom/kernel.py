"""The reconstruction kernels of the phantom's scanner.

Rules of this module:

1. A kernel is a point spread in plane, the grain of the noise that it lets through, and how much it
   enhances edges. Names are those that a scanner writes into Convolution Kernel (0018,1210).
2. STANDARD is the one that the phantom has always had: full width at half maximum about 1.1 mm,
   usual for a soft kernel. SOFT is softer, LUNG enhances edges, as kernels for the lung do, and
   BONE does so twice as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from appliance.phantom.raster import Array


@dataclass(frozen=True, slots=True)
class Kernel:
    """Lengths are standard deviations in mm; `edge` is the share of the difference to a blur of
    `_EDGE_MM` that is added to the image, 0 for none."""

    name: str
    psf_mm: float
    grain_mm: float
    edge: float = 0.0

    def enhanced(self, image: Array, pixel_mm: float) -> Array:
        """The image [y, x] with its edges as this kernel shows them."""
        if not self.edge:
            return image
        blurred = cv2.GaussianBlur(image, (0, 0), _EDGE_MM / pixel_mm)
        sharp: Array = image + np.float32(self.edge) * (image - blurred)
        return sharp


_EDGE_MM: Final = 0.9
STANDARD: Final = Kernel("STANDARD", psf_mm=0.45, grain_mm=0.42)
SOFT: Final = Kernel("SOFT", psf_mm=0.75, grain_mm=0.6)
LUNG: Final = Kernel("LUNG", psf_mm=0.35, grain_mm=0.28, edge=0.5)
BONE: Final = Kernel("BONE", psf_mm=0.3, grain_mm=0.25, edge=1.0)
