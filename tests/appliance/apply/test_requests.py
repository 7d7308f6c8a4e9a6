"""What may be asked of `apply`: each verb, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.apply import decided, report
from appliance.apply.notes import Notes
from appliance.apply.requests import Answer, Request, Requests
from appliance.settings import Update
from appliance.update.states import State
from rigs.applied import Applied
from rigs.releasing import Simulated

ANNA = "anna@socket"


def requests(notes: Notes, url: str | None = "https://updates.example") -> Requests:
    return Requests(
        notes,
        Update(url=url),
        lambda *_: None,
        lambda: None,
        lambda *_: Answer(ok=True),
        decided.of(notes.folder),
    )


def line(**said: str) -> bytes:
    return Request.model_validate(said).model_dump_json().encode()


@pytest.fixture
def box(tmp_path: Path) -> Applied:
    repo = Simulated.begun()
    repo.ship()
    return Applied(tmp_path / "box", repo)


def test_to_look_and_to_take_it_now_are_wishes_that_grow(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    asked = requests(notes)
    first = asked.answer(line(verb="check"), ANNA)
    second = asked.answer(line(verb="now"), ANNA)
    assert (first.wish, second.wish) == (1, 2)
    wishes = notes.wishes()
    assert (wishes.asked, wishes.now) == (2, True)


def test_without_a_url_and_without_a_folder_nobody_can_be_asked(tmp_path: Path) -> None:
    answer = requests(Notes(tmp_path), url=None).answer(line(verb="now"), ANNA)
    assert answer.code == "no_url"
    answer = requests(Notes(tmp_path), url=None).answer(
        line(verb="now", url="https://once.example"), ANNA
    )
    assert answer.ok
    assert Notes(tmp_path).wishes().url == "https://once.example"


@pytest.mark.parametrize("source", ["x" * 300, "/root/\\u0000", "a\\u001b[2Jb", "a\\u202eb"])
def test_a_name_that_no_folder_has_or_that_moves_a_cursor_is_refused_with_an_answer(
    tmp_path: Path, source: str
) -> None:
    asked = f'{{"verb": "now", "source": "{source}"}}'.encode()
    answer = requests(Notes(tmp_path)).answer(asked, ANNA)
    assert not answer.ok
    assert answer.code in {"stick_gone", "update_request"}
    assert answer.model_dump_json().isprintable()
    assert not Notes(tmp_path).wishes().now


def test_a_folder_that_is_no_repository_is_refused_at_once(tmp_path: Path) -> None:
    answer = requests(Notes(tmp_path)).answer(line(verb="now", source=str(tmp_path)), ANNA)
    assert answer.code == "stick_gone"
    assert not Notes(tmp_path).wishes().now


def test_before_apply_has_ever_run_nothing_can_be_accepted_or_gone_back_from(
    tmp_path: Path,
) -> None:
    for verb in ("accept", "rollback", "status"):
        assert requests(Notes(tmp_path)).answer(line(verb=verb), ANNA).code == "update_no_status"


def test_accept_takes_the_release_that_waits_for_it(box: Applied) -> None:
    release = box.repo.release(version="0.3.0").model_copy(update={"intended_use_changes": True})
    box.repo.add(release)
    box.repo.sign("stable")
    box.repo.publish()
    box.notes.know(highest=1)
    course = box.course()
    asked = requests(box.notes)
    report.write(course, on=False)
    assert asked.answer(line(verb="accept"), ANNA).code == "update_nothing_to_accept"
    box.offer(course)
    report.write(course, on=False)
    assert asked.answer(line(verb="accept"), ANNA).ok
    assert box.notes.accepted() == "stable/2.json"


def test_a_way_back_is_refused_where_there_is_none(box: Applied) -> None:
    course = box.course()
    asked = requests(box.notes)
    report.write(course, on=False)
    assert asked.answer(line(verb="rollback"), ANNA).code == "update_no_way_back"
    box.offer(course)
    assert box.state is State.TRIAL
    report.write(course, on=False)
    assert asked.answer(line(verb="rollback"), ANNA).ok
    assert box.notes.wishes().back


def test_the_status_says_what_runs_what_is_offered_and_what_is_being_done(box: Applied) -> None:
    course = box.course()
    made = report.status(course, on=False)
    assert (made.appliance.version, made.slot, made.steps) == ("0.1.0", 1, None)
    box.offer(course)
    made = report.status(course, on=False)
    assert (made.slot, made.previous, made.highest) == (2, 1, 1)
    assert made.offered == ("stable/1.json",)
    assert made.steps is not None
    assert made.steps.texts[-1] == "it runs, on trial"
