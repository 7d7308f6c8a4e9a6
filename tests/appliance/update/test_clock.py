"""Which time a box takes for the present one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from appliance.errors import ReleaseRefused
from appliance.update.clock import DAYS, far_ahead, now, require_possible, said

BUILT = datetime(2026, 1, 1, tzinfo=timezone.utc)
MADE = datetime(2026, 7, 1, tzinfo=timezone.utc)
IN_1970 = datetime(1970, 1, 1, tzinfo=timezone.utc)


def test_a_clock_that_lies_behind_is_not_believed() -> None:
    assert now(IN_1970, BUILT, None) == BUILT
    assert now(IN_1970, BUILT, MADE) == MADE
    assert now(IN_1970, MADE, BUILT) == MADE


def test_a_clock_that_is_ahead_is_the_time() -> None:
    later = MADE + timedelta(days=3)
    assert now(later, BUILT, MADE) == later


def test_a_clock_is_far_ahead_from_the_first_second_past_its_days() -> None:
    last = MADE + timedelta(days=DAYS)
    assert not far_ahead(last, MADE)
    assert far_ahead(last + timedelta(seconds=1), MADE)
    assert not far_ahead(IN_1970, MADE)


def test_before_anything_was_signed_no_clock_is_far_ahead() -> None:
    assert not far_ahead(MADE + timedelta(days=9999), None)


def test_a_signed_time_is_read_and_anything_else_is_refused() -> None:
    assert said("2026-07-01T00:00:00Z") == MADE
    for text in ("2026-07-01T00:00:00+02:00", "yesterday", "", None, 7):
        with pytest.raises(ReleaseRefused) as refused:
            said(text)
        assert refused.value.code == "release_made"


def test_what_says_that_it_was_signed_after_its_own_end_is_refused() -> None:
    require_possible(MADE, [MADE + timedelta(seconds=1), MADE + timedelta(days=9)])
    with pytest.raises(ReleaseRefused, match="a part of it ended at 2026-07-01"):
        require_possible(MADE, [MADE, MADE + timedelta(days=9)])
