"""A device that analyses what is put into its spool, step by step, as the loop of `work` does."""

from __future__ import annotations

import io
import time
from threading import Event

import numpy as np

from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.report import SeriesKey, Stage
from appliance.runtime.bundles import OpenBundles
from appliance.store.heartbeat import Heart
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.work.stage import Work
from rigs.bundles import BUNDLE
from rigs.device import Device

WAIT_S = 120.0
SLICES = 24


class Ward:
    """A device that analyses what is put into its spool."""

    def __init__(self, device: Device, journal: Journal, heart: Heart | None = None) -> None:
        self.device, self.journal = device, journal
        self.state = device.settings.state
        self.spool = Spool(self.state)
        self.news = Event()
        self.bundles = OpenBundles(device.settings, news=self.news.set)
        self.work = Work(device.settings, journal, self.spool, self.bundles, heart)
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
