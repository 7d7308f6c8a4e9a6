"""Where a frame lies: position, orientation, pixel spacing -> Geometry. Pure.

Rules (PS3.3 C.7.6.2 Image Plane; C.7.6.16.2.1, .3, .4 for functional groups). Position,
orientation and Pixel Spacing must all be there (MISSING_GEOMETRY): Imager Pixel Spacing is not
taken for Pixel Spacing. Spacing is positive and between 0.01 and 20 mm. Row and column directions
are unit and orthogonal within 2e-3 (decimal strings are rounded, to three digits by some writers)
and are then normalised; anything further is an impossible value, not a shear.
"""

from __future__ import annotations

import math

from appliance.reasons import Code
from appliance.records import Geometry, Vector
from appliance.series.elements import Elements, refused

POSITION, ORIENTATION, SPACING = 0x00200032, 0x00200037, 0x00280030
_TOLERANCE = 2e-3
_FARTHEST_MM = 1e5
_SPACING_MM = (0.01, 20.0)


def geometry(position: Elements | None, orientation: Elements | None, measures: Elements | None,
             where: str) -> Geometry:  # fmt: skip
    """The elements that hold (0020,0032), (0020,0037) and (0028,0030) -> Geometry.

    For a single-frame image all three are the data set itself; for a functional group its macros.
    """
    xyz = _vector(position, POSITION, "Image Position (Patient)", 3, where)
    cosines = _vector(orientation, ORIENTATION, "Image Orientation (Patient)", 6, where)
    spacing = _vector(measures, SPACING, "Pixel Spacing", 2, where)
    if max(abs(v) for v in xyz) > _FARTHEST_MM:
        raise _impossible(f"Image Position (Patient) is {max(xyz, key=abs):g} mm", where)
    low, high = _SPACING_MM
    if not all(low <= v <= high for v in spacing):
        shown = ", ".join(f"{v:g}" for v in spacing)
        raise _impossible(f"Pixel Spacing is {shown} mm", where)
    row, column = cosines[:3], cosines[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    across = sum(a * b for a, b in zip(row, column, strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(across)) > _TOLERANCE:
        figures = f"lengths {lengths[0]:.4f} and {lengths[1]:.4f}, product {across:.4f}"
        raise _impossible(f"Image Orientation (Patient) is not orthonormal: {figures}", where)
    return Geometry(
        position_lps_mm=(xyz[0], xyz[1], xyz[2]),
        row_lps=_unit(row, lengths[0]),
        column_lps=_unit(column, lengths[1]),
        spacing_mm=(spacing[0], spacing[1]),
    )


def _vector(e: Elements | None, tag: int, name: str, count: int, where: str) -> tuple[float, ...]:
    found = None if e is None else e.numbers(tag, name, count)
    if found is None:
        shown = f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
        raise refused(Code.MISSING_GEOMETRY, f"{where}: {shown} is missing", where)
    return found


def _impossible(text: str, where: str) -> Exception:
    return refused(Code.INVALID_VALUE, f"{where}: {text}", where)


def _unit(v: tuple[float, ...], length: float) -> Vector:
    return (v[0] / length, v[1] / length, v[2] / length)
