"""What the line has of a series -> its entry, all that a later exam is compared with. Pure.

    Stack, lungs, bodies, scores, report, headers -> Entry

Rules
1. The image is the box of the lungs and AROUND_MM of what is about them, cut to the series, at
   IMAGE_MM: where slices and pixels are smaller each voxel is the mean of what it holds, else it is
   linear between them (preprocess/reference.py), so nothing is aliased.
2. Covered is what the scanner reconstructed: no pixel of the padding around a round field, which is
   AIR_HU in every slice, and no place further from a slice than the usual distance allows.
3. Cubes are those of all findings, then of the candidates from half the threshold on, the highest
   first, at most MOST_CUBES. If the packed entry is too large, the last candidates' go first, then
   the last findings'.
4. The digest of the pixels is of every fourth row of each slice, feet first: two scans that share
   these are one, for noise is in every row, and it costs a quarter of the time.
5. What differs between the images of a series, such as their kernel, is unknown.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import fast, plan
from appliance.preprocess.reference import AIR_HU
from appliance.preprocess.spec import Crop, Resample, Window
from appliance.preprocess.spec import Cube as CubeOp
from appliance.prior import packed, patient, spread
from appliance.prior.entry import (
    AROUND_MM,
    CUBE,
    CUBE_MM,
    HIGH_HU,
    IMAGE_MM,
    LOW_HU,
    MOST_CUBES,
    Cube,
    Entry,
    Facts,
    Image,
    ImageNames,
    Person,
)
from appliance.prior.patient import Said
from appliance.reasons import Code
from appliance.records import Grid, Mask, Stack
from appliance.report import Millimetres3, Report, Scored, Scores

Bool = NDArray[np.bool_]
V = TypeVar("V", bound=Hashable)

EVERY_ROW: Final = 4
"""Of the digest of the pixels (rule 4)."""
SAME_MM: Final = 0.1
"""A candidate so near to a finding of its score is that finding: a report rounds its place."""
HOLE: Final = 0.75
"""Usual distances of slices from the nearest of them, at least in mm of the image: further away
nothing was scanned."""
_IMAGE_OPS: Final = (
    Resample(spacing_mm=(IMAGE_MM, IMAGE_MM, IMAGE_MM)),
    Crop(margin_mm=AROUND_MM),
    Window(low=LOW_HU, high=HIGH_HU),
)
_CUBE_OP: Final = CubeOp(size=CUBE, spacing_mm=CUBE_MM)


@dataclass(frozen=True, slots=True)
class _Place:
    """What a cube is cut out around."""

    center_lps_mm: Millimetres3
    score: float
    finding: int | None
    diameter_mm: float | None


def made(
    stack: Stack,
    lungs: Mask,
    bodies: Mapping[int, Mask],
    scores: Scores,
    report: Report,
    *,
    person: Person,
    said: Sequence[Said],
    most_candidates: int,
) -> Entry:
    """The entry of one analysed series, with its digest.

    bodies: finding -> what was measured of it. said: of each image (`patient.said`).
    most_candidates: as many as the network of candidates may give (DetectHead.top_k). ValueError
    where the lungs are empty, or where the report has no bundle.
    """
    if report.bundle is None:
        raise ValueError("a report without a bundle has nothing to compare")
    facts = Facts(
        person=person,
        names=_names(stack, report),
        pseudonym=report.study.pseudonym,
        taken=patient.taken(said),
        spacing_mm=stack.spacing_mm,
        thickness_mm=_agreed(plane.header.thickness_mm for plane in stack.planes),
        kernel=_agreed(plane.header.kernel for plane in stack.planes),
        maker=_agreed(plane.header.manufacturer for plane in stack.planes),
        contrast=patient.contrast(said),
        bundle_digest=report.bundle.digest,
        pixel_digest=pixel_digest(stack),
        spread_mm=spread.measured(stack),
        diseased=any(one.code is Code.DIFFUSE_DISEASE for one in report.limitations),
        list_full=_full(scores, most_candidates),
        candidates=scores.candidates,
        threshold=scores.threshold,
    )
    cubes = _cubes(stack, _places(report, scores), bodies)
    entry = Entry(facts, report, _image(stack, lungs), cubes, digest="")
    named, data = packed.named(entry)
    while len(data) > packed.MOST_BYTES and entry.cubes:
        each = max(1, len(entry.cubes) // 4)  # rule 3
        entry = Entry(facts, report, entry.image, entry.cubes[:-each], digest="")
        named, data = packed.named(entry)
    return named


def _full(scores: Scores, most: int) -> bool:
    """Whether something that mattered may have found no room in the list: it has as many as it may,
    and the last of them is still worth a cube. Nearly every exam has as many that are not."""
    return len(scores.candidates) >= most and _matters(scores.candidates[-1], scores)


def _matters(one: Scored, scores: Scores) -> bool:
    """From half the threshold on (rule 3)."""
    return one.score >= scores.threshold / 2


def pixel_digest(stack: Stack) -> str:
    """SHA-256 of the pixels alone (rule 4)."""
    digest = hashlib.sha256()
    for plane in stack.planes:
        digest.update(f"{plane.native.dtype.kind} {plane.native.shape}".encode())
        digest.update(np.ascontiguousarray(plane.native[::EVERY_ROW]).data)
    return digest.hexdigest()


def _names(stack: Stack, report: Report) -> ImageNames:
    first = stack.planes[0].header
    keys = ((f.id, stack.planes[f.key_image].header) for f in report.findings)
    return ImageNames(
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        sop_class_uid=first.sop_class_uid,
        key_images=tuple((number, header.sop_instance_uid) for number, header in keys),
    )


def _agreed(values: Iterable[V]) -> V | None:
    """What all of them say (rule 5)."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _image(stack: Stack, lungs: Mask) -> Image:
    box = plan.box_of_mask(lungs, AROUND_MM)
    shares, grid = fast.tensor(stack, _IMAGE_OPS, (lungs.grid, box))
    shares = shares[0, 0]
    shares *= np.float32(255)
    values = np.rint(shares, out=shares).astype(np.uint8)
    return Image(values, laid(lungs, grid), _covered(stack, grid), grid)


def laid(mask: Mask, grid: Grid) -> Bool:
    """A mask on another grid of the same axes: of each voxel what lies at its middle."""
    found = np.zeros(grid.shape, np.bool_)
    ends = np.array([[0, 0, 0], [n - 1 for n in grid.shape]], np.float64)
    low, high = plan.to_index(mask.grid, plan.to_lps(grid, ends))
    places, takes = [], []
    for axis, (n, size) in enumerate(zip(grid.shape, mask.grid.shape, strict=True)):
        at = np.floor(np.linspace(low[axis], high[axis], n) + 0.5).astype(int)
        inside = np.flatnonzero((at >= 0) & (at < size))
        places.append(inside)
        takes.append(at[inside])
    found[np.ix_(*places)] = mask.voxels[np.ix_(*takes)]
    return found


def _covered(stack: Stack, grid: Grid) -> Bool:
    """Rule 2, on the grid of the image."""
    first = stack.planes[0]
    origin = plan.to_index(plan.grid_of(stack), plan.to_lps(grid, (0, 0, 0)))
    rows, columns = (
        np.clip(np.floor(origin[i] + np.arange(grid.shape[i]) * step + 0.5).astype(int), 0, n - 1)
        for i, step, n in zip(
            (1, 2),
            (IMAGE_MM / mm for mm in first.geometry.spacing_mm),
            first.native.shape,
            strict=True,
        )
    )
    seen = np.full((len(rows), len(columns)), not any(plane.padding for plane in stack.planes))
    for plane in stack.planes:
        if seen.all():
            break
        seen |= plane.native[np.ix_(rows, columns)] != AIR_HU
    away = plan.to_lps(grid, np.arange(grid.shape[0])[:, None] * [1, 0, 0])
    away = (away - np.asarray(first.geometry.position_lps_mm)) @ np.asarray(stack.normal_lps)
    near = np.abs(away[:, None] + stack.z_mm[0] - stack.z_mm[None]).min(axis=1)
    shown = near <= HOLE * max(plan.distance(stack.z_mm), IMAGE_MM)
    return np.asarray(shown[:, None, None] & seen)


def _places(report: Report, scores: Scores) -> list[_Place]:
    """What is cut out, in its order (rule 3)."""
    found = [_Place(f.place_lps_mm, f.score, f.id, f.diameter_mm) for f in report.findings]
    others = [
        _Place(one.center_lps_mm, one.score, None, one.diameter_mm)
        for one in scores.candidates
        if one.center_lps_mm is not None and _matters(one, scores)
        if not any(_is(f, one.score, one.center_lps_mm) for f in found)
    ]
    return (found + others)[:MOST_CUBES]


def _is(finding: _Place, score: float, center: Millimetres3) -> bool:
    """Whether a candidate became this finding."""
    return score == finding.score and math.dist(center, finding.center_lps_mm) <= SAME_MM


def _cubes(stack: Stack, places: Sequence[_Place], bodies: Mapping[int, Mask]) -> tuple[Cube, ...]:
    values = fast.gathered(stack, [_CUBE_OP], [one.center_lps_mm for one in places])
    limits = np.iinfo(np.int16)
    whole = np.clip(np.rint(values[:, 0]), limits.min, limits.max).astype(np.int16)
    cubes = []
    for place, hu in zip(places, whole, strict=True):
        grid = plan.cube_grid(stack, place.center_lps_mm, _CUBE_OP)
        body = None if place.finding is None else bodies.get(place.finding)
        cubes.append(
            Cube(
                center_lps_mm=place.center_lps_mm,
                score=place.score,
                finding=place.finding,
                diameter_mm=place.diameter_mm,
                hu=hu,
                grid=grid,
                body=None if body is None else laid(body, grid),
            )
        )
    return tuple(cubes)
