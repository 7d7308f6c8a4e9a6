"""What one instance says of its pixels (PS3.3 C.7.6.3) -> Layout, checked. Pure.

Rules. Everything is checked before anything is allocated or decoded:

- No element with pixels, or an empty one: MISSING_PIXELS. Floating point: UNSUPPORTED_PIXELS.
- Rows x Columns x frames above `max_pixels`, or a frame above `MAX_FRAME_PIXELS` (some codes say as
  many in a hundred bytes, and the memory is spent before they break off): TOO_LARGE.
- Greyscale of one sample, 8, 16 or 32 bits allocated, High Bit = Bits Stored - 1 (PS3.5 8.1.1):
  else UNSUPPORTED_PIXELS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.reasons import Code
from appliance.series.elements import PIXEL_DATA, Elements, refused

TAGS = (
    0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100,
    0x00280101, 0x00280102, 0x00280103, 0x7FE00008, 0x7FE00009, PIXEL_DATA,
)  # fmt: skip
MAX_FRAME_PIXELS = 1 << 24  # 4096 x 4096; scanners reconstruct 1024, a few 2048


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
    pixel_data(e)
    samples = e.integer(0x00280002, "Samples per Pixel")
    if samples is None:
        text = f"{e.where}: Samples per Pixel (0028,0002) is missing"
        raise refused(Code.UNSUPPORTED_PIXELS, text, e.where)
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


def pixel_data(e: Elements) -> Any:
    """The element that holds the pixels; refused where there is none, or an empty one."""
    element = e.raw(PIXEL_DATA)
    if element is None or not element.value:
        if e.raw(0x7FE00008) is not None or e.raw(0x7FE00009) is not None:
            raise refused(Code.UNSUPPORTED_PIXELS, f"{e.where}: floating point pixels", e.where)
        raise refused(Code.MISSING_PIXELS, f"{e.where}: no Pixel Data (7FE0,0010)", e.where)
    return element


def _positive(e: Elements, tag: int, name: str) -> int:
    value = e.integer(tag, name)
    if value is None or value <= 0:
        raise e.invalid(tag, name, "is missing" if value is None else f"is {value}")
    return value
