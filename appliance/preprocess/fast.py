"""The same as reference.py, fast: in the plane while slices arrive, one pass after the last.

Rules. Equal to the reference within backend.protocol.TOLERANCE after windowing: the weights are the
reference's own, but an axis is taken in bands of a few voxels, each a small matrix product over the
pixels that it touches; all the other weights are zero. (cv2.resize with INTER_AREA is
slower, leaves out a pixel's share below 1/1000 and rounds sizes in another way.)
Each output slice is weighted, windowed and written while it is in the cache; nothing is made for
voxels outside the box. Cubes are taken one by one, each as three matrix products over the block of
pixels that it touches.

No product, in the plane or of a cube, is so large that the linear algebra below (OpenBLAS) shares
it out among threads: these wait for each other without sleeping, and on a machine that is busy
receiving, a slice of 2 ms then takes 60. Nor does a result depend on the number of cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import plan, reference
from appliance.preprocess.spec import Op, Pad, Window, ZScore
from appliance.records import Box, Grid, Image, Pair, Plane, Stack, Vector

F32 = NDArray[np.float32]
HU = NDArray[np.int16] | NDArray[np.float32]

BAND = 16
"""Voxels of one matrix product: fewer cost calls, more cost multiplications by zero."""
SHARED_OUT = 1 << 19
"""Multiplications from which on OpenBLAS takes a second thread (its GEMM_MULTITHREAD_THRESHOLD)."""


def plane(image: Image, spacings: Sequence[float]) -> Plane:
    """One image, oriented and resampled in its plane to each of these spacings (mm)."""
    native, geometry = plan.orient(image.hu, image.geometry)
    exact = native.astype(np.float32, copy=False) if spacings else native
    return Plane(
        header=image.header,
        frame=image.frame,
        geometry=geometry,
        native=native,
        resampled={
            mm: inplane(exact, geometry.spacing_mm, (mm, mm)) for mm in dict.fromkeys(spacings)
        },
        padding=image.padding,
        digest=image.digest,
        blank=bool(native[0, 0] == native[-1, -1] and native.min() == native.max()),
    )


def inplane(hu: HU, spacing_mm: Pair, target_mm: float | Pair) -> F32:
    """reference.inplane of one slice [y, x], band by band."""
    target = plan.pair(target_mm)
    tall: HU = hu
    if target[0] != spacing_mm[0]:
        n, bands = _bands(hu.shape[0], spacing_mm[0], target[0])
        tall = np.empty((n, hu.shape[1]), np.float32)
        for voxels, pixels, weights in bands:
            _product(weights, hu[pixels].astype(np.float32, copy=False), tall[voxels])
    wide = np.ascontiguousarray(tall, np.float32)
    if target[1] != spacing_mm[1]:
        n, bands = _bands(wide.shape[1], spacing_mm[1], target[1])
        high, wide = wide, np.empty((wide.shape[0], n), np.float32)
        for voxels, pixels, weights in bands:
            _product(high[:, pixels], weights.T, wide[:, voxels])
    return wide


def _product(a: F32, b: F32, out: F32) -> None:
    """out = a @ b, in quarters where it is large."""
    if a.size * b.shape[1] < SHARED_OUT:
        np.matmul(a, b, out=out)
        return
    row, column = (len(a) + 1) // 2, (b.shape[1] + 1) // 2
    for rows in (slice(row), slice(row, None)):
        for columns in (slice(column), slice(column, None)):
            _product(a[rows], b[:, columns], out[rows, columns])


@lru_cache(maxsize=32)
def _bands(
    pixels: int, spacing_mm: float, target_mm: float
) -> tuple[int, tuple[tuple[slice, slice, F32], ...]]:
    """Voxels of an axis; and of each band its voxels, the pixels they touch, and the weights."""
    n = plan.count(pixels, spacing_mm, target_mm)
    bands = []
    for first in range(0, n, BAND):
        voxels = slice(first, min(first + BAND, n))
        low, weights = reference.band_weights(pixels, spacing_mm, target_mm, voxels)
        bands.append((voxels, slice(low, low + weights.shape[1]), weights))
    return n, tuple(bands)


def tensor(stack: Stack, ops: Sequence[Op], crop_to: tuple[Grid, Box] | None) -> tuple[F32, Grid]:
    """reference.apply, from the planes that were resampled on arrival."""
    read = plan.steps(ops)
    whole, box = plan.placed(stack, read, crop_to)
    shape = plan.sub_grid(whole, box).shape
    values = [p for p in read.points if not isinstance(p, Pad)]
    out = _padded(shape, read.points)
    rows, columns = slice(box.low[1], box.high[1]), slice(box.low[2], box.high[2])
    sd_mm = 0.0 if read.soften is None else read.soften.sd_mm
    weights = reference.plane_weights(stack.z_mm, whole.spacing_mm[0], sd_mm)
    weights = weights[box.low[0] : box.high[0]]
    soft = None if read.soften is None else _Soft.of(sd_mm, whole, box)
    if soft is not None:
        rows, columns = soft.rows, soft.columns
    scale, shift, clipped = _affine(values[0]) if values else (1.0, 0.0, False)
    used: dict[int, F32] = {}
    for k, row in enumerate(weights):
        voxels = out[k, : shape[1], : shape[2]]
        near = [int(i) for i in np.flatnonzero(row)]
        used = {
            i: used[i] if i in used else _inplane_of(stack, i, whole)[rows, columns] for i in near
        }
        # a Gaussian changes neither scale nor shift: its weights add up to 1
        flat = voxels if soft is None else soft.room
        _weigh(list(used.values()), [float(row[i]) * scale for i in near], shift, flat)
        if soft is not None:
            soft.into(voxels)
        if clipped:
            np.clip(voxels, 0, 1, out=voxels)
        for op in values[1:]:
            more, less, cut = _affine(op)
            voxels *= np.float32(more)
            voxels += np.float32(less)
            if cut:
                np.clip(voxels, 0, 1, out=voxels)
    return out[None, None], plan.sub_grid(whole, box)


@dataclass(frozen=True, slots=True)
class _Soft:
    """A Gaussian in the plane, of the part of it that a box needs."""

    rows: slice
    columns: slice
    down: F32
    across: F32
    inside: tuple[slice, slice]
    """The box in what rows and columns name."""
    room: F32

    @classmethod
    def of(cls, sd_mm: float, whole: Grid, box: Box) -> _Soft:
        kernels, wide, inside = [], [], []
        for axis in (1, 2):
            mm, low, high = whole.spacing_mm[axis], box.low[axis], box.high[axis]
            reach = plan.reach(sd_mm, mm)
            kernels.append(reference.gaussian(sd_mm / mm, reach))
            wide.append(slice(max(low - reach, 0), min(high + reach, whole.shape[axis])))
            inside.append(slice(low - wide[-1].start, high - wide[-1].start))
        room = np.empty([part.stop - part.start for part in wide], np.float32)
        return cls(wide[0], wide[1], kernels[0], kernels[1], (inside[0], inside[1]), room)

    def into(self, voxels: F32) -> None:
        """The box of `room`, softened; where the grid ends its edge is repeated."""
        border = cv2.BORDER_REPLICATE
        soft = cv2.sepFilter2D(self.room, -1, self.across, self.down, borderType=border)
        voxels[:] = soft[self.inside]


def gathered(
    stack: Stack, ops: Sequence[Op], centers: Sequence[Vector], views: Literal[1, 2, 4, 8] = 1
) -> F32:
    """reference.apply_patches. ValueError without a patch or cube, and for several views of one."""
    read = plan.steps(ops)
    if read.cube is None or views != 1:  # a few dozen small patches: the reference is fast enough
        return reference.apply_patches(stack, ops, centers, views)
    if read.soften is not None:
        wider, more = plan.to_soften(stack, ops)
        soft = [
            reference.soften_inside(one[None], stack, ops, more)
            for one in gathered(stack, wider, centers)
        ]
        made = (
            np.concatenate(soft) if soft else np.empty((0, 1, *(read.cube.size,) * 3), np.float32)
        )
        return reference.points(made, read.points)
    values = [p for p in read.points if not isinstance(p, Pad)]
    air = reference.points(np.full((1, 1, 1), reference.AIR_HU, np.float32), values).item()
    out = np.full((len(centers), 1, *(read.cube.size,) * 3), air, np.float32)
    weights = reference.cube_weights(stack, centers, read.cube)
    for cube, (z, y, x) in zip(out[:, 0], weights, strict=True):
        if not (len(z[0]) and len(y[0]) and len(x[0])):
            continue
        (planes, across, slices), (rows, down, lines), (columns, along, pixels) = map(
            _run, (z, y, x)
        )
        block = np.empty((len(across[0]), len(down[0]), len(along[0])), np.float32)
        for native, part in zip(stack.planes[planes], block, strict=True):
            part[:] = native.native[rows, columns]
        wide = np.empty((block.shape[0] * block.shape[1], len(along)), np.float32)
        _product(block.reshape(-1, block.shape[2]), along.T, wide)
        flat = np.matmul(down, wide.reshape(*block.shape[:2], -1))
        inside = np.empty((len(across), flat[0].size), np.float32)
        _product(across, flat.reshape(len(flat), -1), inside)
        for op in values:
            more, less, cut = _affine(op)
            inside *= np.float32(more)
            inside += np.float32(less)
            if cut:
                np.clip(inside, 0, 1, out=inside)
        cube[slices, lines, pixels] = inside.reshape(-1, *flat.shape[1:])
    return out


def _run(near: reference.Near) -> tuple[slice, F32, slice]:
    """The whole run of voxels that an axis touches, their weights, the run of places inside."""
    voxels, weights, places = near
    first, last = int(voxels[0]), int(voxels[-1])
    whole = np.zeros((len(places), last - first + 1), np.float32)
    whole[:, voxels - first] = weights
    return slice(first, last + 1), whole, slice(int(places[0]), int(places[-1]) + 1)


def _inplane_of(stack: Stack, index: int, whole: Grid) -> F32:
    """One plane at the grid's spacing: as it was resampled on arrival, else now."""
    one = stack.planes[index]
    target = (whole.spacing_mm[1], whole.spacing_mm[2])
    if target[0] == target[1] and target[0] in one.resampled:
        return one.resampled[target[0]]
    return inplane(one.native, one.geometry.spacing_mm, target)


def _weigh(planes: Sequence[F32], weights: Sequence[float], shift: float, out: F32) -> None:
    """out = sum of weight * plane + shift, in place."""
    if len(planes) == 1:
        np.multiply(planes[0], np.float32(weights[0]), out=out)
        out += np.float32(shift)
        return
    cv2.addWeighted(planes[0], weights[0], planes[1], weights[1], shift, dst=out)
    for one, weight in zip(planes[2:], weights[2:], strict=True):
        cv2.scaleAdd(one, weight, out, dst=out)


def _affine(op: Window | ZScore) -> tuple[float, float, bool]:
    """value * scale + shift, and whether it is clipped to 0..1."""
    if isinstance(op, Window):
        return 1 / (op.high - op.low), -op.low / (op.high - op.low), True
    return 1 / op.std, -op.mean / op.std, False


def _padded(shape: tuple[int, int, int], ops: Sequence[Window | ZScore | Pad]) -> F32:
    """Room for the voxels; padding already holds its value, changed by the ops after the pad."""
    for i, op in enumerate(ops):
        if isinstance(op, Pad):
            value = reference.points(np.full((1, 1, 1), op.value, np.float32), ops[i + 1 :])
            return np.full([n + -n % op.multiple for n in shape], value.item(), np.float32)
    return np.empty(shape, np.float32)
