"""A compressed frame as its own header and end describe it, before any decoder sees it. Pure.

Rules.
- The end is the marker EOI or EOC (FFD9). Behind it only one zero byte may stand, which makes the
  length even (PS3.5 A.4), but writers pad with FF, 20, CC or 33, and with up to 14 bytes: the last
  marker within `TAIL` bytes of the end counts, and what follows it is no part of the code.
- Bytes between the data and the end marker are against ISO 10918-1 B.1.1.2, where only FF may fill;
  some writers of JPEG-LS put zeros there (`unfilled`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from appliance.dicom.syntaxes import RLE

TAIL = 32
END = b"\xff\xd9"
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_JPEG_2000 = ("1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.20")
_MOST_FILL = 14


def end(code: bytes) -> int | None:
    """Where a codestream ends, behind its end marker; None where it is cut."""
    at = code.rfind(END, max(0, len(code) - TAIL))
    return None if at < 0 else at + len(END)


def unfilled(code: bytes) -> Iterator[bytes]:
    """A code that ends with its marker, with one zero byte less before it each time.

    The first that a strict decoder takes is right: with fewer removed it still finds a byte where
    the marker must be, with more it misses data.
    """
    data = code[: -len(END)]
    for fill in range(1, _MOST_FILL + 1):
        if not data.endswith(bytes(fill)):
            return
        yield data[:-fill] + END


def size(code: bytes, syntax: str) -> tuple[int, int, int] | None:
    """(rows, columns, components) that a codestream's header names; None for RLE, which has none.

    JPEG and JPEG-LS: the frame header (ISO 10918-1 B.2.2, ISO 14495-1 C.2.2). JPEG 2000: SIZ
    (ISO 15444-1 A.5.1). Raises struct.error or ValueError where there is no such header.
    """
    if syntax == RLE:
        return None
    if syntax.startswith(_JPEG_2000):
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
