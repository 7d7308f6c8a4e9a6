"""Studies whose images say by their pixels which image they are, with two bodies in them.

A picture of an image is enough to say where each body is on it and which image it is: the image is
grey to its edges, the bodies are light, and its number stands in white squares near its first row,
the first of them always there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom.dataset import Dataset

from appliance.phantom import instances
from appliance.records import Mask
from appliance.report import Coverage, Finding, Report
from appliance.results import seg
from appliance.results.source import source
from appliance.results.sr.case import Case
from rigs import bodies, oblique
from rigs.reports import NAMING

F64 = NDArray[np.float64]
GREY, LIGHT, WHITE = 200, 1000, 2000
"""Stored values."""
SHADES = {"grey": 60, "light": 200, "white": 245}
"""In a picture in the window of the images, the least of each; black is what is no image."""
COLOURED = 30
"""How far the channels of a picture are apart where a segment is laid over an image."""
BITS, SIDE, GAP, EDGE = 5, 8, 4, 4
"""Of the squares: how many say the number; in pixels, and from the corner."""
TURNED_DEG = 20.0
RADIUS_MM = 4.0
"""Of the second body, a ball."""
SECOND = (17.0, 11.0, 8.0)
"""Where it lies from the first: mm along a row, along a column, from image to image."""
AT = datetime(2026, 1, 5, 10, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Study:
    images: tuple[Dataset, ...]
    middles: Mapping[int, F64]
    """Finding -> its middle, LPS mm."""
    bodies: Mapping[int, Mask]

    @property
    def uid(self) -> str:
        return str(self.images[0].StudyInstanceUID)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(self._finding(number) for number in self.middles)

    def packed(self) -> list[bytes]:
        return [instances.packed(image) for image in self.images]

    def case(self, make_report: Callable[..., Report], **report: object) -> Case:
        """What a report on its two findings says. report: fields of it that are to be others."""
        series = source(self.images)
        made = make_report(series.key.series).model_dump(by_alias=True)
        said = {
            "findings": self.findings,
            "coverage": Coverage(lungs="covered"),
            "appliance": "0.2.0",
        }
        return Case(
            Report.model_validate({**made, **said, **report}),
            series,
            NAMING,
            AT,
            axes={1: oblique.axes(TURNED_DEG)},
        )

    def with_bodies(self, case: Case) -> Case:
        """The same, which names where the bodies are in the segmentation."""
        return replace(case, segments=seg.segments(case, self.bodies))

    def centre(self, finding: int, number: int) -> F64:
        """(column, row) of a body on an image that shows it, from the corner of the first pixel."""
        row, column = np.argwhere(self._shown(self.images[number - 1], finding)).mean(axis=0) + 0.5
        return np.array([column, row])

    def box(self, finding: int, number: int) -> F64:
        """[[column, row], [column, row]] of the least and the greatest edge of a body that an image
        shows."""
        row, column = np.nonzero(self._shown(self.images[number - 1], finding))
        return np.array([[column.min(), row.min()], [column.max() + 1, row.max() + 1]], np.float64)

    def nearest(self, finding: int) -> int:
        """Number of the image that shows the largest section of a body."""
        areas = [self._shown(image, finding).sum() for image in self.images]
        return int(np.argmax(areas)) + 1

    def _finding(self, number: int) -> Finding:
        x, y, z = self.middles[number].tolist()
        radii = oblique.RADII if number == 1 else np.full(3, RADIUS_MM)
        long, short = (float(2 * r) for r in (max(radii[:2]), min(radii[:2])))
        measured = number == 1
        return Finding.model_validate(
            {
                "id": number,
                "tracking_uid": f"2.25.{76 + number}",
                "kind": "nodule",
                "score": 0.913 if measured else 0.5,
                "threshold": 0.42,
                "center_lps_mm": (x, y, z),
                "box_lps_mm": (*(self.middles[number] - radii), *(self.middles[number] + radii)),
                "diameter_mm": (long + short) / 2,
                "measured": measured,
                "long_axis_mm": long if measured else None,
                "short_axis_mm": short if measured else None,
                "mean_axis_mm": (long + short) / 2 if measured else None,
                "volume_mm3": 1319.5 if measured else None,
                "density": "solid",
                "key_image": 0,
            }
        )

    def _shown(self, image: Dataset, finding: int) -> NDArray[np.bool_]:
        return _inside(_places(image), finding, self.middles[finding])


def study(pose_name: str, name: str = "") -> Study:
    """A study in one of the poses of rigs.oblique. What has another name has other UIDs."""
    pose = oblique.POSES[pose_name]
    images = oblique.series(pose, TURNED_DEG)
    middles = {1: oblique.MIDDLE, 2: oblique.MIDDLE + pose.directions @ SECOND}
    study_uid, series_uid, frame = (
        instances.uid(f"viewer {pose_name} {name}", n) for n in ("a", "b", "c")
    )
    for number, image in enumerate(images, start=1):
        image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
        image.FrameOfReferenceUID = frame
        image.SOPInstanceUID = instances.uid(series_uid, str(number))
        image.file_meta = instances.meta(image)
        image.InstanceNumber = number
        image.PixelData = _painted(image, number, middles).tobytes()
    masks = {finding: _mask(finding, middle) for finding, middle in middles.items()}
    return Study(tuple(images), middles, masks)


def _inside(at: F64, finding: int, middle: F64) -> NDArray[np.bool_]:
    away = np.asarray(at) - middle
    if finding == 1:
        axes = oblique.axes(TURNED_DEG)
        long, short = (np.subtract(*ends[::-1]) for ends in (axes.long_lps_mm, axes.short_lps_mm))
        directions = np.stack([v / np.linalg.norm(v) for v in (long, short, np.cross(long, short))])
        away = away @ directions.T / (oblique.RADII / RADIUS_MM)
    return np.asarray(np.linalg.norm(away, axis=-1) <= RADIUS_MM)


def _mask(finding: int, middle: F64) -> Mask:
    return bodies.drawn(lambda at: _inside(at, finding, middle), middle, 24.0, 0.8)


def _places(image: Dataset) -> F64:
    """[rows, columns, 3]: LPS mm of each pixel's centre (PS3.3 C.7.6.2.1.1)."""
    along = np.asarray(image.ImageOrientationPatient, np.float64)
    between_rows, between_columns = image.PixelSpacing
    column, row = np.meshgrid(np.arange(image.Columns), np.arange(image.Rows))
    return np.asarray(
        np.asarray(image.ImagePositionPatient, np.float64)
        + column[..., None] * between_columns * along[:3]
        + row[..., None] * between_rows * along[3:]
    )


def _painted(image: Dataset, number: int, middles: Mapping[int, F64]) -> NDArray[np.int16]:
    pixels = np.full((image.Rows, image.Columns), GREY, np.int16)
    for finding, middle in middles.items():
        pixels[_inside(_places(image), finding, middle)] = LIGHT
    for place, on in enumerate((True, *(number >> bit & 1 for bit in range(BITS)))):
        left = EDGE + place * (SIDE + GAP)
        if on:
            pixels[EDGE : EDGE + SIDE, left : left + SIDE] = WHITE
    return pixels.astype("<i2")


@dataclass(frozen=True)
class Picture:
    """What a viewer shows of an image, read from its pixels alone."""

    number: int
    """Of the image."""
    corner: F64
    """(x, y) in the picture of the corner of the first pixel."""
    scale: F64
    """Pixels of the picture to a column, to a row."""

    def place(self, point: ArrayLike) -> F64:
        """(x, y) in the picture -> (column, row) on the image."""
        return np.asarray((np.asarray(point, np.float64) - self.corner) / self.scale)


def read(pixels: NDArray[np.uint8]) -> Picture:
    """pixels: [rows, columns, 3]. ValueError where they show none of the images here."""
    seen = pixels.max(axis=-1)
    shown = seen > SHADES["grey"]
    if not shown.any():
        raise ValueError("the picture is black")
    (top, bottom), (left, right) = (
        (int(line[0]), int(line[-1]) + 1)
        for line in (np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0)))
    )
    corner = np.array([left, top], np.float64)
    scale = np.array([(right - left) / oblique.COLUMNS, (bottom - top) / oblique.ROWS])
    squares = []
    for place in range(BITS + 1):
        middle = np.array([EDGE + place * (SIDE + GAP) + SIDE / 2, EDGE + SIDE / 2])
        x, y = (corner + middle * scale).astype(int)
        squares.append(bool(seen[y, x] > SHADES["white"]))
    first, *bits = squares
    if not first:
        raise ValueError("the picture has no first square: it is turned, or of something else")
    return Picture(sum(1 << n for n, on in enumerate(bits) if on), corner, scale)


def coloured(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[rows, columns]: where something that is not grey is laid over the image."""
    found = pixels.astype(np.int16)
    return np.asarray(found.max(axis=-1) - found.min(axis=-1) > COLOURED)
