"""One DICOM instance -> its frames in HU, or the reason why not. Pure: bytes in, values out.

Rules, in this order; the first that fails is the reason.

1. It can be parsed (`elements`), and has its UIDs (`header`: MISSING_UID).
2. It is CT (Modality, or one of the CT SOP classes): else MODALITY. `header` reads every IOD.
3. It describes greyscale pixels of possible size (`layout`).
4. It says where it lies (`geometry`): MISSING_GEOMETRY, INVALID_VALUE.
5. It has a rescale, and its pixels are all there and can be decoded (`decode.frames`). HU = slope
   * stored value + intercept (PS3.3 C.11.1; C.8.2.1: Type 1 in CT, of unit HU unless Rescale Type,
   C.11.1.1.2, says otherwise; HU written out, misspelt or not, is HU). None: MISSING_RESCALE. Zero
   or not finite: INVALID_VALUE. A Modality LUT Sequence or another Rescale Type:
   UNSUPPORTED_PIXELS.
6. Padding is found on stored values, before rescaling, the range inclusive (PS3.3 C.7.5.1.1.2), and
   becomes -1000 HU with `padding` set. A padding value that Bits Stored cannot hold is against the
   clause, but is written: it is looked for in whole words, lest it be cut to a value of tissue. "No
   pixels in the native image will have a value equal to Pixel Padding Value": where it would be
   tissue (above -500 HU) and no border pixel has it, the header is wrong and the image is refused
   (INVALID_VALUE), not punched with holes.
7. Rows or columns of more than 2.5 m, longer than any scan, are an impossible Pixel Spacing
   (INVALID_VALUE): resampled to a millimetre they would fill the memory.
8. MONOCHROME1 does not change a value: it tells how to display it (PS3.3 C.7.6.3.1.2); HU come from
   the rescale alone.

A multi-frame image takes all of this per frame from its functional groups (PS3.3 C.7.6.16, C.8.15).
HU are int16 where slope and intercept are whole and the range fits, else float32. The digest is
SHA-256 over a type tag, shape, geometry rounded to 1e-4 and the little endian bytes of the HU:
equal for every lossless transfer syntax of an image. Nothing but SeriesRefused leaves.

`parse` reads an instance up to its pixels, which is enough to know what it is; `images` goes on
from there, so that no element of a slice is read twice.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.bundle.match import MODALITIES
from appliance.dicom.storage import CT_IMAGES
from appliance.reasons import Code
from appliance.records import Geometry, Header, Image
from appliance.series import decode, elements, layout
from appliance.series.decoders import Stored
from appliance.series.elements import Elements, Instance, reading, refused
from appliance.series.geometry import ORIENTATION, POSITION, SPACING, geometry
from appliance.series.header import (
    MAX_HEADER_BYTES,
    Groups,
    groups_of,
    named,
    of_any,
    of_frame,
    of_instance,
)
from appliance.series.header import TAGS as HEADER_TAGS
from appliance.series.layout import Layout

__all__ = [
    "AIR_HU", "MAX_PIXELS", "Frame", "Parsed", "frames", "header", "images", "padding", "parse",
    "read",
]  # fmt: skip

AIR_HU = -1000
MAX_PIXELS = 1 << 28  # of one instance: 1024 frames of 512 x 512
_RESCALE_INTERCEPT, _RESCALE_SLOPE, _RESCALE_TYPE = 0x00281052, 0x00281053, 0x00281054
_PADDING, _PADDING_LIMIT, _MODALITY_LUT = 0x00280120, 0x00280121, 0x00283000
_HU = re.compile(r"\W*(H\W?U|H[AO]UN?D?N?S?F[A-Z]*([\W_]+UNITS?)?)\W*")
"""HU, [HU], and how people write Hounsfield units."""
_TISSUE_HU = -500
_LONGEST_MM = 2500.0
TAGS = (
    *HEADER_TAGS, *layout.TAGS, POSITION, ORIENTATION, SPACING, _PADDING, _PADDING_LIMIT,
    _RESCALE_INTERCEPT, _RESCALE_SLOPE, _RESCALE_TYPE, _MODALITY_LUT,
)  # fmt: skip


@dataclass(frozen=True)
class Parsed:
    """One instance of any IOD, read up to its pixels."""

    header: Header
    instance: Instance
    data: bytes


def parse(data: bytes) -> Parsed:
    """Bytes of one instance of any IOD -> what it says of itself; SeriesRefused if it is no DICOM
    or lacks UIDs."""
    begun = elements.parse(data, HEADER_TAGS, pixels=False, max_bytes=MAX_HEADER_BYTES, also=TAGS)
    instance = named(begun)
    return Parsed(of_any(instance), instance, data)


def header(data: bytes) -> Header:
    """The Header alone; see `parse`."""
    return parse(data).header


def images(parsed: Parsed, *, max_pixels: int = MAX_PIXELS) -> tuple[Image, ...]:
    """One CT instance -> its frames in HU, in the order of the file.

    `max_pixels` bounds Rows x Columns x frames. Raises SeriesRefused, and nothing else.
    """
    rest = parsed.instance.rest
    if rest is None:  # deflated: so far only a part of it was inflated
        return read(parsed.data, max_pixels=max_pixels)
    with reading("image"):
        instance = elements.completed(parsed.instance, rest, TAGS)
        with reading(instance.elements.where):
            return _images(instance, max_pixels)


def read(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Image, ...]:
    """Bytes of one CT instance -> its frames in HU; see `images`."""
    with reading("image"):
        # a deflated data set is at most its pixels in 32 bits and a generous header
        most = 4 * max_pixels + (16 << 20)
        instance = named(elements.parse(data, TAGS, pixels=True, max_bytes=most))
        with reading(instance.elements.where):
            return _images(instance, max_pixels)


def _images(instance: Instance, max_pixels: int) -> tuple[Image, ...]:
    e = instance.elements
    whole = of_instance(instance, strict=True)
    unnamed_ct = whole.modality is None and whole.sop_class_uid in CT_IMAGES
    if whole.modality != "CT" and not unnamed_ct:
        known = whole.modality in MODALITIES  # anything else may be a misplaced name
        shown = f"Modality is {whole.modality}, not CT"
        text = shown if known else "neither its SOP class nor its Modality is that of a CT"
        raise refused(Code.MODALITY, f"{e.where}: {text}", e.where)
    form = layout.layout(e, max_pixels)
    described = _frames(e, whole)
    if len(described) != form.frames:
        text = f"{e.where}: {form.frames} frames, functional groups or geometry of {len(described)}"
        raise refused(Code.MISSING_GEOMETRY, text, e.where)
    return tuple(
        _image(e, form, one, words)
        for one, words in zip(described, decode.frames(instance, form), strict=True)
    )


@dataclass(frozen=True)
class Rescale:
    slope: float
    intercept: float


@dataclass(frozen=True)
class Frame:
    """What the header says of one frame."""

    index: int
    where: str
    header: Header
    geometry: Geometry
    rescale: Rescale


def frames(parsed: Parsed) -> tuple[Frame, ...]:
    """What the header of one CT instance says of each frame; its pixels are not looked at.

    Raises SeriesRefused, and nothing else.
    """
    e = parsed.instance.elements
    with reading(e.where):
        return _frames(e, of_instance(parsed.instance, strict=True))


def _frames(e: Elements, whole: Header) -> tuple[Frame, ...]:
    groups: tuple[Groups | None, ...] = groups_of(e) or (None,)
    return tuple(_frame(e, whole, group, index) for index, group in enumerate(groups))


def _frame(e: Elements, whole: Header, groups: Groups | None, index: int) -> Frame:
    if groups is None:
        return Frame(index, e.where, whole, geometry(e, e, e, e.where), _rescale(e, e))
    where = f"{e.where} frame {index + 1}"
    at = geometry(
        groups.macro(0x00209113, "Plane Position Sequence"),
        groups.macro(0x00209116, "Plane Orientation Sequence"),
        groups.macro(0x00289110, "Pixel Measures Sequence"),
        where,
    )
    rescale = _rescale(groups.macro(0x00289145, "Pixel Value Transformation Sequence"), e)
    return Frame(index, where, of_frame(whole, groups, strict=True), at, rescale)


def _possible_size(form: Layout, frame: Frame) -> None:
    height, width = (
        n * mm for n, mm in zip((form.rows, form.columns), frame.geometry.spacing_mm, strict=True)
    )
    if max(height, width) > _LONGEST_MM:
        text = f"{frame.where}: Pixel Spacing makes it {height:.0f} x {width:.0f} mm large"
        raise refused(Code.INVALID_VALUE, text, frame.where)


def _image(e: Elements, form: Layout, frame: Frame, words: Stored) -> Image:
    _possible_size(form, frame)
    padded = padding(e, form, words)
    hu = _hounsfield(decode.cut(words, form), frame.rescale, padded, frame.where)
    hu.setflags(write=False)
    marked = digest(hu, frame.geometry)
    return Image(frame.header, frame.index, frame.geometry, hu, padded is not None, marked)


def _rescale(holder: Elements | None, e: Elements) -> Rescale:
    if e.raw(_MODALITY_LUT) is not None:
        text = f"{e.where}: a Modality LUT Sequence instead of a rescale"
        raise refused(Code.UNSUPPORTED_PIXELS, text, e.where)
    if holder is None:
        raise refused(Code.MISSING_RESCALE, f"{e.where}: it has no rescale", e.where)
    slope = holder.number(_RESCALE_SLOPE, "Rescale Slope")
    intercept = holder.number(_RESCALE_INTERCEPT, "Rescale Intercept")
    if slope is None or intercept is None:
        missing = "Slope" if slope is None else "Intercept"
        raise refused(Code.MISSING_RESCALE, f"{e.where}: Rescale {missing} is missing", e.where)
    if slope == 0:
        raise e.invalid(_RESCALE_SLOPE, "Rescale Slope", "is 0")
    kind = holder.text(_RESCALE_TYPE, "Rescale Type")
    if kind is not None and not _HU.fullmatch(kind.upper()):
        text = f"{e.where}: Rescale Type (0028,1054) is not HU"
        raise refused(Code.UNSUPPORTED_PIXELS, text, e.where)
    return Rescale(slope, intercept)


def padding(e: Elements, form: Layout, words: Stored) -> NDArray[np.bool_] | None:
    """Where the image is padding; None where it is nowhere."""
    size = form.allocated // 8 if form.allocated > 8 else 2
    first = e.word(_PADDING, "Pixel Padding Value", signed=form.signed, size=size)
    if first is None:
        return None
    last = e.word(_PADDING_LIMIT, "Pixel Padding Range Limit", signed=form.signed, size=size)
    low, high = sorted((first, first if last is None else last))
    least, most = form.range
    values = decode.cut(words, form) if least <= low and high <= most else words
    kind = np.iinfo(values.dtype)
    if high < kind.min or low > kind.max:
        return None
    low, high = max(low, int(kind.min)), min(high, int(kind.max))
    of = values.dtype.type
    found = (values == of(low)) if low == high else (values >= of(low)) & (values <= of(high))
    return found if found.any() else None


def _hounsfield(
    stored: Stored, rescale: Rescale, padded: NDArray[np.bool_] | None, where: str
) -> NDArray[np.int16] | NDArray[np.float32]:
    slope, intercept = rescale.slope, rescale.intercept
    whole = slope == int(slope) and intercept == int(intercept)
    if whole and stored.dtype.itemsize <= 2:
        ends = [int(v) * int(slope) + int(intercept) for v in (stored.min(), stored.max())]
        if min(ends) >= -32768 and max(ends) <= 32767:
            return _in_words(stored, int(slope), int(intercept), padded, where)
    exact: Stored
    if whole and stored.dtype.itemsize <= 2 and abs(slope) < 1 << 14 and abs(intercept) < 1 << 29:
        exact = stored.astype(np.int32)
    elif whole and abs(slope) < 1 << 14 and abs(intercept) < 1 << 29:
        exact = stored.astype(np.int64)
    else:
        exact, whole = stored.astype(np.float64), False
    if slope != 1:
        exact *= int(slope) if whole else slope
    if intercept != 0:
        exact += int(intercept) if whole else intercept
    if padded is not None:
        _believable(exact, padded, where)
        exact[padded] = AIR_HU
    low, high = exact.min(), exact.max()
    if whole and low >= -32768 and high <= 32767:
        return exact.astype(np.int16)
    if not (abs(low) < 1e9 and abs(high) < 1e9):  # beyond anything a scanner writes, or not finite
        text = f"{where}: HU from {low:g} to {high:g} after rescaling"
        raise refused(Code.INVALID_VALUE, text, where)
    return exact.astype(np.float32)


def _in_words(
    stored: Stored, slope: int, intercept: int, padded: NDArray[np.bool_] | None, where: str
) -> NDArray[np.int16]:
    """The same for HU that fit 16 bits, in one pass: exact, as words are reckoned modulo 65536."""
    words = stored.view(np.uint16) if stored.dtype.itemsize == 2 else stored.astype(np.uint16)
    if slope != 1:
        words = words * np.uint16(slope % 65536)
    hu: NDArray[np.int16] = (words + np.uint16(intercept % 65536)).view(np.int16)
    if padded is not None:
        _believable(hu, padded, where)
        hu[padded] = AIR_HU
    return hu


def _believable(hu: Stored, padded: NDArray[np.bool_], where: str) -> None:
    """Padding surrounds the native image; a value of tissue that never does is not padding."""
    border = padded[0].any() or padded[-1].any() or padded[:, 0].any() or padded[:, -1].any()
    if border:
        return
    value = float(hu[padded].max())
    if value > _TISSUE_HU:
        count = int(padded.sum())
        text = f"{where}: Pixel Padding Value means {value:g} HU, found in {count} inner pixels"
        raise refused(Code.INVALID_VALUE, text, where)


def digest(hu: NDArray[np.int16] | NDArray[np.float32], at: Geometry) -> str:
    """SHA-256, hex, of HU and geometry: the same for every lossless transfer syntax."""
    figures = (*at.position_lps_mm, *at.row_lps, *at.column_lps, *at.spacing_mm)
    rounded = " ".join(str(round(v * 1e4)) for v in figures)
    kind = "int16" if hu.dtype == np.int16 else "float32"
    whole = hashlib.sha256(f"{kind} {hu.shape[0]} {hu.shape[1]} {rounded}\n".encode())
    little = np.ascontiguousarray(hu, dtype=hu.dtype.newbyteorder("<"))
    whole.update(little.data)
    return whole.hexdigest()
