"""The lungs of an unaltered chest CT, as truth for training, and the morphology that finds them.

Rules. Grids are isotropic and their steps are millimetres. Nothing here learns: the mask comes from
thresholds and shapes, so it is the same for the same CT.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from training.read.volume import F32, Bool


def ball(radius_mm: float, spacing: Sequence[float]) -> Bool:
    """A ball as a structuring element on a grid of `spacing`."""
    reach = [int(np.floor(radius_mm / s + 1e-6)) for s in spacing]
    grid = np.meshgrid(
        *[np.arange(-r, r + 1) * s for r, s in zip(reach, spacing, strict=True)], indexing="ij"
    )
    squared = np.sum([g.astype(np.float64) ** 2 for g in grid], axis=0)
    return np.asarray(squared <= radius_mm**2 + 1e-6, np.bool_)


def dilate(mask: Bool, radius_mm: float, spacing: float) -> Bool:
    """Dilation by a ball on an isotropic grid, through the distance transform."""
    if not mask.any():
        return np.array(mask)
    near: Bool = ndimage.distance_transform_edt(~mask) * spacing <= radius_mm + 1e-6
    return near


def close(mask: Bool, radius_mm: float, spacing: float) -> Bool:
    """Closing by a ball on an isotropic grid; the border is no wall."""
    reach = int(np.ceil(radius_mm / spacing)) + 1
    wide = np.pad(mask, reach)
    if not wide.any():
        return np.array(mask)
    grown = ndimage.distance_transform_edt(~wide) * spacing <= radius_mm + 1e-6
    shrunk = ndimage.distance_transform_edt(grown) * spacing > radius_mm + 1e-6
    inner = tuple(slice(reach, -reach) for _ in range(3))
    closed: Bool = shrunk[inner] | mask
    return closed


def lung_truth(hu: F32, spacing: float) -> Bool:
    """Closed lungs without trachea, from an unaltered chest CT on an isotropic grid [z, y, x].

    Air under -400 HU that does not reach the sides of the field of view; the largest two pieces
    (one, where the lungs touch); the trachea and main bronchi grown from the top and removed;
    closed by 9 mm in each lung, holes up to 7 cm2 filled slice by slice (a dome of the diaphragm is
    larger). For training labels: disease denser than -400 HU at the pleura is missed, which is why
    disease is implanted after this and not before.
    """
    smooth = ndimage.gaussian_filter(hu, 1.0 / spacing)
    air = smooth < -400
    sides = np.zeros_like(air)
    sides[:, [0, -1], :] = True
    sides[:, :, [0, -1]] = True
    labels, _ = ndimage.label(air)
    outside = np.isin(labels, np.unique(labels[sides & air]))
    inside = air & ~outside
    trachea = _airways(smooth, inside, spacing)
    lung = ndimage.binary_opening(
        inside & ~dilate(trachea, 2.0, spacing), ball(spacing, [spacing] * 3)
    )
    labels, count = ndimage.label(lung)
    if count == 0:
        return np.zeros_like(air)
    sizes = ndimage.sum_labels(lung, labels, np.arange(1, count + 1)) * spacing**3 / 1000
    keep = [i + 1 for i in np.argsort(-sizes)[:2] if sizes[i] > max(150.0, 0.15 * sizes.max())]
    mask = np.zeros_like(air)
    for label in keep:
        one = close(labels == label, 9.0, spacing)
        for plane in one:
            _fill_small_holes(plane, 700.0 / spacing**2)
        mask |= one
    return np.asarray(mask & ~trachea)


def _fill_small_holes(plane: Bool, largest: float) -> None:
    """Fills, in place, the holes of a slice that have at most `largest` pixels."""
    holes, count = ndimage.label(ndimage.binary_fill_holes(plane) & ~plane)
    sizes = np.bincount(holes.ravel())
    small = [i for i in range(1, count + 1) if sizes[i] <= largest]
    plane |= np.isin(holes, small)


def _airways(smooth: F32, inside: Bool, spacing: float) -> Bool:
    """Trachea and main bronchi: grown from the most central small air piece of the upper slices."""
    best = np.zeros_like(inside)
    top = inside.shape[0]
    body = smooth > -400
    centre = np.array([np.mean(np.flatnonzero(body.any((0, 1)))), 0])[0]
    for z in range(top - 1, top // 2, -1):
        labels, count = ndimage.label(inside[z])
        for i in range(1, count + 1):
            piece = labels == i
            area = piece.sum() * spacing**2
            x = np.mean(np.nonzero(piece)[1])
            if not 60 < area < 900 or abs(x - centre) * spacing > 35:
                continue
            for level in (-850, -900, -930, -950):
                grown, _ = ndimage.label((smooth < level) & inside)
                seeds = np.unique(grown[z][piece & (grown[z] > 0)])
                if not len(seeds):
                    break
                tube = np.isin(grown, seeds)
                millilitres = tube.sum() * spacing**3 / 1000
                if 5 < millilitres < 90:
                    return np.asarray(ndimage.binary_dilation(tube, iterations=1) & inside)
    return best
