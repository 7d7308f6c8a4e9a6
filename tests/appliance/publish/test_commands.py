"""Commands: what parses, what is refused, and that nothing that arrives breaks the parser."""

from __future__ import annotations

import json
import uuid
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.publish import commands
from appliance.publish.commands import Asked, Refused, obey, parse, reply_topic
from appliance.report import Verb

ROOT = "scanside/v1/ward/box1"
STUDY = "5d7c0c5a4b4f4a7e9c1f0d2b3a495867"
REPORT = uuid.UUID("c9bf9e57-1685-4c89-bafb-ff5af830be8a")


class Device:
    def __init__(self, known: int = 3) -> None:
        self.known = known
        self.paused = False

    def resend(self, report_id: uuid.UUID) -> int:
        return self.known if report_id == REPORT else 0

    def set_stat(self, study: str) -> int:
        return self.known if study == STUDY else 0

    def check_for_update(self) -> bool:
        return self.known > 0

    def set_paused(self, paused: bool) -> bool:
        changed, self.paused = self.paused != paused, paused
        return changed


def asked(verb: str, **keys: object) -> Asked:
    found = parse(ROOT, f"{ROOT}/cmd/{verb}", json.dumps(keys).encode())
    assert isinstance(found, Asked)
    return found


@pytest.mark.parametrize("verb", ["ping", "pause", "resume", "update-check"])
def test_every_verb_parses_with_an_empty_payload(verb) -> None:
    assert parse(ROOT, f"{ROOT}/cmd/{verb}", b"") == Asked(verb, commands.Command(), None)


def test_a_valid_reply_topic_is_kept_relative_to_the_root() -> None:
    assert asked("ping", reply_to=f"{ROOT}/reply/device-1/7").reply_to == "reply/device-1/7"


@pytest.mark.parametrize(
    "given_topic",
    [
        "reply/x",
        f"{ROOT}/reply",
        f"{ROOT}/reply/",
        f"{ROOT}/reply//x",
        f"{ROOT}/reply/#",
        f"{ROOT}/reply/+/x",
        f"{ROOT}/reply/..",
        f"{ROOT}/reply/x\n",
        f"{ROOT}/reply/x\0",
        f"{ROOT}/reply/é",
        f"{ROOT}/status",
        f"{ROOT}2/reply/x",
        "scanside/v1/ward/box2/reply/x",
        "$share/a/scanside/v1/ward/box1/reply/x",
        f"{ROOT}/reply/" + "/".join("a" * 60 for _ in range(5)),
        "",
        7,
        None,
        ["x"],
    ],
)
def test_other_reply_topics_are_refused(given_topic) -> None:
    assert reply_topic(ROOT, given_topic) is None


@pytest.mark.parametrize(
    ("topic", "payload", "text"),
    [
        ("ping", b"x" * 4097, "4096"),
        ("ping", b"\xff", "not JSON"),
        ("ping", b"[" * 4096, "not JSON"),
        ("ping", b"7", "object"),
        ("ping", b'{"nam\\u00e9": "MEIER^ANNA"}', "unknown key"),
        ("ping", b'{"id": 5}', "id must"),
        ("ping", b'{"id": "\\ud800"}', "id must"),
        ("ping", json.dumps({"id": "x" * 65}).encode(), "id must"),
        ("ping", b'{"report_id": "../../etc"}', "report_id is not valid"),
        ("resend", b"{}", "needs report_id"),
        ("stat", b"{}", "needs study"),
        ("stat", b'{"study": "1.2.840.4711"}', "study is not valid"),
        ("reboot", b"{}", "no such verb"),
        ("ping/x", b"{}", "no such verb"),
        ("", b"{}", "no such verb"),
    ],
)
def test_what_is_refused_says_why_and_repeats_nothing(topic, payload, text) -> None:
    found = parse(ROOT, f"{ROOT}/cmd/{topic}", payload)
    assert isinstance(found, Refused)
    assert text in found.text
    assert "MEIER" not in found.text
    assert "etc" not in found.text


def test_a_refusal_keeps_the_valid_reply_topic_and_id() -> None:
    payload = json.dumps({"id": "7", "reply_to": f"{ROOT}/reply/x", "more": 1}).encode()
    assert parse(ROOT, f"{ROOT}/cmd/nonsense", payload) == Refused(
        "unknown",
        "no such verb; known are ping, resend, stat, pause, resume, update-check",
        "7",
        "reply/x",
    )


def test_a_retained_command_is_refused() -> None:
    assert isinstance(parse(ROOT, f"{ROOT}/cmd/pause", b"{}", retained=True), Refused)


def test_pause_and_resume_may_be_obeyed_twice() -> None:
    device = Device()
    assert [obey(asked("pause"), device).text, obey(asked("pause"), device).text] == [
        "paused",
        "was paused already",
    ]
    assert device.paused
    assert [obey(asked("resume"), device).text, obey(asked("resume"), device).text] == [
        "resumed",
        "was not paused",
    ]


def test_resend_says_how_many_and_fails_for_an_unknown_report() -> None:
    assert obey(asked("resend", report_id=str(REPORT)), Device()).ok
    assert not obey(asked("resend", report_id=str(uuid.uuid4())), Device()).ok


def test_stat_says_how_many_series_and_fails_for_an_unknown_study() -> None:
    answer = obey(asked("stat", study=STUDY), Device())
    assert (answer.ok, answer.text) == (True, "3 series are taken first")
    assert not obey(asked("stat", study="0" * 32), Device()).ok


def test_update_check_says_the_truth() -> None:
    answer = obey(asked("update-check"), Device(known=0))
    assert (answer.ok, answer.text) == (False, "no update source configured")
    answer = obey(asked("update-check"), Device())
    assert (answer.ok, answer.text) == (True, "a release is looked for")


def test_no_more_than_the_ration_are_obeyed() -> None:
    ration = commands.Ration(5, 3600.0)
    assert all(ration.take(now=float(n)) for n in range(5))
    assert not ration.take(now=5.0)
    assert not ration.take(now=3599.9)
    assert ration.take(now=3600.0)  # the first one's hour is over
    assert not ration.take(now=3600.5)


def test_every_verb_but_resume_has_a_ration() -> None:
    assert set(commands.RATIONS) == set(get_args(Verb)) - {"resume"}


def test_a_verb_that_is_not_listed_names_the_line() -> None:
    assert commands.not_listed("pause", ("ping",)).endswith('[mqtt] commands = ["ping", "pause"]')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
commandlike = st.dictionaries(
    st.sampled_from(["id", "reply_to", "report_id", "x"]),
    json_values | st.text().map(lambda t: f"{ROOT}/reply/{t}"),
)


@given(
    topic=st.text() | st.sampled_from([f"{ROOT}/cmd/{v}" for v in commands._VERBS]),
    payload=st.binary(max_size=5000)
    | json_values.map(lambda v: json.dumps(v).encode())
    | commandlike.map(lambda v: json.dumps(v).encode()),
    retained=st.booleans(),
)
def test_nothing_that_arrives_breaks_the_parser(topic, payload, retained) -> None:
    found = parse(ROOT, topic, payload, retained=retained)
    if found.reply_to is not None:
        assert found.reply_to.startswith("reply/")
        assert not set(found.reply_to) & set("+#\0")
    if isinstance(found, Asked):
        assert not retained
        obey(found, Device())
