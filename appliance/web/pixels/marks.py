"""Where the findings of a report lie on the images of its series, for lines over them. Pure.

Rules
- A pixel is (column, row), 0 at the centre of the first pixel; so an outline that follows the edge
  of one pixel at (0, 0) runs from -0.5 to 0.5.
- An outline is drawn around the pixels that `results.resample` gives a body: the same ones that a
  segmentation in DICOM has. It follows their edges within a quarter of a pixel.
- A body that lies on no image, or images that no body can be laid on (one alone, several
  directions), give no outline; the box and the centre are there all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.records import HeatMap, Mask
from appliance.report import Finding, Millimetres3, Record
from appliance.results import resample
from appliance.results.resample import Patch, Slice
from appliance.web.pixels.asked import Matrix
from appliance.web.pixels.listing import Frame

Point = tuple[float, float]


class Outline(Record):
    """A finding on one image."""

    image: int
    polygons: tuple[tuple[Point, ...], ...]
    """Each closed. What lies in an odd number of them is inside."""


class Mark(Record):
    """One finding."""

    id: int
    kind: str
    center: Millimetres3 | None
    """LPS millimetres; None of a radiograph."""
    box: tuple[float, float, float, float, float, float] | None
    """Least x, y, z and greatest x, y, z."""
    image: int
    """The image to jump to, of the listing."""
    outlines: tuple[Outline, ...] = ()
    map: str | None = None
    """Of a radiograph: the name of its heat map."""


class Heat(Record):
    """A heat map to be laid over an upright radiograph."""

    rows: int
    columns: int
    values: tuple[float, ...]
    """0 to 1, row by row."""
    to_image: Matrix
    """(row, column, 1) of a cell's centre -> (row, column, 1) of the image."""


@dataclass(frozen=True, slots=True)
class _Laid:
    """The slices that a body can be laid on, and which image each one is."""

    slices: Sequence[Slice]
    images: Sequence[int]


def marks(
    findings: Sequence[Finding], bodies: Mapping[int, Mask], frames: Sequence[Frame]
) -> tuple[Mark, ...]:
    """One mark a finding, in the order of the report. bodies: finding -> its mask."""
    laid = _laid(frames)
    return tuple(_mark(finding, bodies.get(finding.id), frames, laid) for finding in findings)


def heat(values: NDArray[np.float32], to_stored: NDArray[np.float64], image: Matrix) -> Heat:
    """A kept map on an upright image whose pixels `image` leads to those as sent. What is zero or
    less is no evidence, the rest is its share of the largest (`results.capture`)."""
    shares = np.maximum(values, 0) / max(float(values.max()), 1e-6)
    to_image = np.linalg.inv(np.asarray(image)) @ to_stored
    a, b, c = ((float(x), float(y), float(z)) for x, y, z in to_image.tolist())
    return Heat(
        rows=values.shape[0],
        columns=values.shape[1],
        values=tuple(round(float(v), 3) for v in shares.ravel()),
        to_image=(a, b, c),
    )


def of_map(name: str, maps: Sequence[HeatMap]) -> HeatMap | None:
    """The map of this name; None where none was kept."""
    return next((one for one in maps if one.name == name), None)


def _mark(finding: Finding, body: Mask | None, frames: Sequence[Frame], laid: _Laid) -> Mark:
    outlines = () if body is None else _outlines(body, laid)
    return Mark(
        id=finding.id,
        kind=finding.kind,
        center=finding.center_lps_mm,
        box=finding.box_lps_mm,
        image=_image(finding, frames),
        outlines=outlines,
        map=finding.heat_map,
    )


def _image(finding: Finding, frames: Sequence[Frame]) -> int:
    """The image whose plane is nearest to the centre; of a radiograph the one it was found in."""
    if finding.center_lps_mm is None:
        return min(finding.key_image, max(len(frames) - 1, 0))
    center = np.asarray(finding.center_lps_mm)
    best, nearest = 0, np.inf
    for number, frame in enumerate(frames):
        if (g := frame.geometry) is None:
            continue
        away = abs(float((center - g.position_lps_mm) @ np.cross(g.row_lps, g.column_lps)))
        if away < nearest:
            best, nearest = number, away
    return best


def _laid(frames: Sequence[Frame]) -> _Laid:
    slices, images = [], []
    for number, frame in enumerate(frames):
        place, geometry = frame.place, frame.geometry
        if place is not None and geometry is not None:
            slices.append(Slice(geometry, (place.rows, place.columns)))
            images.append(number)
    return _Laid(slices, images)


def _outlines(body: Mask, laid: _Laid) -> tuple[Outline, ...]:
    try:
        patches = resample.body(body, laid.slices)
    except ValueError:  # outside of all images, or images that no body can be laid on
        return ()
    return tuple(
        Outline(image=laid.images[patch.slice], polygons=polygons)
        for patch in patches
        if (polygons := _polygons(patch))
    )


def _polygons(patch: Patch) -> tuple[tuple[Point, ...], ...]:
    """The edges of the pixels: each pixel becomes four, so that a line through the centres of the
    outermost ones runs a quarter of a pixel within the edge."""
    fine = np.kron(patch.pixels.astype(np.uint8), np.ones((2, 2), np.uint8))
    found, _ = cv2.findContours(fine, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    lines = []
    for line in found:
        at = np.asarray(line, np.float64).reshape(-1, 2)
        places = (at - 0.5) / 2 + (patch.column, patch.row)
        lines.append(tuple((float(x), float(y)) for x, y in places.tolist()))
    return tuple(lines)
