"""Keypoints found again in the earlier exam, and a field that passes through them.

    keypoints, field -> search at 2 mm about each displaced place
                     -> offsets that neighbours agree on -> smooth field added

Rules
- A block about the keypoint is looked for in PRIOR, drawn there as the field stretches about it.
  How alike two blocks are is their correlation.
- Each keypoint first stands by itself. It agrees where its own best offset lies within AGREED_MM of
  the median of its neighbours' (itself left out): the share of agreeing keypoints counts these.
- Then neighbours help: of all offsets the one is taken that is alike and lies near the neighbours'
  median, ROUNDS times (after the convex coupling of Heinrich et al., WBIR 2014). What is then still
  off, or not alike, is left out.
- The field is the smoothing thin-plate spline of the offsets (kernel r: Duchon 1977), at every
  second node, and never more than what could be found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import plan
from appliance.prior import warp
from appliance.prior.entry import Image
from appliance.prior.field import Field
from appliance.prior.keypoints import BRIGHT, Index
from appliance.prior.warp import F32, F64

BLOCK: Final = 4
"""Voxels of a block on each side of its middle."""
NEIGHBOURS: Final = 12
AGREED_MM: Final = 4.0
ALIKE: Final = 0.5
"""Least correlation of a match."""
NEAR_WEIGHT: Final = 0.004
"""Of a squared mm from the neighbours, in units of correlation."""
ROUNDS: Final = 2
SOFT: Final = 0.7
"""SD in voxels of the blur of both images: noise and kernels differ."""
FAR_MM2: Final = 1e6
SCALE_MM: Final = 10.0
STIFF: Final = 0.3
"""Of the spline: a match that is alone off its neighbours, SCALE_MM away, is followed by less."""
EVERY: Final = 2
AT_ONCE: Final = 40
"""Regions that are drawn at once: memory, and nothing of the result."""
LEAST: Final = 8
"""Fewer keypoints have no neighbours to agree with, and fewer matches make no field."""


@dataclass(frozen=True, slots=True)
class Matches:
    """What was found of each keypoint."""

    points_lps: F64
    """[n, 3], in CURRENT."""
    offset_mm: F64
    """[n, 3]: x, y, z in PRIOR, from the displaced place to the one found, with neighbours."""
    alike: F64
    """[n]: correlation at its own best place."""
    agreed: NDArray[np.bool_]
    """[n]: found alike, and its own best place agrees with its neighbours'."""
    used: NDArray[np.bool_]
    """[n]: what the field is made of."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Both images, made ready once."""

    prior: Image
    moving: warp.Volume
    current: Image
    fixed: F32


def pictures(prior: Image, current: Image) -> Pictures:
    """Values up to BRIGHT, softened by SOFT."""
    soft = [
        warp.smoothed(np.minimum(image.values, BRIGHT).astype(np.float32), SOFT)
        for image in (prior, current)
    ]
    return Pictures(prior, warp.Volume(soft[0]), current, soft[1])


def matched(pictures: Pictures, keypoints: Index, field: Field, search: int) -> Matches:
    """The keypoints of CURRENT in PRIOR, `search` voxels about where the field says."""
    points = plan.to_lps(pictures.current.grid, keypoints)
    if len(points) < LEAST:
        nobody = np.zeros(len(points), np.bool_)
        return Matches(points, np.zeros((len(points), 3)), np.zeros(len(points)), nobody, nobody)
    stretch = field.jacobian(points)
    step = pictures.current.grid.spacing_mm[0]
    there = regions(
        pictures.moving, pictures.prior, field.to_prior(points), stretch, step, BLOCK + search
    )
    here = blocks(pictures.fixed, keypoints)
    scores = correlations(here, there, search).reshape(len(points), -1)
    steps = np.arange(-search, search + 1) * step
    z, y, x = np.meshgrid(steps, steps, steps, indexing="ij")
    shifts = np.stack([x.ravel(), y.ravel(), z.ravel()], -1)  # mm along x, y, z
    best = scores.argmax(1)
    own = scores[np.arange(len(best)), best].astype(np.float64)
    near = _neighbours(points, own >= ALIKE)
    about = np.median(shifts[best][near], axis=1)
    agreed = (own >= ALIKE) & _close(shifts[best], about)
    for _ in range(ROUNDS):
        away = ((shifts - about[:, None]) ** 2).sum(-1)
        best = (scores - NEAR_WEIGHT * away).argmax(1)
        about = np.median(shifts[best][near], axis=1)
    last = scores[np.arange(len(best)), best]
    used = (last >= ALIKE) & _close(shifts[best], about)
    fine = shifts[best] + step * tops(scores, best, 2 * search + 1)
    offset = np.einsum("nij,nj->ni", stretch, fine)
    return Matches(points, offset, own, agreed, used)


def _close(one: F64, other: F64) -> NDArray[np.bool_]:
    return np.asarray(((one - other) ** 2).sum(-1) <= AGREED_MM**2)


def _neighbours(points: F64, alike: NDArray[np.bool_]) -> NDArray[np.intp]:
    """[n, NEIGHBOURS]: the nearest others, those that are alike first."""
    away = ((points[:, None] - points) ** 2).sum(-1)
    np.fill_diagonal(away, np.inf)
    away[:, ~alike] += FAR_MM2
    return np.argsort(away, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(points) - 1)]


def tops(scores: F32, best: NDArray[np.intp], side: int) -> F64:
    """[n, 3] (x, y, z): voxels from the best shift to the top of the parabola through it and its
    two neighbours, along each axis; 0 at the end of the search."""
    cubes = scores.reshape(-1, side, side, side)
    at = np.stack(np.unravel_index(best, (side, side, side)), -1)
    rows = np.arange(len(at))
    out = np.zeros((len(at), 3))
    for axis in range(3):
        inside = (at[:, axis] > 0) & (at[:, axis] < side - 1)
        three = []
        for step in (-1, 0, 1):
            moved = at.copy()
            moved[:, axis] = np.clip(moved[:, axis] + step, 0, side - 1)
            three.append(cubes[rows, moved[:, 0], moved[:, 1], moved[:, 2]].astype(np.float64))
        low, middle, high = three
        bend = low - 2 * middle + high
        top = np.where(bend < -1e-6, (low - high) / np.where(bend < -1e-6, 2 * bend, 1.0), 0.0)
        out[:, 2 - axis] = np.where(inside, np.clip(top, -0.5, 0.5), 0.0)
    return out


def added(field: Field, matches: Matches, most_mm: float) -> Field:
    """The field with the spline of the offsets added, cut to most_mm along each axis. Fewer than
    LEAST matches change nothing."""
    if matches.used.sum() < LEAST:
        return field
    points = matches.points_lps[matches.used]
    moved = matches.offset_mm[matches.used] / field.alignment.scale
    shape = field.grid.shape
    coarse = [np.arange(0, n + EVERY, EVERY) for n in shape]
    index = np.stack(np.meshgrid(*coarse, indexing="ij"), -1).reshape(-1, 3)
    found = np.clip(_spline(points, moved, plan.to_lps(field.grid, index)), -most_mm, most_mm)
    up = [warp.between(np.arange(n) / EVERY, len(c)) for n, c in zip(shape, coarse, strict=True)]
    sizes = [len(c) for c in coarse]
    parts = [
        warp.along_axes(found[:, 2 - k].reshape(sizes).astype(np.float32), up) for k in range(3)
    ]
    return replace(field, values=field.values + np.stack(parts))


def _spline(points: F64, values: F64, at: F64) -> F64:
    """Values [n, 3] at points [n, 3], smoothed, at other places [m, 3]."""
    middle = points.mean(0)
    points, at = (points - middle) / SCALE_MM, (at - middle) / SCALE_MM
    count = len(points)
    away = np.sqrt(((points[:, None] - points) ** 2).sum(-1))
    system = np.zeros((count + 4, count + 4))
    system[:count, :count] = -away + STIFF * np.eye(count)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :], system[count + 1 :, :count] = points, points.T
    system[count + 1 :, count + 1 :] -= 1e-6 * np.eye(3)
    weights = np.linalg.solve(system, np.vstack([values, np.zeros((4, 3))])).astype(np.float32)
    place, base = at.astype(np.float32), points.astype(np.float32)
    out = np.empty((len(at), values.shape[1]))
    piece = max(warp.SHARED_OUT // (8 * count), 1)
    for start in range(0, len(at), piece):
        near = place[start : start + piece]
        size = (near**2).sum(1)[:, None] + (base**2).sum(1)
        kernel = -np.sqrt(np.maximum(size - 2 * near @ base.T, 0))
        even = weights[count] + near @ weights[count + 1 :]
        out[start : start + piece] = kernel @ weights[:count] + even
    return out


def blocks(values: F32, at: Index) -> F32:
    """[n, 2 BLOCK + 1, ...] around these voxels; the edges go on."""
    steps = np.arange(-BLOCK, BLOCK + 1)
    z, y, x = (np.clip(at[:, k, None] + steps, 0, values.shape[k] - 1) for k in range(3))
    found = values[z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
    return np.asarray(found, np.float32)


def regions(
    prior: warp.Volume, image: Image, places: F64, stretch: F64, step_mm: float, reach: int
) -> F32:
    """[n, side, side, side] of PRIOR around places (LPS mm) there, drawn as CURRENT's grid is by
    the field that stretches by `stretch` [n, 3, 3]."""
    steps = np.arange(-reach, reach + 1) * step_mm
    z, y, x = np.meshgrid(steps, steps, steps, indexing="ij")
    about = np.stack([x.ravel(), y.ravel(), z.ravel()])
    turned = np.linalg.inv(image.grid.to_lps[:3, :3])
    way = (turned @ stretch).astype(np.float32)
    first = plan.to_index(image.grid, places).astype(np.float32)
    side = 2 * reach + 1
    out = np.empty((len(first), side, side, side), np.float32)
    for start in range(0, len(out), AT_ONCE):  # the places of all of them are 100 MB and more
        part = slice(start, start + AT_ONCE)
        at = way[part] @ about.astype(np.float32) + first[part, :, None]
        out[part] = prior.at(at[:, 0], at[:, 1], at[:, 2]).reshape(-1, side, side, side)
    return out


def correlations(blocks: F32, regions: F32, search: int) -> F32:
    """[n, shifts, shifts, shifts]: correlation of each block [n, b, b, b] with every place of its
    region [n, b + 2 search, ...]."""
    count, side = len(blocks), blocks.shape[-1]
    wide, shifts = side + 2 * search, 2 * search + 1
    size = side**3
    blocks = blocks - blocks.mean((1, 2, 3), keepdims=True)
    regions = regions - regions.mean((1, 2, 3), keepdims=True)
    found = np.zeros((count, shifts, shifts * wide), np.float32)
    # OpenCV correlates pictures: slices stand beside one another, those of the block as far apart
    # as those of the region, so that a shift by one slice is a shift along the picture.
    templates = np.zeros((count, side, side, wide), np.float32)
    templates[..., :side] = blocks.transpose(0, 2, 1, 3)
    flat = templates.reshape(count, side, -1)[:, :, : (side - 1) * wide + side]
    pictures = regions.transpose(0, 2, 1, 3).reshape(count, wide, -1)
    for k in range(count):
        part = cv2.matchTemplate(
            np.ascontiguousarray(pictures[k]), np.ascontiguousarray(flat[k]), cv2.TM_CCORR
        )
        found[k, :, : part.shape[1]] = part
    product = found.reshape(count, shifts, shifts, wide)[..., :shifts].transpose(0, 2, 1, 3)
    window = np.asarray(
        (np.arange(wide) >= np.arange(shifts)[:, None])
        & (np.arange(wide) < np.arange(shifts)[:, None] + side),
        np.float32,
    )
    total = _summed(regions, window)
    squares = _summed(regions**2, window)
    varied = np.maximum(squares - total**2 / size, 0) + size
    own = (blocks**2).sum((1, 2, 3)) + size  # one value squared a voxel: what is even is not alike
    return np.asarray(product / np.sqrt(varied * own[:, None, None, None]), np.float32)


def _summed(regions: F32, window: F32) -> F32:
    across = regions @ window.T
    down = window @ across
    flat = window @ down.reshape(len(down), down.shape[1], -1)
    return np.asarray(flat.reshape(len(down), *[len(window)] * 3), np.float32)
