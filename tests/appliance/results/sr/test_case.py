"""Which form a report is owed, and which finding is which of the report before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appliance.report import Finding
from appliance.results.sr.case import Case, carried, form


def test_findings_with_a_place_are_measurements_and_all_else_is_text(
    make_case: Callable[..., Case], refused: dict[str, Any]
) -> None:
    assert form(make_case().report) == "measurements"
    assert form(make_case(report={"findings": ()}).report) == "text"
    assert form(make_case(report=refused).report) == "text"


def finding(number: int, x: float, diameter: float | None = 4.0) -> Finding:
    return Finding(
        id=number,
        tracking_uid=f"2.25.{number}",
        kind="nodule",
        score=0.5,
        threshold=0.4,
        center_lps_mm=(x, 0.0, 0.0),
        box_lps_mm=(x, 0.0, 0.0, x + 1, 1.0, 1.0),
        diameter_mm=diameter,
        key_image=0,
    )


def test_a_finding_keeps_its_uid_within_the_radius_of_where_it_was_and_5_mm_at_least() -> None:
    before = [finding(1, 0.0, 30.0), finding(2, 100.0, None), finding(3, 200.0)]
    after = [finding(1, 205.1), finding(2, 15.0), finding(3, 95.0)]
    uids = {1: "2.25.101", 2: "2.25.102", 3: "2.25.103"}
    assert carried(after, before, uids) == {2: "2.25.101", 3: "2.25.102"}


def test_two_findings_never_share_a_uid_and_the_nearest_has_it() -> None:
    before = [finding(1, 0.0), finding(2, 4.0)]
    after = [finding(1, 1.0), finding(2, 0.5), finding(3, 2.6)]
    found = carried(after, before, {1: "2.25.101", 2: "2.25.102"})
    assert found == {2: "2.25.101", 3: "2.25.102"}


def test_a_finding_without_a_place_is_not_tracked() -> None:
    radiograph = Finding(
        id=1, tracking_uid="2.25.1", kind="pneumonia", score=0.5, threshold=0.4, key_image=0
    )
    assert carried([radiograph], [radiograph], {1: "2.25.101"}) == {}
