"""The definition of the ops of one radiograph, in plain numpy: display, collimation, square.

Rules.
1. display, of an image with a VOI: stored value -> Modality LUT -> VOI LUT, the first item of the
   sequence, else the first window -> 0..1 (PS3.3 C.11.1, C.11.2; LINEAR, LINEAR_EXACT and SIGMOID
   are C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1), inverted where the image says so. Below the
   first entry of a table lies the first, above the last the last.
2. display, of an image without: LINEAR_EXACT from the 1st to the 99th percentile of the modality
   values within the borders that rule 4 finds when the whole range is shown.
3. What is not shown (padding, outside a shutter or collimator) is 0 and counts nowhere.
4. collimation: a line at a border is peeled off while it is flat: between the 5th and the 95th
   percentile of its shown pixels lie at most `FLAT` (a lead letter is no anatomy), or nothing of it
   is shown. Sides are peeled in turn until none is left to peel: what is left is the field.
5. square: of the field, the middle square of the short edge in millimetres. A pixel of it is the
   average over its exact area.
6. There must be something to see: a field of at least an eighth of each edge and of `size` pixels,
   with `CONTRAST` between its 5th and 95th percentile.
An op list reads display, collimation (or not), square, then zscore.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.errors import BundleRefused
from appliance.preprocess import reference
from appliance.preprocess.spec import Collimation, Display, Op, Square, ZScore
from appliance.records import Greyscale, Linear, Lut, Radiograph, VoiWindow

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FLAT = 0.05
CONTRAST = 0.05
LOW, HIGH = 0.05, 0.95
ANATOMY = (0.01, 0.99)
LEAST = 8
SAMPLE = 512
"""Pixels of an edge that are enough to know the contrast by."""

Field = tuple[int, int, int, int]
"""Rows and columns, half-open: top, bottom, left, right."""


@dataclass(frozen=True, slots=True)
class Steps:
    """An op list, read by the order above."""

    collimated: bool
    size: int
    points: tuple[ZScore, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network sees of a radiograph."""

    values: F32
    """[1, 1, size, size]."""
    top: float
    left: float
    height: float
    width: float
    """Of the square, in pixels of the upright image; edges, so the first pixel begins at 0."""


def steps(ops: Sequence[Op]) -> Steps:
    """An op list -> Steps. BundleRefused (`bundle_preprocess`) names an op out of its place."""
    left = list(ops)
    if left and isinstance(left[0], Display):
        del left[0]
        collimated = bool(left) and isinstance(left[0], Collimation)
        del left[: int(collimated)]
        if left and isinstance(left[0], Square):
            points = tuple(op for op in left[1:] if isinstance(op, ZScore))
            if len(points) == len(left) - 1:
                return Steps(collimated, left[0].size, points)
    raise BundleRefused(
        f"preprocess: {', '.join(op.op for op in ops) or 'no op'} cannot be read for a radiograph",
        remedy="Order: display, collimation, square, zscore.",
        code="bundle_preprocess",
    )


def tensor(image: Radiograph, ops: Sequence[Op]) -> Seen | str:
    """One radiograph -> what a network sees; or, by rule 6, why there is nothing to see."""
    read = steps(ops)
    values = display(image)
    rows, columns = values.shape
    field = borders(values, image.shown) if read.collimated else (0, rows, 0, columns)
    if field is None:
        return "it shows nothing: all of it is of one grey"
    top, bottom, left, right = field
    least = [max(n // LEAST, read.size) for n in (rows, columns)]
    if bottom - top < least[0] or right - left < least[1]:
        shown = f"its field is {bottom - top} x {right - left} pixels"
        return f"{shown}; at least {least[0]} x {least[1]} are needed"
    step = max(1, max(rows, columns) // SAMPLE)
    sample = slice(top, bottom, step), slice(left, right, step)
    if _spread(values[sample], image.shown[sample]) < CONTRAST:
        return "it shows nothing: its window or table leaves it without contrast"
    seen = square(values, field, image.aspect, read.size)
    picture = seen.values
    for op in read.points:
        picture = reference.zscore(picture, op.mean, op.std)
    return replace(seen, values=picture)


def display(image: Radiograph) -> F32:
    """Grey values [rows, columns], 0..1, bones bright (rules 1 to 3)."""
    grey = image.grey
    if grey.voi is None:
        grey = replace(grey, voi=_anatomy(image))
    return _looked_up(image, table(grey, image.stored.dtype))


def table(grey: Greyscale, kind: np.dtype[Any]) -> F32:
    """Grey value, 0..1, of every word of this integer type, in order of its unsigned bits; a
    Greyscale without a VOI is a ValueError."""
    if grey.voi is None:
        raise ValueError("a greyscale without a VOI has no table")
    shown = voi(modality(_words(kind), grey.modality), grey.voi)
    return np.asarray(1 - shown if grey.inverse else shown, np.float32)


def modality(stored: F64, how: Linear | Lut) -> F64:
    """Stored values -> modality values."""
    if isinstance(how, Linear):
        return stored * how.slope + how.intercept
    return _entries(stored, how)


def voi(values: F64, how: VoiWindow | Lut) -> F64:
    """Modality values -> 0..1."""
    if isinstance(how, Lut):
        return _entries(values, how) / ((1 << how.bits) - 1)
    center, width = how.center, how.width
    if how.function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if how.function == "LINEAR":
        center, width = center - 0.5, width - 1
        if width == 0:  # C.11.2.1.2.1: a threshold
            return np.asarray(values > center, np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def borders(values: F32, shown: NDArray[np.bool_]) -> Field | None:
    """The field within flat borders (rule 4); None where nothing is left."""
    top, left = 0, 0
    bottom, right = values.shape
    before = None
    while before != (top, bottom, left, right):
        before = top, bottom, left, right
        columns = slice(left, right)
        while top < bottom and _flat(values[top, columns], shown[top, columns]):
            top += 1
        while top < bottom and _flat(values[bottom - 1, columns], shown[bottom - 1, columns]):
            bottom -= 1
        rows = slice(top, bottom)
        while left < right and _flat(values[rows, left], shown[rows, left]):
            left += 1
        while left < right and _flat(values[rows, right - 1], shown[rows, right - 1]):
            right -= 1
    return (top, bottom, left, right) if top < bottom and left < right else None


def square(values: F32, field: Field, aspect: float, size: int) -> Seen:
    """The middle square of a field, `size` pixels wide (rule 5). `aspect`: height of a pixel by its
    width."""
    top, bottom, left, right = field
    edge = min((bottom - top) * aspect, float(right - left))  # in widths of a pixel
    height, width = edge / aspect, edge
    upper, first = (top + bottom - height) / 2, (left + right - width) / 2
    y, down = _shares(upper, height, size, values.shape[0])
    x, across = _shares(first, width, size, values.shape[1])
    picture = np.clip(down @ (values[y, x] @ across.T), 0, 1)
    return Seen(np.asarray(picture[None, None], np.float32), upper, first, height, width)


def _shares(start: float, length: float, size: int, pixels: int) -> tuple[slice, F32]:
    """The pixels of an axis that a length covers, and the matrix [size, these]: the share of each
    in each of `size` equal parts. What lies outside has no share: left in, its zeros would change
    the order in which a BLAS sums, and with it the last bit."""
    edges = start + np.arange(size + 1) * (length / size)
    covered = slice(max(0, math.floor(start)), min(pixels, math.ceil(start + length)))
    at = np.arange(covered.start, covered.stop)
    high = np.minimum(edges[1:, None], at[None] + 1)
    low = np.maximum(edges[:-1, None], at[None])
    shared = np.maximum(high - low, 0.0)
    return covered, np.asarray(shared / shared.sum(axis=1, keepdims=True), np.float32)


def _anatomy(image: Radiograph) -> VoiWindow:
    """Rule 2."""
    values = modality(_words(image.stored.dtype), image.grey.modality)
    counts = _counted(image, image.shown)
    there = values[counts > 0]
    if not len(there):
        return VoiWindow(0.5, 1.0, "LINEAR_EXACT")  # nothing is shown: whatever
    whole = replace(image.grey, voi=_between(float(there.min()), float(there.max())))
    field = borders(_looked_up(image, table(whole, image.stored.dtype)), image.shown)
    if field is not None:
        inside = np.zeros_like(image.shown)
        inside[field[0] : field[1], field[2] : field[3]] = True
        counts = _counted(image, inside & image.shown)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    low, high = (
        float(values[order[int(np.searchsorted(reached, share * reached[-1]))]])
        for share in ANATOMY
    )
    return _between(low, high)


def _between(low: float, high: float) -> VoiWindow:
    return VoiWindow((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")


def _words(kind: np.dtype[Any]) -> F64:
    """The values of all words of an integer type, in order of their unsigned bits."""
    unsigned = np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}")
    return unsigned.view(kind).astype(np.float64)


def _bits(stored: NDArray[Any]) -> NDArray[Any]:
    return stored.view(f"u{stored.dtype.itemsize}")


def _counted(image: Radiograph, where: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many pixels have each word."""
    words = _bits(image.stored)[where]
    counts: NDArray[np.int64] = np.bincount(words, minlength=1 << 8 * words.dtype.itemsize)
    return counts


def _looked_up(image: Radiograph, of: F32) -> F32:
    grey: F32 = of[_bits(image.stored)]
    grey[~image.shown] = 0
    return grey


def _entries(values: F64, how: Lut) -> F64:
    at = np.clip(np.rint(values) - how.first, 0, len(how.entries) - 1).astype(np.int64)
    found: F64 = np.asarray(how.entries, np.float64)[at]
    return found


def _flat(line: F32, shown: NDArray[np.bool_]) -> bool:
    return _spread(line, shown) <= FLAT


def _spread(values: F32, shown: NDArray[np.bool_]) -> float:
    """Between the 5th and the 95th percentile of what is shown; 0 where nothing is."""
    there = values[shown]
    if not there.size:
        return 0.0
    ends = round(LOW * (there.size - 1)), round(HIGH * (there.size - 1))
    low, high = np.partition(there, ends)[list(ends)]
    return float(high - low)
