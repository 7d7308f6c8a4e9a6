"""A series while it arrives: what it knows of itself."""

from __future__ import annotations

from appliance.records import Header
from appliance.store.spool import SeriesKey
from appliance.work.followed import Followed


def test_a_count_that_is_met_is_looked_at_at_once_and_one_that_is_exceeded_is_not() -> None:
    followed = Followed(SeriesKey("1.2", "1.2.3"))
    assert not followed.counted
    followed.header = Header("1", "2", "1.2", "1.2.3", expected_images=2)
    counted = []
    for uid in ("1", "2", "3"):
        followed.seen.add(uid)
        counted.append(followed.counted)
    assert counted == [False, True, False]
