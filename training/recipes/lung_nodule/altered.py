"""Bodies that are altered quickly, for a mask that stays: tissue of other levels, masses, gas in
the bowel, no lungs at all; and what a scanner adds.

Rules. Volumes are HU [z, y, x] at 3 mm, masks their lungs in [0, 1]. Everything is drawn from the
generator, and nothing that comes in is changed. Disease is painted by training.implant.disease.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from training.read.volume import AIR_HU, F32

Range = tuple[float, float]
VARIED: tuple[Range, Range] = (0.95, 1.05), (-30, 30)
"""Factor of HU, and HU added: far more than a scanner is off."""
CALIBRATED: tuple[Range, Range] = (0.99, 1.01), (-10, 10)
"""The same where disease is learned: emphysema is a matter of 50 HU."""


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], cell: int) -> F32:
    """Random field of unit-ish variance whose features are about `cell` voxels wide."""
    small = [max(2, int(np.ceil(n / cell)) + 1) for n in shape]
    seed = torch.from_numpy(rng.standard_normal([1, 1, *small]).astype(np.float32))
    grown = functional.interpolate(seed, size=list(shape), mode="trilinear", align_corners=True)
    return np.asarray(grown[0, 0].numpy() * 1.5, np.float32)


def repaint(rng: np.random.Generator, hu: F32, mask: F32) -> F32:
    """Every tissue class gets a random level, smooth variation and its own grain."""
    out = np.array(hu)
    lung = mask > 0.5
    levels = [
        ((hu < -400) & ~lung, rng.uniform(-1024, -970), 5.0, 0.0),
        ((hu < -400) & lung, rng.uniform(-950, -620), 45.0, rng.uniform(0, 0.7)),
        ((hu >= -400) & (hu < -30), rng.uniform(-130, -40), 15.0, rng.uniform(0, 1)),
        ((hu >= -30) & (hu < 150), rng.uniform(0, 90), 15.0, rng.uniform(0, 1)),
        (hu >= 150, rng.uniform(200, 900), 80.0, rng.uniform(0, 1)),
    ]
    field = smooth_field(rng, hu.shape, 12)
    for where, level, spread, keep in levels:
        if where.any():
            own = hu[where] - hu[where].mean()
            out[where] = level + keep * own + field[where] * rng.uniform(0, spread)
    if rng.random() < 0.5:
        out = ndimage.gaussian_filter(out, rng.uniform(0.2, 0.7)).astype(np.float32)
    return np.asarray(out, np.float32)


def with_masses(rng: np.random.Generator, hu: F32, mask: F32) -> F32:
    """One to three masses in the lungs, of 2 to 8 cm."""
    out = np.array(hu)
    lung = mask > 0.5
    if lung.sum() < 500:
        return out
    places = np.argwhere(lung)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in hu.shape], indexing="ij")).astype(
        np.float32
    )
    wobble = smooth_field(rng, hu.shape, 6)
    for _ in range(int(rng.integers(1, 4))):
        tissue = rng.uniform(-20, 80) + 12 * rng.standard_normal(hu.shape).astype(np.float32)
        centre = places[rng.integers(len(places))]
        radius = rng.uniform(3, 13) * np.exp(rng.uniform(-0.25, 0.25, 3))
        distance = sum(((grid[i] - centre[i]) / radius[i]) ** 2 for i in range(3))
        where = (np.sqrt(np.asarray(distance)) + 0.15 * wobble < 1) & lung
        soft = ndimage.gaussian_filter(where.astype(np.float32), 0.5)
        out = np.where(
            where | (soft > 0.2) & lung, np.maximum(out, out * (1 - soft) + soft * tissue), out
        )
    return np.asarray(out, np.float32)


def bloat(rng: np.random.Generator, hu: F32, mask: F32) -> F32:
    """Blows gas bubbles with fluid levels into the body outside the lungs: stomach and colon."""
    wall = ndimage.binary_dilation(mask > 0.1, iterations=int(rng.integers(1, 4)))
    body = (hu > -250) & ~wall
    lung = np.flatnonzero((mask > 0.5).any((1, 2)))
    points = np.argwhere(body)
    if len(lung):
        points = points[points[:, 0] < np.quantile(lung, rng.uniform(0.2, 0.7))]
    if not len(points):
        return hu
    out = np.array(hu)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in hu.shape], indexing="ij")).astype(
        np.float32
    )
    wobble = smooth_field(rng, hu.shape, 6)
    for _ in range(int(rng.integers(1, 5))):
        centre = points[rng.integers(len(points))]
        radius = rng.uniform(3, 17) * np.exp(rng.uniform(-0.4, 0.4, 3))
        squared = sum(((grid[i] - centre[i]) / radius[i]) ** 2 for i in range(3))
        where = (np.sqrt(np.asarray(squared)) + 0.2 * wobble < 1) & ~wall & (out > -600)
        level = centre[1] + radius[1] * rng.uniform(-0.3, 1.2)
        fluid = where & (grid[1] > level)
        out[where] = rng.uniform(-1024, -940) + 6 * rng.standard_normal(int(where.sum()))
        out[fluid] = rng.uniform(-20, 60) + 10 * rng.standard_normal(int(fluid.sum()))
    return np.asarray(ndimage.gaussian_filter(out, 0.35), np.float32)


def without_lungs(rng: np.random.Generator, hu: F32, mask: F32) -> F32:
    """A body that has no lungs: theirs becomes soft tissue, with pockets of gas now and then."""
    grown = ndimage.binary_dilation(mask > 0.1, iterations=2)
    soft = ndimage.gaussian_filter(grown.astype(np.float32), 1.0)
    tissue = rng.uniform(-90, 70) + smooth_field(rng, hu.shape, 5) * rng.uniform(5, 60)
    out = np.where(grown, tissue + 15 * rng.standard_normal(hu.shape), hu)
    out = np.where(~grown & (soft > 0.05), np.maximum(out, -100), out)
    field = smooth_field(rng, hu.shape, int(rng.integers(4, 12)))
    gas = (
        (field > np.quantile(field[grown], rng.uniform(0.85, 0.99))) & grown
        if grown.any()
        else grown
    )
    out[gas] = rng.uniform(-1020, -960) + 15 * rng.standard_normal(int(gas.sum()))
    return np.asarray(ndimage.gaussian_filter(out, 0.4), np.float32)


def made_up_body(rng: np.random.Generator, size: tuple[int, int, int]) -> F32:
    """An ellipsoid of soft tissue with a shell of bone and cavities of gas: a head, a limb, a
    belly."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij")).astype(np.float32)
    centre = np.array(size) / 2 + rng.normal(0, 4, 3)
    radius = np.array([rng.uniform(20, 90), rng.uniform(18, 52), rng.uniform(18, 52)])
    if rng.random() < 0.4:
        radius[0] = 1000
    wobble = 0.05 * smooth_field(rng, size, 10)
    r = np.sqrt(sum(((grid[i] - centre[i]) / radius[i]) ** 2 for i in range(3))) + wobble
    out = np.full(size, AIR_HU, np.float32)
    out[r < 1] = rng.uniform(-110, 60)
    bone, brain = rng.uniform(0.85, 0.97), rng.uniform(0.6, 0.93)
    if rng.random() < 0.6:
        out[r < bone] = rng.uniform(300, 1200)
        out[r < min(brain, bone - 0.03)] = rng.uniform(0, 60)
    field = smooth_field(rng, size, int(rng.integers(3, 10)))
    inside = r < 0.9
    if inside.any():
        gas = (field > np.quantile(field[inside], rng.uniform(0.85, 1.0))) & inside
        out[gas] = rng.uniform(-1024, -930)
    out += smooth_field(rng, size, 4) * 10
    return np.asarray(ndimage.gaussian_filter(out, 0.5), np.float32)


def scanned(rng: np.random.Generator, hu: F32, calibration: tuple[Range, Range]) -> F32:
    """Thick slices, a soft kernel, noise, and HU that are off by `calibration`."""
    if rng.random() < 0.3:
        hu = ndimage.uniform_filter1d(hu, int(rng.integers(2, 4)), axis=0)
    if rng.random() < 0.2:
        hu = ndimage.gaussian_filter(hu, rng.uniform(0.3, 0.8))
    noise = rng.standard_normal(hu.shape).astype(np.float32)
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, 0.7) * 3
    hu = hu + noise * rng.uniform(0, 45) * (rng.random() < 0.6)
    scale, shift = calibration
    hu = hu * rng.uniform(*scale) + rng.uniform(*shift)
    return np.asarray(hu, np.float32)
