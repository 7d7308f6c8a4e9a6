"""Simulated streams: the aims, on few of them at every run, on a thousand in the long one."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.quality import drift
from training.judge import streams

QUIET = 200
"""At most one false alarm in so many series."""


@pytest.fixture(scope="module")
def known() -> streams.Known:
    return streams.known()


def test_what_was_measured_is_usable(known: streams.Known) -> None:
    assert np.linalg.eigvalsh(known.correlation).min() > 0
    assert {aim.name for aim in streams.AIMS} <= set(known.effects)
    assert all(len(each) == 8 for each in known.effects.values())


def test_a_stream_is_the_same_for_the_same_seed(known: streams.Known) -> None:
    one, other = (streams.Stream(7, "t6", known.correlation) for _ in range(2))
    assert one.series() == other.series()
    assert one.series() != streams.Stream(8, "t6", known.correlation).series()


def test_few_streams_are_quiet(known: streams.Known) -> None:
    found = streams.quiet(20, 40, seed=2, world="gaussian", what=known)
    assert found.series == 800
    assert found.alarmed <= 4
    heavy = streams.quiet(4, 40, seed=2, world="t6", what=known)
    assert heavy.alarmed <= 16


def test_few_streams_see_the_faults(known: streams.Known) -> None:
    for found in streams.seen(streams.AIMS, 16, seed=2, what=known):
        assert found.share >= found.aim.share - 0.15, found
        if found.aim.cause is not None:
            assert found.causes.get(found.aim.cause.value, 0) > 0, found


def test_limits_are_where_a_row_of_so_many_is_quiet() -> None:
    for n, alone, total in drift.LIMITS:
        rate = streams.alarms_one_in(n, alone, total, streams=400, series=60, seed=3)
        assert rate > QUIET * 0.7, n
    assert streams.alarms_one_in(5, 4.2, 5.0, streams=400, series=60, seed=3) < QUIET


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_thousand_streams_keep_the_aims(known: streams.Known) -> None:
    found = streams.quiet(1000, 100, seed=1, world="gaussian", what=known)
    assert found.one_in >= QUIET
    for one in streams.seen(streams.AIMS, 1000, seed=1, what=known):
        assert one.share >= one.aim.share, one
