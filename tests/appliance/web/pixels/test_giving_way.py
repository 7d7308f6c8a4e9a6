"""An image waits while a series is judged, and not for long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from appliance.store import conditions
from appliance.store.heartbeat import Heart
from appliance.web.pixels import giving_way
from appliance.web.pixels.giving_way import LONGEST_S


def test_nobody_waits_where_no_series_is_judged(tmp_path: Path) -> None:
    assert giving_way.left_s(tmp_path, time.monotonic()) == 0.0  # no stage ever said anything
    heart = Heart(tmp_path, "work")
    heart.beat(conditions.WAITING)
    assert giving_way.left_s(tmp_path, time.monotonic()) == 0.0


def test_an_image_waits_for_the_beginning_of_a_judgement_alone(tmp_path: Path) -> None:
    heart = Heart(tmp_path, "work")
    heart.beat(conditions.WAITING)
    before = time.monotonic()
    heart.beat(conditions.JUDGE)
    after = time.monotonic()
    assert giving_way.left_s(tmp_path, before) == LONGEST_S
    assert 0.0 < giving_way.left_s(tmp_path, after + 0.4 * LONGEST_S) <= 0.6 * LONGEST_S
    assert giving_way.left_s(tmp_path, after + LONGEST_S) == 0.0


def test_a_judgement_of_another_stage_keeps_nobody_waiting(tmp_path: Path) -> None:
    Heart(tmp_path, "compose").beat(conditions.JUDGE)
    assert giving_way.left_s(tmp_path, time.monotonic()) == 0.0


def test_who_waits_goes_on_when_the_judgement_ends_or_lasts(tmp_path: Path) -> None:
    heart = Heart(tmp_path, "work")
    heart.beat(conditions.JUDGE)
    giving_way.wait(tmp_path)  # it lasts
    assert giving_way.left_s(tmp_path, time.monotonic()) == 0.0
    heart.beat(conditions.WAITING)
    heart.beat(conditions.JUDGE)
    waiting = threading.Thread(target=giving_way.wait, args=(tmp_path,))
    waiting.start()
    heart.beat(conditions.WAITING)
    waiting.join(60)
    assert not waiting.is_alive()
