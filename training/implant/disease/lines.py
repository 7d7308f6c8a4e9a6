"""Scars, and metal with its streaks.

Rules.
1. A scar is a band of 1 to 3 mm and up to 5 cm that runs from the pleura into the lung (parenchymal
   band, Fleischner glossary 2008); where it leaves the pleura it is thicker.
2. Metal is clips, staples and coils in the lung. It has about the largest value that CT stores, and
   dark and bright rays in its slices, dark along the line through two pieces of it (beam hardening,
   photon starvation and partial volume: Barrett and Keat, RadioGraphics 2004;24:1679-1691).
3. Rays fade with distance and end at the thorax, here the convex hull of the lungs in a slice. They
   move no truth.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from training.implant.disease.chest import Chest
from training.implant.disease.fields import NEVER, log_uniform, places, ramp, require, threshold
from training.implant.disease.layers import Layer, Site
from training.read.volume import F32, F64, Bool

SCAR_HU = (-20.0, 90.0)
METAL_HU = (2400.0, 3071.0)
"""3071 is the most that 12 bits from -1024 hold."""
RAYS_HU = (150.0, 500.0)
REACH_MM = 25.0
"""Where rays have half of their strength."""


def scar(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Bands of scar of `ml` ml in all (rule 1), most of them at apex and base."""
    lung, count = site.lung, site.count(ml)
    ends = 0.2 + np.abs(2 * lung.height - 1)
    weight = np.where(site.free & (lung.rim_mm < 4), ends, 0)
    require(site.free, count)
    field, points = np.full(lung.inside.shape, NEVER), places(rng, lung, weight)
    while True:
        np.maximum(field, _band(rng, site, next(points)), out=field)
        if int((site.free & (field > 0)).sum()) >= count:
            break
    at = threshold(field, site.free, count)
    mask = site.free & (field >= at)
    return [Layer(ramp(field, at, site.edge_mm), rng.uniform(*SCAR_HU), "scar", mask)]


def _band(rng: np.random.Generator, site: Site, start: F64) -> F32:
    """How deep a voxel lies in a band from `start` inwards, in mm [z, y, x]; negative outside."""
    lung = site.lung
    middle = np.array([a.ravel()[len(a.ravel()) // 2] for a in lung.zyx_mm])
    inward = middle - start + 15 * rng.standard_normal(3)
    inward /= np.linalg.norm(inward)
    across = np.cross(inward, rng.standard_normal(3))
    across /= np.linalg.norm(across)
    normal = np.cross(inward, across)
    u, v, n = (
        sum(
            (a - np.float32(c)) * np.float32(d)
            for a, c, d in zip(lung.zyx_mm, start, way, strict=True)
        )
        for way in (inward, across, normal)
    )
    length, half = rng.uniform(15, 50), rng.uniform(3, 11)
    bent = n - rng.uniform(-0.01, 0.01) * u * u - rng.uniform(-0.01, 0.01) * v * v
    thick = rng.uniform(0.5, 1.3) + 2.5 * np.exp(-np.maximum(u, 0) / 4)
    flat = np.minimum((length - u) / 8, (half - np.abs(v)) / 4)
    out = thick * np.clip(flat, 0, 1) - np.abs(bent)
    return np.asarray(np.where((u > -4) & (flat > 0), out, NEVER), np.float32)


def metal(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Clips, staples or coils of `ml` ml in all, in a row or a heap in the lung, without their rays
    (`rays`)."""
    lung, count = site.lung, site.count(ml)
    weight = np.where(site.free & (lung.depth_mm > 2), 0.1 + lung.inward, 0)
    weight = weight if weight.any() else site.free.astype(np.float32)
    radius = log_uniform(rng, 0.5, 1.0) if ml < 1 else log_uniform(rng, 1.0, 3.0)
    require(site.free, count)
    points = places(rng, lung, weight)
    at_mm, way = next(points), rng.standard_normal(3)
    way /= np.linalg.norm(way)
    field = np.full(lung.inside.shape, NEVER)
    while True:
        half = rng.standard_normal(3)
        half *= rng.uniform(2, 6) / np.linalg.norm(half)
        np.maximum(field, _rod(site, at_mm - half, at_mm + half, radius), out=field)
        if int((site.free & (field > 0)).sum()) >= count:
            break
        at_mm = at_mm + way * rng.uniform(3, 9) + rng.standard_normal(3)
        index = np.clip((at_mm / site.spacing).astype(int), 0, np.array(field.shape) - 1)
        if not site.free[tuple(index)]:
            at_mm, way = next(points), -way
    at = threshold(field, site.free, count)
    mask = site.free & (field >= at)
    return [Layer(ramp(field, at, site.edge_mm), rng.uniform(*METAL_HU), "metal", mask)]


def _rod(site: Site, start: F64, end: F64, radius: float) -> F32:
    """How deep a voxel lies in a rod with round ends, in mm [z, y, x]."""
    along = end - start
    z, y, x = (a - np.float32(c) for a, c in zip(site.lung.zyx_mm, start, strict=True))
    dz, dy, dx = (float(v) for v in along)
    t = np.clip((z * dz + y * dy + x * dx) / max(float(along @ along), 1e-6), 0, 1)
    away = np.sqrt((z - t * dz) ** 2 + (y - t * dy) ** 2 + (x - t * dx) ** 2)
    return np.asarray(radius - away, np.float32)


def rays(rng: np.random.Generator, chest: Chest, hu: F32, metal_mask: Bool) -> None:
    """Lays the rays of metal into HU [z, y, x] of the chest, in place (rules 2 and 3)."""
    _, dy, dx = chest.spacing
    lungs = np.zeros(hu.shape, bool)
    for lung in chest.lungs:
        lungs[lung.part] |= lung.inside
    strength = rng.uniform(*RAYS_HU)
    for k in np.flatnonzero(metal_mask.any((1, 2))):
        pieces, count = ndimage.label(metal_mask[k])
        inside = _hull(lungs[k]) & ~metal_mask[k]
        y, x = np.nonzero(inside)
        change = np.zeros(len(y), np.float32)
        middles = np.array(ndimage.center_of_mass(pieces > 0, pieces, range(1, count + 1)))
        middles *= (dy, dx)
        for i, (cy, cx) in enumerate(middles):
            to_y, to_x = middles[i - 1] - (cy, cx)  # the one before it; itself if it is alone
            dark = np.arctan2(to_y, to_x) if count > 1 else rng.uniform(-np.pi, np.pi)
            rows, columns = y * dy - cy, x * dx - cx
            fan = _fan(rng, np.arctan2(rows, columns), float(dark))
            change += fan / (1 + np.hypot(rows, columns) / REACH_MM) ** 2
        hu[k][inside] = np.maximum(hu[k][inside] + strength * change / np.sqrt(count), -1024)


def _fan(rng: np.random.Generator, angle: F64, dark: float) -> F32:
    """Strength of the ray at each angle (radians): many thin ones of mean 0, and a wide dark one
    along `dark`."""
    thin = rng.standard_normal(97) * (rng.random(97) < 0.5)
    thin -= thin.mean()
    around = np.interp(angle, np.linspace(-np.pi, np.pi, 98), np.append(thin, thin[0]))
    return np.asarray(around - 0.5 * np.cos(angle - dark) ** 16, np.float32)


def _hull(plane: Bool) -> Bool:
    """Convex hull of a slice of the lungs."""
    out = np.zeros(plane.shape, np.uint8)
    points = cv2.findNonZero(plane.astype(np.uint8))
    if points is not None:
        cv2.fillConvexPoly(out, cv2.convexHull(points), 1)
    return out > 0
