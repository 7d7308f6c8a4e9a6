"""Studies that come without pause while bundles are switched: nothing is lost, and none waits.

Not by time: the bundle that is being opened is held, and what must not wait for it ends meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.bundle.golden import Gate, Runner
from appliance.bundle.shelf import Shelf
from appliance.report import SeriesKey
from appliance.store.events import BundlesRefused, Loaded
from appliance.store.journal import Journal
from rigs.arriving import WAIT_S, Ward
from rigs.bundles import BUNDLE
from rigs.device import Device
from rigs.opening import Held
from rigs.shelves import audited


@pytest.fixture
def ward(tmp_path: Path, tiny_bytes: bytes) -> Iterator[Ward]:
    device = Device(tmp_path, tiny_bytes)
    device.activate(name=BUNDLE, version="90.0.0")
    with Journal.open(device.settings.state) as journal:
        made = Ward(device, journal)
        made.work.refresh()
        yield made
        made.bundles.close()


@pytest.fixture
def held(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(monkeypatch)
    yield made
    made.go.set()


def test_in_five_switches_nothing_is_lost_and_no_study_waits_for_a_bundle(
    ward: Ward, held: Held
) -> None:
    every: list[SeriesKey] = []
    for switch in range(1, 6):
        old, new = f"90.{switch - 1}.0", f"90.{switch}.0"
        held.again()
        begun = ward.arrive()
        ward.begin(begun)
        ward.activate(new)
        assert held.begun.wait(WAIT_S)
        after = ward.arrive()
        ward.begin(after)
        ward.finish(after)  # while the new bundle is held
        assert ward.said_by(after) == [old]
        held.go.set()
        assert ward.news.wait(WAIT_S)
        ward.heard()
        assert ward.said_by(begun) in ([], [old])
        last = ward.arrive()
        ward.begin(last)
        ward.finish(begun, last)
        assert ward.said_by(begun) == [old], "it keeps its bundle to its end"
        assert ward.said_by(last) == [new]
        every += [begun, after, last]
    assert [len(ward.said_by(key)) for key in every] == [1] * 15
    assert len(ward.journal.events.of(Loaded)) == 6
    assert ward.journal.events.of(BundlesRefused) == []


def test_all_series_of_a_study_have_the_bundle_of_the_first_although_another_is_open(
    ward: Ward, held: Held
) -> None:
    first = ward.arrive()
    ward.begin(first)
    held.go.set()
    ward.activate("90.1.0")
    assert ward.news.wait(WAIT_S)
    ward.heard()
    second = SeriesKey(first.study, f"{first.series}.2")
    source, folder = ward.spool.folder(first), ward.spool.folder(second)
    folder.mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    ward.work.look(second, ended=True)
    followed = ward.work.following[second]
    assert {o.manifest.version for o in followed.bundles if o.manifest.name == BUNDLE} == {"90.0.0"}
    ward.finish(first, second)
    assert ward.said_by(first)[0] == "90.0.0"


def test_a_series_that_no_image_chose_a_bundle_for_yet_keeps_its_bundles_open(
    ward: Ward, held: Held
) -> None:
    key = ward.arrive(slices=2)
    for path in ward.spool.folder(key).iterdir():
        path.write_bytes(b"nothing that can be read")
    ward.begin(key)
    assert not ward.work.following[key].chosen
    held.go.set()
    ward.activate("90.1.0")
    assert ward.news.wait(WAIT_S)
    ward.heard()
    assert any(o.manifest.version == "90.0.0" for o in ward.bundles._retired.values())


def test_the_study_at_hand_keeps_what_was_recalled_and_the_next_one_never_sees_it(
    ward: Ward,
) -> None:
    bad = ward.activate("90.1.0")
    assert ward.news.wait(WAIT_S)
    ward.heard()
    at_hand = ward.arrive()
    ward.begin(at_hand)
    shelf = Shelf(ward.state, runner=ANYWHERE, audit=audited(ward.state))
    assert shelf.withdraw(bad, "wrong") is not None
    ward.work.refresh()
    next_one = ward.arrive()
    ward.begin(next_one)
    ward.finish(at_hand, next_one)
    assert ward.said_by(at_hand) == ["90.1.0"]
    assert ward.said_by(next_one) == ["90.0.0"]


ANYWHERE = Runner("another backend", lambda *_: Gate(passed=True, results=()))


def test_work_takes_up_a_bundle_although_no_study_comes(tmp_path: Path, tiny_bytes: bytes) -> None:
    """The real stage, woken by the shelf alone."""
    device = Device(tmp_path, tiny_bytes)
    device.activate(name=BUNDLE, version="90.0.0")
    state = device.settings.state
    command = [sys.executable, "-m", "appliance", "work", "--config", str(device.toml())]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            until_loaded(state, "90.0.0")
            digest = device.activate(name=BUNDLE, version="90.1.0").digest
            until_loaded(state, "90.1.0")
            shelf = Shelf(state, runner=ANYWHERE, audit=audited(state))
            assert shelf.withdraw(digest, "wrong") is not None
            until_loaded(state, "90.0.0")
        finally:
            process.terminate()
            _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, said.decode()


def until_loaded(state: Path, version: str) -> None:
    """The newest word of `work` in the journal is that this version is open."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        with Journal.open(state) as journal:
            rows = journal.events.of(Loaded)
        newest = max(rows, key=lambda row: row.at, default=None)
        if newest and any(o.version == version for o in newest.event.bundles):
            return
        time.sleep(0.1)
    raise AssertionError(f"{version} was never open")
