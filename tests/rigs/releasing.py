"""A repository of releases in memory, with its people and their keys, and a device that reads it.

What decides is the product's (compile.release); only the disk is a dict here. The device is a plain
client of python-tuf that asks this dict instead of a server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater

from appliance.release.record import Appliance, Device, Range, Recalled, Release, numbers, write
from compile.release import adoption, contents, drafts, roles
from compile.release.adoption import Adoption, Numbers
from compile.release.contents import Store
from compile.release.drafts import Draft, Here
from compile.release.published import EXPIRED, Published, read, target_path
from rigs.wheels import requirements, wheel

PLACES = {
    roles.ROOT: ("anna", "bert", "carl"),
    roles.TARGETS: ("dora", "emil", "fritz"),
    "stable": ("gina", "hans", "ines"),
    "canary": ("jan",),
    roles.ROLLOUT: ("first",),
    roles.SNAPSHOT: ("which",),
    roles.TIMESTAMP: ("when",),
    "site-north": ("kim",),
}
SBOM = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6"}).encode()
VEX = json.dumps({"bomFormat": "CycloneDX", "vulnerabilities": []}).encode()
NOW = datetime.now(timezone.utc).replace(microsecond=0)


def key(name: str) -> CryptoSigner:
    """A key that people call so; another one at each call."""
    private = Ed25519PrivateKey.generate()
    return CryptoSigner(private, roles.public_key(name, private.public_key()))


@dataclass
class Simulated:
    """REPO: `files` is what is served, `drafts` what waits."""

    now: datetime = NOW
    files: dict[str, bytes] = field(default_factory=dict)
    drafts: dict[str, Draft] = field(default_factory=dict)
    numbers: Numbers = field(default_factory=Numbers)
    people: dict[str, CryptoSigner] = field(default_factory=dict)
    clock_is_right: bool = False

    @classmethod
    def begun(cls) -> Simulated:
        """With a key for each place, signed and published for the first time."""
        made = cls(people={name: key(name) for names in PLACES.values() for name in names})
        held = {role: [made.people[n].public_key for n in names] for role, names in PLACES.items()}
        made.drafts = drafts.first(held, made.now)
        for role in list(made.drafts):
            made.sign(role)
        made.publish()
        return made

    @property
    def here(self) -> Here:
        published, faults = read(self.files.get, self.now) if self.files else (None, ())
        wrong = [fault.one_line() for fault in faults if fault.code != EXPIRED]
        assert not wrong, wrong
        return Here(published, self.drafts, self.files.get)

    @property
    def published(self) -> Published:
        found = self.here.published
        assert found is not None
        return found

    def faults(self, now: datetime | None = None) -> list[str]:
        """Codes of all that a device finds wrong, without the blobs."""
        return [fault.code for fault in read(self.files.get, now or self.now)[1]]

    def release(
        self,
        channel: str = "stable",
        version: str = "0.2.0",
        *,
        bundles: tuple[bytes, ...] = (),
        text: str = "",
    ) -> Release:
        """The next release of a channel, its blobs in place. `text` gives its wheel other bytes."""
        store = Store(self.files.get)
        libraries = dict([wheel("liba"), wheel("libb", "2.1")])
        python = Range(at_least="3.10", below="3.12")
        lock = contents.lock(store, "x86-64", python, requirements(libraries), libraries, {})
        made = Release(
            channel=channel,
            number=drafts.next_number(self.here, channel),
            made=self.now,
            kind="feature",
            intended_use_changes=False,
            notes="smaller networks",
            appliance=Appliance(
                version=version,
                wheel=contents.wheel(store, *wheel("scanside", version, text=text)),
            ),
            devices=(Device(kind="x86-64", python=python, lock=lock),),
            bundles=tuple(contents.bundle(store, one) for one in bundles),
            sbom=contents.cyclonedx(store, SBOM, "parts list"),
            vex=contents.cyclonedx(store, VEX, "list of weak points"),
        )
        self.files |= store.new
        return made

    def add(self, release: Release) -> Release:
        """Draft it."""
        draft, path, data = drafts.with_release(self.here, release, self.now)
        self.files[path] = data
        self.drafts[draft.role] = draft
        return release

    def recall(self, *entries: Recalled) -> None:
        draft, path, data = drafts.with_recall(self.here, entries, self.now)
        self.files[path] = data
        self.drafts[draft.role] = draft

    def rotate(self, role: str, out: tuple[str, ...] = (), new: tuple[str, ...] = ()) -> None:
        """`new` are people who come, each with a new key; who goes keeps the old one."""
        gone = [self.people[name].public_key.keyid for name in out]
        come = [key(name) for name in new]
        made = drafts.rotated(self.here, role, gone, [one.public_key for one in come], self.now)
        self.people |= dict(zip(new, come, strict=True))
        self.drafts |= made

    def sign(self, role: str, *names: str) -> None:
        """These people, else two of those who may (one where one is enough)."""
        by_id = {signer.public_key.keyid: name for name, signer in self.people.items()}
        may = [by_id[one.keyid] for one in self.here.keys(role) if one.keyid in by_id]
        for name in names or may[: roles.kind(role).threshold]:
            found = drafts.signed(self.here, role, self.people[name])
            before = [
                drafts.OneSignature(keyid=k, sig=s.signature, of=self.drafts[role].digest)
                for k, s in self.drafts[role].signatures.items()
            ]
            self.drafts[role] = drafts.received(self.drafts[role], [*before, found])

    def adoption(self, *names: str) -> Adoption:
        """What would be published, with these keys; without names with all of them."""
        signers = [self.people[name] for name in names or self.people]
        return adoption.publish(
            self.here, signers, self.numbers, self.now, clock_is_right=self.clock_is_right
        )

    def publish(self, *names: str) -> Adoption:
        found = self.adoption(*names)
        self.numbers = found.numbers
        self.files |= dict(found.files)
        for role in found.adopted:
            del self.drafts[role]
        return found

    def ship(self, channel: str = "stable", version: str = "0.2.0") -> Release:
        """A release, signed and published."""
        made = self.add(self.release(channel, version))
        self.sign(channel)
        self.publish()
        return made

    def stick(self, days: int = 30) -> dict[str, bytes]:
        """All files of a stick; the repository has its numbers alone."""
        new, self.numbers = adoption.stick(
            self.published,
            list(self.people.values()),
            self.numbers,
            days,
            self.now,
            clock_is_right=self.clock_is_right,
        )
        return {**self.files, **dict(new)}

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)


def forged(
    repo: Simulated, role: str, change: Callable[[Targets], None], *names: str
) -> dict[str, bytes]:
    """What a thief of the online keys serves: a role that was changed, signed by these people, with
    rollout, snapshot and timestamp in order."""
    found: Metadata[Any] = Metadata.from_bytes(repo.published.roles[role].to_bytes())
    found.signatures.clear()
    found.signed.version += 1
    change(found.signed)
    for name in names:
        found.sign(repo.people[name], append=True)
    new = adoption._New(
        repo.published.root,
        found if role == roles.TARGETS else repo.published.roles[roles.TARGETS],
        {r: m for r, m in repo.published.roles.items() if r != roles.TARGETS}
        | ({} if role == roles.TARGETS else {role: found}),
    )
    numbers = adoption._next(repo.published, repo.numbers)
    snapshot = adoption._snapshot(new, numbers, roles.kind(roles.SNAPSHOT).ends(repo.now))
    snapshot.sign(repo.people["which"])
    ends = roles.kind(roles.TIMESTAMP).ends(repo.now)
    timestamp = adoption._timestamp(snapshot, numbers, repo.now, ends)
    timestamp.sign(repo.people["when"])
    return repo.files | {
        adoption._name(role, found): found.to_bytes(),
        adoption._name(roles.SNAPSHOT, snapshot): snapshot.to_bytes(),
        "metadata/timestamp.json": timestamp.to_bytes(),
    }


def with_release(files: dict[str, bytes], release: Release) -> Callable[[Targets], None]:
    """Puts a release into a role, and its file where it belongs."""
    data = write(release)
    line = TargetFile.from_data(release.path, data, ["sha256"])
    files[target_path(release.path, line.hashes["sha256"])] = data

    def change(role: Targets) -> None:
        role.targets[release.path] = line

    return change


class Asked(FetcherInterface):
    """The network of a device: a dict of files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        data = self._files.get(url.removeprefix("memory://"))
        if data is None:
            raise DownloadHTTPError(f"{url}: not found", 404)
        yield data


class Box:
    """A plain client of python-tuf with the first root built in."""

    def __init__(self, folder: Path, root: bytes) -> None:
        self._root = root
        self._metadata, self._targets = folder / "metadata", folder / "targets"
        self._metadata.mkdir(parents=True)
        self._targets.mkdir()

    def newest(self, files: Mapping[str, bytes], channel: str = "stable") -> bytes | None:
        """Asks, and gives the channel's newest release. Raises what python-tuf raises."""
        updater = Updater(
            str(self._metadata),
            "memory://metadata/",
            str(self._targets),
            "memory://targets/",
            Asked(files),
            bootstrap=self._root,
        )
        updater.refresh()
        updater.get_targetinfo(f"{channel}/0.json")  # it cannot list: so the role is fetched
        role: Metadata[Targets] = Metadata.from_file(str(self._metadata / f"{channel}.json"))
        found = numbers(role.signed.targets, channel)
        if not found:
            return None
        line = updater.get_targetinfo(f"{channel}/{found[-1]}.json")
        assert line is not None
        return Path(updater.download_target(line)).read_bytes()

    def has(self, files: Mapping[str, bytes], path: str) -> bytes | None:
        """Any target."""
        updater = Updater(
            str(self._metadata),
            "memory://metadata/",
            str(self._targets),
            "memory://targets/",
            Asked(files),
            bootstrap=self._root,
        )
        line = updater.get_targetinfo(path)
        return None if line is None else Path(updater.download_target(line)).read_bytes()
