"""What a release needs beside its record, fetched file by file into a folder of our own.

Rules.
1. Lists come first (what is installed here, what each bundle is made of); then it is known what all
   takes, and there has to be room for it before the first byte of the rest.
2. A file is D.zst in the folder once its bytes were verified, and D.part before. What was broken
   off goes on from there; if the whole is wrong then, it is fetched once more from its beginning.
3. No more bytes are taken than were signed. What is there, here or elsewhere on this box (`have`),
   is not fetched.
4. Nothing here is believed later: who uses these files copies and verifies them himself. `bundle`
   makes a bundle of them and believes neither list nor file: manifest, digests and the whole have
   to fit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from appliance.bundle import trust
from appliance.errors import BundleRefused, PeerAway, ReleaseRefused, StateUnusable
from appliance.release.blobs import read_contents, read_lock, rebuild, unpack
from appliance.release.record import Admitted, Blob, DeviceKind, Release
from appliance.store.files import DISK, Disk
from appliance.update.source import Source

MARGIN = 0.9
"""Of the limit: metadata lie there too, and a file takes whole blocks of the disk."""
_NOTHING: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Downloads:
    """The folder of what was fetched. `reserve_mb`: what has to stay free; `most_mb`: what may lie
    there; both in 10^6 bytes."""

    folder: Path
    source: Source
    reserve_mb: float = 0
    disk: Disk = DISK
    most_mb: float = math.inf

    def whole(
        self, release: Release, kind: DeviceKind, have: Collection[str] = ()
    ) -> tuple[Blob, ...]:
        """All that a device of this kind needs of a release, but the digests in `have`. Gives what
        was needed. ReleaseRefused, PeerAway, StateUnusable (`update_disk`)."""
        device = next((one for one in release.devices if one.kind == kind), None)
        if device is None:
            raise ReleaseRefused(
                f"{release.path} is not for {kind}",
                code="release_elsewhere",
                remedy="Ask the fleet team for a release for this kind of device.",
            )
        lists = [device.lock, *(one.contents for one in release.bundles)]
        self._require_room(lists)
        lock = read_lock(device.lock, self.one(device.lock).read_bytes())
        rest: list[Blob] = [release.appliance.wheel, lock.requirements, *lock.wheels, *lock.sources]
        for one in release.bundles:
            rest += read_contents(one.contents, self.one(one.contents).read_bytes()).files
        needed = {blob.digest: blob for blob in rest if blob.digest not in have}
        self._require_limit(release, (*lists, *needed.values()))
        self._require_room(needed.values())
        for blob in needed.values():
            self.one(blob)
        return (*lists, *needed.values())

    def one(self, blob: Blob) -> Path:
        """One file, verified (rule 2)."""
        path = self.folder / f"{blob.digest}.zst"
        if path.exists():
            return path
        part = self.folder / f"{blob.digest}.part"
        resumed = self._begin(blob, part)
        try:
            return self._finish(blob, part, path)
        except ReleaseRefused:
            if not resumed:
                raise
        self._begin(blob, part)
        return self._finish(blob, part, path)

    def _begin(self, blob: Blob, part: Path) -> bool:
        """Whether there is something to go on from."""
        if part.exists() and 0 < part.stat().st_size <= blob.packed:
            return True
        self.disk.make_folder(self.folder)
        self.disk.write(part, b"")
        return False

    def _finish(self, blob: Blob, part: Path, path: Path) -> Path:
        size = part.stat().st_size
        if size < blob.packed:
            for piece in self.source.read(blob.path, size):
                size += len(piece)
                if size > blob.packed:
                    self.disk.remove(part)
                    raise ReleaseRefused(
                        f"{blob.path} is longer than the {blob.packed} bytes that were signed",
                        code="blob_length",
                    )
                self.disk.append(part, piece, lasting=False)
        if size < blob.packed:
            raise PeerAway(
                f"{blob.path} broke off after {size} of {blob.packed} bytes",
                code="blob_cut",
                remedy="It goes on from there; if it breaks off again, look at server or stick.",
            )
        try:
            unpack(blob, part.read_bytes())
        except ReleaseRefused:
            self.disk.remove(part)
            raise
        self.disk.adopt(part, path)
        return path

    def _require_limit(self, release: Release, blobs: Iterable[Blob]) -> None:
        """StateUnusable (`update_limit`) where it would be swept away once it is here."""
        needs_mb = sum(one.packed for one in blobs) / 1e6
        if needs_mb > MARGIN * self.most_mb:
            most_mb = MARGIN * self.most_mb
            raise StateUnusable(
                f"{release.path} takes {needs_mb:.0f} MB, and {most_mb:.0f} MB may lie here",
                code="update_limit",
                remedy="Write a larger limit_mb into [update]; then: scanside update check",
            )

    def _require_room(self, blobs: Iterable[Blob]) -> None:
        """Rule 1, for what is not there yet. StateUnusable (`update_disk`)."""
        missing = [one for one in blobs if not (self.folder / f"{one.digest}.zst").exists()]
        needs_mb = sum(one.packed for one in missing) / 1e6
        self.disk.make_folder(self.folder)
        free_mb = self.disk.free_mb(self.folder) - self.reserve_mb
        if missing and needs_mb > free_mb:
            raise StateUnusable(
                f"{needs_mb:.0f} MB are to be fetched, and {max(0.0, free_mb):.0f} MB may be used",
                code="update_disk",
                remedy="Free some space, or lower [retain] days; then: scanside update check",
            )


def bundle(admitted: Admitted, folder: Path, here: Mapping[str, bytes] = _NOTHING) -> bytes:
    """The .scanside file of a bundle, of the files that were fetched into `folder` (rule 4), or
    that this box has already: `here`, plain bytes by digest.
    ReleaseRefused (`release_digest`, or what the check of the bundle says)."""

    def plain(blob: Blob) -> bytes:
        path = folder / f"{blob.digest}.zst"
        if blob.digest in here and not path.exists():
            return here[blob.digest]  # the digest of the whole tells whether it is
        return unpack(blob, path.read_bytes())

    frame = (folder / f"{admitted.contents.digest}.zst").read_bytes()
    contents = read_contents(admitted.contents, frame)
    data = rebuild(contents, {one.name: plain(one) for one in contents.files})
    try:
        ref = trust.check(data).ref
    except BundleRefused as e:
        raise ReleaseRefused(e.text, code=e.code, remedy=e.remedy) from e
    if (ref.name, ref.version, ref.digest) != (admitted.name, admitted.version, admitted.digest):
        raise ReleaseRefused(
            f"the bundle {admitted.name} {admitted.version} is {ref.name} {ref.version}",
            code="release_digest",
        )
    return data
