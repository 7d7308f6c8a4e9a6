"""Whether two files are one image: digests of what an image of any modality shows. Pure.

Rules.
- A CT is compared as it is analysed: HU and geometry of each frame (`pixels`). So is it equal under
  every lossless transfer syntax.
- Every other greyscale image (DX, CR, MR, ...) by its stored values, and by what gives them their
  place and meaning: position, orientation, spacing, rescale, padding, tables, windows and shutters,
  of the instance or of each frame (PS3.3 C.7.6.16).
- What has no such pixels (colour, documents, video) has no digest: two files of it are one only if
  their bytes are.

What else a header says, a name say, takes no part: it may have been corrected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from appliance.errors import SeriesRefused
from appliance.series import decode, layout, pixels, shutter
from appliance.series.elements import Elements, parse, reading
from appliance.series.geometry import ORIENTATION, POSITION, SPACING
from appliance.series.header import PER_FRAME, SHARED, groups_of

_TEXTS = (
    POSITION, ORIENTATION, SPACING, 0x00181164, 0x00280034, 0x00281050, 0x00281051, 0x00281052,
    0x00281053, 0x00281054, 0x00281056, 0x20500020, *shutter.TAGS,
)  # fmt: skip
_WORDS = (0x00280120, 0x00280121, 0x00281041)
_TABLES = (0x00283000, 0x00283010)
_TABLE_PARTS = (0x00283002, 0x00283006)
_MACROS = (0x00209113, 0x00209116, 0x00289110, 0x00289145, 0x00289132)
"""Position, orientation, measures, value transformation and window of a frame."""
TAGS = (*layout.TAGS, *_TEXTS, *_WORDS, *_TABLES, SHARED, PER_FRAME)


def shown(data: bytes | memoryview) -> tuple[str, ...] | None:
    """A digest of each frame of an image; None where there is no readable greyscale image."""
    whole = bytes(data)
    try:
        return tuple(image.digest for image in pixels.read(whole)) or None
    except SeriesRefused:
        pass  # no CT, or none that can be analysed
    try:
        with reading("image"):
            return tuple(_frames(whole))
    except SeriesRefused:
        return None


def _frames(data: bytes) -> Iterator[str]:
    most = 4 * pixels.MAX_PIXELS + (16 << 20)
    instance = parse(data, TAGS, pixels=True, max_bytes=most)
    e = instance.elements
    form = layout.layout(e, pixels.MAX_PIXELS)
    kind = f"{form.stored} {form.signed} {form.photometric} {list(_meaning(e))}"
    groups = groups_of(e)
    for index, words in enumerate(decode.frames(instance, form)):
        own = groups[index] if index < len(groups) else None
        macros = [own.macro(tag, "") for tag in _MACROS] if own else []
        at = [list(_meaning(macro)) for macro in macros if macro is not None]
        whole = hashlib.sha256(f"{words.shape} {kind} {at}\n".encode())
        values = decode.cut(words, form)
        whole.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
        yield whole.hexdigest()


def _meaning(e: Elements) -> Iterator[object]:
    """What places and shows the values, equal in every encoding."""
    yield from (e.texts(tag, "") for tag in _TEXTS)
    yield from (e.word(tag, "", signed=False) for tag in _WORDS)
    for tag in _TABLES:
        for table in e.items(tag, ""):
            for part in _TABLE_PARTS:
                value, little = table.binary(part, "")
                order = "<u2" if little or len(value) % 2 else ">u2"
                yield np.frombuffer(value[: len(value) // 2 * 2], order).tolist()
