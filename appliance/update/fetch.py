"""One look of `update` at the repository: ask, plan, fetch, and lay all of it down for `apply`.

    downloads/metadata, targets   as the repository has them, of the last looks
    downloads/blobs/D.zst         what a planned release needs
    downloads/trust               what this stage trusts, so that it fetches no nonsense
    downloads/offered             appliance.update.facts.Found

Rules.
1. Nothing here counts: `apply` verifies the files again with a trust of its own. So this stage may
   be broken into, and all it can do then is to offer nothing.
2. A file of metadata is laid down only when the whole refresh succeeded, timestamp last: what lies
   there fits together, and a power cut between leaves the timestamp of before.
3. What python-tuf has kept it does not ask for again. Where a file is missing here all the same,
   what was kept is forgotten and asked for anew.
4. There is room for what is fetched before its first byte comes, beside the reserve of [retain].
5. What was fetched before is verified at each look: a file that the disk has damaged since is
   fetched anew, so that `apply` does not refuse a good release for it a second time.
6. A target is called by its digest (TUF 1.0, 5.7.3: consistent snapshots), so one that lies here
   and has that digest is the one that is meant: a look at which nothing is new fetches none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from appliance.errors import ReleaseRefused, ScansideError
from appliance.release.blobs import unpack
from appliance.release.record import RECALL, Blob, Release
from appliance.settings import Settings
from appliance.store.files import DISK, Disk
from appliance.update.downloads import Downloads
from appliance.update.facts import Found, Told
from appliance.update.plan import Do, offer, plan
from appliance.update.source import Laid, Missing, Pace, Source, Web
from appliance.update.trust import KEPT, Offered, Trust

BLOBS = "blobs"
TIMESTAMP = "metadata/timestamp.json"
MOST_TARGETS = 40
"""Of files that releases and recalls once were, the newest."""
_TARGET = re.compile(r"targets/([a-z0-9-]+/)*[0-9a-f]{64}\.[a-z0-9.-]+")
_VERSIONED = re.compile(r"([0-9]+)\.([a-z0-9-]+)\.json")


@dataclass
class Keeping:
    """A source that keeps what was read of metadata and targets, whole, by its path. A target that
    lies in `laid` already is not asked for again (rule 5)."""

    source: Source
    laid: Path
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def over_network(self) -> bool:
        return self.source.over_network

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """As Source says."""
        if start == 0 and (there := self._there(path)) is not None:
            yield there
            return
        data = b""
        for piece in self.source.read(path, start):
            if not path.startswith(BLOBS):
                data += piece
            yield piece
        if not path.startswith(BLOBS):
            self.files[path] = data

    def _there(self, path: str) -> bytes | None:
        """Rule 5."""
        if _TARGET.match(path) is None:
            return None
        try:
            data = (self.laid / path).read_bytes()
        except OSError:
            return None
        named = Path(path).name.partition(".")[0]
        return data if hashlib.sha256(data).hexdigest() == named else None


@dataclass(frozen=True, slots=True)
class Fetching:
    """One look after the other, into the folder of downloads. `first_root` comes from the
    installer."""

    settings: Settings
    first_root: bytes
    disk: Disk = DISK
    pace: Pace | None = None

    @property
    def folder(self) -> Path:
        """Of downloads."""
        return self.settings.update.downloads

    def source(self, url: str) -> Web:
        """The server, at the pace of the settings."""
        ours = self.settings.update
        pace = self.pace or Pace(most=ours.most_kb_s * 1e3)
        return Web(url, ca=ours.ca, proxy=ours.proxy, pace=pace)

    def look(self, told: Told, clock: datetime, source: Source) -> Found:
        """Ask once, and fetch what is planned. What went wrong is in what it returns; nothing is
        raised but by a disk that takes no word at all (StateUnusable)."""
        said = Found(asked=told.asked, at=clock)
        try:
            offered = self._refreshed(told, clock, source)
            runs = told.facts.appliance
            offers = [offer(one, runs, told.slot_mb) for one in offered.releases]
            found = plan(offers, told.facts, self.settings.update)
            if found.release is None or all(step.do is not Do.FETCH for step in found.steps):
                why = found.why[0] if found.why else None
                return said.model_copy(
                    update={"code": why.code.value if why else "", "text": why.text if why else ""}
                )
            self._fetch(found.release, told, source)
            return said.model_copy(update={"release": found.release.path})
        except ScansideError as e:
            return said.model_copy(update={"code": e.code, "text": f"{e.text} {e.remedy}"})

    def _refreshed(self, told: Told, clock: datetime, source: Source) -> Offered:
        trust = Trust(self.folder / "trust", self.first_root, told.built, self.disk)
        above = max(0, told.facts.highest - 1)  # the newest that was taken may be tried again
        keeping = Keeping(source, self.folder)
        offered = trust.refresh(keeping, told.facts.channel, clock, above=above)
        self._lay(keeping.files)
        if not self._whole(told, clock, above):
            self.disk.remove(trust.folder / KEPT)  # rule 3
            offered = trust.refresh(keeping, told.facts.channel, clock, above=above)
            self._lay(keeping.files)
        return offered

    def _whole(self, told: Told, clock: datetime, above: int) -> bool:
        """Whether a box that knows nothing could read what lies here."""
        proving = Trust(self.folder / "proof", self.first_root, told.built, self.disk)
        for path in sorted(proving.folder.glob("*.json")):
            self.disk.remove(path)
        try:
            proving.refresh(Laid(self.folder), told.facts.channel, clock, above=above)
        except Missing:
            return False
        return True

    def _lay(self, files: dict[str, bytes]) -> None:
        """Rule 2."""
        for path in sorted(files, key=lambda one: one == TIMESTAMP):
            where = self.folder / path
            self.disk.make_folder(where.parent)
            if not where.exists() or where.read_bytes() != files[path]:
                self.disk.write(where, files[path])
        self._forget_old()

    def _forget_old(self) -> None:
        """Of each role but the root the newest version stays, and of the targets the newest."""
        newest: dict[str, int] = {}
        found = {}
        for path in (self.folder / "metadata").glob("*.json"):
            if (named := _VERSIONED.fullmatch(path.name)) and named[2] != "root":
                found[path] = (named[2], int(named[1]))
                newest[named[2]] = max(newest.get(named[2], 0), int(named[1]))
        for path, (role, version) in found.items():
            if version < newest[role]:
                self.disk.remove(path)
        targets = [p for p in (self.folder / "targets").rglob("*.json") if not _is_recall(p)]
        for path in sorted(targets, key=lambda p: p.stat().st_mtime, reverse=True)[MOST_TARGETS:]:
            self.disk.remove(path)

    def _fetch(self, release: Release, told: Told, source: Source) -> None:
        """Rule 4. What no planned release needs goes."""
        blobs = self.folder / BLOBS
        reserve_mb, most_mb = self.settings.retain.reserve_mb, self.settings.update.limit_mb
        downloads = Downloads(blobs, source, reserve_mb, self.disk, most_mb)
        have = frozenset(told.have)
        self._drop_damaged([one.lock for one in release.devices])
        self._drop_damaged([one.contents for one in release.bundles])
        needed = downloads.whole(release, told.facts.kind, have)
        if self._drop_damaged(needed):
            downloads.whole(release, told.facts.kind, have)
        names = {f"{one.digest}.zst" for one in needed}
        for path in blobs.iterdir():
            if path.name not in names:
                self.disk.remove(path)

    def _drop_damaged(self, blobs: Iterable[Blob]) -> bool:
        """Rule 5: whether there was such a file."""
        dropped = False
        for blob in blobs:
            path = self.folder / BLOBS / f"{blob.digest}.zst"
            if not path.exists():
                continue
            try:
                unpack(blob, path.read_bytes())
            except ReleaseRefused:
                self.disk.remove(path)
                dropped = True
        return dropped


def _is_recall(path: Path) -> bool:
    return path.name.endswith(RECALL)
