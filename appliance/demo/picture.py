"""One picture of the findings of a series: a row each, axial, coronal and sagittal.

Rules of this module:

1. Pure: arrays in, an image out. OpenCV alone draws.
2. Radiological convention: the patient's right is on the left of the image, the head on top; every
   view names its sides (R L A P H F).
3. Millimetres are true: a view shows the same length along both axes whatever the spacing, and
   has a scale bar.
4. Lung window -1350..150 HU. Nothing is measured in the picture.
5. The caption says what every output of Scanside says: research use, not for clinical use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from appliance.report import NOTICE

Image = npt.NDArray[np.uint8]
Point = tuple[float, float, float]
Colour = tuple[int, int, int]

WINDOW_HU: Final = (-1350.0, 150.0)
TILE: Final = 264  # pixels of one view
GAP: Final = 6
LEFT: Final = 210  # the column of text
HEADER: Final = 40
FOOTER: Final = 30
LEAST_VIEW_MM: Final = 90.0  # side of a view, more for what is larger than a fifth of it

INK: Final[Colour] = (10, 8, 6)
BACK: Final[Colour] = (24, 20, 18)
PANEL: Final[Colour] = (40, 34, 30)
TEXT: Final[Colour] = (236, 232, 228)
FAINT: Final[Colour] = (160, 150, 142)
FOUND: Final[Colour] = (40, 176, 255)  # amber: what the device found
TRUE: Final[Colour] = (120, 210, 90)  # green: where the phantom or a reader says a nodule is

# view: name, volume axis across, volume axis down, directions, letters left, right, top, bottom
_VIEWS: Final = (
    ("axial", 0, 1, 1, "RLAP"),
    ("coronal", 0, 2, -1, "RLHF"),
    ("sagittal", 1, 2, -1, "APHF"),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """What is circled: centre (LPS mm), diameter (mm), a short label (score, number); `truth`
    marks the place of a known nodule instead of a finding."""

    center_lps_mm: Point
    diameter_mm: float
    label: str
    truth: bool = False


def findings_picture(
    volume_hu: npt.NDArray[Any],
    spacing_mm: tuple[float, float, float],
    origin_lps_mm: Point,
    findings: Sequence[Mark],
    *,
    most: int = 12,
    title: str = "Scanside findings",
) -> Image:
    """Findings as an image [rows, columns, 3], BGR, uint8.

    `volume_hu` is [z, y, x] with +z = head, +y = back, +x = left, `spacing_mm` (z, y, x), and
    `origin_lps_mm` the centre of voxel [0, 0, 0]. The first `most` findings are shown, in the
    order given.
    """
    shown = findings[:most]
    rows = max(1, len(shown))
    width = LEFT + 3 * (TILE + GAP) + GAP
    height = HEADER + rows * (TILE + GAP) + FOOTER
    page = np.empty((height, width, 3), np.uint8)
    page[:] = BACK
    count = f"{len(shown)} of {len(findings)}" if len(shown) < len(findings) else f"{len(shown)}"
    _write(page, f"{title}: {count}", (14, 26), TEXT, 0.6)
    _legend(page, shown, width)
    if not shown:
        _write(page, "nothing was marked", (14, HEADER + TILE // 2), FAINT, 0.5)
    for row, mark in enumerate(shown):
        top = HEADER + row * (TILE + GAP)
        _panel(page[top : top + TILE, GAP : LEFT - GAP], row + 1, mark)
        for column, view in enumerate(_VIEWS):
            left = LEFT + column * (TILE + GAP)
            page[top : top + TILE, left : left + TILE] = _view(
                volume_hu, spacing_mm, origin_lps_mm, mark, view
            )
    _write(
        page,
        f"{NOTICE}    lung window {WINDOW_HU[0]:.0f}..{WINDOW_HU[1]:.0f} HU",
        (14, height - 10),
        TEXT,
        0.45,
    )
    return page


def _view(
    volume: npt.NDArray[Any],
    spacing_mm: tuple[float, float, float],
    origin: Point,
    mark: Mark,
    view: tuple[str, int, int, int, str],
) -> Image:
    """One plane through the centre of the mark, TILE pixels square."""
    name, across, down, sign, letters = view
    side_mm = max(LEAST_VIEW_MM, 5 * mark.diameter_mm)
    mm = side_mm / TILE
    # fractional voxel index of the centre along x, y, z
    at = [(mark.center_lps_mm[k] - origin[k]) / spacing_mm[2 - k] for k in range(3)]
    through = 3 - across - down
    size = volume.shape[2 - through]
    low = int(np.clip(np.floor(at[through]), 0, size - 1))
    part = float(np.clip(at[through] - low, 0, 1))
    plane = np.take(volume, low, axis=2 - through).astype(np.float32)
    if part > 0:
        above = np.take(volume, min(low + 1, size - 1), axis=2 - through).astype(np.float32)
        plane = plane * np.float32(1 - part) + above * np.float32(part)
    # rows of `plane` run along the axis `down`, columns along `across`
    ramp = (np.arange(TILE, dtype=np.float32) - (TILE - 1) / 2) * np.float32(mm)
    columns = at[across] + ramp / np.float32(spacing_mm[2 - across])
    lines = at[down] + sign * ramp / np.float32(spacing_mm[2 - down])
    u, v = np.meshgrid(columns.astype(np.float32), lines.astype(np.float32))
    hu = cv2.remap(plane, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=-1024)
    grey = (hu - WINDOW_HU[0]) * (255 / (WINDOW_HU[1] - WINDOW_HU[0]))
    tile: Image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    _ring(tile, (mark.diameter_mm / 2 + 2.5) / mm, TRUE if mark.truth else FOUND)
    middle, far = TILE // 2, TILE - 7
    places = ((6, middle + 4), (far - 9, middle + 4), (middle - 5, 16), (middle - 5, far))
    for letter, place in zip(letters, places, strict=True):
        _write(tile, letter, place, TEXT, 0.45)
    _write(tile, name, (7, 16), FAINT, 0.42)
    bar = round(10 / mm)
    cv2.line(tile, (TILE - 10 - bar, TILE - 10), (TILE - 10, TILE - 10), TEXT, 2)
    _write(tile, "10 mm", (TILE - 10 - bar, TILE - 16), FAINT, 0.36)
    return tile


def _ring(tile: Image, radius: float, colour: Colour) -> None:
    """A thin circle around the centre; fixed-point, so that it is centred between pixels."""
    centre = round((TILE - 1) / 2 * 16)
    cv2.circle(tile, (centre, centre), round(radius * 16), colour, 1, cv2.LINE_AA, shift=4)


def _panel(box: Image, number: int, mark: Mark) -> None:
    """The text beside a row."""
    box[:] = PANEL
    colour = TRUE if mark.truth else FOUND
    box[:, :4] = colour
    _write(box, f"{number}", (16, 36), colour, 0.9)
    y = 64
    for line in _wrap(mark.label, 20):
        _write(box, line, (16, y), TEXT, 0.5)
        y += 22
    size = f"{mark.diameter_mm:.1f} mm" if mark.diameter_mm > 0 else "not measured"
    x_mm, y_mm, z_mm = mark.center_lps_mm
    y += 8
    for name, value in (
        ("size", size),
        ("x (L+)", f"{x_mm:+.1f} mm"),
        ("y (P+)", f"{y_mm:+.1f} mm"),
        ("z (S+)", f"{z_mm:+.1f} mm"),
    ):
        _write(box, name, (16, y), FAINT, 0.42)
        _write(box, value, (78, y), TEXT, 0.45)
        y += 21
    _write(box, "known nodule" if mark.truth else "finding", (16, TILE - 12), FAINT, 0.42)


def _legend(page: Image, shown: Sequence[Mark], width: int) -> None:
    """What the colours mean, only those that occur."""
    x = width - 14
    for truth, name, colour in ((True, "known nodule", TRUE), (False, "finding", FOUND)):
        if any(mark.truth == truth for mark in shown):
            x -= cv2.getTextSize(name, cv2.FONT_HERSHEY_DUPLEX, 0.45, 1)[0][0]
            _write(page, name, (x, 25), FAINT, 0.45)
            cv2.circle(page, (x - 12, 21), 6, colour, 1, cv2.LINE_AA)
            x -= 34


def _wrap(text: str, columns: int) -> list[str]:
    """At most three lines, broken at blanks."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) <= columns or not lines[-1]:
            lines[-1] = joined[:columns]
        else:
            lines.append(word[:columns])
    return lines[:3]


def _write(image: Image, text: str, place: tuple[int, int], colour: Colour, size: float) -> None:
    """ASCII text with a dark edge, legible on any background."""
    plain = text.encode("ascii", "replace").decode()
    x, y = place
    for dx, dy, ink in ((-1, 0, INK), (1, 0, INK), (0, -1, INK), (0, 1, INK), (0, 0, colour)):
        at = (x + dx, y + dy)
        cv2.putText(image, plain, at, cv2.FONT_HERSHEY_DUPLEX, size, ink, 1, cv2.LINE_AA)
