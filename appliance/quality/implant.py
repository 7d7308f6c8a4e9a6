"""One nodule put into a piece of a CT: a shape that a radiologist outlined, on the CT's own grid.

Rules.
1. Shapes are turned, mirrored and scaled, never bent.
2. On the CT's grid a voxel holds the mean occupancy of its own box (partial volume, slice and all),
   then a point spread; the host's own noise is added to what is new.
3. Solid matter never makes a host darker, so a nodule at the pleura leaves the chest wall alone.
4. Truth is the body alone: centre of mass and the diameter of the sphere of equal volume. Spicules,
   tails and cavities do not move it.
5. What would lie inside a vessel or the wall is not implanted: nobody could see it. Nor is what
   changes less than SEEN of its own body by CHANGED_HU: on slices thicker than it is, or inside a
   bronchus' wall.
6. The bytes are those that every network was trained on: a change of one is a new generator, and
   tests/training/implant/test_recorded.py holds it.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Numbers = Sequence[float] | F64
Part = tuple[slice, slice, slice]

SHAPE_MM = 0.6
SOFT_HU = -400.0
VISIBLE = 0.6
"""Least share of an implant that lies in what was air: one inside a vessel or the wall is no
nodule."""
SPREAD_MM = 0.35, 0.75
"""Point spreads of scanners that are not known."""
KINDS = ("solid", "part_solid", "ground_glass", "calcified", "cavity")

SEEN, CHANGED_HU = 0.5, 80.0
"""Least share of an implant's body that changed by so many HU."""
SPICULE_MM = 16.0
"""How far from its body an implant may change anything, rounded up."""


@dataclass(frozen=True)
class Shape:
    """One nodule's occupancy, 0-255 for 0-1, on a cube grid of SHAPE_MM."""

    occupancy: NDArray[np.uint8]
    diameter_mm: float  # sphere of equal volume
    spiculation: int  # 1 (none) to 5, the reader's rating
    patient: str = ""  # key of the LIDC patient that it is of


@dataclass(frozen=True)
class Block:
    """The piece of a CT that gets nodules; `hu` is changed in place."""

    hu: F32  # [z, y, x]
    spacing: tuple[float, float, float]  # mm, z y x
    noise_hu: float
    grain_px: float = 0.5
    """SD of the Gaussian that gives the noise its texture in the plane."""
    spread_mm: float | None = None
    """SD of the point spread in the plane; None: drawn anew for each nodule."""


@dataclass(frozen=True)
class Nodule:
    """What to implant."""

    shape: Shape
    diameter_mm: float
    kind: str  # one of KINDS
    place: str = "isolated"


@dataclass(frozen=True)
class Implant:
    """What was implanted and where, with the exact body on the block's grid."""

    center_mm: tuple[float, float, float]  # z y x, from the outer edge of the block's first voxel
    diameter_mm: float
    kind: str
    place: str  # isolated, pleural or vascular
    patient: str = ""  # key of the LIDC patient whose shape it has
    occupancy: F32 = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32), compare=False)
    """Mean occupancy, 0-1, [z, y, x] of the part of the block that begins at `start`."""
    start: tuple[int, int, int] = (0, 0, 0)

    @property
    def part(self) -> Part:
        """The part of the block that `occupancy` is of."""
        z, y, x = (slice(s, s + n) for s, n in zip(self.start, self.occupancy.shape, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Axis:
    """`count` cells of `cell_mm` from `start_mm` on."""

    count: int
    cell_mm: float
    start_mm: float


def turned(rng: np.random.Generator, occupancy: F32) -> F32:
    """One of the 48 turns and mirrorings of a cube grid."""
    out = np.transpose(occupancy, rng.permutation(3))
    for axis in range(3):
        if rng.random() < 0.5:
            out = np.flip(out, axis)
    return np.ascontiguousarray(out)


def on_grid(occupancy: F32, cell_mm: float, center_mm: Numbers, block: Block) -> tuple[F32, Part]:
    """Mean occupancy of each voxel in the part of the block that the shape reaches, and that part.

    `center_mm` (z y x, from the block's outer edge) is where the shape's centre of mass goes.
    """
    mass = centre_of_mass(occupancy)
    out, part = occupancy, []
    for axis, (size, spacing) in enumerate(zip(block.hu.shape, block.spacing, strict=True)):
        start = float(center_mm[axis]) - (mass[axis] + 0.5) * cell_mm
        first = max(int(np.floor(start / spacing)) - 3, 0)
        end = start + occupancy.shape[axis] * cell_mm
        last = min(int(np.ceil(end / spacing)) + 3, size)
        if last <= first:
            return np.zeros((0, 0, 0), np.float32), (slice(0, 0), slice(0, 0), slice(0, 0))
        weights = box_mean(
            Axis(last - first, spacing, first * spacing),
            Axis(occupancy.shape[axis], cell_mm, start),
        )
        out = np.moveaxis(np.tensordot(weights, out, axes=(1, axis)), 0, axis)
        part.append(slice(first, last))
    return np.asarray(out, np.float32), (part[0], part[1], part[2])


def spiked(rng: np.random.Generator, body: F32, count: int, thick: float, far: float) -> F32:
    """The body on a grid grown by `far` cells, with thin tapering lines from its centre outwards.

    `thick` and `far` are radius and reach of the lines in cells.
    """
    out = np.pad(body, int(np.ceil(far)))
    centre = np.array(centre_of_mass(out))
    radius = sphere_diameter(float(body.sum())) / 2
    for _ in range(count):
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        length = radius + rng.uniform(0.35, 1.0) * far
        bend = 0.15 * rng.standard_normal(3)
        width = thick * rng.uniform(0.7, 1.3)
        for t in np.arange(0.6 * radius, length, 0.5):
            at = centre + direction * t + bend * (t - radius) ** 2 / max(length, 1.0)
            thin = 1 - 0.7 * max(t - radius, 0) / max(length - radius, 1e-3)
            if not _paint_ball(out, at, max(width * thin, 0.35)):
                break
    return out


def _paint_ball(out: F32, at: F64, radius: float) -> bool:
    """Joins a ball (in cells) into `out` by maximum; False where it lies outside."""
    low = np.maximum(np.floor(at - radius).astype(int), 0)
    high = np.minimum(np.ceil(at + radius).astype(int) + 1, out.shape)
    if (high <= low).any():
        return False
    z, y, x = np.ogrid[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    far = np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2)
    view = out[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    np.maximum(view, np.clip(radius - far + 0.5, 0, 1), out=view)
    return True


def blurred_in_plane(planes: F32, sigma_px: tuple[float, float]) -> F32:
    """Gaussian of each plane of [z, y, x], sigma along y and x; edges reflect."""
    y, x = sigma_px
    size = 2 * int(4 * x + 0.5) + 1, 2 * int(4 * y + 0.5) + 1  # OpenCV counts x first
    out = np.empty(planes.shape, np.float32)
    for into, plane in zip(out, np.ascontiguousarray(planes, np.float32), strict=True):
        into[:] = cv2.GaussianBlur(plane, size, sigmaX=x, sigmaY=y, borderType=cv2.BORDER_REFLECT)
    return out


def correlated_noise(rng: np.random.Generator, shape: Sequence[int], sigma_px: float) -> F32:
    """Noise of unit variance, smoothed in plane, independent between slices."""
    noise = rng.standard_normal(tuple(shape), dtype=np.float32)
    if sigma_px > 0.15:
        noise = blurred_in_plane(noise, (sigma_px, sigma_px))
        noise /= max(float(noise.std()), 1e-6)
    return noise


def implant(
    rng: np.random.Generator, block: Block, center_mm: Numbers, nodule: Nodule
) -> Implant | None:
    """Puts one nodule into the block in place, its centre at `center_mm` (z y x, from the block's
    outer edge); returns its truth.

    None, and nothing done, where less than VISIBLE of it would lie in air.
    """
    cell = SHAPE_MM * nodule.diameter_mm / nodule.shape.diameter_mm
    body = turned(rng, np.asarray(nodule.shape.occupancy / 255, np.float32))
    occupied, part = on_grid(body, cell, center_mm, block)
    if not occupied.size:
        raise ValueError("the implant lies outside the block")
    if float(occupied[block.hu[part] < SOFT_HU].sum()) < VISIBLE * float(occupied.sum()):
        return None
    spread = rng.uniform(*SPREAD_MM) if block.spread_mm is None else block.spread_mm
    brush = Brush(rng, block, cell, center_mm, spread)
    level = rng.uniform(250, 900) if nodule.kind == "calcified" else rng.uniform(-20, 90)
    if nodule.kind in ("ground_glass", "part_solid"):
        brush.veil(body, rng.uniform(170, 420))
        if nodule.kind == "part_solid":
            brush.paint(body, level, rng.uniform(0.35, 0.65))
    else:
        brush.paint(_with_lines(rng, body, cell, nodule), level)
        brush.paint(body, level)
        if nodule.kind == "cavity":
            brush.hollow(body, rng.uniform(0.35, 0.6))
    z, y, x = (float(v) for v in center_mm)
    return Implant(
        (z, y, x),
        float(nodule.diameter_mm),
        nodule.kind,
        nodule.place,
        nodule.shape.patient,
        occupied,
        (part[0].start, part[1].start, part[2].start),
    )


def _with_lines(rng: np.random.Generator, body: F32, cell: float, nodule: Nodule) -> F32:
    """The body with spicules or tails, or as it is."""
    roll, diameter = rng.random(), nodule.diameter_mm
    if roll < (0.75 if nodule.shape.spiculation >= 3 else 0.2):
        far = min(10.0, 2 + diameter * 0.5)
        return spiked(rng, body, int(rng.integers(4, 14)), 0.55 / cell, far / cell)
    if rng.random() < 0.3:
        thick = 0.5 + 0.06 * diameter
        return spiked(rng, body, int(rng.integers(1, 3)), thick / cell, 14.0 / cell)
    return body


@dataclass(frozen=True)
class Brush:
    """Puts matter of one nodule into a block; `cell` is its shape's cell in mm."""

    rng: np.random.Generator
    block: Block
    cell: float
    center_mm: Numbers
    blur_mm: float

    def _laid(self, shape: F32, scale: float) -> tuple[F32, Part]:
        occupied, part = on_grid(shape, self.cell * scale, self.center_mm, self.block)
        _, dy, dx = self.block.spacing
        return blurred_in_plane(occupied, (self.blur_mm / dy, self.blur_mm / dx)), part

    def paint(self, shape: F32, level: float, scale: float = 1.0) -> None:
        """Mixes in matter of `level` HU with the host's noise; what is denser already stays."""
        occupied, part = self._laid(shape, scale)
        view = self.block.hu[part]
        noise = correlated_noise(self.rng, view.shape, self.block.grain_px) * self.block.noise_hu
        mixed = view * (1 - occupied) + occupied * (level + noise)
        np.copyto(view, np.where(view < level, mixed, view))

    def veil(self, shape: F32, raise_hu: float) -> None:
        """Raises what is there, as ground glass does, up to soft tissue."""
        occupied, part = self._laid(shape, 1.0)
        view = self.block.hu[part]
        view[:] = np.minimum(view + occupied * raise_hu, np.maximum(view, 50))

    def hollow(self, shape: F32, scale: float) -> None:
        """Fills the inside with air."""
        occupied, part = self._laid(shape, scale)
        view = self.block.hu[part]
        view[:] = view * (1 - occupied) - occupied * 900.0


def draw_kind(rng: np.random.Generator, diameter_mm: float) -> str:
    """Density class in about the shares of a screening population; the small ones are solid more
    often."""
    shares = [0.68, 0.12, 0.12, 0.05, 0.03] if diameter_mm >= 8 else [0.76, 0.05, 0.11, 0.08, 0.0]
    return str(rng.choice(KINDS, p=shares))


def implanted(
    rng: np.random.Generator, block: Block, at_mm: F64, nodule: Nodule, before: F32
) -> Implant | None:
    """`implant`, but None, and nothing done, also where too little of it can be seen (rule 3).

    `before` [z, y, x] is the block without this nodule.
    """
    around = near(block.spacing, at_mm, nodule.diameter_mm / 2 + SPICULE_MM)
    as_it_was = block.hu[around].copy()
    one = implant(rng, block, at_mm, nodule)
    if one is not None and visible_share(one, before, block.hu) < SEEN:
        block.hu[around] = as_it_was
        return None
    return one


def near(spacing: Sequence[float], center_mm: F64, reach_mm: float) -> Part:
    """The part of a block within `reach_mm` of a point along each axis; it may end beyond it."""
    low = np.maximum(np.floor((center_mm - reach_mm) / spacing), 0).astype(int)
    high = np.ceil((center_mm + reach_mm) / spacing).astype(int) + 1
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def visible_share(one: Implant, before: F32, after: F32) -> float:
    """Share of the implant's body, by volume, that changed its CT by CHANGED_HU or more."""
    changed = np.abs(after[one.part] - before[one.part]) >= CHANGED_HU
    return float(one.occupancy[changed].sum() / max(float(one.occupancy.sum()), 1e-6))


def box_mean(target: Axis, source: Axis) -> F32:
    """Matrix [target.count, source.count]: means over the target's cells of what is constant in
    each of the source's; 0 outside of it."""
    low = target.start_mm + np.arange(target.count)[:, None] * target.cell_mm
    at = source.start_mm + np.arange(source.count)[None, :] * source.cell_mm
    overlap = np.minimum(low + target.cell_mm, at + source.cell_mm) - np.maximum(low, at)
    return np.asarray(np.clip(overlap, 0, None) / target.cell_mm, np.float32)


def centre_of_mass(occupancy: F32) -> F64:
    """Centre of mass along each axis, in cells."""
    whole = occupancy.sum()
    places = np.ogrid[tuple(slice(n) for n in occupancy.shape)]
    each = [(occupancy * place.astype(np.float64)).sum() / whole for place in places]
    return np.asarray(each, np.float64)


def sphere_diameter(volume_mm3: float) -> float:
    """Diameter of the sphere of this volume."""
    return float((6 * volume_mm3 / np.pi) ** (1 / 3))


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
