"""A whole box that is updated: a repository behind http, `scanside run` with slots, and scanners.

The slots that an update makes are made by pip of tiny wheels; their libraries and their code are
those of this checkout, under another version. The first slot is this interpreter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pydicom.uid import generate_uid

from appliance.apply.requests import Status, read_status
from appliance.demo import scanner
from appliance.errors import PeerAway
from appliance.phantom import chest
from appliance.phantom.instances import series
from appliance.release.record import Appliance, Device, Range, Release
from appliance.report import Report, SeriesKey
from appliance.store.journal import Journal
from appliance.update.plan import Named
from appliance.update.slots import Complete
from appliance.update.stage import FIRST_ROOT
from compile.release import contents, drafts
from rigs.releasing import SBOM, VEX, Simulated
from rigs.run_in_slots import REPOSITORY, Slotted
from rigs.serving import Server, lay, served
from rigs.wheels import pip_wheel, requirements, wheel

OURS = f"{REPOSITORY}\n{sysconfig.get_path('purelib')}\n"
MOST_WAITING = 2
SPACING_MM = (5.0, 3.0, 3.0)
"""(z, y, x) of the studies: small ones, so that many come during an update, and fill no disk."""


def released(
    repo: Simulated, version: str, *, bundles: tuple[bytes, ...] = (), pth: str = OURS
) -> Release:
    """A release whose appliance is this checkout, under another version. `pth`: the lines of its
    .pth file, which a Python runs at its start."""
    store = contents.Store(repo.files.get)
    pip = pip_wheel()
    libraries = dict([wheel("liba"), (pip.name, pip.read_bytes())])
    python = Range(at_least="3.10", below="3.15")
    lock = contents.lock(store, "x86-64", python, requirements(libraries), libraries, {})
    own = wheel("scanside", version, more={"ours.pth": pth})
    made = Release(
        channel="stable",
        number=drafts.next_number(repo.here, "stable"),
        made=repo.now,
        kind="feature",
        intended_use_changes=False,
        notes="a version of the tests",
        appliance=Appliance(version=version, wheel=contents.wheel(store, *own)),
        devices=(Device(kind="x86-64", python=python, lock=lock),),
        bundles=tuple(contents.bundle(store, one) for one in bundles),
        sbom=contents.cyclonedx(store, SBOM, "parts list"),
        vex=contents.cyclonedx(store, VEX, "list of weak points"),
    )
    repo.files |= store.new
    repo.add(made)
    repo.sign("stable")
    repo.publish()
    return made


@dataclass
class Updated:
    """A box and the server that it asks."""

    box: Slotted
    repo: Simulated
    server: Server

    def serve(self) -> None:
        """What the repository holds now."""
        lay(self.server.folder, self.repo.files)

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`scanside update WORDS`, as a person types it."""
        return self.scanside("update", *words)

    def scanside(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A verb with the settings of this box."""
        config = str(self.box.folder / "scanside.toml")
        return subprocess.run(
            [sys.executable, "-m", "appliance", *words, "--config", config],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env=os.environ,
            timeout=580,
            check=False,
        )

    def status(self) -> Status:
        """How updates stand, by what `apply` wrote last."""
        return read_status(self.box.places.trusted)

    def reports(self, sent: list[SeriesKey]) -> dict[SeriesKey, Report | None]:
        """The latest report of each series."""
        journal = Journal.read(self.box.places.state)
        assert journal is not None
        with journal:
            return {key: journal.reports.latest(key) for key in sent}


@contextmanager
def updated(repo: Simulated, folder: Path, at: Path, more: str = "") -> Iterator[Updated]:
    """Slot 1 runs, of an appliance 0.0.1; all stages serve. The box lies in `at`, whose path is
    short: sockets lie in it. `more`: further lines of its section [update], and sections."""
    with served(lay(folder / "web", repo.files)) as server:
        box = Slotted(
            at, more=f'downloads = "{at}/downloads"\nurl = "{server.url}"\nauto = []\n{more}'
        )
        places = box.places
        runs = Complete(
            slot=1,
            release="stable/0.json",
            appliance=Named(name="scanside", version="0.0.1", digest="a" * 64),
            python="3.11",
            wheels="b" * 64,
            made=repo.now - timedelta(days=1),
        )
        (places.slot(1) / "complete").write_text(runs.model_dump_json(by_alias=True))
        (places.root / "previous").unlink()
        (places.slot(2) / "bin" / "python").unlink()
        (places.slot(2) / "bin").rmdir()
        places.slot(2).rmdir()
        (places.trusted / FIRST_ROOT).write_bytes(repo.files["metadata/1.root.json"])
        box.start()
        try:
            box.wait_ready()
            yield Updated(box, repo, server)
        finally:
            box.end()
            shutil.rmtree(box.places.state / "spool", ignore_errors=True)  # hundreds of studies


@dataclass
class Scanner:
    """One small study after another, without a pause, each with UIDs of its own. Where the box
    has not analysed MOST_WAITING of them yet it waits: else times would tell of the queue alone."""

    site: Updated
    calling: str
    sent: list[SeriesKey] = field(default_factory=list)
    """Series of which every image was acknowledged."""
    refused: list[str] = field(default_factory=list)
    """Why an association or an image was not taken."""

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        phantom = chest.chest(spacing_mm=SPACING_MM)
        to = scanner.Address("SCANSIDE", "127.0.0.1", self.site.box.port)
        while not self._ended.is_set():
            if self._waiting() >= MOST_WAITING:
                self._ended.wait(0.1)
                continue
            key = SeriesKey(generate_uid(), generate_uid())
            images = list(series(phantom, study_uid=key.study, series_uid=key.series))
            try:
                done = scanner.send(images, to, calling=self.calling)
            except PeerAway as e:
                self.refused.append(e.one_line())
                self._ended.wait(1.0)
                continue
            if done.failed:
                self.refused.append(f"{len(done.failed)} images: {done.failed[0][1]:04X}")
            else:
                self.sent.append(key)

    def _waiting(self) -> int:
        latest = self.sent[-MOST_WAITING:]
        return sum(one is None for one in self.site.reports(latest).values())

    def stop(self) -> None:
        """After the study in hand."""
        self._ended.set()
        self._thread.join()
