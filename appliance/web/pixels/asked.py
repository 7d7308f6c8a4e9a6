"""What is asked of the process that decodes, what it answers, and how both cross a pipe.

Rules
- A message is two lengths (little-endian, 4 bytes each), a record as JSON, and bytes. No length of
  a message is believed beyond its limit: either side may be broken, and one reads what others sent.
- No text of a header crosses: an error names tags and figures (`series.elements`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Literal

from appliance.records import Pair, Vector
from appliance.report import Record, Sentence

HEAD = struct.Struct("<II")
MOST_JSON = 16 << 20
MOST_PIXELS = 1 << 27
"""Of an instance that is shown: 512 frames of 512 x 512. Longer ones are analysed, but to show them
would take memory that inference needs."""
MOST_BYTES = 4 * MOST_PIXELS + (1 << 20)
Matrix = tuple[Vector, Vector, Vector]
When = Literal["then", "now"]


class Asked(Record):
    """One question; the bytes of an instance follow it, or of several, one behind the other."""

    what: Literal["describe", "image", "planes"]
    """planes: of a file of cubes (store/kept.cubes), of one pair and one exam the three planes."""
    sizes: tuple[int, ...] = ()
    """Of the instances that are to be described, or of their beginnings, in bytes."""
    frame: int = 0
    """Of planes: which pair."""
    when: When = "now"
    """Of planes: which exam."""
    held: bool = False
    """The instance is the one of before, and no bytes follow."""


class Place(Record):
    """One frame of a CT instance in the patient (PS3.3 C.7.6.2), or one upright radiograph."""

    rows: int
    columns: int
    number: int | None = None
    """Instance Number (0020,0013)."""
    position: Vector | None = None
    """LPS millimetres of the centre of the first pixel; None of a radiograph, as are the next
    three."""
    row: Vector | None = None
    """Unit direction of increasing column index."""
    column: Vector | None = None
    """Unit direction of increasing row index."""
    spacing: Pair | None = None
    """Between rows, between columns, mm."""
    aspect: float = 1.0
    """Height of a pixel divided by its width."""
    scale_mm: float | None = None
    """Of a radiograph: width of a pixel, as far as the image says it."""
    scale_at: Literal["patient", "detector", "unknown"] | None = None
    """In which plane that is."""
    to_stored: Matrix | None = None
    """Of a radiograph: (row, column, 1) of the upright image -> of the image as it was sent."""


class Described(Record):
    """The frames of one instance, or why they are not known."""

    error: Sentence | None = None
    places: tuple[Place, ...] = ()


class Answered(Record):
    """What was described, or one image, or why there is none."""

    error: Sentence | None = None
    described: tuple[Described, ...] = ()
    rows: int = 0
    columns: int = 0
    bits: Literal[8, 16] = 16
    """16: HU, signed, little-endian. 8: grey of a radiograph as it is displayed, 0 black. Row by
    row, without gaps."""
    held: bool = False
    """It keeps the frames of this instance: the next question about it needs no bytes."""


def packed(record: Record, data: bytes | memoryview) -> bytes:
    """The beginning of a message; `data` follows it."""
    text = record.model_dump_json(exclude_defaults=True).encode()
    return HEAD.pack(len(text), len(data)) + text


def send(to: int, data: bytes | memoryview) -> None:
    """All of it, down a pipe."""
    left = memoryview(data)
    while left:
        left = left[os.write(to, left) :]


def unpacked(read: Callable[[int], bytes], most: int) -> tuple[bytes, bytes]:
    """JSON and bytes of the next message. read: exactly so many bytes, or EOFError. ValueError for
    a message that is longer than it may be."""
    length, size = HEAD.unpack(read(HEAD.size))
    if length > MOST_JSON or size > most:
        raise ValueError(f"a message of {length} and {size} bytes")
    return read(length), read(size)
