"""Masses of known place and size in chest CTs: LIDC shapes, grown and attached to what is there.

Rules.
1. Shapes of 11 mm and more are scaled to 24-100 mm, turned and mirrored; corners of their grid are
   rounded off. Most are attached to the pleura or the mediastinum, as most real ones are.
2. Matter is painted as in `implant.nodules`: mean occupancy of a voxel, point spread, the host's
   noise; what is denser already stays. A few destroy the bone they reach. Nothing is painted into
   air outside the lungs: a mass ends at the skin and at the trachea.
3. Truth is what can be seen: centre of mass, sphere diameter and outline of the part that was lung
   or fat before. Nobody sees where in a muscle of the same density a mass ends, so there the
   outline is UNKNOWN.
4. Distractors have no truth: nodules well below a mass, fluid along the back.
5. What gives one away. Seen in eight of them before outlines were smoothed: edges a little too
   sharp, and stepped where a small shape was grown much. To be expected from the method: vessels
   that end at it instead of going round, lung behind it that stays aerated, and no enlarged lymph
   nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from appliance.quality.implant import (
    SHAPE_MM,
    SOFT_HU,
    Block,
    Shape,
    blurred_in_plane,
    correlated_noise,
    on_grid,
    sphere_diameter,
    spiked,
    turned,
)
from training.implant.hosts import Target
from training.implant.nodules import host_noise
from training.read.shared_series import host_boxes, host_lungs, known_lesions, mass_of_boxes
from training.read.volume import F32, F64, Volume, resample

GRID_MM = 3.0
LEAST_SHAPE_MM = 11.0
SMALLEST_MM, LARGEST_MM = 24.0, 100.0
FAT_HU = -30.0
"""What is denser hides the edge of a mass."""
LEAST_SHARE = 0.05
"""A voxel of which a mass has less is none of its own, whatever lies there."""
IN_LUNG = 0.4
"""Least share of a mass that lies in the lung."""
UNKNOWN = -1.0
"""Instead of a share of a voxel: nobody can say."""
Place = Literal["wall", "mediastinum", "isolated"]


@dataclass(frozen=True)
class Chest:
    """A CT, or a piece of one, that gets masses; `block.hu` is changed in place."""

    block: Block
    depth_mm: F32  # [z, y, x] of the block: distance to the lungs' surface, positive inside


@dataclass(frozen=True)
class Mass:
    """What was implanted and where."""

    center_mm: tuple[float, float, float]  # z y x, from the outer edge of the block's first voxel
    diameter_mm: float
    place: Place
    outline: F32 = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32), compare=False)
    """[z, y, x] of the part of the block that begins at `start`: share of each voxel that is mass,
    or UNKNOWN (rule 3)."""
    start: tuple[int, int, int] = (0, 0, 0)

    @property
    def part(self) -> tuple[slice, slice, slice]:
        """The part of the block that `outline` is of."""
        z, y, x = (slice(s, s + n) for s, n in zip(self.start, self.outline.shape, strict=True))
        return z, y, x


@dataclass(frozen=True)
class MassHost:
    """A training CT on the 3 mm grid; mm count from the volume's outer edge, z y x."""

    volume: Volume
    hu: F32
    depth_mm: F32
    noise_hu: float
    masses: tuple[Target, ...]  # boxed by a radiologist
    lesions: tuple[Target, ...]  # smaller ones, marked by eye


def load_host(shared: Path, name: str, cache: Path) -> MassHost:
    """A training CT with its lungs, its boxed mass and its marked lesions."""
    volume, _, truth = host_lungs(shared, name, cache)
    hu = resample(volume.hu, volume.spacing, [GRID_MM] * 3)
    inside = ndimage.distance_transform_edt(truth) - ndimage.distance_transform_edt(~truth)
    depth = resample(np.asarray(inside * 1.5, np.float32), [1.5] * 3, [GRID_MM] * 3)
    boxed = mass_of_boxes(volume, host_boxes(shared, name), truth.shape, 1.5)
    masses = []
    if boxed.any():
        z, y, x = (float(v) for v in (np.array(ndimage.center_of_mass(boxed)) + 0.5) * 1.5)
        masses.append(Target((z, y, x), sphere_diameter(float(boxed.sum()) * 1.5**3)))
    lesions = []
    for lesion in known_lesions(shared, name):
        z, y, x = (float(v) for v in (volume.zyx(lesion.center_lps_mm) + 0.5) * volume.spacing)
        lesions.append(Target((z, y, x), lesion.diameter_mm))
    return MassHost(
        volume, hu, same_shape(depth, hu.shape), grain_of(hu), tuple(masses), tuple(lesions)
    )


def grain_of(hu: F32) -> float:
    """Noise of a coarse grid in HU: the spread within 3x3 pixels of its smoother soft tissue, for
    at 3 mm most of what is fine there is anatomy."""
    return soft_tissue_spread(hu[len(hu) // 4 : -len(hu) // 4], 3, 25)


def soft_tissue_spread(hu: F32, size: int, percent: float) -> float:
    """The spread in HU within size x size pixels of a slice: this percentile over the soft tissue
    of [z, y, x]; 10 where there is next to none."""
    window, n = (1, size, size), size * size
    mean = ndimage.uniform_filter(hu, window)
    square = ndimage.uniform_filter(hu * hu, window)
    soft = (mean > 0) & (mean < 150)
    if soft.sum() < 200:
        return 10.0
    spread = np.sqrt(np.maximum(square - mean * mean, 0)[soft] * n / (n - 1))
    return float(np.clip(np.percentile(spread, percent), 2, 60))


def same_shape(array: F32, shape: tuple[int, ...]) -> F32:
    """The ends repeated or cut by the voxel that two roundings may differ."""
    grown = np.pad(
        array, [(0, max(b - a, 0)) for a, b in zip(array.shape, shape, strict=True)], "edge"
    )
    return grown[tuple(slice(0, n) for n in shape)]


def large(shapes: Sequence[Shape]) -> list[Shape]:
    """The shapes that masses are made of."""
    return [s for s in shapes if s.diameter_mm >= LEAST_SHAPE_MM]


def draw_place(rng: np.random.Generator, chest: Chest, diameter_mm: float) -> F64 | None:
    """A point (z y x, mm) that a mass of this size may have for its centre: three of four at the
    lungs' surface; None where none is found of which enough lies in the lung."""
    radius, depth = diameter_mm / 2, chest.depth_mm
    if rng.random() < 0.75:
        fits = (depth > -0.15 * radius) & (depth < 0.6 * radius)
    else:
        fits = depth > min(0.8 * radius, 0.7 * float(depth.max()))
    where = np.flatnonzero(fits)
    if not len(where) or depth.max() <= 0:
        return None
    spacing = np.array(chest.block.spacing)
    ball = rng.standard_normal((200, 3))
    ball *= radius * rng.random((200, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=1, keepdims=True)
    for _ in range(10):
        at = np.array(np.unravel_index(where[rng.integers(len(where))], depth.shape))
        center = (at + rng.random(3)) * spacing
        near = ((center + ball) / spacing).astype(int)
        inside = ((near >= 0) & (near < depth.shape)).all(1)
        if (depth[tuple(near[inside].T)] > 0).sum() >= IN_LUNG * len(ball):
            return np.asarray(center, np.float64)
    return None


def place_of(chest: Chest, center_mm: Sequence[float], diameter_mm: float) -> Place:
    """What a mass hangs on: nothing, the middle of the chest, or else its wall."""
    at = np.array(center_mm) / chest.block.spacing
    index = tuple(np.clip(at.astype(int), 0, np.array(chest.depth_mm.shape) - 1))
    if chest.depth_mm[index] > 0.5 * diameter_mm:
        return "isolated"
    columns = np.flatnonzero((chest.depth_mm > 0).any((0, 1)))
    if not len(columns):
        return "wall"
    middle, quarter = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) / 4
    return "mediastinum" if abs(at[2] - middle) < quarter else "wall"


def grown_body(rng: np.random.Generator, shape: Shape, diameter_mm: float) -> tuple[F32, float]:
    """Occupancy of a shape turned, with the corners of its grid rounded off, and its cell in mm."""
    body = turned(rng, np.asarray(shape.occupancy / 255, np.float32))
    grown = diameter_mm / shape.diameter_mm
    body = ndimage.gaussian_filter(np.pad(body, 5), float(np.clip(0.5 * grown, 1.0, 2.5)))
    return np.clip((body - 0.5) * 2 + 0.5, 0, 1), SHAPE_MM * grown


def put_mass(
    rng: np.random.Generator, chest: Chest, center_mm: F64, shape: Shape, diameter_mm: float
) -> Mass | None:
    """Puts one mass into the chest in place; None, and nothing done, where less than IN_LUNG of it
    would lie in the lung, or most of that in what is dense already."""
    body, cell = grown_body(rng, shape, diameter_mm)
    if rng.random() < (0.6 if shape.spiculation >= 3 else 0.2):
        count = int(rng.integers(4, 16))
        body = spiked(rng, body, count, rng.uniform(0.8, 2.0) / cell, rng.uniform(6, 16) / cell)
    occupied, part = on_grid(body, cell, center_mm, chest.block)
    view, depth = chest.block.hu[part], chest.depth_mm[part]
    if not occupied.size:
        return None
    lungs = depth > 0
    occupied = np.where((view < SOFT_HU) & (depth < -2), 0, occupied)
    matter = float(occupied.sum())
    if not matter or float(occupied[lungs & (view < SOFT_HU)].sum()) < IN_LUNG * matter:
        return None
    clear = (view < FAT_HU) | lungs
    seen = (occupied >= 0.5) & clear
    if not seen.any():
        return None
    painted = _matter(rng, chest.block, occupied)
    blur = rng.uniform(0.35, 0.75)
    _, dy, dx = chest.block.spacing
    share = blurred_in_plane(np.asarray(occupied, np.float32), (blur / dy, blur / dx))
    mixed = view * (1 - share) + share * painted
    stays = np.zeros(view.shape, bool) if rng.random() < 0.2 else view >= painted
    view[:] = np.where(stays | (occupied == 0), view, mixed)
    outline = np.where(clear | (occupied < LEAST_SHARE), occupied, UNKNOWN)
    start = np.array([p.start for p in part])
    z, y, x = (
        float(v)
        for v in (np.array(ndimage.center_of_mass(seen)) + start + 0.5) * chest.block.spacing
    )
    visible = sphere_diameter(float(seen.sum()) * float(np.prod(chest.block.spacing)))
    place = place_of(chest, (z, y, x), visible)
    begin = (int(start[0]), int(start[1]), int(start[2]))
    return Mass((z, y, x), visible, place, np.asarray(outline, np.float32), begin)


def _matter(rng: np.random.Generator, block: Block, occupied: F32) -> F32:
    """HU of the mass in each voxel: tissue with slow variation, a dead or an airy core, noise."""
    spacing = np.array(block.spacing)
    slow = rng.standard_normal(occupied.shape).astype(np.float32)
    slow = ndimage.gaussian_filter(slow, rng.uniform(4, 12) / spacing)
    slow *= rng.uniform(0, 15) / max(float(slow.std()), 1e-6)
    grain = correlated_noise(rng, occupied.shape, 0.5) * block.noise_hu
    out = np.asarray(rng.uniform(-10, 95) + slow + grain, np.float32)
    roll = rng.random()
    if roll < 0.35:
        deep = ndimage.distance_transform_edt(occupied >= 0.5, sampling=spacing)
        reach = deep / max(float(deep.max()), 1e-6) - rng.uniform(0.2, 0.6)
        core = np.asarray(np.clip(reach / 0.15, 0, 1), np.float32)
        if roll < 0.1:
            out = np.asarray(out * (1 - core) + core * rng.uniform(-950, -600), np.float32)
        else:
            out = np.asarray(out - core * rng.uniform(5, 45), np.float32)
    return out


def put_nodule(
    rng: np.random.Generator, chest: Chest, center_mm: F64, shape: Shape, diameter_mm: float
) -> None:
    """A distractor: soft matter of a nodule's size anywhere in the lungs (rule 4)."""
    body, cell = grown_body(rng, shape, diameter_mm)
    occupied, part = on_grid(body, cell, center_mm, chest.block)
    view = chest.block.hu[part]
    mixed = view * (1 - occupied) + occupied * rng.uniform(-20, 300)
    np.maximum(view, mixed, out=view)


def put_fluid(rng: np.random.Generator, chest: Chest) -> None:
    """A distractor: fluid along the back of a lung, as far as a level (rule 4)."""
    depth = chest.depth_mm
    lungs, count = ndimage.label(depth > 0)
    if not count:
        return
    side = lungs == rng.integers(1, count + 1)
    if side.sum() < 200:
        return
    z, y = np.ogrid[: depth.shape[0], : depth.shape[1]]
    height = y - rng.uniform(0, 1.0) * z
    height = np.broadcast_to(height[..., None], depth.shape)
    level = np.quantile(height[side], 1 - rng.uniform(0.03, 0.3))
    shell = side & (height > level) & (depth < rng.uniform(8, 60))
    soft = ndimage.gaussian_filter(shell.astype(np.float32), 0.5)
    hu = chest.block.hu
    fluid = rng.uniform(-5, 35) + chest.block.noise_hu * rng.standard_normal(hu.shape)
    np.copyto(hu, np.maximum(hu, hu * (1 - soft) + soft * fluid), where=soft > 0.05)


def native_chest(host: MassHost) -> Chest:
    """The host on its own grid, as a scanner would have sent it."""
    volume = host.volume
    depth = resample(host.depth_mm, [GRID_MM] * 3, volume.spacing)
    block = Block(volume.hu.copy(), volume.spacing, host_noise(volume.hu))
    return Chest(block, same_shape(depth, volume.hu.shape))


def with_masses(
    host: MassHost, shapes: Sequence[Shape], seed: int, count: int = 2
) -> tuple[Volume, list[Mass]]:
    """The host on its own grid with up to `count` masses, fixed by `seed`; they keep clear of each
    other and of the host's own masses and lesions."""
    rng = np.random.default_rng([991, seed])
    chest, pool = native_chest(host), large(shapes)
    coarse = Chest(Block(host.hu, (GRID_MM,) * 3, 0.0), host.depth_mm)
    done: list[Mass] = []
    others = [*host.masses, *host.lesions]
    for number in range(count):
        part = (seed * count + number) % 3  # thirds of the range of sizes, each as often
        low, high = (
            np.log(SMALLEST_MM * (LARGEST_MM / SMALLEST_MM) ** (p / 3)) for p in (part, part + 1)
        )
        diameter = float(np.exp(rng.uniform(low, high)))
        for _ in range(100):
            at = draw_place(rng, coarse, diameter)
            shape = pool[int(rng.integers(len(pool)))]
            if at is None or any(
                np.linalg.norm(at - t.center_mm) < (diameter + t.diameter_mm) / 2 + 15
                for t in others
            ):
                continue
            mass = put_mass(rng, chest, at, shape, diameter)
            if mass is not None:
                done.append(mass)
                others.append(Target(mass.center_mm, mass.diameter_mm))
                break
    return replace(host.volume, hu=chest.block.hu), done
