"""What a member of scanside-admin decides of an alarm, where another user owns the state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.apply import decided
from appliance.apply.notes import Notes
from appliance.apply.requests import Answer, Requests
from appliance.settings import Update
from appliance.store import tunings
from appliance.store.library import ACCEPT, ACKNOWLEDGE, ACTS, REFUSED, WATCH, WITHDRAW
from rigs.watched import Watched, watched

ANNA = "anna@socket"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path / "state") as made:
        yield made


def ask(device: Watched, line: str, told: list[str] | None = None) -> Answer:
    audit: list[str] = [] if told is None else told
    requests = Requests(
        Notes(device.state.with_name("notes")),
        Update(),
        lambda actor, action, _: audit.append(f"{actor} {action}"),
        lambda: None,
        lambda *_: Answer(ok=True),
        decided.of(device.state),
    )
    return requests.answer(line.encode(), ANNA)


@pytest.mark.parametrize(("verb", "action"), [("drift_ack", ACKNOWLEDGE), ("drift_accept", ACCEPT)])
def test_it_is_in_the_audit_of_the_stages_and_work_obeys_it(
    device: Watched, verb: str, action: str
) -> None:
    entry, told = device.alarmed(), list[str]()
    answer = ask(device, f'{{"verb": "{verb}", "row": "{entry.id[:6]}"}}', told)
    assert (answer.ok, answer.text) == (True, entry.id)
    assert told == [f"{ANNA} {verb.replace('_', ' ')}"]
    (row,) = device.journal.audit.of((action,))
    assert (row.actor, row.detail) == (ANNA, {"row": entry.id})
    device.count()
    assert device.listed().today[0].row.alarms == ()


def test_a_tuning_is_accepted_and_taken_back_and_what_is_refused_is_in_the_audit(
    device: Watched,
) -> None:
    entry = device.sharpened()
    for verb, count in (("drift_tune", 1), ("drift_withdraw", 0)):
        answer = ask(device, f'{{"verb": "{verb}", "row": "{entry.id}"}}')
        assert (answer.ok, answer.text) == (True, entry.id)
        device.count()
        assert len(tunings.in_force(device.state)) == count
    assert ask(device, f'{{"verb": "drift_withdraw", "row": "{entry.id}"}}').ok
    device.count()
    (row,) = device.journal.audit.of((REFUSED,))
    assert row.detail == {"row": entry.id, "act": WITHDRAW, "code": "no_tuning"}
    assert ask(device, '{"verb": "drift_tune", "row": "ffffffffffffffff"}').code == "row_unknown"


def test_what_has_no_alarm_or_is_no_row_is_refused(device: Watched) -> None:
    device.learnt(30)
    (entry,) = device.listed().today
    assert ask(device, f'{{"verb": "drift_ack", "row": "{entry.id}"}}').code == "no_alarm"
    assert ask(device, '{"verb": "drift_ack", "row": "ffffffffffffffff"}').code == "row_unknown"
    for row in ("../x", "abc", "g" * 16, "a" * 17):
        assert ask(device, f'{{"verb": "drift_ack", "row": "{row}"}}').code == "update_request"
    assert ask(device, '{"verb": "drift_accept"}').code == "row_unknown"
    (device.state / WATCH).unlink()
    assert ask(device, f'{{"verb": "drift_ack", "row": "{entry.id}"}}').code == "row_unknown"
    assert device.journal.audit.of(ACTS) == []
