"""Boxes of the lungs: which scale and shift along each axis of the patient lay one exam over
another, before anything is bent.

Rules
- Each axis by itself: from the box of one pair of lungs to the box of the other. Turns are left to
  what follows.
- A box counts where both its ends are ends of lungs. Where lungs are cut by the end of the images,
  or the boxes differ by more than a breath does (one lung, a large effusion), the scale of that
  axis is 1, and the shift is the one of a few under which both images are most alike.
- Empty masks are laid middle on middle.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from appliance.preprocess import plan
from appliance.prior import warp
from appliance.prior.entry import Image
from appliance.prior.warp import F32, F64

MOST_SCALE: Final = 1.4
"""The larger box may be so many times as long as the smaller one."""
CUT_MM2: Final = 400.0
"""Lungs that meet the end of the images over so much are cut there."""
TAIL: Final = 0.001
"""Share of the voxels of the lungs that a box may leave out at each end: specks are no lungs."""
REACH_MM: Final = 96.0
STEP_MM: Final = 16.0
"""Shifts that are tried where a box does not count, and cells of the images that are compared."""
LEAST_SHARED: Final = 0.25
"""Of the cells of the smaller image that must lie in both."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """LPS millimetres of CURRENT times `scale` plus `shift` are LPS millimetres of PRIOR."""

    scale: F64
    """[3]: x, y, z."""
    shift: F64
    guessed: bool = False
    """Whether the box of any axis did not count."""

    def to_prior(self, points: ArrayLike) -> F64:
        """Of points [..., 3]."""
        return np.asarray(np.asarray(points, np.float64) * self.scale + self.shift)

    def to_aligned(self, points: ArrayLike) -> F64:
        """The inverse: points of PRIOR in the frame of CURRENT."""
        return np.asarray((np.asarray(points, np.float64) - self.shift) / self.scale)


@dataclass(frozen=True, slots=True)
class _Ends:
    """Of the lungs along one axis, LPS mm."""

    low: float
    high: float
    cut: bool

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def length(self) -> float:
        return self.high - self.low


def aligned(prior: Image, current: Image) -> Alignment:
    """PRIOR laid over CURRENT, box over box."""
    there = [_ends(prior, axis) for axis in (2, 1, 0)]
    here = [_ends(current, axis) for axis in (2, 1, 0)]
    choices = [_of_axis(p, c) for p, c in zip(there, here, strict=True)]
    guessed = any(len(ways) > 1 for ways in choices)
    tried = [
        Alignment(np.array([s for s, _ in way]), np.array([t for _, t in way]), guessed)
        for way in itertools.product(*choices)
    ]
    if len(tried) == 1:
        return tried[0]
    fixed, at = _coarse(current)
    moving, _ = _coarse(prior)
    ready = warp.Volume(moving)
    return max(tried, key=lambda way: _alike(prior, ready, fixed, at, way))


def _of_axis(prior: _Ends, current: _Ends) -> list[tuple[float, float]]:
    """The scales and shifts to try along one axis."""
    ratio = prior.length / current.length if current.length > 0 and prior.length > 0 else 0.0
    if not (prior.cut or current.cut) and 1 / MOST_SCALE <= ratio <= MOST_SCALE:
        return [(ratio, prior.middle - ratio * current.middle)]
    if ratio == 0:
        return [(1.0, prior.middle - current.middle)]
    ends = [prior.low - current.low, prior.high - current.high]
    around = np.arange(-REACH_MM, REACH_MM + 1, STEP_MM) + prior.middle - current.middle
    return [(1.0, float(shift)) for shift in (*ends, *around)]


def _ends(image: Image, axis: int) -> _Ends:
    others = tuple(a for a in range(3) if a != axis)
    profile = image.lungs.sum(axis=others, dtype=np.int64)
    origin = float(image.grid.to_lps[2 - axis, 3])
    step = float(image.grid.to_lps[2 - axis, axis])
    if not profile.any():
        middle = origin + step * (len(profile) - 1) / 2
        return _Ends(middle, middle, cut=False)
    share = np.cumsum(profile) / profile.sum()
    low, high = int(np.searchsorted(share, TAIL)), int(np.searchsorted(share, 1 - TAIL))
    cut = _cut(image, axis, int(np.flatnonzero(profile)[0]), -1) or _cut(
        image, axis, int(np.flatnonzero(profile)[-1]), 1
    )
    return _Ends(origin + step * (low - 0.5), origin + step * (high + 0.5), cut)


def _cut(image: Image, axis: int, at: int, way: int) -> bool:
    """Whether the lungs end at the end of the images."""
    lungs = np.take(image.lungs, at, axis)
    beyond = at + way
    if 0 <= beyond < image.lungs.shape[axis]:
        lungs = lungs & ~np.take(image.covered, beyond, axis)
    dz, dy, dx = image.grid.spacing_mm
    area = (dy * dx, dz * dx, dz * dy)[axis]
    return bool(lungs.sum() * area >= CUT_MM2)


def _coarse(image: Image) -> tuple[F32, F64]:
    """Means over cells of STEP_MM, and LPS mm [n, 3] of their centres."""
    cells = [STEP_MM / mm for mm in image.grid.spacing_mm]
    shape = [int(n // cell) for n, cell in zip(image.values.shape, cells, strict=True)]
    shape = [max(n, 1) for n in shape]
    matrices = [
        warp.cell_means(n, cell, -0.5, size)
        for n, cell, size in zip(shape, cells, image.values.shape, strict=True)
    ]
    means = warp.along_axes(image.values.astype(np.float32), matrices)
    axes = [(np.arange(n) + 0.5) * cell - 0.5 for n, cell in zip(shape, cells, strict=True)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return means, plan.to_lps(image.grid, index)


def _alike(prior: Image, moving: warp.Volume, fixed: F32, at: F64, way: Alignment) -> float:
    """Correlation of both images where both are; -1 where they share too little."""
    index = plan.to_index(prior.grid, way.to_prior(at))
    cell = np.array([STEP_MM / mm for mm in prior.grid.spacing_mm])
    place = ((index + 0.5) / cell - 0.5).astype(np.float32)
    inside = np.all((place > -0.5) & (place < np.array(moving.shape) - 0.5), axis=1)
    if inside.sum() < LEAST_SHARED * min(fixed.size, int(np.prod(moving.shape))):
        return -1.0
    there = moving.at(*place[inside].T)
    here = fixed.ravel()[inside]
    there, here = there - there.mean(), here - here.mean()
    size = float(np.sqrt((there @ there) * (here @ here)))
    return float(there @ here) / size if size > 0 else -1.0
