"""When two lists of findings are the same."""

from __future__ import annotations

import pytest

from appliance.bundle.agreement import TOLERANCES, Tolerances, paired
from appliance.bundle.manifest import PhantomFinding


def finding(
    at: tuple[float, float, float] | None = (0.0, 0.0, 0.0),
    score: float = 0.9,
    diameter: float | None = 8.0,
    kind: str = "nodule",
) -> PhantomFinding:
    return PhantomFinding(
        kind=kind, score=score, threshold=0.5, center_lps_mm=at, diameter_mm=diameter
    )


def agree(first: list[PhantomFinding], second: list[PhantomFinding], within: Tolerances) -> bool:
    return all(pair.passed for pair in paired(first, second, within))


EDGES = [
    ("center_mm", finding((1.4, 0.0, 0.0)), finding((1.6, 0.0, 0.0))),
    ("score", finding(score=0.86), finding(score=0.84)),
    ("diameter_mm", finding(diameter=8.9), finding(diameter=9.1)),
]


@pytest.mark.parametrize(("field", "within", "beyond"), EDGES)
def test_each_tolerance_holds_up_to_its_figure_and_not_beyond(
    field: str, within: PhantomFinding, beyond: PhantomFinding
) -> None:
    assert agree([finding()], [within], TOLERANCES)
    assert not agree([finding()], [beyond], TOLERANCES)
    wider = TOLERANCES.model_copy(update={field: 2.0 * getattr(TOLERANCES, field)})
    assert agree([finding()], [beyond], wider)


def test_of_a_large_finding_a_share_of_its_diameter_counts() -> None:
    assert agree([finding(diameter=30.0)], [finding(diameter=32.9)], TOLERANCES)
    assert not agree([finding(diameter=30.0)], [finding(diameter=33.1)], TOLERANCES)
    assert not agree([finding(diameter=30.0)], [finding(diameter=None)], TOLERANCES)


def test_only_what_is_near_its_threshold_may_be_missing_on_either_side() -> None:
    for score, fine in ((0.54, True), (0.46, True), (0.56, False)):
        assert agree([finding(score=score)], [], TOLERANCES) is fine
        assert agree([], [finding(score=score)], TOLERANCES) is fine


def test_another_kind_at_the_same_place_is_another_finding() -> None:
    pairs = paired([finding()], [finding(kind="mass")])
    assert [(pair.first is None, pair.second is None) for pair in pairs] == [
        (False, True),
        (True, False),
    ]


def test_findings_without_a_place_are_partners_by_their_kind() -> None:
    sick = finding(None, 0.8, None, "pneumonia")
    assert agree([sick], [finding(None, 0.77, None, "pneumonia")], TOLERANCES)
    assert not agree([sick], [finding((0.0, 0.0, 0.0), 0.8, None, "pneumonia")], TOLERANCES)


def test_a_pair_says_how_far_apart_it_is() -> None:
    (pair,) = paired([finding()], [finding((0.3, 0.4, 0.0), 0.88, 8.5)])
    assert pair.apart_mm == pytest.approx(0.5)
    assert pair.score_apart == pytest.approx(0.02)
    assert pair.diameter_apart_mm == pytest.approx(0.5)
    (alone,) = paired([finding()], [])
    assert (alone.apart_mm, alone.score_apart, alone.diameter_apart_mm) == (0.0, 0.0, 0.0)
