"""Pixel Data -> stored values, frame by frame. Pure.

Rules. Everything is checked against the actual bytes before anything is decoded:

- Fewer bytes (native) or fragments (encapsulated, PS3.5 A.4) than frames claimed: MISSING_PIXELS.
- A transfer syntax that is not in the table (`dicom.syntaxes`) is UNDECODABLE_PIXELS.
- A codestream whose own header names another size than Rows and Columns, or that has no end marker,
  is UNDECODABLE_PIXELS; it is not given to a decoder (a bomb of a few bytes may claim gigabytes;
  openjpeg fills what is cut off, CharLS searches for the end for seconds).
- Bits above Bits Stored are no part of a value (old overlays, garbage): they are cut, the sign is
  extended from Bits Stored.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.encaps import generate_frames, parse_basic_offsets, parse_fragments

from appliance.dicom.syntaxes import BY_UID
from appliance.reasons import Code
from appliance.series import codestream, decoders
from appliance.series.decoders import Stored
from appliance.series.elements import PIXEL_DATA, Instance, is_uid, reading, refused
from appliance.series.layout import Layout, pixel_data


def frames(instance: Instance, form: Layout) -> Iterator[Stored]:
    """[rows, columns] of words in native byte order, one frame after another; see `cut`."""
    e = instance.elements
    element = pixel_data(e)
    data = element.value
    encapsulated = element.length == 0xFFFFFFFF
    syntax = instance.transfer_syntax_uid
    row = BY_UID.get(syntax)
    if row is None:
        shown = syntax if is_uid(syntax) else "without a valid UID"
        raise refused(Code.UNDECODABLE_PIXELS, f"{e.where}: transfer syntax {shown}", e.where)
    if encapsulated != row.encapsulated:
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
    for index in range(form.frames):
        at = where if form.frames == 1 else f"{where} frame {index + 1}"
        with reading(at, Code.UNDECODABLE_PIXELS, "its pixels cannot be decoded"):
            values = _decoded(next(coded), form, syntax, at)
        yield values.astype(f"{'i' if form.signed else 'u'}{form.allocated // 8}", copy=False)


def _decoded(code: bytes, form: Layout, syntax: str, at: str) -> Stored:
    """One frame, by the first decoder of its syntax that can."""
    size = codestream.size(code, syntax)
    if size is not None:
        end = codestream.end(code)
        if end is None:
            raise refused(
                Code.UNDECODABLE_PIXELS, f"{at}: its codestream is cut: it has no end marker", at
            )
        code = code[:end]
        if size != (form.rows, form.columns, 1):
            text = f"{at}: coded as {size[0]} x {size[1]} pixels of {size[2]} components"
            raise refused(Code.UNDECODABLE_PIXELS, text, at)
    return decoders.decode(code, form, syntax)


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
