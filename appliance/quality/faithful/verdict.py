"""What each op list of a bundle makes of a series, and which limit it fails.

Rules.
1. An op list that makes a volume is judged there and back, with its axes, and by spheres; cubes and
   patches by spheres alone, of which each is one's centre. Equal op lists are judged once.
2. A crop is to the box around the lungs that a threshold finds (anatomy.py), with the op's margin;
   outside of it nothing is compared. Without lungs it is all of the series.
3. What was not measured fails nothing and is None, never 0.
4. Dice of body and lungs is at least DICE, the Hausdorff distance at most the longest edge of a
   voxel, of the scan's or of the op list's; tissue moves by at most TISSUE_HU; of each sphere the
   contrast is within CONTRAST of what the means over the voxels' boxes give, and it stands within
   SHIFT_MM of its place (reading.py). Index directions of the tensor are nearest +z, +y, +x of the
   patient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from appliance.preprocess import fast, plan
from appliance.preprocess.plan import Steps
from appliance.preprocess.spec import Op
from appliance.quality.faithful import anatomy, back, reading
from appliance.quality.faithful.likeness import Likeness
from appliance.quality.faithful.reading import Native, Read
from appliance.quality.faithful.spheres import DIAMETERS_MM, Sphere
from appliance.records import Box, Grid, Stack, Vector
from appliance.report import Millimetres3, Record

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Fault = Literal["axes", "body", "lungs", "outline", "tissue", "contrast", "shift"]
Make = Callable[[Stack, Sequence[Op], "tuple[Grid, Box] | None"], "tuple[F32, Grid]"]
"""Stack, ops, crop -> [1, 1, z, y, x] and its grid: what is under test."""

DICE: Final = 0.98
TISSUE_HU: Final = 2.0
CONTRAST: Final = 0.05
SHIFT_MM: Final = 0.1


class OfSphere(Record):
    """All spheres of one diameter: the worst of each figure."""

    diameter_mm: float
    count: int
    contrast: float = Field(description="of what it must be; that furthest from 1")
    shift_mm: float


class OpList(Record):
    """What one op list makes of one series."""

    networks: tuple[str, ...]
    ops: tuple[str, ...]
    makes: Literal["volume", "cubes", "patches", "radiograph"]
    voxel_mm: Millimetres3 | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    body_dice: float | None = None
    lungs_dice: float | None = None
    hausdorff_mm: float | None = Field(default=None, description="of body and lungs the larger")
    tissue_hu: float | None = Field(default=None, description="after less before, HU")
    spheres: tuple[OfSphere, ...] = ()
    fails: tuple[Fault, ...] = ()

    def failed(self) -> str:
        """Each limit that it fails, with the figure, for one line of text."""
        contrast = ", ".join(
            f"{one.contrast:.2f} at {one.diameter_mm:g} mm" for one in self.spheres
        )
        shift = ", ".join(
            f"{one.shift_mm:.2f} mm at {one.diameter_mm:g} mm" for one in self.spheres
        )
        figures: dict[Fault, str] = {
            "axes": "not z, y, x",
            "body": f"Dice {self.body_dice}",
            "lungs": f"Dice {self.lungs_dice}",
            "outline": f"{self.hausdorff_mm} mm off",
            "tissue": f"{self.tissue_hu} HU off",
            "contrast": contrast,
            "shift": shift,
        }
        return ", ".join(f"{fault} ({figures[fault]})" for fault in self.fails)


@dataclass(frozen=True, slots=True)
class Original:
    """A series, and what is seen in its slices."""

    stack: Stack
    body: tuple[Bool, ...]
    lungs: tuple[Bool, ...]
    tissue: tuple[Bool, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A series with spheres instead of what it shows (spheres.py)."""

    stack: Stack
    spheres: tuple[Sphere, ...]


def original(stack: Stack) -> Original:
    """Of a stack."""
    pixel_mm = stack.planes[0].geometry.spacing_mm
    slices = [plane.native for plane in stack.planes]
    seen = [anatomy.masks(hu.astype(np.float32), pixel_mm) for hu in slices]
    tissue = anatomy.soft_tissue(slices, [one.solid for one in seen], stack.z_mm, pixel_mm)
    body, lungs = tuple(one.body for one in seen), tuple(one.lungs for one in seen)
    return Original(stack, body, lungs, tissue)


def around_lungs(seen: Original, margin_mm: float) -> tuple[Grid, Box]:
    """The series' own grid, and the box on it of rule 2."""
    grid = plan.grid_of(seen.stack)
    flat = np.any(seen.lungs, axis=0)
    along_z = [bool(mask.any()) for mask in seen.lungs]
    if not flat.any():
        return grid, Box((0, 0, 0), grid.shape)
    between = grid.spacing_mm[0]
    ends = [np.flatnonzero(there)[[0, -1]] for there in (flat.any(axis=1), flat.any(axis=0))]
    z = seen.stack.z_mm[np.flatnonzero(along_z)[[0, -1]]] / between
    low, high = [], []
    for (first, last), mm, size in zip((z, *ends), grid.spacing_mm, grid.shape, strict=True):
        low.append(max(0, int(np.floor(first - margin_mm / mm))))
        high.append(min(size, int(np.ceil(last + 1 + margin_mm / mm))))
    return grid, Box(plan.triple(low), plan.triple(high))


def corners(seen: Original) -> tuple[Vector, Vector]:
    """Lowest and highest LPS mm of the box around the lungs: where spheres are laid."""
    grid, box = around_lungs(seen, 0.0)
    ends = plan.to_lps(grid, np.array([box.low, np.array(box.high) - 1]))
    return plan.vector(ends.min(axis=0)), plan.vector(ends.max(axis=0))


def volume(
    seen: Original,
    drawn: Drawn | None,
    ops: Sequence[Op],
    networks: Sequence[str],
    make: Make = fast.tensor,
) -> OpList:
    """Rule 1, of an op list that makes a volume. `make`: who makes it."""
    read = plan.steps(ops)
    crop = around_lungs(seen, read.crop.margin_mm) if read.crop else None
    hu, grid = _made(seen.stack, ops, read, crop, make)
    found = _there_and_back(seen, hu, grid)
    spheres: tuple[OfSphere, ...] = ()
    if drawn is not None:
        hu, at = _made(drawn.stack, ops, read, crop, make)
        scan = reading.native(drawn.stack)
        reads = []
        for one in drawn.spheres:
            lps, values = reading.near(hu, at, one)
            if len(values):
                reads.append((one, reading.read(lps, values, one, scan, at.spacing_mm)))
        spheres = _worst(reads)
    whole = OpList(
        networks=tuple(networks),
        ops=tuple(map(_said, ops)),
        makes="volume",
        voxel_mm=grid.spacing_mm,
        spheres=spheres,
        **found,
    )
    return whole.model_copy(update={"fails": _fails(whole, grid, seen.stack)})


def cut(drawn: Drawn, ops: Sequence[Op], networks: Sequence[str]) -> OpList:
    """Rule 1, of an op list that makes cubes or patches."""
    read = plan.steps(ops)
    scan = reading.native(drawn.stack)
    centres = [one.center_lps_mm for one in drawn.spheres]
    made = fast.gathered(drawn.stack, ops, centres)[:, 0]
    reads = []
    for one, values in zip(drawn.spheres, made, strict=True):
        lps = _cube(one, scan, read) if read.cube is not None else _patch(one, scan, values.shape)
        hu = back.hounsfield(values, read.points).astype(np.float64)
        reach = one.diameter_mm / 2 + 1.5 * max(scan.spacing_mm)
        beside = np.linalg.norm(lps - one.center_lps_mm, axis=-1) <= reach
        free = (0, 1, 2) if read.cube is not None else (1, 2)
        found = reading.read(lps[beside], hu[beside], one, scan, (None,) * 3, free)
        reads.append((one, found))
    whole = OpList(
        networks=tuple(networks),
        ops=tuple(map(_said, ops)),
        makes="cubes" if read.cube is not None else "patches",
        voxel_mm=None if read.cube is None else (read.cube.spacing_mm,) * 3,
        spheres=_worst(reads),
    )
    return whole.model_copy(update={"fails": _of_spheres(whole.spheres)})


def _made(
    stack: Stack, ops: Sequence[Op], read: Steps, crop: tuple[Grid, Box] | None, make: Make
) -> tuple[F32, Grid]:
    """HU [z, y, x] of a tensor without its padding, and its grid."""
    tensor, grid = make(stack, ops, crop)
    z, y, x = grid.shape
    return back.hounsfield(tensor[0, 0, :z, :y, :x], read.points), grid


def _there_and_back(seen: Original, hu: F32, grid: Grid) -> dict[str, float | None]:
    alike, tissue = Likeness(), np.zeros(3)
    ours: list[list[Bool]] = [[], []]
    theirs: list[list[Bool]] = [[], []]
    for k, plane in enumerate(seen.stack.planes):
        own = plane.native.astype(np.float32)
        shape = (own.shape[0], own.shape[1])
        again, inside = back.pixels(hu, grid, plane.geometry, shape)
        again[~inside] = own[~inside]
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if len(rows) and len(columns):
            part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            alike.add(own[part], again[part])
        of = seen.tissue[k] & inside
        tissue += np.count_nonzero(of), own[of].sum(), again[of].sum()
        masks = anatomy.masks(again, plane.geometry.spacing_mm)
        for n, (was, now) in enumerate(((seen.body[k], masks.body), (seen.lungs[k], masks.lungs))):
            ours[n].append(was & inside)
            theirs[n].append(now & inside)
    pixel_mm = seen.stack.planes[0].geometry.spacing_mm
    far = [
        anatomy.hausdorff_mm(a, b, seen.stack.z_mm, pixel_mm)
        for a, b in zip(ours, theirs, strict=True)
    ]
    known = [one for one in far if one is not None]
    return {
        "psnr_db": _rounded(alike.psnr_db, 2),
        "ssim": _rounded(alike.ssim, 4),
        "body_dice": _rounded(anatomy.dice(ours[0], theirs[0]), 4),
        "lungs_dice": _rounded(anatomy.dice(ours[1], theirs[1]), 4),
        "hausdorff_mm": _rounded(max(known, default=None), 2),
        "tissue_hu": _rounded((tissue[2] - tissue[1]) / tissue[0] if tissue[0] else None, 2),
    }


def _cube(sphere: Sphere, scan: Native, read: Steps) -> NDArray[np.float64]:
    """LPS mm [size, size, size, 3] of the voxels of a cube around a sphere (spec.Cube)."""
    if read.cube is None:
        raise ValueError("an op list without a cube")
    steps = (np.arange(read.cube.size) - (read.cube.size - 1) / 2) * read.cube.spacing_mm
    away = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    return np.asarray(np.asarray(sphere.center_lps_mm) + away @ scan.axes)


def _patch(sphere: Sphere, scan: Native, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """LPS mm [size, size, 3] of the pixels of a patch around a sphere (spec.Patch)."""
    z, y, x = scan.along(np.asarray(sphere.center_lps_mm))
    height = scan.centres[0][np.abs(scan.centres[0] - z).argmin()]
    down, across = (
        (np.floor(at / mm + 0.5) + np.arange(size) - size // 2) * mm
        for at, mm, size in zip((y, x), scan.spacing_mm[1:], shape, strict=True)
    )
    rows, columns = np.meshgrid(down, across, indexing="ij")
    along = np.stack([np.full(rows.shape, height), rows, columns], axis=-1)
    return np.asarray(scan.first_lps_mm + along @ scan.axes)


def _worst(reads: Sequence[tuple[Sphere, Read]]) -> tuple[OfSphere, ...]:
    found = []
    for mm in DIAMETERS_MM:
        of = [read for sphere, read in reads if sphere.diameter_mm == mm]
        if of:
            contrast = max((read.contrast for read in of), key=lambda v: abs(v - 1))
            shift = max(read.shift_mm for read in of)
            found.append(
                OfSphere(
                    diameter_mm=mm,
                    count=len(of),
                    contrast=round(contrast, 3),
                    shift_mm=round(shift, 3),
                )
            )
    return tuple(found)


def _fails(found: OpList, grid: Grid, stack: Stack) -> tuple[Fault, ...]:
    """Rule 4."""
    directions = grid.to_lps[:3, :3] / np.asarray(grid.spacing_mm)
    upright = directions[[2, 1, 0], [0, 1, 2]].min() > np.sqrt(0.5)
    longest = max(*grid.spacing_mm, *stack.spacing_mm)
    checks: dict[Fault, bool] = {
        "axes": not upright,
        "body": found.body_dice is not None and found.body_dice < DICE,
        "lungs": found.lungs_dice is not None and found.lungs_dice < DICE,
        "outline": found.hausdorff_mm is not None and found.hausdorff_mm > longest + plan.WHOLE,
        "tissue": found.tissue_hu is not None and abs(found.tissue_hu) > TISSUE_HU,
    }
    return (*(name for name, wrong in checks.items() if wrong), *_of_spheres(found.spheres))


def _of_spheres(spheres: Sequence[OfSphere]) -> tuple[Fault, ...]:
    fails: list[Fault] = []
    if any(abs(one.contrast - 1) > CONTRAST for one in spheres):
        fails.append("contrast")
    if any(one.shift_mm > SHIFT_MM for one in spheres):
        fails.append("shift")
    return tuple(fails)


def _said(op: Op) -> str:
    """An op as a person reads it: its name and its figures."""
    figures = op.model_dump(exclude={"op", "version", "to"})
    return " ".join([op.op, *(f"{name} {value}" for name, value in figures.items())])


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits) + 0.0
