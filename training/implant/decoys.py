"""Vessels painted into a block: what looks new in a CT and is no nodule.

Rules. Implants alone teach a network that whatever was not in its few hosts is a nodule. Decoys are
new as well, laid on the same grid with the same partial volume, point spread and noise, but long:
curved, branching, thinning out at both ends, so that only the shape tells them from a nodule.
"""

from __future__ import annotations

import numpy as np

from appliance.quality.implant import Block, blurred_in_plane, correlated_noise
from training.read.volume import F32, F64

FINE_MM = 1.0
"""Planes thicker than this are painted in parts and averaged (partial volume)."""
STEP_MM = 2.5
"""Between two points of a vessel's course."""
SOFT_HU = (-20.0, 90.0)


def course(rng: np.random.Generator, length_mm: float) -> F64:
    """Points [n, 3] of a curved line of this length from the origin, mm."""
    count = max(int(length_mm / STEP_MM), 2)
    heading = rng.standard_normal(3)
    heading /= np.linalg.norm(heading)
    bend = rng.standard_normal(3) * rng.uniform(0, 0.025)
    turn = bend[None, :] * np.arange(count)[:, None] * STEP_MM / 2
    way = heading + turn
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    return np.asarray(np.cumsum(way * STEP_MM, axis=0), np.float64)


def vessel(rng: np.random.Generator, middle_mm: F64) -> list[tuple[F64, F64]]:
    """Courses [n, 3] and their radii [n] in mm: a stem through `middle_mm` and up to two
    branches."""
    thick = float(np.exp(rng.uniform(np.log(0.6), np.log(3.2))))
    length = rng.uniform(25, 60) + 6 * thick
    points = course(rng, length)
    points += middle_mm - points[len(points) // 2]
    along = np.linspace(0, 1, len(points))
    ends = np.clip(np.minimum(along, 1 - along) * length / (3 + 4 * thick), 0, 1)
    radii = thick * (1.25 - 0.5 * along) * ends
    found = [(points, radii)]
    for _ in range(int(rng.integers(0, 3))):
        fork = int(rng.integers(len(points) // 4, 3 * len(points) // 4))
        branch = course(rng, rng.uniform(15, 35)) + points[fork]
        thin = np.linspace(1, 0, len(branch)) ** 0.5
        found.append((branch, radii[fork] * rng.uniform(0.5, 0.9) * thin))
    return found


def capsule(canvas: F32, spacing: F64, start: F64, end: F64, radius: float) -> None:
    """A capsule from `start` to `end` (mm from the canvas' outer edge), joined in by maximum."""
    reach = radius + spacing
    low = np.floor((np.minimum(start, end) - reach) / spacing).astype(int)
    high = np.ceil((np.maximum(start, end) + reach) / spacing).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, canvas.shape)
    if (high <= low).any():
        return
    axes = [
        ((np.arange(a, b) + 0.5) * s - p).astype(np.float32)
        for a, b, s, p in zip(low, high, spacing, start, strict=True)
    ]
    z, y, x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    dz, dy, dx = (float(v) for v in end - start)
    t = np.clip((z * dz + y * dy + x * dx) / max(dz * dz + dy * dy + dx * dx, 1e-6), 0, 1)
    away = np.sqrt((z - t * dz) ** 2 + (y - t * dy) ** 2 + (x - t * dx) ** 2)
    edge = float(spacing.mean())
    # thinner than a voxel it only fills a part of it
    filled = np.clip((radius - away) / edge + 0.5, 0, 1) * min(1.0, 2 * radius / edge)
    view = canvas[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    np.maximum(view, filled, out=view)


def add_vessels(rng: np.random.Generator, block: Block, count: int) -> None:
    """Puts `count` vessels of soft tissue at random places of the block, in place."""
    spacing = np.array(block.spacing)
    parts = max(int(np.ceil(spacing[0] / FINE_MM)), 1)
    planes, rows, columns = block.hu.shape
    canvas = np.zeros((planes * parts, rows, columns), np.float32)
    fine = spacing / [parts, 1, 1]
    extent = np.array(block.hu.shape) * spacing
    for _ in range(count):
        for points, radii in vessel(rng, rng.uniform(0.1, 0.9, 3) * extent):
            for i in range(len(points) - 1):
                if (radius := float(radii[i])) > 0.15:
                    capsule(canvas, fine, points[i], points[i + 1], radius)
    filled = canvas.reshape(planes, parts, rows, columns).mean(1) if parts > 1 else canvas
    blur = rng.uniform(0.35, 0.75)
    filled = blurred_in_plane(filled, (blur / spacing[1], blur / spacing[2]))
    view, level = block.hu, rng.uniform(*SOFT_HU)
    noise = correlated_noise(rng, view.shape, 0.5) * block.noise_hu
    mixed = view * (1 - filled) + filled * (level + noise)
    np.copyto(view, np.where(view < level, mixed, view))
