"""The pictures that the demo writes of a report: slices through each finding of a volume, or each
radiograph with its heat map."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from appliance.demo import picture
from appliance.demo.overlay import overlay
from appliance.errors import SeriesRefused
from appliance.phantom.chest import Nodule, Phantom
from appliance.records import Image, Radiograph
from appliance.report import Report, SeriesKey
from appliance.series import pixels, radiograph, select


def of_volume(
    report: Report,
    truth: Phantom | None,
    missed: Sequence[Nodule],
    series: Path | None,
    out: Path,
    which: SeriesKey | None = None,
) -> Path:
    """findings.png: a row of slices through each finding and each missed nodule. `which`: the
    series of the folder that the report is about; None: there is one only."""
    if truth is not None:
        hu: np.ndarray[Any, Any] = truth.hu
        spacing, origin = truth.spacing_mm, truth.origin_lps_mm
    else:
        hu, spacing, origin = _volume(series or Path(), which)
    marks = [
        picture.Mark(f.place_lps_mm, f.diameter_mm or 0.0, f"score {f.score:.2f}")
        for f in report.findings
    ]
    marks += [
        picture.Mark(n.center_lps_mm, n.diameter_mm, f"missed: {n.density}", truth=True)
        for n in missed
    ]
    path = out / "findings.png"
    cv2.imwrite(str(path), picture.findings_picture(hu, spacing, origin, marks, most=16))
    return path


def of_radiographs(
    report: Report, state: Path, series: Path, out: Path, which: SeriesKey | None = None
) -> Iterator[Path]:
    """heat-map-N.png: the key image of each finding with the heat map kept beside the report."""
    images = _radiographs(series, which)
    for finding in report.findings:
        if finding.heat_map is None:
            continue
        kept = state / "reports" / str(report.report_id) / f"{finding.heat_map}.npz"
        with np.load(kept, allow_pickle=False) as heat:
            drawn = overlay(
                images[finding.key_image],
                heat["values"],
                heat["to_stored"],
                f"{finding.kind}: score {finding.score:.2f}",
                report.notice,
            )
        path = out / f"{finding.heat_map}.png"
        cv2.imwrite(str(path), drawn)
        yield path


def _radiographs(folder: Path, which: SeriesKey | None) -> list[Radiograph]:
    """A series' frontal radiographs in the order of key images."""
    images = []
    for data in _files(folder, which):
        with contextlib.suppress(SeriesRefused):
            images.append(radiograph.read(data))
    return sorted(images, key=lambda image: select.place(image.header))


def _files(folder: Path, which: SeriesKey | None) -> Iterator[bytes]:
    """The files of one series of a folder; None: of all."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        with contextlib.suppress(SeriesRefused):
            found = pixels.header(data)
            if which in (None, SeriesKey(found.study_uid, found.series_uid)):
                yield data


def _volume(
    folder: Path, which: SeriesKey | None
) -> tuple[np.ndarray[Any, Any], tuple[float, float, float], tuple[float, float, float]]:
    """A series' images as one volume [z, y, x], axial and unrotated, for a picture only."""
    images: list[Image] = []
    for data in _files(folder, which):
        with contextlib.suppress(SeriesRefused):
            images.extend(pixels.read(data))
    images.sort(key=lambda image: image.geometry.position_lps_mm[2])
    z = [image.geometry.position_lps_mm[2] for image in images]
    first = images[0].geometry
    step = float(np.median(np.diff(z)))
    return (
        np.stack([image.hu for image in images]),
        (step, *first.spacing_mm),
        first.position_lps_mm,
    )
