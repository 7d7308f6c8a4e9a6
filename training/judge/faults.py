"""Faults that a scan may have, painted into a good one: for who judges what notices them.

Rules.
1. Images in, images out, in their order; the ones that came in are not changed. Images are decoded
   axial frames of one series that are oriented to LPS (+x left, +y back), in order of rising z.
2. Geometry stays true: what is cut off moves the corner of the image; a patient who moves moves the
   pixels and leaves the header as it was.
3. HU below FILL_HU are fill, which no fault changes. HU stay above LOWEST_HU, as scanners cut them.
4. Noise has the spectrum of the series' own noise: white noise of the same size is no lower dose.
   It has one size everywhere, though a lower dose adds less of it in air.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.records import Image, Mask

FILL_HU, LOWEST_HU = -1100, -1024
AIR_HU, BODY_HU = -1000, -300
PATCH = 16
"""Side of the patches, in pixels, of which the spectrum of noise is the mean."""
PATCHES = 400

Images = Sequence[Image]
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


def without_ends(images: Images, low_mm: float, high_mm: float) -> list[Image]:
    """Only the images between two heights (z, LPS)."""
    return [one for one in images if low_mm <= one.geometry.position_lps_mm[2] <= high_mm]


def cropped(images: Images, x_mm: tuple[float, float]) -> list[Image]:
    """The field of view between these two places, from right to left (LPS)."""
    found = []
    for one in images:
        x, y, z = one.geometry.position_lps_mm
        dx = one.geometry.spacing_mm[1]
        left, right = (round((mm - x) / dx) for mm in x_mm)
        corner = (x + left * dx, y, z)
        found.append(
            replace(
                one,
                hu=one.hu[:, left:right].copy(),
                geometry=replace(one.geometry, position_lps_mm=corner),
            )
        )
    return found


def moved(
    images: Images, first: int, last: int, x_mm: float = 0.0, y_mm: float = 0.0
) -> list[Image]:
    """The patient lay elsewhere while images first to last (not included) were taken."""
    found = list(images)
    for k in range(first, last):
        hu, (dy, dx) = found[k].hu, found[k].geometry.spacing_mm
        way = np.array([[1, 0, x_mm / dx], [0, 1, y_mm / dy]], np.float32)
        warped = cv2.warpAffine(
            hu.astype(np.float32),
            way,
            hu.shape[::-1],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=AIR_HU,
        )
        found[k] = _with(found[k], warped)
    return found


def lifted(images: Images, first: int, last: int, front_mm: float) -> list[Image]:
    """The patient had breathed in while images first to last (not included) were taken: the front
    of the body lies so much higher, its back where it was, and all between in proportion."""
    found = list(images)
    for k in range(first, last):
        hu, dy = found[k].hu.astype(np.float32), found[k].geometry.spacing_mm[0]
        body = np.flatnonzero((hu > BODY_HU).any(axis=1))
        y, x = np.indices(hu.shape, np.float32)
        part = np.clip((body[-1] - y) / max(1, body[-1] - body[0]), 0, 1)
        higher = (y + part * front_mm / dy).astype(np.float32)
        found[k] = _with(
            found[k],
            cv2.remap(hu, x, higher, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        )
    return found


def offset(images: Images, hu: float) -> list[Image]:
    """HU that are off."""
    return [_with(one, one.hu.astype(np.float32) + np.float32(hu)) for one in images]


def scaled(images: Images, by: float) -> list[Image]:
    """A Rescale Slope that is off by this factor, while the intercept of LOWEST_HU is kept."""
    return [
        _with(one, (one.hu.astype(np.float32) - LOWEST_HU) * np.float32(by) + LOWEST_HU)
        for one in images
    ]


def blurred(images: Images, pixels: float) -> list[Image]:
    """A softer kernel: a Gaussian whose SD is so many pixels, in plane."""
    return [
        _with(one, cv2.GaussianBlur(one.hu.astype(np.float32), (0, 0), pixels)) for one in images
    ]


def sharpened(images: Images, weight: float) -> list[Image]:
    """A sharper kernel: unsharp masking with a Gaussian of one pixel, in plane."""
    found = []
    for one in images:
        hu = one.hu.astype(np.float32)
        found.append(_with(one, hu + weight * (hu - cv2.GaussianBlur(hu, (0, 0), 1.0))))
    return found


def noisier(images: Images, noise_hu: float, times: float, seed: int = 1) -> list[Image]:
    """Noise of so many times the size that it has (rule 4). noise_hu: the SD that it has, measured
    in blocks of PATCH pixels."""
    rng = np.random.default_rng(seed)
    kernel = _kernel(images, noise_hu)
    size = float(np.sqrt(times**2 - 1)) * noise_hu
    found = []
    for one in images:
        white = rng.standard_normal(one.hu.shape, np.float32)
        field = cv2.filter2D(white, -1, kernel, borderType=cv2.BORDER_WRAP)
        found.append(_with(one, one.hu.astype(np.float32) + size * field))
    return found


def with_contrast(images: Images, lungs: Mask, hu: float) -> list[Image]:
    """Contrast medium in what lies between the lungs and is as dense as blood."""
    found = []
    for one in images:
        x, y, z = one.geometry.position_lps_mm
        dy, dx = one.geometry.spacing_mm
        to_index = np.linalg.inv(lungs.grid.to_lps)
        k, j, i = (to_index @ np.array([x, y, z, 1.0]))[:3]
        plane = round(float(k))
        if not 0 <= plane < len(lungs.voxels):
            found.append(one)
            continue
        between = _between(lungs.voxels[plane])
        _, sy, sx = lungs.grid.spacing_mm
        way = np.array([[dx / sx, 0, i], [0, dy / sy, j]], np.float32)
        where = cv2.warpAffine(
            between.astype(np.uint8),
            way,
            one.hu.shape[::-1],
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        )
        smooth = cv2.GaussianBlur(one.hu.astype(np.float32), (0, 0), 3.0 / dx)
        blood = (where > 0) & (smooth > 10) & (smooth < 90)
        found.append(_with(one, one.hu.astype(np.float32) + np.where(blood, np.float32(hu), 0)))
    return found


def _with(one: Image, hu: F32) -> Image:
    """The image with other HU (rule 3)."""
    whole = np.rint(np.clip(hu, LOWEST_HU, 3071)).astype(np.int16)
    fill = one.hu < FILL_HU
    return replace(one, hu=np.where(fill, one.hu, whole).astype(np.int16))


def _kernel(images: Images, noise_hu: float) -> F32:
    """A kernel that gives white noise of SD 1 the spectrum of the series' noise, and SD 1."""
    power = np.zeros((PATCH, PATCH))
    count = 0
    for one in images:
        rows, columns = (n // PATCH for n in one.hu.shape)
        tiles = one.hu[: rows * PATCH, : columns * PATCH].astype(np.float32)
        tiles = tiles.reshape(rows, PATCH, columns, PATCH).swapaxes(1, 2)
        tiles = tiles.reshape(-1, PATCH, PATCH)
        middle, sd = tiles.mean(axis=(1, 2)), tiles.std(axis=(1, 2))
        even = tiles[(middle > 0) & (middle < 200) & (sd < 1.3 * noise_hu)]
        if len(even):
            even = even - even.mean(axis=(1, 2), keepdims=True)
            power += (np.abs(np.fft.fft2(even)) ** 2).sum(axis=0)
            count += len(even)
        if count > PATCHES:
            break
    if not count:
        raise ValueError("no even soft tissue of which noise could be learned")
    kernel = np.fft.fftshift(np.fft.ifft2(np.sqrt(power)).real)
    return np.asarray(kernel / np.sqrt((kernel**2).sum()), np.float32)


def _between(lungs: Bool) -> Bool:
    """[y, x]: what lies between the outermost columns of the lungs of each row, and is no lung."""
    reach = np.logical_or.accumulate(lungs, axis=1)
    back = np.logical_or.accumulate(lungs[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(reach & back & ~lungs)
