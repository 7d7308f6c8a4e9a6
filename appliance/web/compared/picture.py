"""Grey of 8 bits -> a PNG (ISO/IEC 15948): one IHDR, one IDAT, no filter."""

from __future__ import annotations

import struct
import zlib
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def png(rows: int, columns: int, grey: bytes) -> bytes:
    """grey: row by row, 0 black. ValueError where it is not rows x columns bytes."""
    if rows < 1 or columns < 1 or len(grey) != rows * columns:
        raise ValueError(f"{len(grey)} bytes are no image of {rows} x {columns}")
    lines = b"".join(b"\0" + grey[n * columns :][:columns] for n in range(rows))
    head = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    data = zlib.compress(lines)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
