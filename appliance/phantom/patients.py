"""Many patients of one scanner, each drawn in a fraction of a second.

Rules of this module:

1. Values in, values out, as in `chest`: a number gives one patient, always the same.
2. A few people are drawn without noise (`person`), which takes seconds. A patient is one of them
   scanned anew (`patient`): a little larger or smaller, with HU that are a little off, as a
   calibration leaves them, with the patient's own strength of noise and the patient's own noise.
   So whoever watches the scanner sees that studies differ, as they do in life.
3. A sharper kernel is a linear filter, so it is put over all of the image, anatomy and noise
   (`reconstructed`): noise and edges rise together, as after a change of protocol.
4. Slices are thick and pixels coarse, because a room full of patients is wanted and not a nodule
   of 4 mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from appliance.phantom.chest import Phantom, QuantumNoise, Scan, chest
from appliance.phantom.kernel import Kernel
from appliance.phantom.raster import Array

SMALL: Final = 0.6
"""People are so much smaller than the chest that is drawn, along each axis: a fifth of its volume
takes a fifth of the time to look at, and is still a chest to the bundle."""
SCAN: Final = Scan((5.0, 1.4, 1.4), noise_hu=25.0)
SIZE: Final = 0.03
"""A patient is larger or smaller than who was drawn, in plane, by up to this share."""
OFF_HU: Final = 2.0
NOISE_SD: Final = 0.08
"""Of the logarithm of the noise: the tube current follows the patient, not quite."""
BODY_HU: Final = -400.0


def person(seed: int) -> Phantom:
    """Somebody to be scanned (`patient`): a chest without noise and without a nodule."""
    dz, dy, dx = (edge / SMALL for edge in SCAN.spacing_mm)
    drawn = chest(seed, spacing_mm=(dz, dy, dx), noise_hu=0.0, nodules=())
    x, y, z = drawn.origin_lps_mm
    return Phantom(drawn.hu, SCAN.spacing_mm, (x * SMALL, y * SMALL, z * SMALL), ())


def patient(people: Sequence[Phantom], number: int) -> Phantom:
    """The scan of patient `number`, from 0: one of `people`, with the rules above."""
    who = people[number % len(people)]
    rng = np.random.default_rng((number, 81))
    dz, dy, dx = who.spacing_mm
    size = 1 + rng.uniform(-SIZE, SIZE)
    off, strength = rng.normal(0, OFF_HU), np.exp(rng.normal(0, NOISE_SD))
    spacing = (dz, dy * size, dx * size)
    noise = QuantumNoise(Scan(spacing, noise_hu=SCAN.noise_hu * float(strength)), rng)
    out = np.empty_like(who.hu)
    for k, image in enumerate(who.hu):
        hu = image + np.float32(off) + noise.field(_depth_mm(image, spacing[1]))
        out[k] = np.clip(np.rint(hu), -1024, 3071)
    x, y, z = who.origin_lps_mm
    return Phantom(out, spacing, (x * size, y * size, z), ())


def reconstructed(scan: Phantom, kernel: Kernel) -> Phantom:
    """The same scan as `kernel` shows its edges and its noise."""
    out = np.empty_like(scan.hu)
    for k, image in enumerate(scan.hu):
        sharp = kernel.enhanced(image.astype(np.float32), scan.spacing_mm[1])
        out[k] = np.clip(np.rint(sharp), -1024, 3071)
    return Phantom(out, scan.spacing_mm, scan.origin_lps_mm, scan.nodules)


def _depth_mm(image: npt.NDArray[np.int16], pixel_mm: float) -> Array:
    """How deep below the skin each pixel lies, in mm, less than 0 outside: the outline of the
    largest thing, filled, so that lungs are inside."""
    mask = (image > BODY_HU).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    inside = np.zeros_like(mask)
    cv2.drawContours(inside, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    deep = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    away = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    signed: Array = (deep - away) * np.float32(pixel_mm)
    return signed
