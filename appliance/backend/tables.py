"""What kernels.cu is told: tables and argument structs, reckoned by the reference. Numbers only.

Rules.
1. The weights are the reference's own, without the zeros around them: an Axis has one first index
   and `taps` weights a voxel. Taps too many weigh 0 and lie within the axis, so a kernel needs no
   test of bounds.
2. Orienting is an address: origin and two signed steps, never a copy.
3. A struct is a numpy dtype laid out as the C compiler does (align=True). Pointers are addresses of
   whatever memory the caller put an array into; the caller keeps that memory alive.
4. Kernels called ..._i8 write round(value / scale), QuantizeLinear with zero point 0: with a scale
   the division is one more row of Points, and the fill, which no row reaches, is divided here.
5. With a soften op, `prepare` is of what it needs: HU in float32, grown in the plane by its reach
   and softened along the normal already. `soften` is of the kernel that follows; for patches and
   cubes, `gather` and `cubes` are asked with the ops of plan.to_soften.
6. A launch covers its output with blocks of BLOCK (or LINE) threads; a thread outside returns at
   once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import plan, reference
from appliance.preprocess.spec import Op, Pad, Window, ZScore
from appliance.records import Box, Grid, Stack, Vector

I32 = NDArray[np.int32]
F32 = NDArray[np.float32]
Address = Callable[[NDArray[Any]], int]
"""Puts an array where the kernel can read it and says where that is."""

BLOCK = (32, 8, 1)
LINE = (256, 1, 1)
"""Of `normalise`, which counts along x alone."""
MOST_BLOCKS = 65_535
"""CUDA's limit of a grid along y and z."""
NO_PADDING = (1, 0)
LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""The least whose inverse is a float32."""

_SLICES = np.dtype(
    [
        ("words", "u8"), ("slot", "u8"), ("slope", "u8"), ("intercept", "u8"), ("padding", "u8"),
        ("origin", "i8"), ("step_y", "i8"), ("step_x", "i8"), ("slice_words", "i8"),
        ("is_signed", "i4"), ("planes", "i4"), ("rows", "i4"), ("columns", "i4"),
    ],
    align=True,
)  # fmt: skip
_AXIS = np.dtype([("first", "u8"), ("weights", "u8"), ("taps", "i4"), ("voxels", "i4")], align=True)
_POINTS = np.dtype([("rows", "u8"), ("count", "i4"), ("fill", "f4")], align=True)
PREPARE = np.dtype(
    [
        ("from", _SLICES), ("z", _AXIS), ("y", _AXIS), ("x", _AXIS), ("points", _POINTS),
        ("depth", "i4"), ("height", "i4"), ("width", "i4"), ("out", "u8"),
    ],
    align=True,
)  # fmt: skip
GATHER = np.dtype(
    [
        ("from", _SLICES), ("corners", "u8"), ("points", _POINTS),
        ("patches", "i4"), ("views", "i4"), ("size", "i4"), ("out", "u8"),
    ],
    align=True,
)  # fmt: skip
CUBES = np.dtype(
    [
        ("from", _SLICES), ("first", "u8"), ("weights", "u8"), ("points", _POINTS),
        ("cubes", "i4"), ("size", "i4"), ("out", "u8"),
    ],
    align=True,
)  # fmt: skip
SOFTEN = np.dtype(
    [
        ("from", "u8"), ("through", "u8"), ("down", "u8"), ("across", "u8"), ("points", _POINTS),
        ("taps_z", "i4"), ("taps_y", "i4"), ("taps_x", "i4"),
        ("voxels_z", "i4"), ("voxels_y", "i4"), ("voxels_x", "i4"),
        ("images", "i4"), ("views", "i4"),
        ("depth", "i4"), ("height", "i4"), ("width", "i4"), ("out", "u8"),
    ],
    align=True,
)  # fmt: skip
ACCUMULATE = np.dtype(
    [
        ("window", "u8"), ("weights", "u8"), ("sum", "u8"), ("total", "u8"),
        ("channels", "i4"), ("depth", "i4"), ("height", "i4"), ("width", "i4"),
        ("at_z", "i4"), ("at_y", "i4"), ("at_x", "i4"),
        ("whole_depth", "i4"), ("whole_height", "i4"), ("whole_width", "i4"),
    ],
    align=True,
)  # fmt: skip
NORMALISE = np.dtype(
    [("sum", "u8"), ("total", "u8"), ("voxels", "i8"), ("channels", "i4")], align=True
)


@dataclass(frozen=True, slots=True)
class Raw:
    """The stored words of a series on the device, beside the Stack that was made of them."""

    words: int
    """Address of [slots, rows, columns]: 16 bit, cut to Bits Stored and sign extended; or HU in
    float32, for the kernels called ..._of_f32."""
    slot: I32
    """[planes] in the Stack's order: which slot holds it."""
    slope: F32
    intercept: F32
    padding: I32
    """[planes, 2]: the stored values that are padding, both ends included; NO_PADDING for none."""
    shape: tuple[int, int]
    """Rows and columns as stored."""
    turn: plan.Turn
    """How `plan.orient` lays a slice onto its nearest LPS axes."""
    signed: bool
    """Pixel Representation (0028,0103)."""


def taps(weights: F32) -> tuple[I32, F32]:
    """A weight matrix [voxels, inputs] -> first input [voxels], weights [voxels, taps] (rule 1)."""
    used = weights != 0
    first = used.argmax(axis=1)
    last = weights.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    width = int((last - first).max()) + 1
    first = np.minimum(first, weights.shape[1] - width)
    near = np.take_along_axis(weights, first[:, None] + np.arange(width), axis=1)
    return first.astype(np.int32), np.ascontiguousarray(near, np.float32)


def points(
    ops: Sequence[Window | ZScore | Pad], scale: float | None = None
) -> tuple[F32, int, float]:
    """The ops after resampling -> rows [n, 3] of less, more, clip; a pad's multiple; its value.

    `scale` is of a network's int8 input (rule 4). ValueError for one that no float32 can divide by.
    """
    rows, multiple, fill = [], 1, 0.0
    for i, op in enumerate(ops):
        if isinstance(op, Window):
            rows.append((op.low, 1 / (op.high - op.low), 1.0))
        elif isinstance(op, ZScore):
            rows.append((op.mean, 1 / op.std, 0.0))
        else:
            multiple = op.multiple
            added = np.full((1, 1, 1), op.value, np.float32)
            fill = reference.points(added, ops[i + 1 :]).item()
    if scale is not None:
        if not LEAST_SCALE <= scale <= 1 / LEAST_SCALE:
            raise ValueError(f"{scale} is no scale of an int8 input")
        rows.append((0.0, 1 / scale, 0.0))
        fill = (np.float32(fill) / np.float32(scale)).item()
    return np.asarray(rows, np.float32).reshape(-1, 3), multiple, fill


def prepare(
    stack: Stack,
    raw: Raw,
    ops: Sequence[Op],
    crop_to: tuple[Grid, Box] | None,
    put: Address,
    *,
    scale: float | None = None,
) -> tuple[NDArray[np.void], tuple[int, int, int], Grid]:
    """PREPARE without `out`, the tensor's [z, y, x] with padding, the Grid of its voxels without.
    With a soften op shape and values are those of rule 5, and `scale` is for `soften`.

    Errors as of reference.apply; of `scale` as of points.
    """
    read = plan.steps(ops)
    whole, box = plan.placed(stack, read, crop_to)
    rows, columns = stack.planes[0].native.shape
    pixel = stack.planes[0].geometry.spacing_mm
    sd_mm = 0.0 if read.soften is None else read.soften.sd_mm
    weights = (
        reference.plane_weights(stack.z_mm, whole.spacing_mm[0], sd_mm),
        reference.axis_weights(rows, pixel[0], whole.spacing_mm[1]),
        reference.axis_weights(columns, pixel[1], whole.spacing_mm[2]),
    )
    arguments = np.zeros((), PREPARE)
    arguments["from"] = _slices(stack, raw, put)
    for name, axis, low, high in zip("zyx", weights, box.low, box.high, strict=True):
        more = 0 if name == "z" else plan.reach(sd_mm, whole.spacing_mm["zyx".index(name)])
        repeated = np.arange(low - more, high + more).clip(0, len(axis) - 1)
        first, near = taps(axis[repeated])
        arguments[name] = (put(first), put(near), near.shape[1], len(first))
    after = read.points if read.soften is None else ()
    values, multiple, fill = points(after, scale if read.soften is None else None)
    arguments["points"] = (put(values), len(values), fill)
    grid = plan.sub_grid(whole, box)
    sizes = [int(arguments[name]["voxels"]) for name in "zyx"]
    shape = plan.triple([n + -n % multiple for n in sizes])
    arguments["depth"], arguments["height"], arguments["width"] = shape
    return arguments, shape, grid


def gather(
    stack: Stack,
    raw: Raw,
    ops: Sequence[Op],
    centers: Sequence[Vector],
    views: int,
    put: Address,
    *,
    scale: float | None = None,
) -> tuple[NDArray[np.void], tuple[int, int, int]]:
    """GATHER without `out`, and its shape [patches * views, size, size].

    Errors as of reference.apply_patches; of `scale` as of points.
    """
    read = plan.steps(ops)
    if read.patch is None:
        raise ValueError("these ops have no patch")
    size = read.patch.size
    corners = np.zeros((len(centers), 3), np.int32)
    for corner, center in zip(corners, centers, strict=True):
        plane = plan.nearest_plane(stack, center)
        row, column = plan.nearest_pixel(stack.planes[plane].geometry, center)
        # a centre metres away gives air wherever it is: the clip keeps it in 32 bits
        far = np.clip([row - size // 2, column - size // 2], -(1 << 30), 1 << 30)
        corner[:] = (plane, *far)
    values, _, _ = points(read.points, scale)
    arguments = np.zeros((), GATHER)
    arguments["from"] = _slices(stack, raw, put)
    arguments["corners"] = put(corners)
    arguments["points"] = (put(values), len(values), 0.0)
    arguments["patches"], arguments["views"], arguments["size"] = len(centers), views, size
    return arguments, (len(centers) * views, size, size)


def cubes(
    stack: Stack,
    raw: Raw,
    ops: Sequence[Op],
    centers: Sequence[Vector],
    put: Address,
    *,
    scale: float | None = None,
) -> tuple[NDArray[np.void], tuple[int, int, int]]:
    """CUBES without `out`, and its shape [cubes * size, size, size].

    Errors as of reference.apply_patches; of `scale` as of points.
    """
    read = plan.steps(ops)
    if read.cube is None:
        raise ValueError("these ops have no cube")
    size = read.cube.size
    first = np.full((len(centers), 3, size), -1, np.int32)
    weights = np.zeros((len(centers), 3, size, 2), np.float32)
    places = reference.cube_weights(stack, centers, read.cube)
    for lower, pairs, axes in zip(first, weights, places, strict=True):
        for axis, (near, of, inside) in enumerate(axes):
            if len(inside):
                lower[axis, inside], pairs[axis, inside] = _two(near, of)
    values, _, _ = points(read.points, scale)
    arguments = np.zeros((), CUBES)
    arguments["from"] = _slices(stack, raw, put)
    arguments["first"], arguments["weights"] = put(first), put(weights)
    arguments["points"] = (put(values), len(values), 0.0)
    arguments["cubes"], arguments["size"] = len(centers), size
    return arguments, (len(centers) * size, size, size)


def _two(near: NDArray[np.intp], weights: F32) -> tuple[I32, F32]:
    """Linear weights [places, near] -> the lower voxel [places], the weights of it and the next.
    The next of the last voxel weighs 0 and is not read."""
    rows = np.arange(len(weights))
    lower = (weights != 0).argmax(axis=1)
    upper = np.minimum(lower + 1, weights.shape[1] - 1)
    beside = near[upper] == near[lower] + 1
    pair = np.stack([weights[rows, lower], np.where(beside, weights[rows, upper], 0.0)], axis=1)
    return near[lower].astype(np.int32), pair.astype(np.float32)


def soften(
    stack: Stack,
    ops: Sequence[Op],
    crop_to: tuple[Grid, Box] | None,
    put: Address,
    *,
    scale: float | None = None,
) -> tuple[NDArray[np.void], tuple[int, int, int]]:
    """SOFTEN without `from` and `out`, of a volume that `prepare` made ready, and the tensor's
    [z, y, x] with padding. Errors as of `prepare`; ValueError without a soften op."""
    read = plan.steps(ops)
    if read.soften is None:
        raise ValueError("these ops do not soften")
    whole, box = plan.placed(stack, read, crop_to)
    voxels = plan.sub_grid(whole, box).shape
    sides = [_side(read.soften.sd_mm, mm) for mm in whole.spacing_mm[1:]]
    arguments, multiple = _soften(read, (np.ones(1, np.float32), *sides), voxels, put, scale)
    shape = plan.triple([n + -n % multiple for n in voxels])
    arguments["images"], arguments["views"] = 1, 1
    arguments["depth"], arguments["height"], arguments["width"] = shape
    return arguments, shape


def soften_gathered(
    stack: Stack,
    ops: Sequence[Op],
    images: int,
    views: int,
    put: Address,
    *,
    scale: float | None = None,
) -> NDArray[np.void]:
    """SOFTEN without `from` and `out`, of so many patches or cubes, which were gathered with the
    ops of plan.to_soften. ValueError for other ops."""
    read = plan.steps(ops)
    _, more = plan.to_soften(stack, ops)
    sd_mm = read.soften.sd_mm if read.soften is not None else 0.0
    if read.cube is not None:
        size, sides = read.cube.size, [_side(sd_mm, read.cube.spacing_mm)] * 3
        voxels = (size, size, size)
    else:
        size = read.patch.size if read.patch is not None else 0
        # both as long as the longer: a swapped view has them the other way round
        near = [_side(sd_mm, mm) for mm in plan.native_spacing(stack)[1:]]
        sides = [np.pad(one, more - len(one) // 2) for one in near]
        sides, voxels = [np.ones(1, np.float32), *sides], (1, size, size)
    arguments, _ = _soften(read, sides, voxels, put, scale)
    arguments["images"], arguments["views"] = images * views, views
    arguments["depth"], arguments["height"], arguments["width"] = voxels
    return arguments


def _soften(
    read: plan.Steps,
    sides: Sequence[F32],
    voxels: tuple[int, int, int],
    put: Address,
    scale: float | None,
) -> tuple[NDArray[np.void], int]:
    """What all SOFTEN have, and the multiple of a pad."""
    values, multiple, fill = points(read.points, scale)
    arguments = np.zeros((), SOFTEN)
    for name, axis, weights, count in zip(
        ("through", "down", "across"), "zyx", sides, voxels, strict=True
    ):
        arguments[name] = put(weights)
        arguments[f"taps_{axis}"], arguments[f"voxels_{axis}"] = len(weights), count
    arguments["points"] = (put(values), len(values), fill)
    return arguments, multiple


def _side(sd_mm: float, spacing_mm: float) -> F32:
    return reference.gaussian(sd_mm / spacing_mm, plan.reach(sd_mm, spacing_mm))


def blocks(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many blocks x, y, z cover an output [z, y, x] (rule 5).

    ValueError where CUDA takes no such grid: more than 8,191 patches of 8 views go in parts.
    """
    x, y, z = (-(-n // of) for n, of in zip(shape[::-1], BLOCK, strict=True))
    if max(y, z) > MOST_BLOCKS:
        raise ValueError(f"an output of {shape} needs more than {MOST_BLOCKS} blocks on an axis")
    return x, y, z


def row_of_blocks(elements: int) -> tuple[int, int, int]:
    """How many blocks of LINE cover so many elements."""
    return -(-elements // LINE[0]), 1, 1


def _slices(stack: Stack, raw: Raw, put: Address) -> NDArray[np.void]:
    rows, columns = raw.shape
    # steps of the stored slice, then rule 2: swap first, then flip (plan.orient)
    steps, counts = [columns, 1], [rows, columns]
    if raw.turn.swap:
        steps, counts = steps[::-1], counts[::-1]
    origin = 0
    for axis, flipped in enumerate((raw.turn.flip_rows, raw.turn.flip_columns)):
        if flipped:
            origin += (counts[axis] - 1) * steps[axis]
            steps[axis] = -steps[axis]
    arguments = np.zeros((), _SLICES)
    arguments["words"], arguments["slot"] = raw.words, put(raw.slot)
    arguments["slope"], arguments["intercept"] = put(raw.slope), put(raw.intercept)
    arguments["padding"] = put(raw.padding)
    arguments["origin"], arguments["step_y"], arguments["step_x"] = origin, *steps
    arguments["slice_words"], arguments["is_signed"] = rows * columns, raw.signed
    arguments["planes"], arguments["rows"], arguments["columns"] = len(stack.planes), *counts
    return arguments
