"""Ages that a jump of the clock does not move."""

from __future__ import annotations

import math

from appliance.host.boot import boot_id
from appliance.web.access import moment
from appliance.web.access.moment import Moment


def test_within_one_boot_the_clock_of_the_day_counts_nothing() -> None:
    then = Moment(wall=1000.0, boot="a", tick=10.0)
    assert then.age_s(Moment(wall=9e9, boot="a", tick=15.0)) == 5.0
    assert then.age_s(Moment(wall=0.0, boot="a", tick=15.0)) == 5.0


def test_over_a_boot_it_is_all_there_is_and_a_clock_set_back_lengthens_nothing() -> None:
    then = Moment(wall=1000.0, boot="a", tick=10.0)
    assert then.age_s(Moment(wall=1060.0, boot="b", tick=1.0)) == 60.0
    assert then.age_s(Moment(wall=999.0, boot="b", tick=1.0)) == math.inf


def test_now_is_of_this_boot() -> None:
    first, second = moment.now(), moment.now()
    assert first.boot == boot_id()
    assert first.age_s(second) >= 0
