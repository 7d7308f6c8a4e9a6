"""The drawing of a curve: points of lines in a box of WIDTH x HEIGHT, y downwards. Pure.

Sensitivity runs from 0 to 1; false positives from 0 to the next whole number above the most. The
figures stand in a table beside it, so the drawing is for the eye alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.results.operating import Operating, Point
from appliance.results.share import Interval

WIDTH: Final = 400
HEIGHT: Final = 200


@dataclass(frozen=True, slots=True)
class Chart:
    """Each a value of SVG's `points`; empty where there is nothing to draw."""

    sensitivity: str
    sensitivity_95: str
    """The outline of the interval."""
    false: str
    false_95: str
    most: int
    """Of the axis of false positives."""
    present: float
    """x of the present threshold."""
    proposed: float | None


def of(curve: Operating) -> Chart:
    """The drawing of one bundle."""
    highest = [
        max(p.fp_per_scan, p.fp_per_scan_95[1] if p.fp_per_scan_95 else 0.0) for p in curve.points
    ]
    most = max(1, math.ceil(max(highest)))
    return Chart(
        sensitivity=_line(curve.points, lambda p: p.sensitivity),
        sensitivity_95=_band(curve.points, lambda p: p.sensitivity_95, 1.0),
        false=_line(curve.points, lambda p: p.fp_per_scan / most),
        false_95=_band(curve.points, lambda p: p.fp_per_scan_95, float(most)),
        most=most,
        present=_x(curve.threshold),
        proposed=None if curve.proposed is None else _x(curve.proposed),
    )


def _line(points: Sequence[Point], height: Callable[[Point], float | None]) -> str:
    return " ".join(_at(p.threshold, value) for p in points if (value := height(p)) is not None)


def _band(
    points: Sequence[Point], interval: Callable[[Point], Interval | None], most: float
) -> str:
    known = [(p.threshold, found) for p in points if (found := interval(p)) is not None]
    low = [_at(t, found[0] / most) for t, found in known]
    high = [_at(t, found[1] / most) for t, found in known]
    return " ".join([*low, *reversed(high)])


def _at(threshold: float, height: float) -> str:
    return f"{_x(threshold):.1f},{HEIGHT * (1 - height):.1f}"


def _x(threshold: float) -> float:
    return round(WIDTH * threshold, 1)
