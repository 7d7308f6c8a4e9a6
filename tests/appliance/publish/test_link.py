"""What a link keeps of what the broker sends."""

from __future__ import annotations

import paho.mqtt.client as paho

from appliance.publish.link import COMMANDS_KEPT, Link, Pace
from appliance.publish.terms import Terms
from rigs.peers import ROOT


def test_of_commands_that_come_too_fast_a_bounded_number_waits_and_resume_is_among_them(
    settings_for,
) -> None:
    link = Link(settings_for(1).mqtt, Terms(), "box", None, Pace())
    for n in range(3 * COMMANDS_KEPT):
        link._on_message(link._client, None, _letter("ping", n))
    assert len(link.heard) == COMMANDS_KEPT
    link._on_message(link._client, None, _letter("resume", 1))
    assert link.heard[-1].topic.endswith("/cmd/resume")


def _letter(verb: str, mid: int) -> paho.MQTTMessage:
    made = paho.MQTTMessage(mid, f"{ROOT}/cmd/{verb}".encode())
    made.qos = 0
    return made
