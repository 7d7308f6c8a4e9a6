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
from appliance.store.library import (
    ACCEPT,
    ACKNOWLEDGE,
    ACTS,
    OBEYED,
    REFUSED,
    WATCH,
    WITHDRAW,
)
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
    assert (row.detail["row"], row.detail["act"]) == (entry.id, WITHDRAW)
    assert row.detail["code"] == "no_tuning"
    assert ask(device, '{"verb": "drift_tune", "row": "ffffffffffffffff"}').code == "row_unknown"


def test_what_has_no_alarm_or_is_no_row_is_refused(device: Watched) -> None:
    device.learnt(30)
    (entry,) = device.listed().today
    assert ask(device, f'{{"verb": "drift_ack", "row": "{entry.id}"}}').code == "no_alarm"
    assert ask(device, '{"verb": "drift_ack", "row": "ffffffffffffffff"}').code == "row_unknown"
    for row in ("../x", "abc", "g" * 16, "a" * 65):
        assert ask(device, f'{{"verb": "drift_ack", "row": "{row}"}}').code == "update_request"
    assert ask(device, '{"verb": "drift_accept"}').code == "row_unknown"
    (device.state / WATCH).unlink()
    assert ask(device, f'{{"verb": "drift_ack", "row": "{entry.id}"}}').code == "row_unknown"
    assert device.journal.audit.of(ACTS) == []


def became(device: Watched, act: str, told: list[str] | None = None) -> Answer:
    """What `apply` says of an act."""
    return ask(device, f'{{"verb": "drift_answer", "act": "{act}"}}', told)


def test_what_became_of_an_act_is_answered_by_its_hash_and_by_no_other(device: Watched) -> None:
    entry = device.sharpened()
    tune = f'{{"verb": "drift_tune", "row": "{entry.id}"}}'
    first = ask(device, tune)
    device.count()
    second, told = ask(device, tune), list[str]()
    assert len({first.act, second.act}) == 2
    obeyed = became(device, first.act, told)
    assert (obeyed.ok, obeyed.obeyed) == (True, True)
    assert "softening by 0.6 mm is accepted" in obeyed.text
    waits = became(device, second.act, told)
    assert (waits.ok, waits.obeyed) == (True, False), "the answer to the first one is none to it"
    device.count()
    refused = became(device, second.act, told)
    assert (refused.ok, refused.code) == (False, "no_proposal")
    assert "scanside drift" in refused.remedy
    assert told == [], "a look changes nothing, and is not audited"
    for odd in ('"act": "../x"', '"act": "ABC"', '"row": "abcd"'):
        assert not ask(device, f'{{"verb": "drift_answer", {odd}}}').obeyed


@pytest.mark.parametrize("action", [OBEYED, REFUSED])
@pytest.mark.parametrize(
    "said",
    [
        {"text": "\x1b[2J", "code": "no_tuning", "remedy": "x"},
        {"text": "x" * 1001, "code": "no_tuning", "remedy": "x"},
        {"text": ["x"], "code": "no_tuning", "remedy": "x"},
        {"code": "no_tuning"},
        {"text": "x", "code": "\x1b[2J", "remedy": "x"},
        {"text": "x", "code": "no_tuning", "remedy": "x\ny"},
    ],
)
def test_what_another_user_wrote_is_shown_only_as_far_as_it_can_be(
    device: Watched, action: str, said: dict[str, object]
) -> None:
    device.journal.audit.add("work", action, of="a" * 64, **said)
    answer = became(device, "a" * 64)
    assert "cannot be shown" in answer.text
    assert (answer.text + answer.code + answer.remedy).isprintable()
    assert answer.code == ("" if action == OBEYED else REFUSED)


def test_a_tuning_without_a_row_is_taken_back_by_its_digits_and_nothing_else(
    device: Watched,
) -> None:
    entry, made = device.evicted()
    digits = made.digest[:8]
    for verb in ("drift_tune", "drift_ack", "drift_accept"):
        assert ask(device, f'{{"verb": "{verb}", "row": "{digits}"}}').code == "row_unknown"
    gone = ask(device, f'{{"verb": "drift_withdraw", "row": "{entry.id}"}}')
    assert gone.code == "row_unknown"
    answer = ask(device, f'{{"verb": "drift_withdraw", "row": "{digits}"}}')
    assert (answer.ok, answer.text) == (True, made.digest[:16])
    (act,) = device.journal.audit.of((WITHDRAW,))
    assert (act.actor, act.detail) == (ANNA, {"tuning": made.digest})
    assert tunings.in_force(device.state) == (made,)
    device.count()
    assert tunings.in_force(device.state) == ()
    assert became(device, answer.act).text == "softening by 0.6 mm is withdrawn"
    again = ask(device, f'{{"verb": "drift_withdraw", "row": "{digits}"}}')
    assert again.code == "row_unknown"
