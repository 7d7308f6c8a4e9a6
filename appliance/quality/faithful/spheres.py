"""Exact spheres at known places in the patient, drawn into the images as they were sent.

Rules.
1. A pixel is the mean of its own box: its spacing in the plane, the distance of the slices across.
   The share of a sphere in a box is exact along the slices' normal and a sum of SAMPLES x SAMPLES
   columns in the plane.
2. They are drawn into stored values, through the image's own rescale, and placed by its own tags
   (PS3.3 C.7.6.2.1.1, C.11.1.1.2): what decodes, orients and resamples them is under test, and
   shares no line with what is here.
3. All else in the image becomes BACKGROUND_HU, without noise.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian

from appliance.records import Vector

F64 = NDArray[np.float64]

BACKGROUND_HU, SPHERE_HU = -850.0, 100.0
"""Lung, and the densest that soft tissue with contrast medium is in a lung."""
DIAMETERS_MM: Final = (4.0, 6.0, 10.0)
COUNTS: Final = (2, 2, 3)
"""Places along z, y and x."""
APART_MM: Final = 24.0
"""From centre to centre, and half of it from the edge: no voxel of one holds any of another."""
SAMPLES: Final = 8
NEEDED: Final = (
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelRepresentation",
    "BitsStored",
    "PixelData",
)
"""Tags that it is drawn by."""


@dataclass(frozen=True, slots=True)
class Sphere:
    """One of them: centre in LPS mm."""

    center_lps_mm: Vector
    diameter_mm: float


def laid(low_lps_mm: Vector, high_lps_mm: Vector) -> tuple[Sphere, ...]:
    """Spheres in a box of the patient, of each diameter as many as of the others, at places that
    are on no lattice of voxels. () where the box is too small for them."""
    low, high = np.asarray(low_lps_mm) + APART_MM / 2, np.asarray(high_lps_mm) - APART_MM / 2
    counts = np.array(COUNTS[::-1])
    step = (high - low) / counts
    if np.any(step < APART_MM):
        return ()
    found = []
    for number, at in enumerate(np.ndindex(*COUNTS)):
        uneven = np.modf((number + 1) * np.sqrt([2.0, 3.0, 5.0]))[0] - 0.5
        x, y, z = (float(v) for v in low + (np.array(at[::-1]) + 0.5) * step + 3 * uneven)
        found.append(Sphere((x, y, z), DIAMETERS_MM[number % len(DIAMETERS_MM)]))
    return tuple(found)


def share(away_mm: F64, edges_mm: Sequence[float], diameter_mm: float) -> F64:
    """Mean occupancy [n] by a sphere of boxes whose centres lie `away_mm` [n, 3] from its own; both
    in one frame of three axes, along which the boxes have these edges."""
    radius, reach = diameter_mm / 2, float(np.linalg.norm(edges_mm)) / 2
    far = np.linalg.norm(away_mm, axis=1)
    filled = np.asarray(far < radius, np.float64)
    crossed = np.abs(far - radius) <= reach
    filled[crossed] = _crossed(away_mm[crossed], edges_mm, radius)
    return filled


def _crossed(away_mm: F64, edges_mm: Sequence[float], radius: float) -> F64:
    """`share` of boxes that the surface may cross."""
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    first = away_mm[:, 1, None] + steps * edges_mm[1]
    second = away_mm[:, 2, None] + steps * edges_mm[2]
    left = radius**2 - first[:, :, None] ** 2 - second[:, None, :] ** 2
    half = np.sqrt(np.maximum(left, 0))
    middle = away_mm[:, 0, None, None]
    high = np.minimum(middle + edges_mm[0] / 2, half)
    low = np.maximum(middle - edges_mm[0] / 2, -half)
    return np.asarray(np.maximum(high - low, 0).mean(axis=(1, 2)) / edges_mm[0])


def painted(instance: bytes, spheres: Sequence[Sphere], between_mm: float) -> bytes:
    """A Part-10 image of one slice with spheres instead of what it shows, uncompressed; the slices
    of its series lie `between_mm` apart. ValueError where it has several frames, lacks a tag
    of NEEDED, or where its stored values cannot hold them."""
    image = pydicom.dcmread(io.BytesIO(instance), force=True)
    if lacks := [name for name in NEEDED if name not in image]:
        raise ValueError(f"an image without {', '.join(lacks)}")
    if int(image.get("NumberOfFrames") or 1) != 1:
        raise ValueError("an image with several frames")
    hu = drawn(
        (int(image.Rows), int(image.Columns)),
        np.array(image.ImagePositionPatient, np.float64),
        np.array(image.ImageOrientationPatient, np.float64).reshape(2, 3),
        [float(v) for v in image.PixelSpacing],
        spheres,
        between_mm,
    )
    stored = np.rint((hu - float(image.RescaleIntercept)) / float(image.RescaleSlope))
    signed = int(image.PixelRepresentation)
    low = -(1 << int(image.BitsStored) - 1) if signed else 0
    if stored.min() < low or stored.max() >= low + (1 << int(image.BitsStored)):
        raise ValueError("stored values that cannot hold the spheres")
    for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if name in image:
            del image[name]
    image.BitsAllocated = 16
    image.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    image["PixelData"].VR = "OW"
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    pydicom.dcmwrite(out, image, little_endian=True, implicit_vr=False)
    return out.getvalue()


def drawn(
    shape: tuple[int, int],
    position: F64,
    directions: F64,
    spacing_mm: Sequence[float],
    spheres: Sequence[Sphere],
    between_mm: float,
) -> F64:
    """[rows, columns] HU of a slice; `directions`: of a row, of a column."""
    hu = np.full(shape, BACKGROUND_HU)
    frame = np.stack([np.cross(directions[0], directions[1]), directions[1], directions[0]])
    edges = (between_mm, spacing_mm[0], spacing_mm[1])
    for sphere in spheres:
        depth, down, across = frame @ (np.asarray(sphere.center_lps_mm) - position)
        reach = sphere.diameter_mm / 2 + np.asarray(edges)
        if abs(depth) > reach[0]:
            continue
        rows, columns = (
            np.arange(max(0, int((at - far) / mm)), min(size, int((at + far) / mm) + 2))
            for at, far, mm, size in zip((down, across), reach[1:], spacing_mm, shape, strict=True)
        )
        y, x = np.meshgrid(rows * spacing_mm[0] - down, columns * spacing_mm[1] - across)
        away = np.stack([np.full(y.size, -depth), y.ravel(), x.ravel()], axis=1)
        inside = share(away, edges, sphere.diameter_mm).reshape(y.shape).T
        hu[np.ix_(rows, columns)] += inside * (SPHERE_HU - BACKGROUND_HU)
    return hu
