"""A series while it arrives: what it knows of itself, and of what its bundles ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance import line
from appliance.bundle.trust import Bundle
from appliance.lines.choose import Chosen
from appliance.records import Header, Plane, Result
from appliance.report import Coverage, SeriesKey, Status
from appliance.runtime.bundles import OpenBundle
from appliance.series.complete import SeriesFacts
from appliance.work.followed import Followed

KEY = SeriesKey("1.2", "1.2.3")
Lungs = Any
"""Literal of Coverage.lungs."""


class Taking:
    """A backend that a slice is given to when it arrives (backend.protocol.Takes)."""

    def __init__(self) -> None:
        self.taken: list[Plane] = []

    def take(self, plane: Plane) -> None:
        self.taken.append(plane)


def opened(bundle: Bundle, name: str, backend: Any = None, **accepts: object) -> OpenBundle:
    """This bundle under another name, with other wishes."""
    wanted = bundle.manifest.accepts.model_copy(update=accepts)
    manifest = bundle.manifest.model_copy(update={"accepts": wanted})
    ref = bundle.ref.model_copy(update={"name": name, "digest": name.ljust(64, "0")})
    return OpenBundle(Bundle(ref, manifest), backend)


def followed(files: list[bytes], *bundles: OpenBundle) -> Followed:
    found = Followed(KEY)
    found.begin(None, Chosen(bundles))
    for number, file in enumerate(files):
        found.add(str(number), file, at=5.0 + number, tick=5.0 + number)
    return found


def facts(of: Followed) -> SeriesFacts:
    return of.facts(60.0, (), lambda _: False)


@pytest.fixture(scope="module")
def files(dicom: Any) -> list[bytes]:
    made: list[bytes] = dicom.all(dicom.chest())
    return made


def test_a_count_that_is_met_is_looked_at_at_once_and_one_that_is_exceeded_is_not() -> None:
    counting = Followed(KEY)
    assert not counting.counted
    counting.header = Header("1", "2", "1.2", "1.2.3", expected_images=2)
    counted = []
    for uid in ("1", "2", "3"):
        counting.seen.add(uid)
        counted.append(counting.counted)
    assert counted == [False, True, False]


def test_of_several_bundles_the_one_that_wants_most_cover_counts(
    files: list[bytes], tiny: Bundle
) -> None:
    """23 steps of 5 mm are 115 mm: enough for the one, not for the other, in either order."""
    modest, greedy = opened(tiny, "a", cover_mm=100.0), opened(tiny, "b", cover_mm=120.0)
    for order in ((modest, greedy), (greedy, modest)):
        found = facts(followed(files, *order))
        assert (found.cover_mm < 120.0, found.min_cover_mm, found.whole) == (True, 120.0, False)
    alone = facts(followed(files, modest))
    assert (alone.cover_mm, alone.min_cover_mm, alone.whole) == (115.0, 100.0, True)


def test_a_hole_for_one_bundle_is_no_end_for_any(files: list[bytes], tiny: Bundle) -> None:
    """One of the two does not fill a hole of 10 mm: it has no order, so the series is not whole."""
    strict, lenient = opened(tiny, "a", max_gap_mm=6.0), opened(tiny, "b", max_gap_mm=12.0)
    holed = files[:10] + files[11:]
    both = facts(followed(holed, lenient, strict))
    assert not both.uniform
    assert both.cover_mm == 0.0
    assert facts(followed(files, lenient, strict)).whole


@pytest.mark.parametrize(
    ("lungs", "covered"),
    [
        (("covered", "covered"), True),
        (("covered", "cut_feet"), False),
        (("cut_head", "covered"), False),
        (("covered", None), True),
        ((None, None), None),
    ],
)
def test_the_organ_must_end_inside_for_every_bundle_that_looked(
    files: list[bytes], tiny: Bundle, lungs: tuple[Lungs, Lungs], covered: bool | None
) -> None:
    found = followed(files, opened(tiny, "a"), opened(tiny, "b"))
    assert found.fold is not None
    for share, seen in zip(found.fold.shares, lungs, strict=True):
        if seen is not None:
            found.results[share.key] = analysed(found.fold, share.bundle, seen), 6.0
    assert facts(found).covered is covered


def test_what_was_analysed_before_the_last_slice_says_nothing_of_the_end(
    files: list[bytes], tiny: Bundle
) -> None:
    found = followed(files[:-1], opened(tiny, "a"))
    assert found.fold is not None
    share = found.fold.shares[0]
    found.results[share.key] = analysed(found.fold, share.bundle, "cut_head"), 6.0
    assert facts(found).covered is False
    found.add("last", files[-1], at=40.0, tick=40.0)
    assert facts(found).covered is None


def analysed(fold: line.Fold, bundle: Bundle | None, lungs: Lungs) -> Result:
    result = line.finish(fold, bundle, None)
    seen = replace(result.facts, coverage=Coverage(lungs=lungs))
    return replace(result, status=Status.ANALYSED, facts=seen)


def test_a_backend_that_can_use_slices_early_gets_each_once(
    files: list[bytes], tiny: Bundle
) -> None:
    early = Taking()
    found = followed(files[:3], opened(tiny, "a", early), opened(tiny, "b"))
    assert found.fold is not None
    assert [id(plane) for plane in early.taken] == [id(i) for i in found.fold.shares[0].images]


def test_nothing_is_added_to_a_series_that_has_not_begun(files: list[bytes]) -> None:
    with pytest.raises(ValueError, match="has not begun"):
        Followed(KEY).add("1", files[0], at=5.0, tick=5.0)
