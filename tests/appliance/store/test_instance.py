"""Which process of a stage this is, and who speaks for a stage of which two live."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.settings import Settings
from appliance.store import conditions, instance
from appliance.store.heartbeat import living
from appliance.store.lock import holder, is_held, lives_beside


@pytest.mark.parametrize(("said", "number"), [("2", 2), ("", 0), ("two", 0), ("-1", 0), ("²", 0)])
def test_the_slot_is_what_who_started_us_said(said: str, number: int) -> None:
    assert instance.slot({instance.SLOT: said}) == number


def test_only_what_is_handed_over_has_a_name_for_each_slot() -> None:
    assert instance.name_of("receive", {instance.SLOT: "2"}) == "receive@2"
    assert instance.name_of("receive", {}) == "receive"
    assert instance.name_of("work", {instance.SLOT: "2"}) == "work"


def test_two_receive_of_two_slots_live_at_once_and_the_newest_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state() -> conditions.State:
        return conditions.look(Settings(state=tmp_path), ["receive"])["receive"].state

    with ExitStack() as old, ExitStack() as new:
        monkeypatch.setenv(instance.SLOT, "9")
        old.enter_context(living(tmp_path, "receive")).beat()
        assert not lives_beside(tmp_path, "receive")
        assert state() is conditions.State.RUNNING
        monkeypatch.setenv(instance.SLOT, "10")
        heart = new.enter_context(living(tmp_path, "receive"))
        assert lives_beside(tmp_path, "receive")
        assert holder(tmp_path, "receive") == ("receive@10", True)
        assert state() is conditions.State.STARTING
        heart.beat()
        old.close()
        assert state() is conditions.State.RUNNING
        assert is_held(tmp_path, "receive") is True
    assert holder(tmp_path, "receive") == ("receive@10", False)
    assert state() is conditions.State.DOWN


def test_one_slot_has_one_receive_and_all_slots_have_one_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(instance.SLOT, "1")
    with (
        living(tmp_path, "receive"),
        living(tmp_path, "work"),
    ):
        with pytest.raises(StateUnusable, match="another `scanside receive`"):
            living(tmp_path, "receive").__enter__()
        monkeypatch.setenv(instance.SLOT, "2")
        with pytest.raises(StateUnusable, match="another `scanside work`"):
            living(tmp_path, "work").__enter__()
