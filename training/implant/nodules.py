"""Nodules of known place and size in real chest CTs: LIDC shapes implanted on the CT's own grid.

Rules.
1. Shapes are turned, mirrored and scaled, never bent.
2. On the CT's grid a voxel holds the mean occupancy of its own box (partial volume, slice and all),
   then a point spread; the host's own noise is added to what is new.
3. Solid matter never makes a host darker, so a nodule at the pleura leaves the chest wall alone.
4. Truth is the body alone: centre of mass and the diameter of the sphere of equal volume. Spicules,
   tails and cavities do not move it.
5. What would lie inside a vessel or the wall is not implanted: nobody could see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy import ndimage

from training.implant.shapes import SHAPE_MM, Shape, sphere_diameter
from training.read.volume import F32, F64, Axis, Bool, box_mean

Numbers = Sequence[float] | F64

SOFT_HU = -400.0
VISIBLE = 0.6
"""Least share of an implant that lies in what was air: one inside a vessel or the wall is no
nodule."""
KINDS = ("solid", "part_solid", "ground_glass", "calcified", "cavity")


@dataclass(frozen=True)
class Block:
    """The piece of a CT that gets nodules; `hu` is changed in place."""

    hu: F32  # [z, y, x]
    spacing: tuple[float, float, float]  # mm, z y x
    noise_hu: float


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
    def part(self) -> tuple[slice, slice, slice]:
        """The part of the block that `occupancy` is of."""
        z, y, x = (slice(s, s + n) for s, n in zip(self.start, self.occupancy.shape, strict=True))
        return z, y, x


def turned(rng: np.random.Generator, occupancy: F32) -> F32:
    """One of the 48 turns and mirrorings of a cube grid."""
    out = np.transpose(occupancy, rng.permutation(3))
    for axis in range(3):
        if rng.random() < 0.5:
            out = np.flip(out, axis)
    return np.ascontiguousarray(out)


def on_grid(
    occupancy: F32, cell_mm: float, center_mm: Numbers, block: Block
) -> tuple[F32, tuple[slice, slice, slice]]:
    """Mean occupancy of each voxel in the part of the block that the shape reaches, and that part.

    `center_mm` (z y x, from the block's outer edge) is where the shape's centre of mass goes.
    """
    mass = ndimage.center_of_mass(occupancy)
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
    centre = np.array(ndimage.center_of_mass(out))
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
    brush = Brush(rng, block, cell, center_mm, rng.uniform(0.35, 0.75))
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

    def _laid(self, shape: F32, scale: float) -> tuple[F32, tuple[slice, slice, slice]]:
        occupied, part = on_grid(shape, self.cell * scale, self.center_mm, self.block)
        _, dy, dx = self.block.spacing
        return blurred_in_plane(occupied, (self.blur_mm / dy, self.blur_mm / dx)), part

    def paint(self, shape: F32, level: float, scale: float = 1.0) -> None:
        """Mixes in matter of `level` HU with the host's noise; what is denser already stays."""
        occupied, part = self._laid(shape, scale)
        view = self.block.hu[part]
        noise = correlated_noise(self.rng, view.shape, 0.5) * self.block.noise_hu
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
    """Where nodules may sit in a host: points in mm from the volume's outer edge, z y x."""

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
    deep = np.asarray(depth[where], np.float64)
    order = np.argsort(deep, kind="stable")
    points = np.asarray((np.argwhere(where) + 0.5) * spacing, np.float64)
    beside = free & (depth > 6.0) & (aside > 1.0) & (aside < 4.0)
    near = np.asarray((np.argwhere(beside) + 0.5) * spacing, np.float64)
    return Places(points[order], deep[order], near)
