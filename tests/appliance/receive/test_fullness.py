"""The trouble of a `receive` that has no place for a sender."""

from __future__ import annotations

from pathlib import Path

from appliance.receive.fullness import Fullness, Note
from appliance.store.heartbeat import Heart, Trouble, TroubleCode, read


def troubles(heart: Heart, state: Path) -> tuple[Trouble, ...]:
    heart.beat()
    beat = read(state, "receive")
    assert beat is not None
    return beat.troubles


def test_it_lasts_until_the_host_that_held_its_share_has_a_place_again(tmp_path: Path) -> None:
    heart = Heart(tmp_path, "receive")
    fullness = Fullness(heart)
    assert troubles(heart, tmp_path) == ()
    fullness.refused("10.0.0.5", Note.SHARE_TAKEN)
    (found,) = troubles(heart, tmp_path)
    assert found.code is TroubleCode.ASSOCIATIONS_FULL
    assert "10.0.0.5" in found.text
    assert "share" in found.text
    fullness.ended("10.0.0.6")
    assert troubles(heart, tmp_path)
    fullness.ended("10.0.0.5")
    assert troubles(heart, tmp_path) == ()


def test_where_all_are_taken_any_place_will_do(tmp_path: Path) -> None:
    heart = Heart(tmp_path, "receive")
    fullness = Fullness(heart)
    fullness.refused("10.0.0.5", Note.ALL_TAKEN)
    (found,) = troubles(heart, tmp_path)
    assert "all associations are open" in found.text
    fullness.ended("10.0.0.6")
    assert troubles(heart, tmp_path) == ()
