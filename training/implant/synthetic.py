"""Made-up lungs: smooth air, branching vessels, a wall with ribs, a dome. Hosts for implants.

Rules. Nothing here imitates a scanner or a patient: levels, sizes and noise are drawn far apart, so
that a network learns what a vessel and its end look like in images smoother and rounder than any
real CT. Made-up hosts only train; they are never measured on.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from appliance.quality.implant import correlated_noise
from training.implant.hosts import Host
from training.implant.nodules import Places, find_places
from training.read.volume import F32, F64, Bool, Volume


@dataclass(frozen=True)
class Canvas:
    """Occupancy that tubes are painted into; millimetres z y x from its outer edge."""

    filled: F32
    spacing: F64
    extent: F64


def paint_tube(canvas: Canvas, start: F64, end: F64, radii: tuple[float, float]) -> None:
    """A tube that tapers from one radius to the other, joined in by maximum."""
    out, spacing, (r0, r1) = canvas.filled, canvas.spacing, radii
    reach = max(r0, r1) + 2 * spacing
    low = np.maximum(np.floor((np.minimum(start, end) - reach) / spacing).astype(int), 0)
    high = np.minimum(
        np.ceil((np.maximum(start, end) + reach) / spacing).astype(int) + 1, out.shape
    )
    if (high <= low).any():
        return
    axes = [(np.arange(a, b) + 0.5) * s for a, b, s in zip(low, high, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    along = end - start
    length = max(float(along @ along), 1e-6)
    t = ((z - start[0]) * along[0] + (y - start[1]) * along[1] + (x - start[2]) * along[2]) / length
    t = np.clip(t, 0, 1)
    d = np.sqrt(
        (z - start[0] - t * along[0]) ** 2
        + (y - start[1] - t * along[1]) ** 2
        + (x - start[2] - t * along[2]) ** 2
    )
    filled = np.clip((r0 + (r1 - r0) * t - d) / float(spacing.mean()) + 0.5, 0, 1)
    view = out[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    np.maximum(view, filled, out=view)


def _grow(rng: np.random.Generator, canvas: Canvas, at: F64, heading: F64, radius: float) -> None:
    """A branch and its children, down to thin ends."""
    while radius > 0.45:
        end = at + heading * (rng.uniform(5, 9) * radius**0.6 + 3)
        paint_tube(canvas, at, end, (radius, radius * 0.9))
        if (end < -5).any() or (end > canvas.extent + 5).any():
            return
        side = rng.standard_normal(3)
        side -= (side @ heading) * heading
        side /= np.linalg.norm(side)
        child = heading + side * rng.uniform(0.4, 1.1)
        smaller = radius * rng.uniform(0.45, 0.8)
        _grow(rng, canvas, end, child / np.linalg.norm(child), smaller)
        heading = heading - side * rng.uniform(0.05, 0.4)
        heading = heading / np.linalg.norm(heading)
        at, radius = end, radius * rng.uniform(0.72, 0.92)


def _ribs(rng: np.random.Generator, canvas: Canvas, middle: F64, radius: F64) -> None:
    """Sloping rings of bone around the lung."""
    angles = np.linspace(0, 2 * np.pi, 24)
    for height in np.arange(rng.uniform(0, 20), canvas.extent[0], rng.uniform(18, 28)):
        slope = rng.uniform(-0.25, 0.25) * radius[1]
        ring = np.stack(
            [
                height + slope * np.cos(angles),
                middle[1] + (radius[1] + 6) * np.cos(angles),
                middle[2] + (radius[2] + 6) * np.sin(angles),
            ],
            1,
        )
        for a, b in itertools.pairwise(ring):
            paint_tube(canvas, a, b, (4.0, 4.0))


def made_up_host(rng: np.random.Generator) -> Host:
    """One lung-like block of about 110 x 130 x 130 mm with free places for implants."""
    spacing = np.array([rng.uniform(0.9, 2.5), 1.0, 1.0])
    extent = np.array([110.0, 130.0, 130.0])
    size = np.round(extent / spacing).astype(int)
    axes = [(np.arange(n) + 0.5) * s for n, s in zip(size, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    middle = extent / 2 + rng.uniform(-12, 12, 3)
    radius = np.array([rng.uniform(70, 120), rng.uniform(55, 85), rng.uniform(50, 75)])
    wall = (
        ((z - middle[0]) / radius[0]) ** 2
        + ((y - middle[1]) / radius[1]) ** 2
        + ((x - middle[2]) / radius[2]) ** 2
    )
    lungs = wall < 1
    dome = np.array([-rng.uniform(10, 60), middle[1], middle[2]])
    if rng.random() < 0.6:
        far = np.sqrt((z - dome[0]) ** 2 + (y - dome[1]) ** 2 + (x - dome[2]) ** 2)
        lungs = lungs & (far > rng.uniform(50, 85))
    vessels = Canvas(np.zeros(tuple(size), np.float32), spacing, extent)
    for _ in range(int(rng.integers(2, 5))):
        start = middle + np.array([rng.uniform(-30, 30), rng.uniform(-25, 25), -radius[2] * 0.95])
        target = middle + rng.uniform(-0.7, 0.7, 3) * radius
        heading = (target - start) / np.linalg.norm(target - start)
        _grow(rng, vessels, start, heading, rng.uniform(2.0, 5.5))
    air = rng.uniform(-910, -760)
    soft = rng.uniform(0, 80)
    inside = ndimage.gaussian_filter(lungs.astype(np.float32), 0.6 / spacing)
    hu = np.full(tuple(size), soft, np.float32)
    if rng.random() < 0.7:
        bones = Canvas(np.zeros(tuple(size), np.float32), spacing, extent)
        _ribs(rng, bones, middle, radius)
        hu += bones.filled * (rng.uniform(250, 800) - soft)
    vessel_level = rng.uniform(0, 180)
    coarse = ndimage.zoom(rng.standard_normal([6, 7, 7]), size / np.array([6, 7, 7]), order=1)
    coarse = coarse[: size[0], : size[1], : size[2]]
    lung = air + coarse * rng.uniform(0, 25)
    lung = lung * (1 - vessels.filled) + vessels.filled * vessel_level
    hu = hu * (1 - inside) + lung.astype(np.float32) * inside
    noise = float(rng.uniform(5, 60))
    hu = hu + correlated_noise(rng, hu.shape, rng.uniform(0, 0.9)) * noise
    places = find_places_in(lungs, hu, spacing)
    volume = Volume("made-up", hu.astype(np.float32), (float(spacing[0]), 1.0, 1.0), (0, 0, 0))
    return Host(volume, noise, places, (), np.zeros((1, 1, 1), bool))


def made_up_hosts(count: int, seed: int) -> list[Host]:
    """`count` of them, the same for the same seed of a recipe."""
    rng = np.random.default_rng([seed, 1])
    return [made_up_host(rng) for _ in range(count)]


def find_places_in(lungs: Bool, hu: F32, spacing: F64) -> Places:
    """`find_places` on a grid of 1.5 mm made by nearest neighbours."""
    index = [
        np.clip(((np.arange(int(n * s / 1.5)) + 0.5) * 1.5 / s).astype(int), 0, n - 1)
        for n, s in zip(hu.shape, spacing, strict=True)
    ]
    mask = lungs[np.ix_(*index)]
    return find_places(mask, hu[np.ix_(*index)].astype(np.float32), 1.5, np.zeros_like(mask))
