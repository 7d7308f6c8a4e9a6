"""The nodules of the phantom: the default set, where they may lie, and how they are drawn.

Rules of this module:

1. Sizes and mix follow the screening literature: S. G. Armato et al. (LIDC/IDRI), Med. Phys. 38
   (2011) 915; H. MacMahon et al. (Fleischner), Radiology 284 (2017) 228; D. M. Hansell et al.,
   Radiology 246 (2008) 697. Most are solid (0..60 HU), some part-solid or ground glass (about
   -600 HU), some calcified (above 200 HU: S. S. Siegelman et al., Radiology 160 (1986) 307).
2. The diameter is that of the sphere of the same volume; spicules are not counted.
3. A nodule never thins what is denser than it, so its part in the chest wall is not seen.
4. Shapes depend on seed and index alone, not on the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from appliance.phantom import anatomy as a
from appliance.phantom.raster import Array, Grid, Point
from appliance.phantom.vessels import Trees, maybe_lung, spread

# The default set: diameter, density, HU, place, surface.
_DEFAULT: Final = (
    (4.5, "solid", 35.0, "isolated", "round"),
    (6.0, "solid", 40.0, "isolated", "round"),
    (6.5, "calcified", 320.0, "isolated", "round"),
    (7.0, "solid", 30.0, "vascular", "lobulated"),
    (7.5, "solid", 45.0, "pleural", "round"),
    (8.0, "solid", 25.0, "isolated", "lobulated"),
    (9.0, "solid", 40.0, "pleural", "lobulated"),
    (10.0, "solid", 35.0, "isolated", "spiculated"),
    (11.0, "ground_glass", -600.0, "isolated", "lobulated"),
    (12.0, "solid", 30.0, "vascular", "spiculated"),
    (14.0, "part_solid", 15.0, "isolated", "lobulated"),
    (16.0, "solid", 40.0, "isolated", "lobulated"),
    (19.0, "solid", 30.0, "pleural", "spiculated"),
)


def surface(index: int) -> str:
    """The surface (round | lobulated | spiculated) of the nodule with this index in its set."""
    return _DEFAULT[index % len(_DEFAULT)][4]


@dataclass(frozen=True, slots=True)
class Nodule:
    """One nodule: centre (LPS mm), equivalent diameter (mm), density (solid | part_solid |
    ground_glass | calcified) and the HU of its densest part."""

    center_lps_mm: Point
    diameter_mm: float
    density: str
    hu: float


@dataclass(frozen=True, slots=True)
class Patch:
    """A drawn nodule or a part of it: where it starts in the grid, its occupancy, its HU."""

    start: tuple[int, int, int]
    occupancy: Array
    hu: float


def default_set(body: a.Anatomy, trees: Trees, rng: np.random.Generator) -> tuple[Nodule, ...]:
    """The default set at places drawn by the seed: in the lung, apart from each other, and
    isolated, at the costal pleura or beside a vessel as the set says."""
    points = spread(6000, float(rng.uniform()))
    points = points[maybe_lung(body, points)]
    rng.shuffle(points)
    x, y, z = points.T
    fields = body.lungs(x, y, z)
    inside, wall = fields["lungs"], fields["wall"]
    big = trees.blood[trees.blood[:, 7] > 1.0]
    middle = (big[:, 0:3] + big[:, 3:6]) / 2
    taken: list[tuple[Point, float]] = []
    out: list[Nodule] = []
    for diameter, density, hu, place, _ in reversed(_DEFAULT):
        r = diameter / 2
        want_left = len(out) % 2 == 0
        for index in range(len(points)):
            p = points[index].astype(np.float64)
            if (p[0] > 0) != want_left:
                continue
            if any(float(np.linalg.norm(p - q)) < 26 + r + s for q, s in taken):
                continue
            gap = np.linalg.norm(middle - p, axis=1) - big[:, 6]
            if place == "pleural":
                costal = abs(wall[index] - inside[index]) < 0.5
                fits = costal and 0.45 * r < inside[index] < 0.75 * r
            elif place == "vascular":
                # at most a fillet of the vessel in the nodule: its axis near the surface
                fits = inside[index] > r + 8 and 0.3 * r < float(gap.min()) < 0.9 * r
            else:
                fits = inside[index] > r + 5 and float(gap.min()) > r + 2.0
            if fits:
                at = (round(float(p[0]), 2), round(float(p[1]), 2), round(float(p[2]), 2))
                taken.append((at, r))
                out.append(Nodule(at, diameter, density, hu))
                break
        else:
            raise RuntimeError(f"no place for a {place} nodule of {diameter} mm")
    return tuple(reversed(out))


def draw(grid: Grid, nodule: Nodule, surface: str, rng: np.random.Generator) -> list[Patch]:
    """Occupancies of a nodule in its bounding box; part-solid ones have a core of half the
    diameter in a ground-glass halo."""
    r = nodule.diameter_mm / 2
    c = np.array(nodule.center_lps_mm)
    reach = r * 1.6 + 4.0
    cut = []
    axes = []
    for k in range(3):
        line = grid.axis(k) - np.float32(c[2 - k])
        near = np.flatnonzero(np.abs(line) <= reach)
        if not near.size:
            return []
        cut.append(int(near[0]))
        axes.append(line[near[0] : near[-1] + 1])
    z, y, x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    distance = np.sqrt(x * x + y * y + z * z) + np.float32(1e-4)
    lobes = 0 if surface == "round" else int(rng.integers(4, 8))
    where = rng.normal(size=(lobes + 3, 3))
    where /= np.linalg.norm(where, axis=1, keepdims=True)
    size = np.concatenate([rng.uniform(0.14, 0.34, lobes), rng.uniform(-0.10, 0.10, 3)])
    width = np.concatenate([rng.uniform(6, 11, lobes), np.full(3, 2.5)])

    def radius(ux: Array, uy: Array, uz: Array) -> Array:
        total = np.ones(np.broadcast_shapes(ux.shape, uy.shape, uz.shape), np.float32)
        for n, h, w in zip(where.astype(np.float32), size, width, strict=True):
            total += np.float32(h) * np.exp(np.float32(w) * (ux * n[0] + uy * n[1] + uz * n[2] - 1))
        return total

    # the mean of r^3 over the sphere is set to that of the equivalent sphere
    t = np.arange(400) + 0.5
    polar, turn = np.arccos(1 - 2 * t / 400), np.pi * (1 + 5**0.5) * t
    sphere = radius(
        *(
            v.astype(np.float32)
            for v in (np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar))
        )
    )
    norm = np.float32(r / np.mean(sphere.astype(np.float64) ** 3) ** (1 / 3))
    edge = norm * radius(x / distance, y / distance, z / distance) - distance
    blur = np.float32(max(0.8, grid.step_mm[1]))
    solid = np.clip(edge / blur + np.float32(0.5), 0, 1)
    start = (cut[0], cut[1], cut[2])
    if nodule.density in ("ground_glass", "part_solid"):
        # ground glass has no sharp border and an uneven inside
        veil = np.clip(edge / np.float32(2.2) + np.float32(0.5), 0, 1)
        uneven = cv2.GaussianBlur(
            rng.standard_normal((z.size, y.size * x.size)).astype(np.float32), (0, 0), 1.2
        ).reshape(veil.shape)
        veil *= 1 + np.float32(0.12) * np.clip(uneven, -2, 2)
        glass = nodule.hu if nodule.density == "ground_glass" else -600.0
        out = [Patch(start, np.clip(veil, 0, 1), glass)]
        if nodule.density == "part_solid":
            core = np.clip((edge - norm * np.float32(0.5)) / blur + np.float32(0.5), 0, 1)
            out.append(Patch(start, core, nodule.hu))
        return out
    if surface == "spiculated":
        for _ in range(int(rng.integers(12, 20))):
            u = rng.normal(size=3)
            u /= np.linalg.norm(u)
            tip = u * (r + rng.uniform(1.5, min(6.0, 0.8 * r + 2)))
            p = (float(u[0] * r * 0.7), float(u[1] * r * 0.7), float(u[2] * r * 0.7))
            q = (float(tip[0]), float(tip[1]), float(tip[2]))
            spike = a.capsule((x, y, z), p, q, min(1.1, 0.2 * r), 0.25)
            solid = np.maximum(solid, np.clip(spike / blur + np.float32(0.5), 0, 1))
    return [Patch(start, solid, nodule.hu)]
