"""The definition of every preprocessing op, in plain numpy. Training imports it; backends match it.

Rules. float32 in and out, weights reckoned in float64. Resampling is one weight matrix an axis,
each row of which sums to 1:
- an axis that shrinks averages each voxel's exact interval [i, i + 1) * target / spacing, cut at
  the end of the axis;
- an axis that grows (or stays) is linear between pixel centres, with the edge repeated;
- planes are weighted by their positions: where z shrinks, each plane owns the interval between the
  midpoints to its neighbours; where it grows, linear between the two planes around a voxel.
Stored values are HU; outside of everything lies air, -1000 HU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import plan
from appliance.preprocess.spec import Cube, Op, Pad, Window, ZScore
from appliance.records import Box, Grid, Pair, Stack, Vector

F32 = NDArray[np.float32]
HU = NDArray[np.int16] | NDArray[np.float32]
Near = tuple[NDArray[np.intp], F32, NDArray[np.intp]]
"""Voxels of an axis, weights [places inside, voxels], and which of the places lie inside."""

AIR_HU = -1000.0
VIEWS = 8
TURNS = 512
"""Frequencies of `gaussian`: many more than it has weights."""


def axis_weights(pixels: int, spacing_mm: float, target_mm: float) -> F32:
    """Matrix [voxels, pixels] of one evenly spaced, edge-aligned axis."""
    n = plan.count(pixels, spacing_mm, target_mm)
    return _axis_weights(np.arange(n), np.arange(pixels), spacing_mm, target_mm)


def band_weights(
    pixels: int, spacing_mm: float, target_mm: float, voxels: slice
) -> tuple[int, F32]:
    """Rows `voxels` of `axis_weights` without the zeros around them: first pixel, weights."""
    step = target_mm / spacing_mm
    low = max(0, int(voxels.start * step) - 1)
    high = min(pixels, int(voxels.stop * step) + 3)
    near = _axis_weights(
        np.arange(voxels.start, voxels.stop), np.arange(low, high), spacing_mm, target_mm
    )
    used = np.flatnonzero(near.any(axis=0))
    return low + int(used[0]), np.ascontiguousarray(near[:, used[0] : used[-1] + 1])


def _axis_weights(
    voxels: NDArray[np.int64], pixels: NDArray[np.int64], spacing_mm: float, target_mm: float
) -> F32:
    step = target_mm / spacing_mm
    if target_mm > spacing_mm:
        return _overlap(np.append(voxels, voxels[-1] + 1) * step, np.append(pixels, pixels[-1] + 1))
    at = (voxels.astype(np.float64) + 0.5) * step - 0.5
    return _linear(at, pixels.astype(np.float64))


def plane_weights(z_mm: NDArray[np.float64], target_mm: float, sd_mm: float = 0.0) -> F32:
    """Matrix [voxels, planes] along the normal, from the planes' positions in mm, rising; softened
    by `sd_mm`."""
    if sd_mm > 0:
        along = np.ascontiguousarray(plane_weights(z_mm, target_mm).T)
        return np.ascontiguousarray(softened(along, (target_mm,), sd_mm).T)
    between = plan.distance(z_mm)
    centres = plan.through(z_mm, target_mm)
    if target_mm > between:
        middles = (z_mm[1:] + z_mm[:-1]) / 2
        owned = np.concatenate([[z_mm[0] - between / 2], middles, [z_mm[-1] + between / 2]])
        edges = np.append(centres - target_mm / 2, centres[-1] + target_mm / 2)
        return _overlap(edges, owned)
    return _linear(centres, z_mm)


def _overlap(voxel_edges: NDArray[np.float64], cell_edges: NDArray[np.float64]) -> F32:
    """Share of each voxel's interval in each cell, of what lies inside the cells at all."""
    high = np.minimum(voxel_edges[1:, None], cell_edges[None, 1:])
    low = np.maximum(voxel_edges[:-1, None], cell_edges[None, :-1])
    shared = np.maximum(high - low, 0.0)
    return np.asarray(shared / shared.sum(axis=1, keepdims=True), np.float32)


def _linear(at: NDArray[np.float64], centres: NDArray[np.float64]) -> F32:
    """Weights of the two centres around each place; beyond the ends, the end."""
    weights = np.zeros((len(at), len(centres)))
    if len(centres) == 1:
        return np.ones_like(weights, np.float32)
    x = np.clip(at, centres[0], centres[-1])
    left = np.clip(np.searchsorted(centres, x, side="right") - 1, 0, len(centres) - 2)
    part = (x - centres[left]) / (centres[left + 1] - centres[left])
    rows = np.arange(len(at))
    weights[rows, left] = 1 - part
    weights[rows, left + 1] = part
    return np.asarray(weights, np.float32)


def inplane(hu: HU, spacing_mm: Pair, target_mm: float | Pair) -> F32:
    """Pixels [..., y, x] at (row, column) spacing -> the same at `target_mm`; HU."""
    target = plan.pair(target_mm)
    down = axis_weights(hu.shape[-2], spacing_mm[0], target[0])
    across = axis_weights(hu.shape[-1], spacing_mm[1], target[1])
    return np.asarray(down @ (hu.astype(np.float32) @ across.T), np.float32)


def through(planes: F32, z_mm: NDArray[np.float64], target_mm: float) -> F32:
    """Planes [n, y, x] at rising positions z_mm [n] -> [z, y, x] at `target_mm` on the normal."""
    return np.asarray(np.tensordot(plane_weights(z_mm, target_mm), planes, axes=1), np.float32)


def gaussian(sd: float, reach: int) -> F32:
    """Weights [2 reach + 1] of the discrete Gaussian of this SD in voxels; they add up to 1.

    Its spectrum is exp(sd^2 (cos w - 1)) (Lindeberg, IEEE PAMI 1990;12:234-254).
    """
    turns = np.arange(TURNS) * (2 * np.pi / TURNS)
    spectrum = np.exp(sd**2 * (np.cos(turns) - 1))
    places = np.arange(-reach, reach + 1)
    weights = np.maximum((spectrum * np.cos(np.outer(places, turns))).mean(axis=1), 0)
    return np.asarray(weights / weights.sum(), np.float32)


def softened(values: F32, spacing_mm: Sequence[float], sd_mm: float) -> F32:
    """A Gaussian along each of the last axes, which have these spacings; edges repeated."""
    for axis, mm in zip(range(-len(spacing_mm), 0), spacing_mm, strict=True):
        reach, size = plan.reach(sd_mm, mm), values.shape[axis]
        ends = [(0, 0)] * values.ndim
        ends[axis] = (reach, reach)
        wide = np.moveaxis(np.pad(values, ends, mode="edge"), axis, 0)
        out = np.zeros_like(wide[:size])
        for k, weight in enumerate(gaussian(sd_mm / mm, reach)):
            out += weight * wide[k : k + size]
        values = np.moveaxis(out, 0, axis)
    return np.ascontiguousarray(values)


def window(values: F32, low: float, high: float) -> F32:
    """clip((hu - low) / (high - low), 0, 1)."""
    shifted = (values - np.float32(low)) / np.float32(high - low)
    return np.asarray(np.clip(shifted, 0, 1), np.float32)


def zscore(values: F32, mean: float, std: float) -> F32:
    """(value - mean) / std."""
    return np.asarray((values - np.float32(mean)) / np.float32(std), np.float32)


def pad(values: F32, multiple: int, value: float = 0.0) -> F32:
    """[z, y, x] with `value` at the end of each axis, up to a multiple."""
    ends = [(0, -size % multiple) for size in values.shape]
    return np.pad(values, ends, constant_values=np.float32(value))


def crop(values: F32, box: Box) -> F32:
    """The voxels [z, y, x] of a box."""
    return values[tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))]


def patches(stack: Stack, centers: Sequence[Vector], size: int) -> F32:
    """Axial patches [n, 1, size, size] of native pixels, HU, around LPS centres.

    From the nearest plane; pixel (size // 2, size // 2) is the nearest one; outside -1000.
    """
    out = np.full((len(centers), 1, size, size), AIR_HU, np.float32)
    for patch, center in zip(out[:, 0], centers, strict=True):
        plane = stack.planes[plan.nearest_plane(stack, center)]
        y, x = (v - size // 2 for v in plan.nearest_pixel(plane.geometry, center))
        rows, columns = plane.native.shape
        inside = plane.native[max(y, 0) : max(y + size, 0), max(x, 0) : max(x + size, 0)]
        if inside.size and y < rows and x < columns:
            top, left = max(-y, 0), max(-x, 0)
            patch[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return out


def cubes(stack: Stack, centers: Sequence[Vector], op: Cube) -> F32:
    """Cubes [n, 1, size, size, size] around LPS centres, HU, linear between native voxels.

    A voxel further than half a native voxel outside the series is -1000.
    """
    out = np.full((len(centers), 1, op.size, op.size, op.size), AIR_HU, np.float32)
    for cube, (z, y, x) in zip(out[:, 0], cube_weights(stack, centers, op), strict=True):
        if not (len(z[0]) and len(y[0]) and len(x[0])):
            continue
        block = np.stack([stack.planes[k].native[np.ix_(y[0], x[0])] for k in z[0]])
        flat = y[1] @ (block.astype(np.float32) @ x[1].T)
        cube[np.ix_(z[2], y[2], x[2])] = np.tensordot(z[1], flat, axes=1)
    return out


def cube_weights(
    stack: Stack, centers: Sequence[Vector], op: Cube
) -> Iterator[tuple[Near, Near, Near]]:
    """Of each cube around an LPS centre what its places on z, y and x are linear between."""
    between, row, column = plan.native_spacing(stack)
    rows, columns = stack.planes[0].native.shape
    axes = (
        (np.asarray(stack.z_mm, np.float64), between),
        (np.arange(rows) * row, row),
        (np.arange(columns) * column, column),
    )
    first = np.asarray(stack.planes[0].geometry.position_lps_mm, np.float64)
    grid = plan.cube_grid(stack, first, op)  # of this one only its directions are used
    towards = grid.to_lps[:3, :3] / op.spacing_mm
    steps = (np.arange(op.size) - (op.size - 1) / 2) * op.spacing_mm
    for center in centers:
        at = (np.asarray(center, np.float64) - first) @ np.linalg.inv(towards).T
        at[0] += stack.z_mm[0]
        z, y, x = (_near(at[i] + steps, *axes[i]) for i in range(3))
        yield z, y, x


def _near(at: NDArray[np.float64], centres: NDArray[np.float64], spacing: float) -> Near:
    """Of places `at` on an axis: the centres they touch, their weights [inside, near], and which
    of the places lie on the axis at all."""
    half = spacing / 2 + plan.WHOLE
    inside = np.flatnonzero((at >= centres[0] - half) & (at <= centres[-1] + half))
    weights = _linear(at[inside], centres)
    near = np.flatnonzero(weights.any(axis=0))
    return near, weights[:, near], inside


def views(values: F32, number: Literal[1, 2, 4, 8]) -> F32:
    """[n, 1, s, s] -> [n * number, 1, s, s]: the first of the 8 flips and quarter turns.

    A patch's views stand side by side: as it is, x flipped, y flipped, both; then the same four of
    the transposed patch.
    """
    swapped = values.swapaxes(-1, -2)
    each = [v[..., ::b, ::a] for v in (values, swapped) for b in (1, -1) for a in (1, -1)]
    return np.ascontiguousarray(np.stack(each[:number], axis=1).reshape(-1, *values.shape[1:]))


def points(values: F32, ops: Sequence[Window | ZScore | Pad]) -> F32:
    """The ops that follow resampling, one by one in their order."""
    for op in ops:
        if isinstance(op, Window):
            values = window(values, op.low, op.high)
        elif isinstance(op, ZScore):
            values = zscore(values, op.mean, op.std)
        else:
            values = pad(values, op.multiple, op.value)
    return values


def apply(stack: Stack, ops: Sequence[Op], crop_to: tuple[Grid, Box] | None) -> tuple[F32, Grid]:
    """What `Backend.prepare` gives: [1, 1, z, y, x] and the Grid of its voxels without padding.

    `crop_to` is the grid of a mask and the box on it, margin and all. BundleRefused for an op list
    that cannot be read, ValueError for a crop op without a box.
    """
    read = plan.steps(ops)
    whole, box = plan.placed(stack, read, crop_to)
    pixel = stack.planes[0].geometry.spacing_mm
    target = whole.spacing_mm[1:]
    planes = np.stack([inplane(p.native, pixel, (target[0], target[1])) for p in stack.planes])
    volume = through(planes, stack.z_mm, whole.spacing_mm[0])
    if read.soften is not None:
        volume = softened(volume, whole.spacing_mm, read.soften.sd_mm)
    values = points(crop(volume, box), read.points)
    return np.ascontiguousarray(values[None, None]), plan.sub_grid(whole, box)


def apply_patches(
    stack: Stack, ops: Sequence[Op], centers: Sequence[Vector], number: Literal[1, 2, 4, 8] = 1
) -> F32:
    """What `Backend.gather` gives: patches [n * number, 1, size, size], or, of a cube op, cubes
    [n, 1, size, size, size], of which there is one view. ValueError without either op."""
    read = plan.steps(ops)
    if (read.patch is None and read.cube is None) or (read.cube is not None and number != 1):
        raise ValueError("these ops have no patch, or several views of a cube")
    if read.soften is not None:
        wider, more = plan.to_soften(stack, ops)
        values = soften_inside(apply_patches(stack, wider, centers), stack, ops, more)
    elif read.cube is not None:
        values = cubes(stack, centers, read.cube)
    else:
        values = patches(stack, centers, read.patch.size if read.patch else 0)
    values = points(values, read.points)
    return values if read.cube is not None else views(values, number)


def soften_inside(values: F32, stack: Stack, ops: Sequence[Op], more: int) -> F32:
    """What was gathered for a soften op (plan.to_soften), softened and cut to what it is for."""
    read = plan.steps(ops)
    sd_mm = read.soften.sd_mm if read.soften is not None else 0.0
    if read.cube is not None:
        spacing: tuple[float, ...] = (read.cube.spacing_mm,) * 3
    else:
        spacing = plan.native_spacing(stack)[1:]
    inside = (..., *(slice(more, -more),) * len(spacing))
    return np.ascontiguousarray(softened(values, spacing, sd_mm)[inside])
