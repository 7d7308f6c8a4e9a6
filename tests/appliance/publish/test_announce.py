"""When the device speaks of itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from appliance.publish.announce import Announcer
from appliance.publish.link import Link, Pace
from appliance.publish.presence import Presence
from appliance.publish.terms import Terms
from appliance.settings import Settings
from appliance.store.heartbeat import Heart
from appliance.store.journal import Journal
from rigs.peers import ROOT


@pytest.fixture
def announcer(settings_for) -> Iterator[Callable[[float], tuple[Announcer, Link]]]:
    settings: Settings = settings_for(1)
    with Journal.open(settings.state) as journal:

        def make(status_s: float) -> tuple[Announcer, Link]:
            presence = Presence(settings, journal, Heart(settings.state, "publish"))
            made = Announcer(presence, ROOT, status_s=status_s, health_s=30.0)
            return made, Link(settings.mqtt, Terms(), "box", None, Pace())

        yield make


def said(link: Link) -> list[str]:
    return [json.loads(letter.payload).get("state", letter.topic) for letter in link.direct]


def test_the_status_is_said_at_each_change_and_not_between(announcer) -> None:
    made, link = announcer(600.0)
    made.greet(link)
    for state in ("online", "online", "degraded", "degraded", "online"):
        made.status(link, (state, ()))
    assert said(link) == ["init", "online", "degraded", "online"]
    assert all(letter.retain and letter.qos == 1 for letter in link.direct)


def test_the_status_is_said_again_once_it_is_due(announcer) -> None:
    made, link = announcer(0.0)
    made.greet(link)
    for _ in range(3):
        made.status(link, ("online", ()))
    assert said(link) == ["init", "online", "online", "online"]


def test_info_is_said_once_a_connection(announcer) -> None:
    made, link = announcer(600.0)
    for _ in range(2):
        made.greet(link)
        made.introduce(link)
        made.introduce(link)
    assert said(link) == ["init", f"{ROOT}/info"] * 2
