"""Which series of a study stand: the same whichever came first, and never one that shows less."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bundle.accepts import Accepts, Limits
from appliance.reasons import Code
from appliance.report import Coverage, SeriesKey
from appliance.series.standing import (
    SeriesSummary,
    Volume,
    also_shown_in,
    better,
    groups,
    outranked,
    rank,
    replaces,
    standing,
)

ACCEPTS = Accepts(
    modality=("CT",),
    body_part=("CHEST",),
    spacing_mm=Limits(full=2.5, limited=5.0),
    kernels_preferred=("B30F", "B40f"),
)
WHOLE = Coverage(
    lungs="covered",
    z_mm=(0.0, 300.0),
    lungs_z_mm=(20.0, 280.0),
    sides="both",
    fov_mm=(-180.0, -180.0, 180.0, 180.0),
)


def volume(
    z: tuple[float, float] = (0.0, 300.0),
    fov: tuple[float, float, float, float] = (-180.0, -180.0, 180.0, 180.0),
) -> Volume:
    """Voxels of 1 mm, axial."""
    x0, y0, x1, y1 = fov
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[::-1]
    matrix[:3, 3] = (x0 + 0.5, y0 + 0.5, z[0])
    shape = (round(z[1] - z[0]) + 1, round(y1 - y0), round(x1 - x0))
    return Volume(shape=shape, spacing_mm=(1.0, 1.0, 1.0), to_lps=tuple(matrix.ravel().tolist()))


def series(uid: str, **changes: Any) -> SeriesSummary:
    """A whole chest at 1 mm."""
    said: dict[str, Any] = {
        "study_uid": "1.2.5",
        "series_uid": uid,
        "frame_of_reference_uid": "1.2.6",
        "acquisition_number": 2,
        "temporal_position": None,
        "original": True,
        "spacing_mm": 1.0,
        "thickness_mm": 1.0,
        "kernel": "B30f",
        "slices": 301,
        "coverage": WHOLE,
        "volume": volume(),
    }
    return SeriesSummary(**{**said, **changes})


def seen(**changes: Any) -> Coverage:
    return WHOLE.model_copy(update=changes)


def stand(*every: SeriesSummary) -> dict[str, str]:
    """Series -> the one that stands in its place, "" where it stands."""
    return {
        key.series: what.by.series_uid if what.by else ""
        for key, what in standing(every, ACCEPTS).items()
    }


THICK = {"spacing_mm": 2.0, "thickness_mm": 2.0, "slices": 151}
LOWER = {
    "coverage": seen(z_mm=(0.0, 150.0), lungs_z_mm=(20.0, 150.0), lungs="cut_head"),
    "volume": volume(z=(0.0, 150.0)),
    "slices": 151,
}
RIGHT = {
    "coverage": seen(sides="one", fov_mm=(-180.0, -180.0, 0.0, 180.0)),
    "truncated": True,
    "volume": volume(fov=(-180.0, -180.0, 0.0, 180.0)),
}


# The rank


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        ({}, {"original": False, "spacing_mm": 0.5, "thickness_mm": 0.5}),
        ({}, {"spacing_mm": 2.0}),
        ({}, {"thickness_mm": 3.0}),
        ({"spacing_mm": 2.5, "thickness_mm": 2.5}, {"spacing_mm": 0.5, "thickness_mm": 5.0}),
        ({"spacing_mm": 0.7}, {"spacing_mm": 1.0}),
        ({}, {"kernel": "B70f"}),
        ({"kernel": "B40f"}, {"kernel": None}),
        ({}, {"kernel": "B40f"}),
        ({}, {"slices": 200}),
        ({}, {"spacing_mm": None}),
    ],
    ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()) or "usual",
)
def test_of_two_that_show_the_same_the_better_one_stands(winner: Any, loser: Any) -> None:
    wins, loses = series("1.9", **winner), series("1.1", **loser)
    for order in ([wins, loses], [loses, wins]):
        assert stand(*order) == {"1.9": "", "1.1": "1.9"}


def test_equal_series_are_told_apart_by_uid() -> None:
    assert stand(series("1.2"), series("1.1")) == {"1.1": "", "1.2": "1.1"}


# What it takes to stand in the place of another


def test_a_thinner_series_of_the_whole_chest_replaces_the_thicker_one() -> None:
    assert stand(series("thin"), series("thick", **THICK)) == {"thin": "", "thick": "thin"}


@pytest.mark.parametrize("part", [LOWER, RIGHT], ids=["lower half", "right half"])
def test_a_thinner_series_of_a_part_replaces_nothing_and_both_name_each_other(part: Any) -> None:
    thick, thin = series("thick", **THICK), series("part", **part)
    for order in ([thick, thin], [thin, thick]):
        assert stand(*order) == {"thick": "", "part": ""}
        found = standing(order, ACCEPTS)
        assert found[thick.key].beside == (thin,)
        assert found[thin.key].beside == (thick,)


def test_a_part_gives_way_to_a_thinner_whole() -> None:
    for part in (LOWER, RIGHT):
        assert stand(series("part", **{**part, **THICK}), series("thin"))["part"] == "thin"


def test_the_ends_of_the_lungs_may_differ_by_five_millimetres_or_a_slice() -> None:
    thick = series("thick", **THICK)
    for low, high, as_much in ((25.0, 275.0, True), (25.1, 280.0, False), (20.0, 274.9, False)):
        one = series("thin", coverage=seen(lungs_z_mm=(low, high)))
        assert replaces(one, thick) is as_much
    wide = series("wide", spacing_mm=8.0)
    assert replaces(series("thin", coverage=seen(lungs_z_mm=(28.0, 272.0))), wide)


def test_lungs_that_meet_the_rim_show_no_more_than_those_of_a_field_within() -> None:
    narrow = {"truncated": True, "coverage": seen(fov_mm=(-120.0, -120.0, 120.0, 120.0))}
    assert not replaces(series("thin", **narrow), series("thick", **THICK))
    assert replaces(series("thin", **narrow), series("thick", **{**THICK, **narrow}))
    wider = {"truncated": True}
    assert replaces(series("thin", **wider), series("thick", **{**THICK, **narrow}))
    assert not replaces(series("thin", **narrow), series("thick", **{**THICK, **wider}))


def test_one_lung_is_the_same_one_only_within_the_field_of_the_other() -> None:
    left = seen(sides="one", fov_mm=(0.0, -180.0, 180.0, 180.0))
    right = seen(sides="one", fov_mm=(-180.0, -180.0, 0.0, 180.0))
    assert not replaces(series("thin", coverage=left), series("thick", **THICK, coverage=right))
    assert replaces(series("thin", coverage=left), series("thick", **THICK, coverage=left))


def test_a_series_with_a_finding_outside_of_another_is_not_replaced_by_it() -> None:
    """The lungs of both end alike; the finding lies above the volume of the thinner one."""
    short = series("thin", volume=volume(z=(0.0, 285.0)))
    assert replaces(short, series("thick", **THICK, places=((10.0, 20.0, 285.4),)))
    assert not replaces(short, series("thick", **THICK, places=((10.0, 20.0, 285.6),)))


def test_a_volume_that_stands_askew_holds_what_its_slices_show() -> None:
    """15 degrees about x: what lies at the back of the first slice is deeper than its middle."""
    cos, sin = np.cos(np.radians(15)), np.sin(np.radians(15))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, 1], [-sin, cos, 0], [cos, sin, 0]])
    matrix[:3, 3] = (-180, -180 * cos, -180 * sin)
    askew = Volume(
        shape=(200, 361, 361), spacing_mm=(1.0, 1.0, 1.0), to_lps=tuple(matrix.ravel().tolist())
    )
    assert askew.holds((0.0, 0.0, 0.0))
    assert not askew.holds((0.0, 0.0, -1.0))
    assert askew.holds((0.0, -150.0, -30.0)), "the front of the slice lies deeper"
    assert not askew.holds((0.0, 150.0, -1.0)), "and its back higher"


@pytest.mark.parametrize(
    "unknown",
    [
        {"coverage": Coverage()},
        {"coverage": seen(lungs_z_mm=None)},
        {"coverage": seen(sides=None)},
    ],
    ids=["nothing known", "no ends", "no sides"],
)
def test_what_is_not_known_is_never_enough(unknown: Any) -> None:
    assert stand(series("thin", **unknown), series("thick", **THICK)) == {"thin": "", "thick": ""}
    old = {**THICK, **unknown}
    assert stand(series("thin"), series("thick", **old)) == {"thin": "", "thick": ""}
    assert not replaces(series("thin", volume=None), series("thick", **THICK))


def test_what_does_not_stand_takes_the_place_of_nothing() -> None:
    """The best replaces the middle one; the thick one has a finding that only the middle shows."""
    outside = (0.0, 0.0, 299.0)
    best = series("best", volume=volume(z=(0.0, 290.0)))
    middle = series("middle", **{**THICK, "spacing_mm": 1.5})
    thick = series("thick", **{**THICK, "spacing_mm": 2.2}, places=(outside,))
    assert stand(middle, thick) == {"middle": "", "thick": "middle"}
    for order in permutations([best, middle, thick]):
        assert stand(*order) == {"best": "", "middle": "best", "thick": ""}


# Groups, and who is named


def test_series_of_one_acquisition_are_one_group() -> None:
    every = [
        series("1.1"),
        series("1.2", kernel="B70f"),
        series("1.3", acquisition_number=3),
        series("1.4", frame_of_reference_uid="1.99"),
        series("1.5", temporal_position=2),
        series("1.6", study_uid="1.98"),
    ]
    for order in (every, every[::-1]):
        assert sorted([s.series_uid for s in g] for g in groups(order)) == [
            ["1.1", "1.2"], ["1.3"], ["1.4"], ["1.5"], ["1.6"],
        ]  # fmt: skip
    assert [what.beside for what in standing(every[2:], ACCEPTS).values()] == [()] * 4


def test_parts_that_do_not_meet_do_not_name_each_other() -> None:
    lower = series("lower", **LOWER)
    upper = seen(z_mm=(151.0, 300.0), lungs_z_mm=(151.0, 280.0))
    apart = series("upper", coverage=upper, volume=volume(z=(151.0, 300.0)))
    assert all(what.beside == () for what in standing([lower, apart], ACCEPTS).values())
    left = seen(sides="one", fov_mm=(1.0, -180.0, 180.0, 180.0))
    two = standing([series("right", **RIGHT), series("left", coverage=left)], ACCEPTS)
    assert all(what.beside == () for what in two.values())


def test_a_series_is_outranked_by_one_of_its_group_alone() -> None:
    thick, thin = series("thick", **THICK), series("thin")
    assert outranked(thick, [thin], ACCEPTS)
    assert not outranked(thin, [thick], ACCEPTS)
    assert not outranked(thick, [series("thin", acquisition_number=9)], ACCEPTS)


def test_what_is_said_of_others_names_no_uid() -> None:
    reason = better(series("1.1"))
    assert reason.code is Code.BETTER_SERIES
    assert "1.00 mm" in reason.text
    assert "1.1" not in reason.text.replace("1.00", "")
    beside = also_shown_in("7c9e6679-7425-40de-944b-e07fc1f90ae7")
    assert beside.code is Code.ALSO_SHOWN_IN
    assert "7c9e6679-7425-40de-944b-e07fc1f90ae7" in beside.text


# Any study


z = st.floats(0.0, 300.0, allow_nan=False)
summaries = st.builds(
    lambda uid, step, low, high, sides, cut, known, place, acquisition: series(
        uid,
        spacing_mm=step,
        thickness_mm=step,
        acquisition_number=acquisition,
        truncated=cut,
        places=((0.0, 0.0, place),),
        volume=volume(z=(low, low + high)),
        coverage=seen(z_mm=(low, low + high), lungs_z_mm=(low, low + high), sides=sides)
        if known
        else Coverage(),
    ),
    st.integers(0, 99).map(str),
    st.sampled_from([1.0, 2.0, 5.0]),
    st.sampled_from([0.0, 4.0, 8.0, 100.0]),
    st.sampled_from([100.0, 196.0, 200.0, 300.0]),
    st.sampled_from(["both", "one"]),
    st.booleans(),
    st.booleans(),
    z,
    st.sampled_from([1, 1, 1, 2]),
)
studies = st.lists(summaries, min_size=1, max_size=6, unique_by=lambda s: s.series_uid)


@given(studies, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_every_order_of_arrival_gives_the_same(every: list[SeriesSummary], random: Any) -> None:
    shuffled = list(every)
    random.shuffle(shuffled)
    assert standing(every, ACCEPTS) == standing(shuffled, ACCEPTS)


@given(studies)
@settings(deadline=None)
def test_what_is_replaced_is_replaced_by_what_stands_and_shows_its_findings(
    every: list[SeriesSummary],
) -> None:
    found = standing(every, ACCEPTS)
    assert found.keys() == {one.key for one in every}
    for one in every:
        by = found[one.key].by
        if by is not None:
            assert found[by.key].by is None
            assert rank(by, ACCEPTS) < rank(one, ACCEPTS)
            assert by.volume is not None
            assert all(by.volume.holds(place) for place in one.places)
            assert by.coverage.lungs_z_mm is not None
            assert found[one.key].beside == ()
    for beside_of, what in found.items():
        assert all(one_names(found, other.key, beside_of) for other in what.beside)


def one_names(found: Any, key: SeriesKey, other: SeriesKey) -> bool:
    """Whether a series that stands names this other one."""
    names: Sequence[SeriesSummary] = found[key].beside
    return found[key].by is None and other in [one.key for one in names]
