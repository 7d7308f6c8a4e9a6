"""When the device speaks of itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from appliance.publish.announce import Announcer
from appliance.publish.link import Link, Pace
from appliance.publish.presence import Presence
from appliance.publish.terms import Terms
from appliance.settings import Settings, Update
from appliance.store import updating
from appliance.store.files import DISK
from appliance.store.heartbeat import Heart
from appliance.store.journal import Journal
from appliance.store.updating import Updating
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


def test_how_updates_stand_is_said_at_each_change_retained_and_only_where_there_are_slots(
    settings_for, tmp_path
) -> None:
    plain: Settings = settings_for(1)
    ours = Update(root=tmp_path / "root", trusted=tmp_path)
    settings = plain.model_copy(update={"update": ours})
    with Journal.open(settings.state) as journal:
        presence = Presence(settings, journal, Heart(settings.state, "publish"))
        made = Announcer(presence, ROOT, status_s=600.0, health_s=30.0)
        link = Link(settings.mqtt, Terms(), "box", None, Pace())
        made.introduce(link)
        assert said(link) == [f"{ROOT}/info"], "nothing is known yet"
        first = Updating(version="0.1.0", slot=1, why=("held",), hold=True)
        for one in (first, first, Updating(version="0.2.0", slot=2, state="trial")):
            updating.write(DISK, tmp_path, one)
            made.introduce(link)
    reported = [one for one in link.direct if one.topic == f"{ROOT}/update/reported"]
    assert [json.loads(one.payload)["slot"] for one in reported] == [1, 2]
    assert json.loads(reported[0].payload)["why"] == ["held"]
    assert all(one.retain and one.qos == 1 for one in reported)
