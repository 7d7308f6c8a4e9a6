"""Logits of the lung network -> a mask, what it covers, and on which side a point lies.

Rules.
1. A voxel is set where sigmoid(logit) >= threshold. Face-connected parts smaller than `min_ml` go.
   Each of the others is closed by a ball of `close_mm` by itself, so two lungs never grow together,
   and what it encloses is filled. The border of the volume is no wall: closing adds nothing there.
2. Lungs are cut at an end of the series where the mask covers more than END_CM2 of the end plane,
   and at the side where more than SIDE_CM2 of it lie on the edge of the field of view: the border
   of the image, or the circle in it where the scanner padded the corners (0028,0120).
3. A side is that of the part nearest to a point. Parts lie left or right of the middle between the
   mask's outermost x. A part wider than deep is both lungs in one and is split at that middle. Of
   one single lung nobody can say which it is: no side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliance.bundle.heads import SegmentHead
from appliance.errors import Poisoned
from appliance.preprocess import plan
from appliance.reasons import Code
from appliance.records import Box, Grid, Mask, Stack, Tensor, Vector
from appliance.report import Coverage, Reason

Bool = NDArray[np.bool_]
F32 = NDArray[np.float32]
Side = Literal["left", "right"]

NAME = "lungs"
END_CM2 = 1.0
"""A dome of the diaphragm or an apex that just touches the end plane is smaller."""
SIDE_CM2 = 5.0
BOTH_LUNGS = 1.1
"""Width over depth of a part that holds both lungs; one adult lung has about 0.7, both 1.4."""
REACH_MM = 25.0
"""Further from any lung than this, a point is judged by the middle alone."""


def mask(outputs: Mapping[str, F32], image: Tensor, head: SegmentHead) -> Mask:
    """Logits [1, 1, z, y, x], padding still on -> the mask on the grid of `image` (rule 1).

    Poisoned (`backend_failed`) where the logits do not cover the grid.
    """
    grid = grid_of(image)
    logits = unpadded(outputs[head.output], grid)
    kept = np.zeros(grid.shape, np.bool_)
    voxels = logits >= np.log(head.threshold / (1 - head.threshold))
    found = found_in(voxels)
    least = max(head.min_ml, _voxel_ml(grid) / 2)
    for part in (np.flatnonzero(found.sizes * _voxel_ml(grid) >= least) + 1).tolist():
        inside = found.box(part)
        kept[inside] |= filled(closed(found.of(part, inside), head.close_mm, grid.spacing_mm))
    return Mask(NAME, kept, grid)


def grid_of(image: Tensor) -> Grid:
    """The grid of a prepared volume; ValueError for patches, which have none."""
    if image.grid is None:
        raise ValueError("this tensor has no grid")
    return image.grid


def unpadded(array: F32, grid: Grid) -> F32:
    """An output [1, 1, z, y, x] without the padding of its input: [z, y, x] of the grid."""
    covers(array.shape, grid)
    z, y, x = grid.shape
    return array[0, 0, :z, :y, :x]


def covers(shape: tuple[int, ...], grid: Grid) -> None:
    """Poisoned where an output of this shape [1, n, z, y, x] does not cover the grid."""
    if len(shape) != 5 or any(n < least for n, least in zip(shape[2:], grid.shape, strict=True)):
        raise Poisoned(
            f"an output of shape {shape} does not cover the grid {grid.shape}",
            code="backend_failed",
        )


def millilitres(mask: Mask) -> float:
    """The volume of a mask."""
    return float(np.count_nonzero(mask.voxels)) * _voxel_ml(mask.grid)


def coverage(mask: Mask | None, stack: Stack) -> Coverage:
    """Which ends of the lungs the series cuts off (rule 2), and its extent along z (LPS)."""
    if mask is None:
        return Coverage(lungs="unknown", z_mm=plan.extent(stack))
    if not mask.voxels.any():
        return Coverage(lungs="absent", z_mm=plan.extent(stack))
    seen = Coverage(z_mm=plan.extent(stack), lungs_z_mm=_reach(mask), sides=_sides_seen(mask))
    _, dy, dx = mask.grid.spacing_mm
    feet, head = (np.count_nonzero(mask.voxels[end]) * dy * dx / 100 > END_CM2 for end in (0, -1))
    lungs: dict[tuple[bool, bool], Literal["covered", "cut_head", "cut_feet", "cut_both"]] = {
        (False, False): "covered",
        (False, True): "cut_head",
        (True, False): "cut_feet",
        (True, True): "cut_both",
    }
    return seen.model_copy(update={"lungs": lungs[feet, head], "fov_mm": plan.field(stack)})


def _reach(mask: Mask) -> tuple[float, float]:
    """Lowest and highest z (LPS) of the centres of the set voxels, of which there is one."""
    depth, _, width = mask.voxels.shape
    if np.abs(mask.grid.to_lps[2, 1:3]).max() < plan.WHOLE:  # axial: a plane has one z
        planes = np.flatnonzero(mask.voxels.reshape(depth, -1).any(axis=1))
        ends = [np.array([[z, 0, 0]]) for z in (planes[0], planes[-1])]
    else:  # z is linear along a row: its extremes lie at the ends of the row
        rows = np.argwhere(mask.voxels.any(axis=2))
        along_x = mask.voxels[tuple(rows.T)]
        first, last = np.argmax(along_x, axis=1), np.argmax(along_x[:, ::-1], axis=1)
        ends = [np.column_stack([rows, x]) for x in (first, width - 1 - last)]
    heights = np.concatenate([plan.to_lps(mask.grid, at)[:, 2] for at in ends])
    return round(float(heights.min()), 2), round(float(heights.max()), 2)


def _sides_seen(mask: Mask) -> Literal["both", "one"]:
    return "one" if one_lung(mask) else "both"


def limitations(mask: Mask, coverage: Coverage, stack: Stack) -> tuple[Reason, ...]:
    """What of the lungs the images do not show."""
    found = []
    ends = {"cut_feet": "the lower end", "cut_head": "the upper end", "cut_both": "both ends"}
    if coverage.lungs in ends:
        text = f"The lungs reach beyond {ends[coverage.lungs]} of the series."
        found.append(Reason(code=Code.LUNGS_NOT_COVERED, text=text, where="series"))
    cut = side_cm2(mask, any(plane.padding for plane in stack.planes))
    if cut > SIDE_CM2:
        text = f"The lungs meet the edge of the field of view over {cut:.0f} cm2."
        found.append(Reason(code=Code.TRUNCATED_FOV, text=text, where="series"))
    return tuple(found)


def one_lung(mask: Mask) -> tuple[Reason, ...]:
    """ONE_LUNG where all that was found is no wider than one lung is (BOTH_LUNGS): an opaque or
    removed lung must not read as a lung without findings."""
    _, dy, dx = mask.grid.spacing_mm
    flat: Bool = np.asarray(mask.voxels.any(axis=0))
    across, deep = np.flatnonzero(flat.any(axis=0)), np.flatnonzero(flat.any(axis=1))
    if not len(across) or np.ptp(across) * dx > BOTH_LUNGS * np.ptp(deep) * dy:
        return ()
    return (Reason(code=Code.ONE_LUNG, text="Only one lung was found.", where="series"),)


def side_cm2(mask: Mask, round_field: bool) -> float:
    """Area over which a mask meets the edge of the field of view, square or round (rule 2)."""
    dz, dy, dx = mask.grid.spacing_mm
    _, rows, columns = mask.grid.shape
    flat = np.add.reduce(mask.voxels.view(np.uint8), axis=0, dtype=np.uint16)
    if round_field:
        y = (np.arange(rows) - (rows - 1) / 2) * dy
        x = (np.arange(columns) - (columns - 1) / 2) * dx
        radius = min(rows * dy, columns * dx) / 2 - max(dy, dx)
        rim = np.hypot(y[:, None], x[None, :])
        on_rim = (rim >= radius) & (rim < radius + max(dy, dx))
        return float(flat[on_rim].sum()) * dz * max(dy, dx) / 100
    along_x = int(flat[0].sum() + flat[-1].sum())
    along_y = int(flat[:, 0].sum() + flat[:, -1].sum())
    return (along_x * dx + along_y * dy) * dz / 100


def side_of(mask: Mask, lps: Vector) -> Side | None:
    """The side of one point (rule 3); for several points `sides` is cheaper."""
    return sides(mask, [lps])[0]


def sides(mask: Mask, points: Sequence[Vector]) -> tuple[Side | None, ...]:
    """The side of each point: of the nearest lung, else of the middle (rule 3)."""
    if not points:
        return ()
    found_parts = found_in(mask.voxels)
    count = len(found_parts.sizes)
    if not count:
        return (None,) * len(points)
    at, owner = found_parts.places(2)  # an eighth of the voxels tells where parts lie
    if len(np.unique(owner)) < count:
        at, owner = found_parts.places(1)
    owner = owner - 1
    x, y = plan.to_lps(mask.grid, at)[:, :2].T
    middle = (x.min() + x.max()) / 2
    width, depth = (_extent(v, owner, count) for v in (x, y))
    both = width > BOTH_LUNGS * depth
    if count == 1 and not both[0]:
        return (None,) * len(points)
    left = np.bincount(owner, x) / np.bincount(owner) > middle
    found: list[Side | None] = []
    for point in points:
        near, away = nearby(mask.voxels, mask.grid, point, REACH_MM)
        lies_left = point[0] > middle
        if len(near):
            nearest = near[int(np.argmin(away))]
            label = found_parts.at(nearest.tolist()) - 1
            if not both[label]:
                lies_left = bool(left[label])
        found.append("left" if lies_left else "right")
    return tuple(found)


def nearby(
    voxels: Bool, grid: Grid, lps: ArrayLike, reach_mm: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Set voxels in the cube of `reach_mm` around a point: indices [n, 3], distances in mm [n]."""
    return around(voxels, grid, plan.to_index(grid, lps), reach_mm)


def around(
    voxels: Bool, grid: Grid, middle: NDArray[np.float64], reach_mm: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The same around a voxel index, fractions allowed."""
    reach = reach_mm / np.asarray(grid.spacing_mm)
    low = np.clip(np.ceil(middle - reach), 0, grid.shape).astype(int)
    high = np.clip(np.floor(middle + reach) + 1, 0, grid.shape).astype(int)
    box = Box(plan.triple(low), plan.triple(high))
    near = np.argwhere(voxels[tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))])
    near += low
    away = np.linalg.norm((near - middle) * np.asarray(grid.spacing_mm), axis=1)
    return near, away


@dataclass(frozen=True, slots=True)
class Found:
    """Face-connected parts, numbered 1, 2, ..., of set voxels."""

    low: tuple[int, int, int]
    """Where `pieces` begins: only the box around all set voxels is looked at."""
    pieces: NDArray[np.int32]
    """[z, y, x]: which piece of its own plane a voxel belongs to, 0 for none."""
    owner: NDArray[np.int32]
    """Piece -> part; 0 -> 0."""
    sizes: NDArray[np.int64]
    """Voxels of each part."""
    runs: tuple[NDArray[np.int32], NDArray[np.intp], NDArray[np.intp]]
    """Of each run of set voxels along x: its part, and where it begins and ends if all rows of
    `pieces`, each with an empty voxel before it and each plane with an empty row below it, are one
    line."""

    def box(self, part: int) -> tuple[slice, slice, slice]:
        """The smallest box that holds a part."""
        own = self.runs[0] == part
        first, last = self.runs[1][own], self.runs[2][own]
        _, rows, columns = self.pieces.shape
        row, x = np.divmod(first, columns + 1)
        z, y = np.divmod(row, rows + 1)
        ends = (z, z), (y, y), (x - 1, x - 1 + last - first)
        return tuple(  # type: ignore[return-value]
            slice(int(a.min()) + k, int(b.max()) + k + 1)
            for (a, b), k in zip(ends, self.low, strict=True)
        )

    def of(self, part: int, box: tuple[slice, slice, slice]) -> Bool:
        """The voxels of a part in its box."""
        inside = tuple(slice(s.start - k, s.stop - k) for s, k in zip(box, self.low, strict=True))
        return np.take(self.owner == part, self.pieces[inside])

    def at(self, voxel: Sequence[int]) -> int:
        """The part of a set voxel."""
        z, y, x = (i - k for i, k in zip(voxel, self.low, strict=True))
        return int(self.owner[self.pieces[z, y, x]])

    def places(self, step: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        """The set voxels whose indices are multiples of `step` [n, 3], and the part of each [n]."""
        first = [-k % step for k in self.low]
        every = tuple(slice(k, None, step) for k in first)
        labels = np.take(self.owner, self.pieces[every])
        there = np.flatnonzero(labels)
        at = np.stack(np.unravel_index(there, labels.shape), axis=1) * step
        return at + np.add(first, self.low), labels.reshape(-1)[there]


def parts(voxels: Bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Face-connected parts: labels [z, y, x] (0 is background, then 1, 2, ...), their sizes."""
    found = found_in(voxels)
    labels = np.zeros(voxels.shape, np.int32)
    here = tuple(slice(k, k + n) for k, n in zip(found.low, found.pieces.shape, strict=True))
    labels[here] = np.take(found.owner, found.pieces)
    return labels, found.sizes


def found_in(voxels: Bool) -> Found:
    """The parts of the set voxels.

    Planes are labelled in one call, laid under one another with an empty row between them and an
    empty column before each; pieces that touch through a face of two planes are then joined
    (union-find). All that is counted is counted by runs of voxels along x: far fewer than voxels.
    """
    low, voxels = _cropped(voxels)
    depth, rows, columns = voxels.shape
    tall = np.zeros((depth, rows + 1, columns + 1), np.uint8)
    tall[:, :rows, 1:] = voxels
    count, labelled = cv2.connectedComponents(tall.reshape(-1, columns + 1), connectivity=4)
    line, piece_at, plane = tall.reshape(-1), labelled.reshape(-1), (rows + 1) * (columns + 1)
    touching, _ = _runs(line[:-plane] & line[plane:])
    pairs = piece_at[touching].astype(np.int64) * count + piece_at[touching + plane]
    root = list(range(count))
    for pair in set(pairs.tolist()):
        a, b = _root(root, pair // count), _root(root, pair % count)
        root[max(a, b)] = min(a, b)
    _, new = np.unique([_root(root, piece) for piece in range(count)], return_inverse=True)
    owner = new.reshape(-1).astype(np.int32)
    first, last = _runs(line)
    part = owner[piece_at[first]]
    sizes = np.bincount(part, last - first + 1, minlength=1)[1:].astype(np.int64)
    pieces = labelled.reshape(tall.shape)[:, :rows, 1:]
    return Found(low, pieces, owner, sizes, (part, first, last))


def _cropped(voxels: Bool) -> tuple[tuple[int, int, int], Bool]:
    """The box around all set voxels and where it begins; one voxel where none is set."""
    flat: Bool = np.asarray(voxels.any(axis=0))
    hits = map(np.flatnonzero, (voxels.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0)))
    (z, z2), (y, y2), (x, x2) = ((int(h[0]), int(h[-1]) + 1) if len(h) else (0, 1) for h in hits)
    return (z, y, x), voxels[z:z2, y:y2, x:x2]


def _runs(line: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last place of each run of ones between zeros."""
    ends = np.flatnonzero(line[1:] != line[:-1])
    return ends[::2] + 1, ends[1::2]


def closed(voxels: Bool, radius_mm: float, spacing_mm: Vector) -> Bool:
    """Morphological closing by a ball; the border is no wall (rule 1)."""
    reach = [int(radius_mm / s + plan.WHOLE) for s in spacing_mm]
    if not any(reach):
        return voxels
    more = -(voxels.shape[2] + 2 * reach[2]) % 8  # whole bytes, for `_grown`
    padded = np.pad(voxels, [(r, r) for r in reach[:2]] + [(reach[2], reach[2] + more)])
    grown = _grown(padded, radius_mm, spacing_mm, reach)
    shrunk = ~_grown(~grown, radius_mm, spacing_mm, reach)
    inner = tuple(slice(r, r + n) for r, n in zip(reach, voxels.shape, strict=True))
    return np.asarray(shrunk[inner] | voxels)


def filled(voxels: Bool) -> Bool:
    """Background that cannot reach the outside through faces belongs to the mask."""
    found = found_in(~np.pad(voxels, 1))
    if len(found.sizes) == 1:
        return voxels
    outside = found.owner[found.pieces[0, 0, 0]]
    return np.asarray(np.take(found.owner != outside, found.pieces[1:-1, 1:-1, 1:-1]))


def _grown(voxels: Bool, radius_mm: float, spacing_mm: Vector, reach: Sequence[int]) -> Bool:
    """Dilation by a ball, row by row: a row of voxels along x grows by the chord that the ball cuts
    from the row beside it. A row is whole bytes of eight voxels; nothing grows beyond the border.
    """
    depth, rows, columns = voxels.shape
    wide: dict[int, NDArray[np.uint8]] = {}
    out = np.zeros((depth, rows, columns // 8), np.uint8)
    tall = voxels.view(np.uint8).reshape(-1, columns)
    x_mm2 = (np.arange(1, reach[2] + 1) * spacing_mm[2]) ** 2
    for z in range(min(reach[0], depth - 1) + 1):
        for y in range(min(reach[1], rows - 1) + 1):
            left_mm2 = radius_mm**2 - (z * spacing_mm[0]) ** 2 + plan.WHOLE
            y_mm2 = (y * spacing_mm[1]) ** 2
            if y_mm2 > left_mm2:
                continue
            chord = int(np.count_nonzero(y_mm2 + x_mm2 <= left_mm2))
            if chord not in wide:
                line = np.ones((1, 2 * chord + 1), np.uint8)
                grown = cv2.dilate(tall, line, borderType=cv2.BORDER_CONSTANT, borderValue=0)
                wide[chord] = np.packbits(grown).reshape(out.shape)
            for to_z, from_z in _beside(z, depth):
                for to_y, from_y in _beside(y, rows):
                    out[to_z, to_y] |= wide[chord][from_z, from_y]
    return np.unpackbits(out).reshape(voxels.shape).view(np.bool_)


def _beside(step: int, count: int) -> tuple[tuple[slice, slice], ...]:
    """(to, from) of the places of an axis that lie so many steps apart, either way."""
    low, high = slice(0, count - step), slice(step, count)
    return ((high, low), (low, high)) if step else ((low, low),)


def _extent(
    values: NDArray[np.float64], owner: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    """Highest minus lowest value of each owner."""
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, owner, values)
    np.maximum.at(high, owner, values)
    return np.asarray(high - low)


def _root(root: list[int], label: int) -> int:
    """The first label of its part, with the way there made shorter."""
    while root[label] != label:
        root[label] = root[root[label]]
        label = root[label]
    return label


def _voxel_ml(grid: Grid) -> float:
    return float(np.prod(grid.spacing_mm)) / 1000
