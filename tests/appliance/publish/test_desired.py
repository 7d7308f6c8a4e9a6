"""What the fleet wishes for becomes a hint at most, and only where the settings ask for it."""

from __future__ import annotations

import json

import pytest

from appliance.publish.desired import LIMIT_BYTES, TOPIC, hint
from appliance.settings import Settings, Update
from appliance.store import updating
from appliance.store.events import CommandRefused
from appliance.store.files import DISK
from appliance.store.updating import Hint
from rigs.peers import ROOT, until


def payload(**said: object) -> bytes:
    return json.dumps(said).encode()


def test_a_release_of_the_own_channel_is_a_look_and_a_hold_is_a_hold() -> None:
    assert hint(payload(release="stable/7.json"), "stable") == Hint(check=True)
    assert hint(payload(hold=True), "stable") == Hint(hold=True)
    both = payload(schema="scanside.desired/1", release="site-a/7.json", hold=True)
    assert hint(both, "site-a") == Hint(check=True, hold=True)


@pytest.mark.parametrize("said", [b"", b"{}", payload(hold=False)])
def test_a_wish_that_was_taken_back_does_nothing(said: bytes) -> None:
    assert hint(said, "stable") is None


@pytest.mark.parametrize(
    "said",
    [
        payload(release="canary/7.json"),
        payload(release="../7.json"),
        payload(release="stable/7.json", now=True),
        payload(release=True),
        payload(schema="scanside.desired/2"),
        b"[" * 4000,
        b"\xff",
        b" " * (LIMIT_BYTES + 1),
    ],
)
def test_anything_else_is_refused_in_words_of_ours(said: bytes) -> None:
    found = hint(said, "stable")
    assert isinstance(found, str)
    assert "canary" not in found


@pytest.mark.parametrize("asked_for", [True, False])
def test_a_retained_wish_reaches_the_box_where_its_settings_ask_for_it(
    broker, subscriber, settings_for, serve, tmp_path, asked_for: bool
) -> None:
    plain: Settings = settings_for(broker.port)
    ours = Update(root=tmp_path / "root", trusted=tmp_path / "trusted", desired=asked_for)
    wish = payload(release="stable/7.json", hold=True)
    sent = subscriber.client.publish(f"{ROOT}/{TOPIC}", wish, qos=1, retain=True)
    sent.wait_for_publish(30)
    stage = serve(plain.model_copy(update={"update": ours}))
    state = stage.settings.state
    if asked_for:
        until((state / updating.HINT).exists)
        assert updating.taken(DISK, state) == Hint(check=True, hold=True)
        subscriber.client.publish(f"{ROOT}/{TOPIC}", payload(release="canary/1.json"), qos=1)
        until(lambda: stage.journal.events.of(CommandRefused))
    else:
        until(lambda: subscriber.states()[-1:] not in ([], ["init"]))
    assert not (state / updating.HINT).exists()
