"""Whether HU are HU."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.quality import hounsfield
from rigs.slices import body, samples

SERIES = [body(sd=15, seed=k) for k in range(12)]


def test_air_and_muscle_are_what_they_are() -> None:
    assert hounsfield.air(samples(SERIES)) == pytest.approx(-1000, abs=2)
    assert hounsfield.tissue(samples(SERIES)) == pytest.approx(50, abs=5)


@pytest.mark.parametrize("off", [-60.0, 60.0])
def test_an_offset_of_60_hu_leaves_the_limits(off: float) -> None:
    moved = samples([hu + off for hu in SERIES])
    air, tissue = hounsfield.air(moved), hounsfield.tissue(moved)
    assert air is not None
    assert not hounsfield.AIR_HU[0] <= air <= hounsfield.AIR_HU[1]
    assert tissue is not None
    assert not hounsfield.MUSCLE_HU[0] <= tissue <= hounsfield.MUSCLE_HU[1]


def test_air_that_is_cut_at_the_least_value_says_nothing_and_muscle_is_asked() -> None:
    cut = samples([np.maximum(hu - 60, -1024) for hu in SERIES])
    assert hounsfield.air(cut) is None
    assert hounsfield.tissue(cut) == pytest.approx(-10, abs=5)


def test_a_small_field_of_view_has_no_air_to_ask() -> None:
    small = samples([hu[80:160, 20:220] for hu in SERIES])
    assert hounsfield.air(small) is None


def test_where_there_is_only_fat_no_muscle_is_named() -> None:
    fat = samples([np.where(hu > -300, hu - 150, hu) for hu in SERIES])
    assert hounsfield.tissue(fat) is None


def test_of_nothing_nothing_is_said() -> None:
    assert hounsfield.air([]) is None
    assert hounsfield.tissue([]) is None
