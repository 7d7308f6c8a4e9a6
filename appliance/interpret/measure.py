"""Logits of a finding's body, in a cube around it -> its axes, volume, box and density class.

Rules.
1. A voxel is the body's where sigmoid(logit) >= threshold and it belongs to the face-connected part
   nearest to the cube's middle, at most NEAR_MM away. Findings that lie in one part share it: a
   voxel is that of the finding which is nearest in radii, as the detector gave them.
2. Its surface is where the logit, linear between neighbouring voxels, crosses the threshold, and
   between the voxels where two findings share a part. All figures are of that surface, not of
   whole voxels.
3. Long and short axis lie in one axial plane, of all planes that whose long axis is longest
   (Fleischner 2017, Radiology 285:584). Long is the largest distance of two points of the outline,
   short the longest chord across it, perpendicular to long; both of the outline's convex hull. The
   mean axis is given to 0.1 mm (Lung-RADS v2022).
4. The volume is what lines of a third of a voxel's distance have of the body.
5. A body that touches the border of the cube or the edge of the images is cut off, and one of a
   mean axis under 3 mm is too small: neither is measured, and the detector's estimate stays.
6. Nor is one whose mean axis is less than half of the detector's diameter or more than twice of it:
   it is a part of the finding, such as the rim of a mass that no cube holds, or what it lies at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.bundle.heads import DENSITIES, Density, MeasureHead
from appliance.errors import Poisoned
from appliance.interpret import segment
from appliance.interpret.detect import MASS_ABOVE_MM, MEASURED_FROM_MM
from appliance.preprocess import plan
from appliance.records import Axes, Box, Grid, Mask, Pair, Stack, Vector
from appliance.report import Finding

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

TINY = 1e-6
"""What is not of the body is below the level at least by this."""
APART = 2.0
"""How many times larger or smaller than the detector's diameter a body may be. Of true findings
nine in ten are within a quarter."""
NEAR_MM = 2.0
"""How far from the place that the detector named a body may begin."""


class Sought(Protocol):
    """What is to be measured: a finding, or a place like one."""

    @property
    def place_lps_mm(self) -> Vector:
        """Its centre."""
        ...

    @property
    def diameter_mm(self) -> float | None:
        """As its detector gave it; None under 3 mm."""
        ...


@dataclass(frozen=True, slots=True)
class Edges:
    """The box whose faces are the outermost pixels and planes of a series, by their centres."""

    corner_lps_mm: Vector
    """Of the first pixel of the first plane."""
    directions: tuple[Vector, Vector, Vector]
    """Unit vectors (LPS) along rising planes, rows and columns."""
    last_mm: Vector
    """How far the last plane, row and column lie from the first."""


@dataclass(frozen=True, slots=True)
class Body:
    """What was measured of one finding."""

    long_mm: float
    short_mm: float
    volume_mm3: float
    box_lps_mm: tuple[float, float, float, float, float, float]
    """x0, y0, z0, x1, y1, z1."""
    density: Density | None
    """None where no network that names it saw the whole body."""
    mask: Mask
    """Without a name (findings are numbered later), on a grid of its own, with its axes."""

    @property
    def mean_mm(self) -> float:
        """The mean axis, to 0.1 mm."""
        return round((self.long_mm + self.short_mm) / 2, 1)


def bodies(
    outputs: Mapping[str, F32],
    cubes: Sequence[tuple[Sought, Grid]],
    others: Sequence[Sought],
    edges: Edges,
    head: MeasureHead,
) -> tuple[Body | None, ...]:
    """Body logits [n, 1, z, y, x] and density logits [n, 4] of the cubes around n findings -> what
    was measured of each, None where rule 1 finds no body or rule 5 holds.

    `others`: all findings of the series, these among them. `edges`: of its images (`edges_of`).
    Poisoned (`backend_failed`) for outputs of another shape.
    """
    levels, densities = _checked(outputs, cubes, head)
    levels = levels - np.float32(np.log(head.threshold / (1 - head.threshold)))
    found: list[Body | None] = []
    for (finding, grid), level, density in zip(cubes, levels, densities, strict=True):
        voxels = _part(level >= 0, finding, grid, others)
        one = None
        if voxels is not None:
            one = whole(voxels, level, grid, edges, DENSITIES[int(np.argmax(density))])
        if one is not None and (one.mean_mm < MEASURED_FROM_MM or not _agrees(one, finding)):
            one = None
        found.append(one)
    return tuple(found)


def whole(
    voxels: Bool, level: F32, grid: Grid, edges: Edges, density: Density | None = None
) -> Body | None:
    """Voxels [z, y, x] of a grid as a body (rules 2 to 4); None where rule 5 says it is cut off.

    `level`: logits less the threshold's. Of a voxel of the body where it is below 0 (a hole that
    was filled) the opposite is taken."""
    if _at_border(voxels):
        return None
    inside, near = _around(voxels, grid)
    away = np.abs(level[inside])
    own = np.where(voxels[inside], away, -away - TINY)
    points = surface(own)
    if _cut_off(np.concatenate(points), near, edges):
        return None
    _, dy, dx = grid.spacing_mm
    long_mm, short_mm, tips = axes(points, (dy, dx))
    ends = plan.to_lps(near, np.concatenate(points))
    low, high = ends.min(axis=0).tolist(), ends.max(axis=0).tolist()
    return Body(
        long_mm,
        short_mm,
        volume(own, grid.spacing_mm),
        (low[0], low[1], low[2], high[0], high[1], high[2]),
        density,
        Mask("", np.ascontiguousarray(voxels[inside]), near, _placed(near, tips)),
    )


def edges_of(stack: Stack) -> Edges:
    """Where the images of a series end."""
    first, (rows, columns) = stack.planes[0].geometry, stack.planes[0].native.shape
    down, across = first.spacing_mm
    return Edges(
        first.position_lps_mm,
        (stack.normal_lps, first.column_lps, first.row_lps),
        (float(stack.z_mm[-1] - stack.z_mm[0]), (rows - 1) * down, (columns - 1) * across),
    )


def described(finding: Finding, body: Body | None, *, thick: bool) -> Finding:
    """A finding with what was measured of it; of a thick series without a volume."""
    if body is None:
        return finding
    sphere = 2 * (body.volume_mm3 * 3 / (4 * np.pi)) ** (1 / 3)
    x0, y0, z0, x1, y1, z1 = (round(v, 2) for v in body.box_lps_mm)
    return finding.model_copy(
        update={
            "kind": "mass" if body.mean_mm > MASS_ABOVE_MM else "nodule",
            "box_lps_mm": (x0, y0, z0, x1, y1, z1),
            "diameter_mm": body.mean_mm,
            "measured": True,
            "long_axis_mm": round(body.long_mm, 1),
            "short_axis_mm": round(body.short_mm, 1),
            "mean_axis_mm": body.mean_mm,
            "equivalent_diameter_mm": None if thick else round(float(sphere), 1),
            "volume_mm3": None if thick else round(body.volume_mm3, 1),
            "density": body.density,
        }
    )


def surface(level: F32) -> tuple[F64, F64, F64]:
    """Where the lines along z, along y and along x enter and leave a body: voxel indices [n, 3],
    of each line the two in turn. `level` [z, y, x] is at least 0 in the body alone (rule 2), which
    does not touch the border."""
    return _crossings(level, 0), _crossings(level, 1), _crossings(level, 2)


def axes(points: tuple[F64, F64, F64], spacing_mm: Pair) -> tuple[float, float, F64]:
    """Long and short axis in mm of a body with this surface (rule 3), and where they end: voxel
    indices [4, 3], of the long axis the first two. Spacing along y, along x."""
    outline = np.concatenate(points[1:])
    best = (0.0, 0.0, np.zeros((4, 3)))
    for k in np.unique(outline[:, 0]):
        flat = outline[outline[:, 0] == k, 1:] * np.asarray(spacing_mm)
        hull = cv2.convexHull(flat.astype(np.float32)).reshape(-1, 2).astype(np.float64)
        found = _longest(hull)
        if found is not None and found[0] > best[0]:
            long_mm, along, ends = found
            short_mm, chord = _across(hull, along)
            tips = np.concatenate([ends, chord]) / np.asarray(spacing_mm)
            best = (long_mm, short_mm, np.insert(tips, 0, k, axis=1))
    return best


def volume(level: F32, spacing_mm: Vector) -> float:
    """mm3 of a body with this level, see `surface` (rule 4); spacing along z, y, x."""
    along = _crossings(_finer(_finer(level, 1), 2), 0)[:, 0]
    return float((along[1::2] - along[::2]).sum()) * math.prod(spacing_mm) / 9


def _checked(
    outputs: Mapping[str, F32], cubes: Sequence[tuple[Sought, Grid]], head: MeasureHead
) -> tuple[F32, F32]:
    """Body logits [n, z, y, x] and density logits [n, 4]."""
    body, density = outputs[head.body], outputs[head.density]
    wanted = [(len(cubes), 1, *grid.shape) for _, grid in cubes[:1]]
    if [body.shape] != wanted or density.shape != (len(cubes), len(DENSITIES)):
        raise Poisoned(
            f"outputs of shapes {body.shape} and {density.shape} are not a body and the "
            f"{len(DENSITIES)} densities of {len(cubes)} cubes",
            code="backend_failed",
        )
    return body[:, 0], density


def _part(voxels: Bool, finding: Sought, grid: Grid, others: Sequence[Sought]) -> Bool | None:
    """Rule 1: the voxels of this finding's own body; None where there is none."""
    found = segment.found_in(voxels)
    part = _part_at(found, voxels, grid, finding)
    if not part:
        return None
    body, box = np.zeros(voxels.shape, np.bool_), found.box(part)
    body[box] = found.of(part, box)
    sharing = [o for o in others if o is not finding and _part_at(found, voxels, grid, o) == part]
    if not sharing:
        return body
    at = np.argwhere(body)
    own = _in_radii(at, grid, finding)
    mine = np.all([own <= _in_radii(at, grid, other) for other in sharing], axis=0)
    body[tuple(at[~mine].T)] = False
    return body if body.any() else None


def _part_at(found: segment.Found, voxels: Bool, grid: Grid, finding: Sought) -> int:
    """The part nearest to a finding, 0 where there is none within NEAR_MM."""
    near, away = segment.nearby(voxels, grid, finding.place_lps_mm, NEAR_MM)
    if not len(near) or away.min() > NEAR_MM:
        return 0
    return found.at(near[int(np.argmin(away))].tolist())


def _in_radii(at: NDArray[np.intp], grid: Grid, finding: Sought) -> F64:
    """Distances of voxels from a finding, in radii of it."""
    away = np.linalg.norm(plan.to_lps(grid, at) - np.asarray(finding.place_lps_mm), axis=1)
    return np.asarray(away / max(finding.diameter_mm or 0.0, MEASURED_FROM_MM))


def _agrees(body: Body, finding: Sought) -> bool:
    """Rule 6; a finding under 3 mm has no diameter to agree with."""
    detected = finding.diameter_mm
    return detected is None or APART**-1 <= body.mean_mm / detected <= APART


def _at_border(body: Bool) -> bool:
    """Rule 5: whether a body touches the border of its cube."""
    inner = body[1:-1, 1:-1, 1:-1]
    return int(np.count_nonzero(inner)) < int(np.count_nonzero(body))


def _cut_off(surface: F64, grid: Grid, edges: Edges) -> bool:
    """Rule 5: whether a body comes within a voxel of the outermost pixels or planes."""
    ends = plan.to_lps(grid, np.stack([surface.min(axis=0), surface.max(axis=0)]))
    away = ends - np.asarray(edges.corner_lps_mm)
    for direction, last, voxel_mm in zip(
        edges.directions, edges.last_mm, grid.spacing_mm, strict=True
    ):
        low, high = np.sort(away @ np.asarray(direction)).tolist()
        if low < voxel_mm or high > last - voxel_mm:
            return True
    return False


def _around(body: Bool, grid: Grid) -> tuple[tuple[slice, ...], Grid]:
    """The smallest part of a cube that holds a body and a voxel around it, as slices and grid."""
    box = plan.box_of_mask(Mask("", body, grid), 0)
    low, high = np.subtract(box.low, 1), np.add(box.high, 1)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return inside, plan.sub_grid(grid, Box(plan.triple(low), plan.triple(high)))


def _crossings(level: F32, axis: int) -> F64:
    """Rule 2, along one axis: the places [n, 3], line by line."""
    lines = np.moveaxis(level, axis, -1)
    inside = lines >= 0
    at = np.argwhere(inside[..., :-1] != inside[..., 1:])
    a, b, i = at.T
    before, after = lines[a, b, i].astype(np.float64), lines[a, b, i + 1].astype(np.float64)
    return np.insert(at[:, :2].astype(np.float64), axis, i + before / (before - after), axis=1)


def _finer(level: F32, axis: int) -> F32:
    """Three values for each along an axis, linear between them."""
    values = np.moveaxis(level, axis, -1)
    padded = np.pad(values, [(0, 0), (0, 0), (1, 1)], mode="edge")
    three = ((padded[..., :-2] + 2 * values) / 3, values, (padded[..., 2:] + 2 * values) / 3)
    fine = np.stack(three, axis=-1).reshape(*values.shape[:2], -1)
    return np.asarray(np.moveaxis(fine, -1, axis))


def _longest(hull: F64) -> tuple[float, F64, F64] | None:
    """The largest distance of two corners of a hull [n, 2], its direction, and the two corners;
    None for a point."""
    away = hull[:, None] - hull[None]
    length = np.hypot(away[..., 0], away[..., 1])
    i, j = np.unravel_index(int(np.argmax(length)), length.shape)
    longest = float(length[i, j])
    return None if longest == 0 else (longest, away[i, j] / longest, hull[[i, j]])


def _across(hull: F64, along: F64) -> tuple[float, F64]:
    """The longest chord of a hull perpendicular to a direction, and its two ends. It begins or ends
    at a corner, because a chord's length is concave along the hull."""
    across = np.array([-along[1], along[0]])
    u, v = hull @ along, hull @ across
    u2, v2 = np.roll(u, -1), np.roll(v, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(u2 == u, 0.0, (u[:, None] - u) / (u2 - u))
    meets = (share >= -plan.WHOLE) & (share <= 1 + plan.WHOLE)
    meets &= (np.minimum(u, u2) <= u[:, None] + plan.WHOLE) & (
        np.maximum(u, u2) >= u[:, None] - plan.WHOLE
    )
    at = v + share * (v2 - v)
    high = np.where(meets, at, -np.inf).max(axis=1)
    low = np.where(meets, at, np.inf).min(axis=1)
    i = int(np.argmax(high - low))
    return float(high[i] - low[i]), np.stack(
        [u[i] * along + v_ * across for v_ in (low[i], high[i])]
    )


def _placed(grid: Grid, tips: F64) -> Axes:
    """The ends of both axes in the patient."""
    (a, b, c, d) = ((x, y, z) for x, y, z in plan.to_lps(grid, tips).tolist())
    return Axes((a, b), (c, d))
