"""Pixel Data -> stored values, frame by frame. Pure.

Rules. Everything is checked against the actual bytes before anything is allocated or decoded:

- Rows x Columns x frames above `max_pixels`, or a frame above `MAX_FRAME_PIXELS` (some codes say as
  many in a hundred bytes, and the memory is spent before they break off): TOO_LARGE. Fewer bytes
  (native) or fragments (encapsulated, PS3.5 A.4) than frames claimed: MISSING_PIXELS.
- Greyscale of one sample, 8, 16 or 32 bits allocated, High Bit = Bits Stored - 1 (PS3.5 8.1.1):
  else UNSUPPORTED_PIXELS, as is a transfer syntax that is not in the table.
- A codestream whose own header names another size than Rows and Columns, or that has no end marker,
  is UNDECODABLE_PIXELS; it is not given to a decoder (a bomb of a few bytes may claim gigabytes;
  openjpeg fills what is cut off, CharLS searches for the end for seconds).
- Bits above Bits Stored are no part of a value (old overlays, garbage): they are cut, the sign is
  extended from Bits Stored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames, parse_basic_offsets, parse_fragments
from pydicom.pixels import get_decoder

from appliance.reasons import Code
from appliance.series.elements import (
    DEFLATED_LE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    PIXEL_DATA,
    Elements,
    Instance,
    is_uid,
    reading,
    refused,
)

Stored = NDArray[Any]
NATIVE = {IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE}
# Transfer syntax -> the fastest plugin of pydicom.pixels (measured; FACTS: DICOM).
PLUGINS = {
    "1.2.840.10008.1.2.5": "pylibjpeg",  # RLE Lossless, by pylibjpeg-rle
    "1.2.840.10008.1.2.4.50": "pylibjpeg",  # JPEG Baseline, 8 bit, by pylibjpeg-libjpeg
    "1.2.840.10008.1.2.4.51": "pylibjpeg",  # JPEG Extended, 12 bit
    "1.2.840.10008.1.2.4.57": "pylibjpeg",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70": "pylibjpeg",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000 Lossless, by pylibjpeg-openjpeg
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # High-Throughput JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.202": "pylibjpeg",  # HTJ2K Lossless RPCL
    "1.2.840.10008.1.2.4.203": "pylibjpeg",  # HTJ2K
}
TAGS = (
    0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100,
    0x00280101, 0x00280102, 0x00280103, 0x7FE00008, 0x7FE00009, PIXEL_DATA,
)  # fmt: skip
MAX_FRAME_PIXELS = 1 << 24  # 4096 x 4096; scanners reconstruct 1024, a few 2048
_RLE = "1.2.840.10008.1.2.5"
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_END = b"\xff\xd9"  # EOI and EOC; only a zero byte of padding may follow (PS3.5 A.4)


@dataclass(frozen=True)
class Layout:
    """The Image Pixel module (PS3.3 C.7.6.3), checked."""

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    signed: bool
    photometric: str

    @property
    def range(self) -> tuple[int, int]:
        """Least and greatest stored value."""
        if self.signed:
            return -(1 << self.stored - 1), (1 << self.stored - 1) - 1
        return 0, (1 << self.stored) - 1

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.columns * self.allocated // 8


def layout(e: Elements, max_pixels: int) -> Layout:
    """The elements of the Image Pixel module -> Layout; refused where it is impossible."""
    samples = e.integer(0x00280002, "Samples per Pixel")
    photometric = (e.text(0x00280004, "Photometric Interpretation") or "").upper()
    if samples != 1 or photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        known = photometric in {"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_RCT"}
        shown = photometric if known else "grey or not"
        text = f"{e.where}: {samples} samples per pixel, {shown}, instead of one of greyscale"
        raise refused(Code.UNSUPPORTED_PIXELS, text, e.where)
    rows = _positive(e, 0x00280010, "Rows")
    columns = _positive(e, 0x00280011, "Columns")
    frames = 1
    if e.integer(0x00280008, "Number of Frames") is not None:
        frames = _positive(e, 0x00280008, "Number of Frames")
    if rows * columns * frames > max_pixels or rows * columns > MAX_FRAME_PIXELS:
        shown = f"{rows} x {columns} pixels in {frames} frames"
        shown += f"; the limit is {max_pixels} pixels, {MAX_FRAME_PIXELS} in a frame"
        raise refused(Code.TOO_LARGE, f"{e.where}: {shown}", e.where)
    allocated = _positive(e, 0x00280100, "Bits Allocated")
    stored = _positive(e, 0x00280101, "Bits Stored")
    high = e.integer(0x00280102, "High Bit")
    if allocated not in {8, 16, 32} or high not in {None, stored - 1}:
        shown = f"{allocated} bits allocated, {stored} stored, high bit {high}"
        raise refused(Code.UNSUPPORTED_PIXELS, f"{e.where}: {shown}", e.where)
    if stored > allocated:
        raise e.invalid(0x00280101, "Bits Stored", f"is {stored} of {allocated} allocated")
    representation = e.integer(0x00280103, "Pixel Representation")
    if representation not in {0, 1}:
        raise e.invalid(0x00280103, "Pixel Representation", f"is {representation}")
    return Layout(rows, columns, frames, allocated, stored, representation == 1, photometric)


def _positive(e: Elements, tag: int, name: str) -> int:
    value = e.integer(tag, name)
    if value is None or value <= 0:
        raise e.invalid(tag, name, "is missing" if value is None else f"is {value}")
    return value


def frames(instance: Instance, form: Layout) -> Iterator[Stored]:
    """[rows, columns] of words in native byte order, one frame after another; see `cut`."""
    e = instance.elements
    element = e.raw(PIXEL_DATA)
    data = None if element is None else element.value
    if not data:
        floats = e.raw(0x7FE00008) is not None or e.raw(0x7FE00009) is not None
        if floats:
            raise refused(Code.UNSUPPORTED_PIXELS, f"{e.where}: floating point pixels", e.where)
        raise refused(Code.MISSING_PIXELS, f"{e.where}: no Pixel Data (7FE0,0010)", e.where)
    encapsulated = element is not None and element.length == 0xFFFFFFFF
    syntax = instance.transfer_syntax_uid
    if syntax not in NATIVE and syntax not in PLUGINS:
        shown = syntax if is_uid(syntax) else "without a valid UID"
        raise refused(Code.UNSUPPORTED_PIXELS, f"{e.where}: transfer syntax {shown}", e.where)
    if encapsulated != (syntax in PLUGINS):
        shown = "encapsulated" if encapsulated else "native"
        text = f"{e.where}: {shown} pixels under transfer syntax {syntax}"
        raise refused(Code.UNDECODABLE_PIXELS, text, e.where)
    if encapsulated:
        yield from _encapsulated(instance, form, bytes(data))
    else:
        yield from _native(instance, form, data)


def _native(instance: Instance, form: Layout, data: bytes | memoryview) -> Iterator[Stored]:
    where = instance.elements.where
    needed = form.frame_bytes * form.frames
    if len(data) < needed:
        text = f"{where}: {len(data)} bytes of pixels for {form.frames} frames that need {needed}"
        raise refused(Code.MISSING_PIXELS, text, where)
    order = "<" if instance.little_endian else ">"
    kind = np.dtype(f"{order}{'i' if form.signed else 'u'}{form.allocated // 8}")
    if form.allocated == 8 and not instance.little_endian:
        # 8-bit pixels in big endian are OW: bytes swapped in pairs (PS3.5 A.3, D)
        even = data[: len(data) // 2 * 2]
        if instance.elements.raw(PIXEL_DATA).VR == "OW":  # type: ignore[union-attr]
            data = np.frombuffer(even, "u2").byteswap().tobytes()
    count = form.rows * form.columns
    for index in range(form.frames):
        values = np.frombuffer(data, kind, count, index * form.frame_bytes)
        yield values.reshape(form.rows, form.columns).astype(kind.newbyteorder("="), copy=False)


def _encapsulated(instance: Instance, form: Layout, data: bytes) -> Iterator[Stored]:
    e, syntax = instance.elements, instance.transfer_syntax_uid
    where = e.where
    with reading(where, Code.UNDECODABLE_PIXELS, "the pixel fragments are broken"):
        table = 8 + 4 * len(parse_basic_offsets(data))
        fragments, _ = parse_fragments(data[table:])
    if fragments < form.frames:
        text = f"{where}: {fragments} pixel fragments for {form.frames} frames"
        raise refused(Code.MISSING_PIXELS, text, where)
    coded = generate_frames(data, number_of_frames=form.frames)
    decoded = get_decoder(syntax).iter_array(
        data,
        raw=True,
        decoding_plugin=PLUGINS[syntax],
        rows=form.rows,
        columns=form.columns,
        samples_per_pixel=1,
        photometric_interpretation=form.photometric,
        number_of_frames=form.frames,
        bits_allocated=form.allocated,
        bits_stored=form.stored,
        pixel_representation=int(form.signed),
        pixel_keyword="PixelData",
    )
    for index in range(form.frames):
        at = where if form.frames == 1 else f"{where} frame {index + 1}"
        with reading(at, Code.UNDECODABLE_PIXELS, "its pixels cannot be decoded"):
            code = next(coded)
            size = coded_size(code, syntax)
            if size is not None and not code[-16:].rstrip(b"\0").endswith(_END):
                text = f"{at}: its codestream is cut: it has no end marker"
                raise refused(Code.UNDECODABLE_PIXELS, text, at)
            if size is not None and size != (form.rows, form.columns, 1):
                text = f"{at}: coded as {size[0]} x {size[1]} pixels of {size[2]} components"
                raise refused(Code.UNDECODABLE_PIXELS, text, at)
            values, _ = next(decoded)
        yield values.astype(f"{'i' if form.signed else 'u'}{form.allocated // 8}", copy=False)


def coded_size(code: bytes, syntax: str) -> tuple[int, int, int] | None:
    """(rows, columns, components) that a codestream's header names; None for RLE, which has none.

    JPEG and JPEG-LS: the frame header (ISO 10918-1 B.2.2, ISO 14495-1 C.2.2). JPEG 2000: SIZ
    (ISO 15444-1 A.5.1). Raises struct.error or ValueError where there is no such header.
    """
    if syntax == _RLE:
        return None
    if syntax.startswith(("1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.20")):
        at = _codestream(code)
        right, low, left, top = struct.unpack_from(">4I", code, at + 8)
        return low - top, right - left, struct.unpack_from(">H", code, at + 40)[0]
    at = code.index(b"\xff\xd8") + 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", code, at)
        if mark != 0xFF:
            raise ValueError("no marker where one must be")
        if kind == 0xFF:  # a fill byte before a marker
            at += 1
        elif kind == 0xF7 or (0xC0 <= kind <= 0xCF and kind not in {0xC4, 0xC8, 0xCC}):
            rows, columns, components = struct.unpack_from(">HHB", code, at + 5)
            return rows, columns, components
        else:
            at += 2 + length


def _codestream(code: bytes) -> int:
    """Where the JPEG 2000 codestream begins that a decoder will read: at once (PS3.5 A.4.4), or in
    the first jp2c box of a JP2 file (ISO 15444-1 I.4, I.5.4), which some writers put there."""
    at = 0
    if code.startswith(_JP2):
        while code[at + 4 : at + 8] != b"jp2c":
            length = struct.unpack_from(">I", code, at)[0]
            if length < 8:
                raise ValueError("a box without a length")
            at += length
        at += 8
    if not code.startswith(b"\xff\x4f\xff\x51", at):
        raise ValueError("no codestream where one must be")
    return at


def cut(words: Stored, form: Layout) -> Stored:
    """Words -> stored values: only Bits Stored, the sign extended from there (PS3.5 8.1.1)."""
    spare = form.allocated - form.stored
    low, high = form.range
    if not spare or (words.min() >= low and words.max() <= high):
        return words
    if form.signed:
        shifted: Stored = np.right_shift(np.left_shift(words, spare), spare)
        return shifted
    masked: Stored = np.bitwise_and(words, words.dtype.type((1 << form.stored) - 1))
    return masked
