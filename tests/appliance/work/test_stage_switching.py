"""Studies that come without pause while bundles are switched: nothing is lost, and none waits.

Not by time: the bundle that is being opened is held, and what must not wait for it ends meanwhile.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from appliance.bundle.golden import Gate, Runner
from appliance.bundle.shelf import Shelf
from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.report import SeriesKey, Stage
from appliance.runtime.bundles import OpenBundles
from appliance.store.events import BundlesRefused, Loaded
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.work.stage import Work
from rigs.bundles import BUNDLE
from rigs.device import Device
from rigs.opening import Held
from rigs.shelves import audited

WAIT_S = 120.0
SLICES = 24


class Ward:
    """A device that analyses what is put into its spool."""

    def __init__(self, device: Device, journal: Journal) -> None:
        self.device, self.journal = device, journal
        self.state = device.settings.state
        self.spool = Spool(self.state)
        self.news = Event()
        self.bundles = OpenBundles(device.settings, news=self.news.set)
        self.work = Work(device.settings, journal, self.spool, self.bundles)
        self._count = 0

    def arrive(self, slices: int = SLICES, key: SeriesKey | None = None) -> SeriesKey:
        """A whole series of a new study; or more of one."""
        if key is None:
            self._count += 1
        hu = np.full((SLICES, 16, 16), self._count - 1000, np.int16)
        images = list(instances.series(Phantom(hu, (5.0, 4.0, 4.0), (0.0, 0.0, 0.0), ())))
        found = SeriesKey(str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID))
        folder = self.spool.folder(found)
        folder.mkdir(parents=True, exist_ok=True)
        for image in images[:slices]:
            data = io.BytesIO()
            image.save_as(data, enforce_file_format=True)
            (folder / f"{image.SOPInstanceUID}.dcm").write_bytes(data.getvalue())
        return found

    def begin(self, key: SeriesKey) -> None:
        self.work.look(key, ended=True)
        assert key in self.work.following

    def finish(self, *keys: SeriesKey) -> None:
        """Judge until nothing of these is followed any more, as the loop of the stage does."""
        end = time.monotonic() + WAIT_S
        while set(keys) & self.work.following.keys():
            assert time.monotonic() < end
            time.sleep(self.work.wait_s())
            self.heard()
            self.work.take_turn()

    def heard(self) -> None:
        if self.news.is_set():
            self.news.clear()
            self.work.refresh()

    def said_by(self, key: SeriesKey) -> list[str]:
        """Versions of the bundle of each final report."""
        found = self.journal.reports.of_study(key.study)
        bundles = [r.bundle for r in found if r.stage is Stage.FINAL]
        return [one.version for one in bundles if one is not None and one.name == BUNDLE]

    def activate(self, version: str) -> str:
        digest = self.device.activate(name=BUNDLE, version=version).digest
        self.work.refresh()  # the shelf has changed: ShelfWatch
        return digest


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
