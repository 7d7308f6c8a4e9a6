"""A small chest as it is kept (appliance.prior.entry.Image), in any breath: what it shows is a
function of places, so the truth of every pair is exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import plan
from appliance.prior.entry import HIGH_HU, IMAGE_MM, LOW_HU, Image
from appliance.records import Box, Grid

F64 = NDArray[np.float64]
Motion = Callable[[F64], F64]
"""Places [n, 3] (LPS mm) of the chest that is drawn -> of the chest as it is."""

SHAPE = (112, 80, 112)
BODY_MM, LUNG_MM, ASIDE_MM = (106.0, 74.0), (38.0, 58.0, 92.0), 48.0
"""Half axes along x and y; along x, y and z; from the middle to that of a lung."""
VESSELS, REACH = 700, 6
SPINE = (0.0, 52.0, 14.0)


def still(points: F64) -> F64:
    """No motion."""
    return points


def breath(points: F64) -> F64:
    """A breath of 14 mm at the base, a shift and a turn by 3 degrees about z."""
    x, y, z = (points - np.array([4.0, -6.0, 9.0])).T
    a = np.deg2rad(3.0)
    x, y = np.cos(a) * x - np.sin(a) * y, np.sin(a) * x + np.cos(a) * y
    down = 14.0 * np.sin(np.pi / 4 * np.clip(1 - z / 92.0, 0, 2)) ** 2
    return np.stack([x + 1.5 * np.sin(z / 30), y * 1.04, z + down], -1)


def back(motion: Motion, points: F64) -> F64:
    """The inverse of a motion, to far under 0.01 mm."""
    found = points.copy()
    for _ in range(80):
        found -= 0.7 * (motion(found) - points)
    return found


def grid(shape: tuple[int, int, int] = SHAPE) -> Grid:
    """Of 2 mm, its middle at 0."""
    matrix = np.zeros((4, 4))
    matrix[[2, 1, 0], [0, 1, 2]] = IMAGE_MM
    matrix[:3, 3] = [-(n - 1) / 2 * IMAGE_MM for n in shape[::-1]]
    matrix[3, 3] = 1
    return Grid(shape, (IMAGE_MM,) * 3, matrix)


@cache
def chest(
    motion: Motion = still, *, vessels: int = 1, noise_hu: float = 15.0, seed: int = 5
) -> Image:
    """`vessels` says whose they are, `seed` which noise. Made once: nobody may write into it."""
    on = grid()
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    at = motion(plan.to_lps(on, index.reshape(-1, 3)))
    x, y, _ = at.T
    body = (x / BODY_MM[0]) ** 2 + (y / BODY_MM[1]) ** 2 < 1
    lungs = (in_lung(at, -1) | in_lung(at, 1)).reshape(SHAPE)
    hu = np.where(body, 40.0, -1000.0).reshape(SHAPE)
    hu[((x - SPINE[0]) ** 2 + (y - SPINE[1]) ** 2 < SPINE[2] ** 2).reshape(SHAPE)] = 350.0
    hu[lungs] = -850.0
    _draw_vessels(hu, on, motion, np.random.default_rng(vessels))
    hu += np.random.default_rng(seed).normal(0, noise_hu, SHAPE)
    return image(hu, lungs, on)


def image(hu: F64, lungs: NDArray[np.bool_], on: Grid) -> Image:
    """HU as they are kept."""
    scaled = (hu - LOW_HU) * 255 / (HIGH_HU - LOW_HU)
    values = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return Image(values, lungs, np.ones(hu.shape, np.bool_), on)


def in_lung(points: F64, side: int) -> NDArray[np.bool_]:
    """Whether places of the chest as it is lie in its right (-1) or left (1) lung."""
    offset = (points - np.array([side * ASIDE_MM, 0, 0])) / LUNG_MM
    return np.asarray((offset**2).sum(-1) < 1)


def _draw_vessels(hu: F64, on: Grid, motion: Motion, random: np.random.Generator) -> None:
    """Blobs of several sizes: bright, and each lung's own."""
    ways = random.normal(size=(VESSELS, 3))
    ways *= random.uniform(size=(VESSELS, 1)) ** (1 / 3) / np.linalg.norm(ways, axis=1)[:, None]
    middles = ways * LUNG_MM
    middles[::2, 0] += ASIDE_MM
    middles[1::2, 0] -= ASIDE_MM
    homes = np.rint(plan.to_index(on, back(motion, middles))).astype(int)
    for middle, home in zip(middles, homes, strict=True):
        size, bright = random.uniform(2.0, 4.0), random.uniform(300, 800)
        low = np.clip(home - REACH, 0, SHAPE)
        high = np.clip(home + REACH + 1, 0, SHAPE)
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        if any(s.stop <= s.start for s in part):
            continue
        index = np.stack(np.meshgrid(*(np.r_[s] for s in part), indexing="ij"), -1)
        away = motion(plan.to_lps(on, index.reshape(-1, 3))) - middle
        hu[part] += bright * np.exp(-(away**2).sum(-1) / (2 * size**2)).reshape(index.shape[:3])


def places(of: Image, count: int = 300) -> F64:
    """Places [count, 3] in its lungs, LPS mm, off its voxels."""
    random = np.random.default_rng(3)
    voxels = np.argwhere(of.lungs)
    chosen = voxels[random.permutation(len(voxels))[:count]]
    return plan.to_lps(of.grid, chosen + random.uniform(-0.5, 0.5, (len(chosen), 3)))


def slices(of: Image, low: int, high: int) -> Image:
    """Only these slices of it."""
    box = Box((low, 0, 0), (high, *of.values.shape[1:]))
    kept = slice(low, high)
    return Image(of.values[kept], of.lungs[kept], of.covered[kept], plan.sub_grid(of.grid, box))


def one_lung(of: Image, hu: float = 10.0) -> Image:
    """Its right lung filled with fluid, which is no lung in its mask."""
    fluid = of.lungs.copy()
    fluid[:, :, SHAPE[2] // 2 :] = False
    values = of.values.copy()
    values[fluid] = round((hu - LOW_HU) * 255 / (HIGH_HU - LOW_HU))
    return replace(of, values=values, lungs=of.lungs & ~fluid)
