"""Radiographs: windows of images against the first ones of their detector."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest

from appliance.quality import windows
from appliance.watching.alarm import Statistic
from appliance.watching.quality import Outputs, RadiographQuality, VolumeQuality
from appliance.watching.row import Seen, Window

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)


def study(rng: np.random.Generator, mean: float = 0.5, images: int = 1) -> Seen:
    return Seen(
        at=AT,
        measured=tuple(
            RadiographQuality(
                mean=float(rng.normal(mean, 0.05)),
                contrast=float(rng.normal(0.2, 0.02)),
                laplacian=float(rng.normal(0.03, 0.004)),
                halves=float(rng.normal(0, 0.02)),
            )
            for _ in range(images)
        ),
        outputs=Outputs(analysed=True, scored=1, median_score=float(rng.random())),
    )


@pytest.fixture
def learnt() -> dict[Statistic, Window]:
    rng, kept = np.random.default_rng(1), dict[Statistic, Window]()
    while not windows.settled(kept):
        kept = windows.learnt(kept, study(rng))
    return kept


def test_the_first_images_are_the_reference_and_no_more(learnt: dict[Statistic, Window]) -> None:
    assert {len(window.reference) for window in learnt.values()} == {windows.FIRST}
    more = windows.learnt(learnt, study(np.random.default_rng(2), images=3))
    assert more == learnt


def test_a_volume_is_no_radiograph() -> None:
    seen = Seen(at=AT, measured=(VolumeQuality(noise_hu=20.0),), outputs=Outputs(analysed=True))
    assert windows.values(seen) == {}
    assert windows.learnt({}, seen) == {}


def test_what_was_not_measured_adds_nothing() -> None:
    seen = Seen(at=AT, measured=(RadiographQuality(),), outputs=Outputs(analysed=False))
    assert set(windows.learnt({}, seen)) == set(windows.TESTED)
    assert all(not window.reference for window in windows.learnt({}, seen).values())


def _filled(kept: dict[Statistic, Window], mean: float, seed: int) -> dict[Statistic, Window]:
    rng = np.random.default_rng(seed)
    while not windows.full(kept):
        kept = windows.added(kept, study(rng, mean))
    return kept


def test_a_window_like_the_first_images_is_not_odd(learnt: dict[Statistic, Window]) -> None:
    odd = 0
    for seed in range(60):
        kept = _filled(learnt, 0.5, seed)
        assert kept[Statistic.MEAN].studies == windows.WINDOW
        odd += any(found.odd for found in windows.tested(kept).values())
    assert odd <= 3, "of 60, at most one in a hundred by chance"


def test_brighter_images_are_odd_and_say_by_how_much(learnt: dict[Statistic, Window]) -> None:
    found = windows.tested(_filled(learnt, 0.56, 9))
    assert [which for which, one in found.items() if one.odd] == [Statistic.MEAN]
    assert found[Statistic.MEAN].size == pytest.approx(1.2, abs=0.4)


def test_windows_do_not_overlap(learnt: dict[Statistic, Window]) -> None:
    kept = windows.emptied(_filled(learnt, 0.5, 3))
    assert not windows.full(kept)
    assert all(window == Window(reference=window.reference) for window in kept.values())


def test_a_reference_that_was_made_while_something_changed_says_so() -> None:
    rng, kept = np.random.default_rng(4), dict[Statistic, Window]()
    for n in range(windows.FIRST):
        kept = windows.learnt(kept, study(rng, 0.5 if n < 90 else 0.56))
    odd = [which for which, found in windows.halves(kept).items() if found.odd]
    assert odd == [Statistic.MEAN]


def test_one_value_for_all_images_is_no_division_by_nothing() -> None:
    kept = {Statistic.MEAN: Window(reference=(0.5,) * 200, current=(0.5,) * 50)}
    assert windows.tested(kept)[Statistic.MEAN] == windows.Tested(1.0, 0.0)
