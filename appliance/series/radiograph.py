"""One CR or DX instance -> a Radiograph, or the reason why not. Pure: bytes in, values out.

Rules, in this order; the first that fails is the reason.

1. It can be parsed and has its UIDs; it is Computed Radiography or Digital X-Ray, for presentation
   or for processing (`storage.RADIOGRAPHS`): else MODALITY.
2. It is no view but a frontal one: VIEW_POSITION where View Position (0018,5101), View Code
   Sequence (0054,0220; PS3.16 CID 4010) or Patient Orientation (0020,0020) says another, or where
   one of these says lateral: Image Type (0008,0008) from value 4 on, which is the maker's own
   (C.8.11.3.1.1; RT and LT name the side that a lateral was taken from), Acquisition Device
   Processing Description (0018,1400), the codes and meanings of View and of Performed Protocol Code
   Sequence (0040,0260). AP, PA, nothing, and what nobody knows are taken for frontal; so is free
   text that names both views, because it names the examination.
3. One frame of greyscale with at most 16 bits stored, 8 or 16 allocated: UNSUPPORTED_PIXELS. Size
   and pixels as for CT (`decode`).
4. Its greyscale (PS3.4 N.2). Modality LUT: a table, a rescale, or neither, which is the identity.
   VOI: the first table, else the first window, else None. Inverted where the image is MONOCHROME1
   (PS3.3 C.7.6.3.1.2); Presentation LUT Shape (2050,0020) says the same in other words (C.8.11.3),
   so where the two differ one of them is wrong: INVALID_VALUE.
5. An image for processing must be of logarithmic kind: of Pixel Intensity Relationship (0028,1040)
   LIN it is UNSUPPORTED_PIXELS. Where Sign (0028,1041) makes its bones dark: INVALID_VALUE.
6. Not shown is padding that reaches a border (C.7.5.1.1.2), and what lies outside a shutter
   (C.7.6.11) or collimator (C.8.7.3): rectangular, circular, polygonal, or what they have in
   common. Edges count from 1; the edge itself is shown. Nothing left to show: INVALID_VALUE.
7. Pixels are as high and wide as Pixel Spacing says, else Imager Pixel Spacing (0018,1164), else
   Pixel Aspect Ratio (0028,0034), else square; at most five times the one as the other.
8. Turned and mirrored so that rows run to the left and columns to the feet, where Patient
   Orientation says how it lies; else it is upright.

The digest is SHA-256 over shape, greyscale, what is shown and the stored values: equal for every
lossless transfer syntax. Nothing but SeriesRefused leaves.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.bundle.match import MODALITIES
from appliance.dicom.storage import DX_FOR_PROCESSING, RADIOGRAPHS
from appliance.reasons import Code
from appliance.records import Greyscale, Header, Linear, Lut, Radiograph, VoiWindow
from appliance.series import decode, layout, shutter
from appliance.series.elements import Elements, Instance, parse, reading, refused
from appliance.series.header import TAGS as HEADER_TAGS
from appliance.series.header import named, of_instance
from appliance.series.layout import Layout
from appliance.series.pixels import padding

MAX_PIXELS = layout.MAX_FRAME_PIXELS
VIEW, VIEW_CODES, ORIENTATION = 0x00185101, 0x00540220, 0x00200020
PROCESSING, PROTOCOL_CODES, IMAGE_TYPE = 0x00181400, 0x00400260, 0x00080008
CODE_VALUE, CODE_MEANING = 0x00080100, 0x00080104
MODALITY_LUT, VOI_LUT = 0x00283000, 0x00283010
DESCRIPTOR, DATA = 0x00283002, 0x00283006
INTERCEPT, SLOPE = 0x00281052, 0x00281053
CENTER, WIDTH, FUNCTION = 0x00281050, 0x00281051, 0x00281056
SHAPE, RELATIONSHIP, SIGN = 0x20500020, 0x00281040, 0x00281041
SPACING, IMAGER_SPACING, ASPECT = 0x00280030, 0x00181164, 0x00280034
TAGS = (
    *HEADER_TAGS, *layout.TAGS, *shutter.TAGS, 0x00280120, 0x00280121, VIEW, VIEW_CODES,
    ORIENTATION, PROCESSING, PROTOCOL_CODES, MODALITY_LUT, VOI_LUT, INTERCEPT, SLOPE, CENTER, WIDTH,
    FUNCTION, SHAPE, RELATIONSHIP, SIGN, SPACING, IMAGER_SPACING, ASPECT,
)  # fmt: skip
VIEWS = {
    "a lateral view": {"LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "XTABLE", "XTL", "SAGITTAL"},
    "an oblique view": {"LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "OBL", "OBLIQUE"},
    "a decubitus view": {"LLD", "RLD", "DECUB", "DECUBITUS"},
    "a lordotic or axial view": {"LORDOTIC", "AXIAL", "APICAL"},
}
"""What View Position says word by word; LL to LLO are its defined terms (PS3.3 C.8.1.1)."""
LATERAL = VIEWS["a lateral view"] | {"LATERALE", "SEITLICH", "PROFIL", "PERFIL"}
FRONTAL = {"PA", "AP", "FRONTAL", "FRONTALE"}
"""What free text says word by word."""
LATERAL_SIDES = {"RT", "LT"}
"""From Image Type value 4 on."""
CODES = {
    "a lateral view": (
        *("399067008", "399173006", "399198007", "399352003", "399260004", "30730003"),
        *("R-102CD", "R-10236", "R-10232", "R-10228", "R-10224", "G-A145"),
    ),
    "an oblique view": (
        *("399312000", "260427002", "399135007", "399184004", "399006002", "399182000"),
        *("399059000", "399356000", "399236003", "399038007"),
        *("R-10208", "R-40783", "R-10220", "R-10238", "R-10212", "R-102C1"),
        *("R-10216", "R-40985", "R-10234", "R-10210"),
    ),
    "an axial view": ("399061009", "R-10241"),
}
"""Of CID 4010, SNOMED CT and SNOMED RT."""
_WIDEST = 5.0


def read(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Radiograph:
    """Bytes of one CR or DX instance -> Radiograph. `max_pixels` bounds Rows x Columns. Raises
    SeriesRefused, and nothing else."""
    with reading("image"):
        instance = named(parse(data, TAGS, pixels=True, max_bytes=4 * max_pixels + (16 << 20)))
        with reading(instance.elements.where):
            return _radiograph(instance, max_pixels)


def _radiograph(instance: Instance, max_pixels: int) -> Radiograph:
    e = instance.elements
    whole = of_instance(instance, strict=False)
    if whole.sop_class_uid not in RADIOGRAPHS:
        known = whole.modality in MODALITIES
        text = f"{e.where}: Modality is {whole.modality}" if known else f"{e.where}: its SOP class"
        raise refused(Code.MODALITY, f"{text} is no radiograph of CR or DX", e.where)
    turn = _frontal(e)
    form = layout.layout(e, max_pixels)
    if form.frames != 1 or form.stored > 16 or form.allocated > 16:
        shown = f"{form.frames} frames" if form.frames != 1 else f"{form.stored} bits stored"
        text = f"{e.where}: {shown}; a radiograph has one frame and up to 16 bits"
        raise refused(Code.UNSUPPORTED_PIXELS, text, e.where)
    grey = _greyscale(e, form, whole)
    aspect = _aspect(e)
    there = shutter.shown(e, form.rows, form.columns)
    words = next(decode.frames(instance, form))
    padded = padding(e, form, words)
    if padded is not None:
        there = there & ~_from_the_borders(padded)
    stored = decode.cut(words, form)
    marked = _digest(stored, grey, there, aspect)
    upright, to_stored = _turned(stored, turn)
    return Radiograph(
        header=whole,
        stored=upright,
        grey=grey,
        shown=_turned(there, turn)[0],
        aspect=1 / aspect if turn[0] else aspect,
        to_stored=to_stored,
        digest=marked,
    )


# The view.

Turn = tuple[bool, bool, bool]
"""Transpose first, then flip the rows' order, then the columns'."""


def _frontal(e: Elements) -> Turn:
    """How to lay it upright; VIEW_POSITION where it is no frontal view."""
    named = _words(e.texts(VIEW, "View Position"))
    other = next((name for name, words in VIEWS.items() if named & words), None)
    views = e.items(VIEW_CODES, "View Code Sequence")
    protocols = e.items(PROTOCOL_CODES, "Performed Protocol Code Sequence")
    codes = {item.text(CODE_VALUE, "Code Value") for item in (*views, *protocols)}
    other = other or next((name for name, known in CODES.items() if codes & set(known)), None)
    texts = [
        *((t,) for t in e.texts(PROCESSING, "Acquisition Device Processing Description")),
        *(item.texts(CODE_MEANING, "Code Meaning") for item in (*views, *protocols)),
    ]
    of_maker = _words(e.texts(IMAGE_TYPE, "Image Type")[3:])
    if of_maker & (LATERAL | LATERAL_SIDES) or any(map(_says_lateral, texts)):
        other = other or "a lateral view"
    letters = [t[:1].upper() for t in e.texts(ORIENTATION, "Patient Orientation")]
    if {"A", "P"} & set(letters[:2]):
        other = other or "not seen from the front: its Patient Orientation"
    if other is not None:
        raise refused(Code.VIEW_POSITION, f"{e.where}: it is {other}", e.where)
    if len(letters) != 2 or {*letters} not in ({"L", "F"}, {"L", "H"}, {"R", "F"}, {"R", "H"}):
        return False, False, False
    swap = letters[0] in "HF"
    row, column = reversed(letters) if swap else letters
    return swap, column == "H", row == "R"


def _words(values: Sequence[str]) -> set[str]:
    return {word for value in values for word in re.split(r"[\W_]+", value.upper()) if word}


def _says_lateral(values: Sequence[str]) -> bool:
    words = _words(values)
    return bool(words & LATERAL) and not words & FRONTAL


def _turned(pixels: NDArray[Any], turn: Turn) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The pixels upright, and 3x3 from (row, column, 1) there to where it was."""
    swap, rows, columns = turn
    laid = pixels.T if swap else pixels
    back = np.eye(3)
    for axis, flipped in enumerate((rows, columns)):
        if flipped:
            back[axis, axis], back[axis, 2] = -1, laid.shape[axis] - 1
    laid = laid[:: -1 if rows else 1, :: -1 if columns else 1]
    return np.ascontiguousarray(laid), back[[1, 0, 2]] if swap else back


# The greyscale.


def _greyscale(e: Elements, form: Layout, whole: Header) -> Greyscale:
    modality = _modality(e, form)
    inverse = form.photometric == "MONOCHROME1"
    shape = (e.text(SHAPE, "Presentation LUT Shape") or "").upper()
    if shape and shape != ("INVERSE" if inverse else "IDENTITY"):
        known = shape if shape in {"INVERSE", "IDENTITY"} else "unknown"
        raise e.invalid(SHAPE, "Presentation LUT Shape", f"is {known}, it is {form.photometric}")
    if whole.sop_class_uid == DX_FOR_PROCESSING:
        _for_processing(e, inverse=inverse)
    return Greyscale(modality, _voi(e, _signed(modality, form)), inverse)


def _for_processing(e: Elements, *, inverse: bool) -> None:
    """Rule 5."""
    if (e.text(RELATIONSHIP, "Pixel Intensity Relationship") or "").upper() == "LIN":
        text = f"{e.where}: raw values linear to the X-ray intensity, which are not to be shown"
        raise refused(Code.UNSUPPORTED_PIXELS, text, e.where)
    sign = e.word(SIGN, "Pixel Intensity Relationship Sign", signed=True)
    if sign is not None and (sign > 0) != inverse:
        raise e.invalid(SIGN, "Pixel Intensity Relationship Sign", f"is {sign}: bones are dark")


def _modality(e: Elements, form: Layout) -> Linear | Lut:
    item = e.first(MODALITY_LUT, "Modality LUT Sequence")
    if item is not None:
        return _lut(item, signed=form.signed)
    slope, intercept = e.number(SLOPE, "Rescale Slope"), e.number(INTERCEPT, "Rescale Intercept")
    if slope == 0:
        raise e.invalid(SLOPE, "Rescale Slope", "is 0")
    return Linear(1.0 if slope is None else slope, intercept or 0.0)


def _signed(modality: Linear | Lut, form: Layout) -> bool:
    """Whether modality values may be negative: then so is a VOI LUT's first value (C.11.2.1.1)."""
    if isinstance(modality, Lut):
        return False
    return min(v * modality.slope + modality.intercept for v in form.range) < 0


def _voi(e: Elements, signed: bool) -> VoiWindow | Lut | None:
    item = e.first(VOI_LUT, "VOI LUT Sequence")
    if item is not None:
        return _lut(item, signed=signed)
    centers, widths = _every(e, CENTER, "Window Center"), _every(e, WIDTH, "Window Width")
    if not centers and not widths:
        return None
    if len(centers) != len(widths):
        raise e.invalid(WIDTH, "Window Width", f"has {len(widths)} values, Center {len(centers)}")
    function = (e.text(FUNCTION, "VOI LUT Function") or "LINEAR").upper()
    least = 1.0 if function == "LINEAR" else 1e-9
    if widths[0] < least:
        raise e.invalid(WIDTH, "Window Width", f"is {widths[0]:g}")
    if function == "LINEAR":
        return VoiWindow(centers[0], widths[0], "LINEAR")
    if function == "LINEAR_EXACT":
        return VoiWindow(centers[0], widths[0], "LINEAR_EXACT")
    if function == "SIGMOID":
        return VoiWindow(centers[0], widths[0], "SIGMOID")
    raise e.invalid(FUNCTION, "VOI LUT Function", "is unknown")


def _every(e: Elements, tag: int, name: str) -> tuple[float, ...]:
    count = len(e.texts(tag, name))
    return (e.numbers(tag, name, count) or ()) if count else ()


def _lut(item: Elements, *, signed: bool) -> Lut:
    """LUT Descriptor and Data (C.11.1.1.1). Entries of 8 bits may stand in bytes or in words."""
    descriptor, little = item.binary(DESCRIPTOR, "LUT Descriptor")
    if len(descriptor) != 6:
        raise item.invalid(DESCRIPTOR, "LUT Descriptor", f"has {len(descriptor)} bytes, not 6")
    order = "<" if little else ">"
    count, first, bits = struct.unpack(f"{order}H{'h' if signed else 'H'}H", descriptor)
    count = count or 1 << 16
    if not 8 <= bits <= 16:
        raise item.invalid(DESCRIPTOR, "LUT Descriptor", f"asks for {bits} bits, not 8 to 16")
    data, little = item.binary(DATA, "LUT Data")
    if len(data) == 2 * count:
        entries = np.frombuffer(data, "<u2" if little else ">u2")
    elif bits == 8 and len(data) == count + count % 2:
        entries = np.frombuffer(data, "u1")[:count]
    else:
        raise item.invalid(DATA, "LUT Data", f"has {len(data)} bytes for {count} entries")
    if int(entries.max()) >= 1 << bits:
        raise item.invalid(DATA, "LUT Data", f"has an entry of more than {bits} bits")
    return Lut(first, bits, tuple(entries.tolist()))


# The pixels.


def _aspect(e: Elements) -> float:
    """Height of a pixel divided by its width (rule 7)."""
    for tag, name in (
        (SPACING, "Pixel Spacing"),
        (IMAGER_SPACING, "Imager Pixel Spacing"),
        (ASPECT, "Pixel Aspect Ratio"),
    ):
        sides = e.numbers(tag, name, 2)
        if sides is not None:
            if min(sides) <= 0 or not 1 / _WIDEST <= sides[0] / sides[1] <= _WIDEST:
                raise e.invalid(tag, name, f"is {sides[0]:g}, {sides[1]:g}")
            return sides[0] / sides[1]
    return 1.0


def _from_the_borders(padded: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The padding that a row or column meets before anything else; inside it is a value."""
    found = np.zeros_like(padded)
    for axis in (0, 1):
        there = padded.swapaxes(0, axis)
        ahead = np.logical_and.accumulate(there, axis=0)
        behind = np.logical_and.accumulate(there[::-1], axis=0)[::-1]
        found |= (ahead | behind).swapaxes(0, axis)
    return found


def _digest(stored: NDArray[Any], grey: Greyscale, shown: NDArray[np.bool_], aspect: float) -> str:
    kind = stored.dtype.newbyteorder("<")
    whole = hashlib.sha256(f"radiograph {kind.str} {stored.shape} {aspect:.4g} {grey}\n".encode())
    whole.update(np.packbits(shown).data)
    whole.update(np.ascontiguousarray(stored, dtype=kind).data)
    return whole.hexdigest()
