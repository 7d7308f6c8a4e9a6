"""The lines of the drawing lie where the figures are."""

from __future__ import annotations

from appliance.results.operating import Operating, Point
from appliance.web.feedback import chart


def point(threshold: float, sensitivity: float | None, false: float) -> Point:
    return Point(
        threshold=threshold,
        found=0,
        sensitivity=sensitivity,
        sensitivity_95=None if sensitivity is None else (sensitivity - 0.25, sensitivity),
        fp_per_scan=false,
        fp_per_scan_95=None,
        upper_bound=False,
    )


def curve(*points: Point, proposed: float | None = None) -> Operating:
    return Operating(
        bundle="a" * 64,
        threshold=0.5,
        scans=1,
        scans_begun=0,
        marks=1,
        missed=0,
        missed_unscored=0,
        off_curve=0,
        off_curve_rejected=0,
        points=points,
        proposed=proposed,
    )


def test_a_line_falls_from_the_top_and_false_positives_share_one_axis() -> None:
    made = chart.of(curve(point(0.25, 1.0, 3.5), point(0.5, 0.5, 1.0), proposed=0.75))
    assert made.sensitivity == "100.0,0.0 200.0,100.0"
    assert made.sensitivity_95 == "100.0,50.0 200.0,150.0 200.0,100.0 100.0,0.0"
    assert (made.most, made.false) == (4, "100.0,25.0 200.0,150.0")
    assert made.false_95 == ""
    assert (made.present, made.proposed) == (200.0, 300.0)


def test_without_a_mark_there_is_no_line_of_sensitivity() -> None:
    made = chart.of(curve(point(0.5, None, 0.0)))
    assert (made.sensitivity, made.sensitivity_95, made.most) == ("", "", 1)
