"""Bundles by hand through the socket of `apply`: the shelf, the journal's audit and the proof are
the real ones; only the turns of the course are taken by a thread of the test."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from appliance.apply import decided, door, wiring
from appliance.apply.audit import FILE, Audit
from appliance.apply.by_hand import FOLDER, ByHand
from appliance.apply.door import Door, Peer, opened
from appliance.apply.requests import Request, Requests
from appliance.apply.stage import _copier
from appliance.bundle import archive
from appliance.errors import BundleRefused, ScansideError
from appliance.runtime import proof
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.verbs import bundle as verbs
from rigs.applied import Applied
from rigs.bundles import signed, trust_tests
from rigs.releasing import Simulated


class Box:
    """A box whose door is open."""

    def __init__(self, home: Path) -> None:
        self.applied = Applied(home, Simulated.begun())
        self.settings: Settings = self.applied.settings.model_copy(
            update={
                "work": self.applied.settings.work.model_copy(update={"backend": "onnxruntime"})
            }
        )
        self.state = self.settings.state
        Journal.open(self.state).close()
        trust_tests(self.state)
        self.proved: list[Path] = []
        trusted = self.settings.update.trusted
        self.audit = Audit(trusted, lambda: datetime.now(timezone.utc), _copier(self.state))
        self.woken = threading.Event()
        box = replace(self.applied.box(), settings=self.settings, prove=self._prove)
        shelf = partial(wiring.shelf_by_hand, self.settings)
        self.by_hand = ByHand(box, shelf, self.audit.add, self.woken.set)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._turns)
        self.thread.start()

    def _prove(self, slot: int, paths: Any) -> str | None:
        self.proved += paths
        found = [proof.prove(path, self.settings) for path in paths]
        return next((one.one_line() for one in found if one.verdict == "failed"), None)

    def _turns(self) -> None:
        while not self.ended.is_set():
            self.woken.wait(60)
            self.woken.clear()
            self.by_hand.turn()

    def does(self, verb: str, **asked: Any) -> str:
        named = verbs.by_apply(self.settings, verb, **asked)
        return f"{named.name} {named.version}"

    def add(self, path: Path, **more: Any) -> str:
        return self.does("bundle_add", source=str(path), allow_development=True, **more)

    def active(self) -> dict[str, str]:
        shelf = wiring.shelf_by_hand(self.settings, lambda *_: None)
        return {one.name: one.version for one in shelf.active()}

    def end(self) -> None:
        self.ended.set()
        self.woken.set()
        self.thread.join(60)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "box")
    requests = Requests(
        made.applied.notes,
        made.settings.update,
        made.audit.add,
        made.woken.set,
        made.by_hand.ask,
        decided.of(made.settings.state),
    )
    with opened(made.settings.update.trusted, {}) as listening:
        serving = Door(listening, requests)
        serving.open()
        yield made
        made.end()
        made.by_hand.close()
        serving.close()


def version(bundle: bytes, number: str) -> bytes:
    entries = archive.read(bundle)
    manifest = json.loads(entries["manifest.json"])
    manifest["version"] = number
    return signed(archive.write({**entries, "manifest.json": json.dumps(manifest).encode()}))


@pytest.fixture
def files(tmp_path: Path, tiny_bytes: bytes) -> tuple[Path, Path]:
    """Two versions of a bundle, signed by the key of the tests."""
    made = []
    for number in ("1.1.0", "1.2.0"):
        made.append(tmp_path / f"{number}.scanside")
        made[-1].write_bytes(version(tiny_bytes, number))
    return made[0], made[1]


def test_a_bundle_is_added_activated_and_rolled_back_by_who_may_not_write_the_shelf(
    box: Box, files: tuple[Path, Path]
) -> None:
    for path in files:
        box.add(path)
        assert box.does("bundle_activate", bundle="tiny-nodule", which=path.stem)
        assert box.active()["tiny-nodule"] == path.stem
    assert box.does("bundle_rollback", bundle="tiny-nodule") == "tiny-nodule 1.1.0"
    assert box.active()["tiny-nodule"] == "1.1.0"
    assert [one.name for one in box.proved] == ["asked.scanside"] * 2, "each once, as a copy"
    assert not list((box.settings.update.trusted / FOLDER).iterdir())
    lines = [json.loads(one) for one in (box.settings.update.trusted / FILE).open()]
    assert {one["action"] for one in lines} >= {"bundle add", "bundle activate", "bundle rollback"}
    assert {one["actor"] for one in lines} == {f"{Peer(0, os.geteuid(), 0).name()}@socket"}


def test_whoever_is_not_in_the_group_changes_nothing(
    box: Box, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "peer_of", lambda _: Peer(1, 54321, 54321))
    with pytest.raises(ScansideError) as refused:
        box.add(files[0])
    assert refused.value.code == "update_not_permitted"
    assert box.proved == []
    assert "tiny-nodule" not in box.active()


def test_a_link_on_the_way_to_a_file_is_not_followed(
    box: Box, files: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").symlink_to(files[0])
    (tmp_path / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for wrong in (
        "file",
        f"folder/{files[0].name}",
        "pipe",
        ".",
        "gone",
        f"box/../{files[0].name}",
    ):
        with pytest.raises(ScansideError) as refused:
            box.add(Path(f"{tmp_path}/{wrong}"))
        assert refused.value.code == "bundle_unreadable", wrong
    with pytest.raises(ScansideError) as refused:
        verbs.by_apply(box.settings, "bundle_add", source=files[0].name)
    assert refused.value.code == "bundle_unreadable"
    assert box.proved == []


def test_a_file_that_is_exchanged_after_it_was_copied_is_not_what_is_added(
    box: Box, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = files
    real = box._prove

    def exchanged(slot: int, paths: Any) -> str | None:
        first.write_bytes(second.read_bytes())
        return real(slot, paths)

    box.by_hand.box = replace(box.by_hand.box, prove=exchanged)
    assert box.add(first) == "tiny-nodule 1.1.0"


def test_a_bundle_of_an_unknown_key_or_of_none_is_proved_by_nobody(
    box: Box, tmp_path: Path, tiny_bundle: Path
) -> None:
    with pytest.raises(ScansideError) as refused:
        box.add(tiny_bundle)
    assert refused.value.code == "bundle_unsigned"
    with pytest.raises(ScansideError) as refused:
        box.add(tiny_bundle, allow_unsigned=True)
    assert refused.value.code == "bundle_unsigned", "the settings do not allow it"
    assert box.proved == []


def test_what_is_not_proved_here_does_not_come_onto_the_shelf(
    box: Box, files: tuple[Path, Path]
) -> None:
    box.by_hand.box = replace(box.by_hand.box, prove=lambda *_: "golden cases fail")
    with pytest.raises(ScansideError) as refused:
        box.add(files[0])
    assert (refused.value.code, "golden cases fail" in refused.value.text) == (
        "bundle_golden", True,
    )  # fmt: skip
    with pytest.raises(ScansideError) as refused:
        box.does("bundle_activate", bundle="tiny-nodule", which="1.1.0")
    assert refused.value.code == "bundle_not_found"


def test_where_only_releases_bring_bundles_none_comes_by_hand(
    box: Box, files: tuple[Path, Path]
) -> None:
    closed = box.settings.model_copy(
        update={"bundles": box.settings.bundles.model_copy(update={"by_hand": False})}
    )
    box.by_hand.box = replace(box.by_hand.box, settings=closed)
    with pytest.raises(ScansideError) as refused:
        box.add(files[0])
    assert refused.value.code == "bundle_by_hand"


def test_what_is_no_name_is_said_before_anybody_is_asked(box: Box) -> None:
    with pytest.raises(BundleRefused) as refused:
        box.does("bundle_rollback", bundle="../tiny")
    assert refused.value.code == "bundle_not_found"


def test_who_asks_while_the_process_ends_is_told_to_ask_again(tmp_path: Path) -> None:
    box = Box(tmp_path / "box")
    box.end()
    box.by_hand.close()
    answer = box.by_hand.ask(Request(verb="bundle_rollback", bundle="tiny-nodule"), "anna@socket")
    assert answer.code == "update_not_running"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_socket_is_asked_where_slots_are_in_use_and_the_state_is_another_users(
    tmp_path: Path,
) -> None:
    settings = Applied(tmp_path / "box", Simulated.begun()).settings
    assert not verbs.is_foreign(settings)
    os.chown(settings.state, 54321, 54321)
    assert verbs.is_foreign(settings)
    assert not verbs.is_foreign(Settings(state=settings.state)), "no slots: as ever"
