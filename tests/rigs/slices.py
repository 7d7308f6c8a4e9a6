"""Slices of a made-up body, for what is measured while a series arrives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from appliance.quality import slices
from appliance.records import Geometry, Grid, Header, Mask, Plane, Sample, SliceFacts, Stack

SIDE, PIXEL_MM, STEP_MM = 240, 1.0, 2.0
LUNG_HU, MUSCLE_HU, AIR_HU = -850.0, 50.0, -1000.0

F64 = NDArray[np.float64]


def noise(sd: float, seed: int, side: int = SIDE) -> F64:
    return np.random.default_rng(seed).normal(0, sd, (side, side))


def body(
    *,
    x_mm: float = 0.0,
    y_mm: float = 0.0,
    scale: float = 1.0,
    sd: float = 10.0,
    seed: int = 1,
    blood_hu: float = MUSCLE_HU,
) -> F64:
    """[y, x] HU: an oval of muscle in air with two lungs in it and blood between them; the oval's
    middle lies so many mm from that of the image."""
    y, x = (np.indices((SIDE, SIDE)) - (SIDE - 1) / 2) * PIXEL_MM
    x, y = x - x_mm, y - y_mm
    hu = np.full((SIDE, SIDE), AIR_HU)
    hu[(x / 100) ** 2 + (y / 75) ** 2 < scale**2] = MUSCLE_HU
    hu[(np.abs(x) < 25 * scale) & (np.abs(y) < 40 * scale)] = blood_hu
    for side in (-1, 1):
        hu[((x - 55 * side * scale) / 30) ** 2 + (y / 50) ** 2 < scale**2] = LUNG_HU
    return hu + noise(sd, seed)


def plane(hu: NDArray[np.floating], k: int = 0, *, pixel_mm: float = PIXEL_MM) -> Plane:
    """A slice at its place in a series, with its facts."""
    at = (-100.0, -100.0, k * STEP_MM)
    geometry = Geometry(at, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (pixel_mm, pixel_mm))
    native = np.rint(np.clip(hu, -2048, 3071)).astype(np.int16)
    header = Header("1", f"1.2.{k}", "1.3", "1.4", thickness_mm=2.5)
    made = Plane(header, 0, geometry, native, {}, padding=False, digest=str(k))
    return replace(made, facts=slices.facts(made))


def facts(images: Sequence[NDArray[np.floating]]) -> list[SliceFacts]:
    return [slices.facts(plane(hu, k)) for k, hu in enumerate(images)]


def samples(images: Sequence[NDArray[np.floating]]) -> list[Sample]:
    """What each image says where it is one of those that are sampled."""
    return [slices.sample(plane(hu, k)) for k, hu in enumerate(images)]


def stack(images: Sequence[NDArray[np.floating]]) -> Stack:
    planes = tuple(plane(hu, k) for k, hu in enumerate(images))
    z = np.arange(len(planes)) * STEP_MM
    return Stack(planes, z, (0.0, 0.0, 1.0), (STEP_MM, PIXEL_MM, PIXEL_MM))


def lungs(images: Sequence[NDArray[np.floating]], first: int = 0, last: int | None = None) -> Mask:
    """The lungs of images `first` to `last` (not included), on the grid of the slices."""
    voxels = np.zeros((len(images), SIDE, SIDE), np.bool_)
    inside = (body(sd=0) < -500) & (body(sd=0) > -950)
    voxels[first : len(images) if last is None else last] = inside
    to_lps = np.eye(4)
    to_lps[:3, :3] = np.diag([PIXEL_MM, PIXEL_MM, STEP_MM])[:, ::-1]
    to_lps[:3, 3] = (-100.0, -100.0, 0.0)
    return Mask("lungs", voxels, Grid(voxels.shape, (STEP_MM, PIXEL_MM, PIXEL_MM), to_lps))
