"""From what others laid down to files that a slot and a shelf are made of.

Rules.
1. Blobs are copied into trusted/copy: regular files, never through a link, never more bytes than
   were signed (appliance.update.source.Folder, downloads.Downloads). The copy is verified, and only
   the copy is used. So a file that is exchanged after the check is never met again.
2. Each use unpacks the copy once more, and what does not have the signed digest then is refused.
3. What lies on this box already, as a kept wheel or in a bundle on the shelf, is not copied.
4. Before anything is made there is room for it: a slot takes SLOT times its wheels.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from appliance.apply.box import Box
from appliance.errors import ReleaseRefused, StateUnusable
from appliance.release.blobs import read_lock, unpack
from appliance.release.record import Admitted, Blob, Device, Lock, Release, Wheel
from appliance.release.record import Source as SourceFile
from appliance.update import built
from appliance.update.downloads import Downloads, bundle
from appliance.update.source import Source

SLOT = 4.0
"""The whole set: 179 MB of wheels, 615 MB as a slot, and the copies beside them."""


@dataclass
class Supply:
    """The copies of one box."""

    box: Box
    _wheels: dict[tuple[str, int, int], str] = field(default_factory=dict)
    """Name, size and time of a kept wheel -> its digest."""

    @property
    def folder(self) -> Path:
        """Of the copies."""
        return self.box.places.trusted / "copy"

    def have(self) -> dict[str, Path]:
        """The kept wheels by digest."""
        found = {}
        if self.box.places.wheels.is_dir():
            for path in sorted(self.box.places.wheels.glob("*-*.*")):  # wheels and sources
                facts = path.stat()
                known = (path.name, facts.st_size, facts.st_mtime_ns)
                if known not in self._wheels:
                    self._wheels[known] = hashlib.sha256(path.read_bytes()).hexdigest()
                found[self._wheels[known]] = path
        return found

    def known(self) -> frozenset[str]:
        """Digests of what lies on this box (rule 3)."""
        return frozenset({*self.have(), *self.box.bundles.files()})

    def copy(self, release: Release, source: Source) -> None:
        """Rule 1. ReleaseRefused, PeerAway, StateUnusable."""
        box = self.box
        reserve = box.settings.retain.reserve_mb
        downloads = Downloads(self.folder, source, reserve, box.disk)
        downloads.whole(release, box.machine.kind, self.known())

    def wheels(self, release: Release) -> tuple[dict[str, Path], bytes, Path]:
        """What `Slots.build` takes: wheels by name, and sources; requirements; the appliance's own
        wheel.
        ReleaseRefused, StateUnusable."""
        lock = self._lock(release)
        own = release.appliance.wheel
        kept = self.have()
        needs_mb = SLOT * sum(one.length for one in (own, *lock.wheels)) / 1e6
        self._require_room(needs_mb, self.box.places.root)
        paths = {}
        files: tuple[Wheel | SourceFile, ...] = (*lock.wheels, *lock.sources, own)
        for wheel in files:
            path = kept.get(wheel.digest)
            if path is None or path.name != wheel.name:
                path = self._put(wheel.name, self._plain(wheel))
            paths[wheel.name] = path
        asked = built.without(self._plain(lock.requirements), [one.name for one in lock.sources])
        return paths, asked, paths.pop(own.name)

    def bundle(self, admitted: Admitted) -> Path:
        """A bundle of the release, made of its files. ReleaseRefused, StateUnusable."""
        here = {name: read() for name, read in self.box.bundles.files().items()}
        try:
            data = bundle(admitted, self.folder, here)
        except FileNotFoundError as e:
            raise _lost(Path(e.filename).name) from e
        return self._put(f"{admitted.name}-{admitted.version}.scanside", data)

    def clear(self) -> None:
        """Nothing of the copies is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def device(self, release: Release) -> Device:
        """What the release says for machines of this kind. ReleaseRefused."""
        for one in release.devices:
            if one.kind == self.box.machine.kind:
                return one
        raise ReleaseRefused(
            f"{release.path} is not for {self.box.machine.kind}", code="release_elsewhere"
        )

    def _lock(self, release: Release) -> Lock:
        blob = self.device(release).lock
        return read_lock(blob, self._frame(blob))

    def _plain(self, blob: Blob) -> bytes:
        """Rule 2."""
        path = self.have().get(blob.digest)
        if path is None:
            return unpack(blob, self._frame(blob))
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != blob.digest:
            raise StateUnusable(f"{path} has changed on the disk")
        return data

    def _frame(self, blob: Blob) -> bytes:
        try:
            return (self.folder / f"{blob.digest}.zst").read_bytes()
        except OSError as e:
            raise _lost(blob.path) from e

    def _put(self, name: str, data: bytes) -> Path:
        made = self.folder / "made"
        self.box.disk.make_folder(made)
        path = made / name
        self.box.disk.write(path, data)
        for one, mode in ((self.folder, 0o755), (made, 0o755), (path, 0o644)):
            one.chmod(mode)  # who proves it is another user
        return path

    def _require_room(self, needs_mb: float, where: Path) -> None:
        """Rule 4. StateUnusable (`update_disk`)."""
        free_mb = self.box.disk.free_mb(where) - self.box.settings.retain.reserve_mb
        if needs_mb > free_mb:
            raise StateUnusable(
                f"a slot takes {needs_mb:.0f} MB, and {max(0.0, free_mb):.0f} MB may be used",
                code="update_disk",
                remedy="Free some space, or lower [retain] days; then: scanside update now",
            )


def _lost(what: str) -> StateUnusable:
    return StateUnusable(
        f"{what} is not among the copies any more",
        code="update_copy",
        remedy="It is copied again by itself; look at the disk if it comes again.",
    )
