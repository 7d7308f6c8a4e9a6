"""Pictures of a result as DICOM Secondary Capture: for a PACS that shows no SR and no SEG. Pure.

Rules.
1. Secondary Capture Image Storage, single frame, RGB (PS3.3 A.8.1): every PACS shows it, while many
   do not know the multi-frame true colour class.
2. All pixels are drawn here, from arrays and the report. No name, id or date of a patient is burned
   in, and Burned In Annotation (0028,0301) says NO.
3. First the pictures side by side, then the verdict in capitals, then each line of the report: its
   reasons with remedies, its limits, its notice. Long lines wrap, and the page grows with them:
   nothing is cut off. The font has ASCII alone; what is not ASCII becomes "?".
4. A radiograph stands beside itself with the evidence coloured: what is zero or less in the map
   stays grey, the rest is as strong as its share of the largest. Of a CT the key images have the
   outline of the body, outside of it, so that what was found stays visible.
5. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from appliance.preprocess import projection
from appliance.records import HeatMap, Radiograph
from appliance.results.identity import Identified, identified, packed
from appliance.results.sr import words
from appliance.results.sr.case import Case
from appliance.results.sr.document import Composed

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
IDENTITY = (
    "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID",
    "AccessionNumber", "StudyDescription",
)  # fmt: skip
"""Of the image that it is about, into the header alone (PS3.3 C.7.1.1, C.7.2.1)."""
WIDTH, LEAST_HEIGHT, EDGE, LINE, HEAD_LINE = 1024, 512, 32, 28, 40
"""Pixels."""
FONT, SIZE, HEAD_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0.85
PAPER, INK, HEAD_INK, AMBER = (16, 18, 22), (226, 228, 232), (255, 255, 255), (255, 176, 40)
WINDOW_HU = (-1350.0, 150.0)
"""The lung window."""
STRONGEST = 0.55
"""Of a colour over the grey."""

Colours = NDArray[np.uint8]
"""[rows, columns, 3]: red, green, blue."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture and what stands below it."""

    pixels: Colours
    caption: str
    aspect: float = 1.0
    """Height of a pixel divided by its width."""


def capture(case: Case, pictures: Sequence[Picture] = ()) -> Composed:
    """A report in words, below these pictures."""
    one = identified(case.report, case.source.key, "sc", SECONDARY_CAPTURE, case.naming)
    pixels = page(pictures, words.verdict(case.report), words.lines(case))
    return _composed(case, one, pixels)


def withdrawal(case: Case, by: str | None) -> Composed:
    """That a report does not stand any more. by: what replaces it; None where nothing does."""
    one = identified(
        case.report,
        case.source.key,
        "sc",
        SECONDARY_CAPTURE,
        case.naming,
        withdrawn_by=by or "nothing",
    )
    return _composed(case, one, page((), words.withdrawal(by), words.withdrawn(case)))


def _composed(case: Case, one: Identified, pixels: Colours) -> Composed:
    made = Dataset()
    for keyword in IDENTITY:
        if keyword in case.source.template:
            made[keyword] = case.source.template[keyword]
    made.Modality, made.ConversionType = "OT", "WSD"
    made.ImageType, made.PatientOrientation = ["DERIVED", "SECONDARY"], ""
    made.Laterality = ""  # type 2C: the images need not say
    made.BurnedInAnnotation = "NO"
    made.LossyImageCompression = "00"
    made.Rows, made.Columns, made.SamplesPerPixel = *pixels.shape[:2], 3
    made.PhotometricInterpretation, made.PlanarConfiguration = "RGB", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = pixels.tobytes()  # of even length: WIDTH is even
    made["PixelData"].VR = "OB"
    return Composed(one, packed(made, one, case.report, case.source.template, case.at))


def page(pictures: Sequence[Picture], verdict: str, lines: Iterable[str]) -> Colours:
    """Rule 3, WIDTH pixels wide and as high as it must be."""
    text = [(line, HEAD_SIZE, HEAD_INK, HEAD_LINE) for line in wrapped(verdict, HEAD_SIZE)]
    for line in lines:
        text += [(part, SIZE, INK, LINE) for part in wrapped(line, SIZE)]
        text.append(("", SIZE, INK, LINE // 3))
    strips = [_strip(pictures[n : n + 2]) for n in range(0, len(pictures), 2)]
    height = sum(len(strip) for strip in strips) + sum(step for *_, step in text) + 2 * EDGE
    found = np.empty((max(height, LEAST_HEIGHT), WIDTH, 3), np.uint8)
    found[:] = PAPER
    y = EDGE
    for strip in strips:
        found[y : y + len(strip)] = strip
        y += len(strip)
    for line, size, ink, step in text:
        _write(found, line, (EDGE, y + step - LINE // 3), size, ink)
        y += step
    return found


def wrapped(text: str, size: float, width: int = WIDTH - 2 * EDGE) -> list[str]:
    """Lines of at most `width` pixels; a word that is longer is broken."""
    found, line = [], ""
    for word in _plain(text).split():
        rest = word
        while rest:
            longer = f"{line} {rest}" if line else rest
            if _wide(longer, size) <= width:
                line, rest = longer, ""
            elif line:
                found.append(line)
                line = ""
            else:
                fits = max(n for n in range(1, len(rest)) if _wide(rest[:n], size) <= width)
                found.append(rest[:fits])
                rest = rest[fits:]
    return [*found, line] if line else found


def radiograph(image: Radiograph, heat: HeatMap, caption: str) -> tuple[Picture, Picture]:
    """A radiograph, and the same with the evidence over it (rule 4)."""
    grey = np.rint(255 * projection.display(image)).astype(np.uint8)
    plain = np.repeat(grey[..., None], 3, axis=2)
    share = heat_on(image, heat.values, heat.to_stored)
    hot = cv2.applyColorMap(np.rint(share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    strong = share[..., None] * STRONGEST
    mixed = (1 - strong) * plain + strong * hot[..., ::-1]
    return (
        Picture(plain, "The image", image.aspect),
        Picture(mixed.astype(np.uint8), caption, image.aspect),
    )


def heat_on(
    image: Radiograph, values: NDArray[np.float32], to_stored: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The map on the pixels of the upright image, [rows, columns], 0..1."""
    to_upright = np.linalg.inv(image.to_stored) @ to_stored
    swap = np.eye(3)[[1, 0, 2]]  # OpenCV counts x, y
    rows, columns = image.stored.shape
    for_it = np.maximum(values, 0) / max(float(values.max()), 1e-6)
    laid = cv2.warpAffine(
        for_it.astype(np.float32), (swap @ to_upright @ swap)[:2], (columns, rows),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
    )  # fmt: skip
    return np.asarray(np.clip(laid, 0, 1), np.float32)


def outlined(
    hu: NDArray[np.int16] | NDArray[np.float32],
    body: NDArray[np.bool_],
    caption: str,
    aspect: float = 1.0,
) -> Picture:
    """A slice [rows, columns] in the lung window, with a line around a body on it (rule 4)."""
    low, high = WINDOW_HU
    grey = np.clip((np.asarray(hu, np.float32) - low) / (high - low), 0, 1)
    found = np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=2)
    near = cv2.dilate(body.astype(np.uint8), np.ones((3, 3), np.uint8))
    around = cv2.dilate(near, np.ones((3, 3), np.uint8)) > near
    found[around] = AMBER
    return Picture(found, caption, aspect)


def fill_ellipse(on: NDArray[np.bool_], ends: NDArray[np.float64]) -> None:
    """Set the pixels inside of an ellipse. ends: (column, row) [4, 2] of the ends of its major and
    of its minor axis, where pixel centres are whole numbers."""
    center = ends.mean(axis=0)
    (dx, dy), across = ends[1] - ends[0], np.linalg.norm(ends[3] - ends[2])
    halves = max(np.hypot(dx, dy) / 2, 1), max(float(across) / 2, 1)
    angle = float(np.degrees(np.arctan2(dy, dx)))
    drawn = on.astype(np.uint8)
    box = tuple(center.tolist()), (2 * halves[0], 2 * halves[1]), angle
    cv2.ellipse(drawn, box, 1, cv2.FILLED)
    on |= drawn.astype(np.bool_)


def _strip(pictures: Sequence[Picture]) -> Colours:
    """Two pictures side by side, or one, each with its caption below it."""
    room = (WIDTH - 3 * EDGE) // 2
    shown, captions = [], []
    for picture in pictures:
        rows, columns = picture.pixels.shape[:2]
        size = room / max(columns, rows * picture.aspect)
        across, down = round(columns * size), round(rows * picture.aspect * size)
        area = cv2.INTER_AREA if size < 1 else cv2.INTER_LINEAR
        target = (max(across, 1), max(down, 1))
        shown.append(cv2.resize(picture.pixels, target, interpolation=area))
        captions.append(wrapped(picture.caption, SIZE, room))
    high = max(len(one) for one in shown)
    found = np.empty((high + LINE * (1 + max(map(len, captions))), WIDTH, 3), np.uint8)
    found[:] = PAPER
    for n, (one, lines) in enumerate(zip(shown, captions, strict=True)):
        left = EDGE + n * (room + EDGE)
        found[: len(one), left : left + one.shape[1]] = one
        for k, line in enumerate(lines):
            _write(found, line, (left, high + (k + 1) * LINE - LINE // 3), SIZE, INK)
    return found


def _write(
    on: Colours, text: str, at: tuple[int, int], size: float, ink: tuple[int, int, int]
) -> None:
    cv2.putText(on, text, at, FONT, size, ink, 1, cv2.LINE_AA)


def _wide(text: str, size: float) -> int:
    return int(cv2.getTextSize(text, FONT, size, 1)[0][0])


def _plain(text: str) -> str:
    return text.encode("ascii", "replace").decode()
