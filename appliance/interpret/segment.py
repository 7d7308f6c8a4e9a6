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
from typing import Literal

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
    labels, sizes = parts(logits >= np.log(head.threshold / (1 - head.threshold)))
    for label in np.flatnonzero(sizes * _voxel_ml(grid) >= max(head.min_ml, _voxel_ml(grid) / 2)):
        part = labels == label + 1
        box = plan.box_of_mask(Mask(NAME, part, grid), 0)
        inside = tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))
        kept[inside] |= filled(closed(part[inside], head.close_mm, grid.spacing_mm))
    return Mask(NAME, kept, grid)


def grid_of(image: Tensor) -> Grid:
    """The grid of a prepared volume; ValueError for patches, which have none."""
    if image.grid is None:
        raise ValueError("this tensor has no grid")
    return image.grid


def unpadded(array: F32, grid: Grid) -> F32:
    """An output [1, 1, z, y, x] without the padding of its input: [z, y, x] of the grid."""
    z, y, x = grid.shape
    if array.ndim != 5 or array.shape[2] < z or array.shape[3] < y or array.shape[4] < x:
        raise Poisoned(
            f"an output of shape {array.shape} does not cover the grid {grid.shape}",
            code="backend_failed",
        )
    return array[0, 0, :z, :y, :x]


def millilitres(mask: Mask) -> float:
    """The volume of a mask."""
    return float(np.count_nonzero(mask.voxels)) * _voxel_ml(mask.grid)


def coverage(mask: Mask | None, stack: Stack) -> Coverage:
    """Which ends of the lungs the series cuts off (rule 2), and its extent along z (LPS)."""
    if mask is None:
        return Coverage(lungs="unknown", z_mm=plan.extent(stack))
    if not mask.voxels.any():
        return Coverage(lungs="absent", z_mm=plan.extent(stack))
    _, dy, dx = mask.grid.spacing_mm
    feet, head = (np.count_nonzero(mask.voxels[end]) * dy * dx / 100 > END_CM2 for end in (0, -1))
    lungs: dict[tuple[bool, bool], Literal["covered", "cut_head", "cut_feet", "cut_both"]] = {
        (False, False): "covered",
        (False, True): "cut_head",
        (True, False): "cut_feet",
        (True, True): "cut_both",
    }
    return Coverage(lungs=lungs[feet, head], z_mm=plan.extent(stack))


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
    across = np.flatnonzero(mask.voxels.any(axis=(0, 1)))
    deep = np.flatnonzero(mask.voxels.any(axis=(0, 2)))
    if not len(across) or np.ptp(across) * dx > BOTH_LUNGS * np.ptp(deep) * dy:
        return ()
    return (Reason(code=Code.ONE_LUNG, text="Only one lung was found.", where="series"),)


def side_cm2(mask: Mask, round_field: bool) -> float:
    """Area over which a mask meets the edge of the field of view, square or round (rule 2)."""
    dz, dy, dx = mask.grid.spacing_mm
    _, rows, columns = mask.grid.shape
    flat = mask.voxels.sum(axis=0)
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
    labels, sizes = parts(mask.voxels)
    if not len(sizes):
        return (None,) * len(points)
    at = np.argwhere(labels[::2, ::2, ::2]) * 2  # an eighth of the voxels tells where parts lie
    if len(np.unique(labels[tuple(at.T)])) < len(sizes):
        at = np.argwhere(labels)
    owner = labels[tuple(at.T)] - 1
    x, y = plan.to_lps(mask.grid, at)[:, :2].T
    middle = (x.min() + x.max()) / 2
    width, depth = (_extent(v, owner, len(sizes)) for v in (x, y))
    both = width > BOTH_LUNGS * depth
    if len(sizes) == 1 and not both[0]:
        return (None,) * len(points)
    left = np.bincount(owner, x) / np.bincount(owner) > middle
    found: list[Side | None] = []
    for point in points:
        near, away = nearby(mask.voxels, mask.grid, point, REACH_MM)
        lies_left = point[0] > middle
        if len(near):
            nearest = near[int(np.argmin(away))]
            label = labels[tuple(nearest)] - 1
            if not both[label]:
                lies_left = bool(left[label])
        found.append("left" if lies_left else "right")
    return tuple(found)


def nearby(
    voxels: Bool, grid: Grid, lps: ArrayLike, reach_mm: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Set voxels in the cube of `reach_mm` around a point: indices [n, 3], distances in mm [n]."""
    middle = plan.to_index(grid, lps)
    reach = reach_mm / np.asarray(grid.spacing_mm)
    low = np.clip(np.ceil(middle - reach), 0, grid.shape).astype(int)
    high = np.clip(np.floor(middle + reach) + 1, 0, grid.shape).astype(int)
    box = Box(plan.triple(low), plan.triple(high))
    near = np.argwhere(voxels[tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))])
    near += low
    away = np.linalg.norm((near - middle) * np.asarray(grid.spacing_mm), axis=1)
    return near, away


def parts(voxels: Bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Face-connected parts: labels [z, y, x] (0 is background, then 1, 2, ...), their sizes.

    Planes are labelled in one call, laid under one another with an empty row between them; labels
    that touch through a face of two planes are then joined (union-find).
    """
    depth, rows, columns = voxels.shape
    tall = np.zeros((depth, rows + 1, columns), np.uint8)
    tall[:, :rows] = voxels
    count, flat = cv2.connectedComponents(tall.reshape(-1, columns), connectivity=4)
    labels: NDArray[np.int32] = flat.reshape(depth, rows + 1, columns)[:, :rows]
    touching = voxels[:-1] & voxels[1:]
    lower, upper = labels[:-1][touching], labels[1:][touching]
    new_pair = np.ones(len(lower), np.bool_)
    new_pair[1:] = (lower[1:] != lower[:-1]) | (upper[1:] != upper[:-1])
    root = list(range(count))
    for pair in set(zip(lower[new_pair].tolist(), upper[new_pair].tolist(), strict=True)):
        a, b = (_root(root, label) for label in pair)
        root[max(a, b)] = min(a, b)
    roots = np.array([_root(root, label) for label in range(count)])
    _, new = np.unique(roots, return_inverse=True)
    joined = np.take(new.reshape(-1).astype(np.int32), labels)
    return joined, np.bincount(joined.ravel())[1:]


def closed(voxels: Bool, radius_mm: float, spacing_mm: Vector) -> Bool:
    """Morphological closing by a ball; the border is no wall (rule 1)."""
    reach = [int(radius_mm / s + plan.WHOLE) for s in spacing_mm]
    if not any(reach):
        return voxels
    room = np.pad(voxels, [(r, r) for r in reach])
    grown = _grown(room, radius_mm, spacing_mm, reach)
    shrunk = ~_grown(~grown, radius_mm, spacing_mm, reach)
    inner = tuple(slice(r, r + n) for r, n in zip(reach, voxels.shape, strict=True))
    return np.asarray(shrunk[inner] | voxels)


def filled(voxels: Bool) -> Bool:
    """Background that cannot reach the outside through faces belongs to the mask."""
    labels, _ = parts(~np.pad(voxels, 1))
    return np.asarray((labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1])


def _grown(voxels: Bool, radius_mm: float, spacing_mm: Vector, reach: Sequence[int]) -> Bool:
    """Dilation by a ball, plane by plane: a plane grows by the disc that the ball cuts from it.

    `voxels` has room of `reach` on every side, so planes laid under one another never touch.
    """
    depth, rows, columns = voxels.shape
    tall = voxels.astype(np.uint8).reshape(-1, columns)
    out = np.zeros((depth, rows, columns), np.uint8)
    y = np.arange(-reach[1], reach[1] + 1)[:, None] * spacing_mm[1]
    x = np.arange(-reach[2], reach[2] + 1)[None, :] * spacing_mm[2]
    for step in range(min(reach[0], depth - 1) + 1):
        left_mm2 = radius_mm**2 - (step * spacing_mm[0]) ** 2 + plan.WHOLE
        disc = (y**2 + x**2 <= left_mm2).astype(np.uint8)
        wide = cv2.dilate(tall, disc, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        planes = wide.reshape(depth, rows, columns)
        out[step:] |= planes[: depth - step]
        out[: depth - step] |= planes[step:]
    return out.astype(np.bool_)


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
