"""A hint that came over MQTT lets a box look or hold, where its settings say so, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.apply import hinted
from appliance.apply.course import Course, Turn
from appliance.store import updating
from appliance.store.files import Disk
from appliance.store.updating import Hint
from rigs.applied import Applied
from rigs.releasing import Simulated


@pytest.fixture
def repo() -> Simulated:
    made = Simulated.begun()
    made.ship()
    return made


def begun(folder: Path, repo: Simulated, *, desired: bool) -> tuple[Applied, Course]:
    box = Applied(folder, repo, update={"desired": desired, "auto": []})
    course = box.course()
    assert course.turn() is Turn.WAIT
    return box, course


def heard(box: Applied, course: Course, said: Hint) -> bool:
    updating.hint(Disk(), box.settings.state, said)
    return hinted.heed(course.offers, course.notes)


def test_where_the_settings_do_not_ask_for_it_a_hint_does_nothing(
    tmp_path: Path, repo: Simulated
) -> None:
    box, course = begun(tmp_path / "box", repo, desired=False)
    asked = box.notes.wishes().asked
    assert not heard(box, course, Hint(check=True, hold=True))
    assert (box.notes.holds(), box.notes.wishes().asked) == (False, asked)


def test_a_look_takes_no_release_and_comes_no_more_often_than_is_allowed(
    tmp_path: Path, repo: Simulated
) -> None:
    box, course = begun(tmp_path / "box", repo, desired=True)
    asked = box.notes.wishes().asked
    for _ in range(5):
        assert heard(box, course, Hint(check=True))
    assert box.notes.wishes().asked == asked + 1
    assert not box.notes.wishes().now
    assert box.offer(course) is Turn.WAIT
    assert box.state is None, "it comes by hand alone"


def test_a_hold_holds_is_audited_and_nothing_that_comes_lets_go_of_it(
    tmp_path: Path, repo: Simulated
) -> None:
    box, course = begun(tmp_path / "box", repo, desired=True)
    assert heard(box, course, Hint(hold=True))
    assert box.notes.holds()
    assert ("update hold", {"by": "mqtt"}) in box.audit
    assert not heard(box, course, Hint(hold=True)), "once"
    heard(box, course, Hint())
    heard(box, course, Hint(check=True))
    assert box.notes.holds()
