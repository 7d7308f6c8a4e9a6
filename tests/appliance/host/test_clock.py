"""Whether the clock can be right."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from appliance.host.clock import EARLIEST, LASTS_S, LONGEST_S, SLACK_S, Watch, why_wrong

NOW = datetime(2026, 11, 3, tzinfo=timezone.utc).timestamp()
YEAR_S = 365.25 * 86400


@pytest.mark.parametrize(
    ("now", "latest", "word"),
    [
        (NOW, None, None),
        (NOW, NOW - 3 * YEAR_S, None),  # switched off for years
        (NOW, NOW + SLACK_S, None),  # what a time server corrects
        (EARLIEST.timestamp() - 1, None, "before this software was made"),
        (0.0, NOW, "before this software was made"),
        (NOW, NOW + SLACK_S + 1, "later rows"),
        (NOW + LONGEST_S + 1, NOW, "last row"),
    ],
)
def test_a_clock_is_wrong_where_it_contradicts_what_has_happened(
    now: float, latest: float | None, word: str | None
) -> None:
    found = why_wrong(now, latest)
    assert (found is None) == (word is None)
    assert found is None or word is None or word in found


def test_a_jump_back_is_said_until_the_clock_has_caught_up() -> None:
    watch = Watch(NOW)
    assert watch.wrong(NOW + 100, tick=0) is None
    assert watch.wrong(NOW - YEAR_S, tick=1)
    assert watch.wrong(NOW, tick=2), "100 s were seen that it does not show any more"
    assert watch.wrong(NOW + 101, tick=3) is None


def test_a_jump_back_is_said_for_a_day_and_then_the_new_time_counts() -> None:
    watch = Watch(NOW + YEAR_S)
    assert watch.wrong(NOW, tick=0)
    assert watch.wrong(NOW + LASTS_S, tick=LASTS_S)
    assert watch.wrong(NOW + LASTS_S + 1, tick=LASTS_S + 1) is None
    assert watch.wrong(NOW + LASTS_S, tick=LASTS_S + 2) is None
    assert watch.wrong(NOW, tick=LASTS_S + 3), "it has jumped back again"


def test_a_clock_that_no_day_can_excuse_stays_wrong() -> None:
    watch = Watch(NOW)
    for day in range(3):
        assert watch.wrong(day * LASTS_S, tick=2.0 * day * LASTS_S)


def test_a_time_far_ahead_is_not_taken_for_one_that_has_been() -> None:
    watch = Watch(NOW)
    assert watch.wrong(NOW + 2 * LONGEST_S, tick=0)
    assert watch.wrong(NOW + 1, tick=1) is None
