"""What an update repository says of a release and of a recall: the records that a device reads.

    CHANNEL/N.json   one release, a target of TUF (The Update Framework 1.0, 4.5); Release
    recall.json      what must not run any more, a target of the top-level role; Recall
    blobs/DD/D.zst   one file by the SHA-256 D of its plain bytes: wheels, the files of bundles,
    Lock,
                     Contents, the parts list (SBOM) and what is known of its weak points (VEX)

Rules.
1. A release says which channel and number it is for. A device compares both with the path it asked
   for, so a release of another channel or number under this path is refused.
2. Everything else hangs on it by digest and length: release -> Lock, Contents -> wheels, files. A
   blob has the length of its plain bytes and that of the zstd frame, so that nobody can make a
   device fetch or unpack more than was signed (appliance.release.blobs).
3. N only grows. A name and version never returns with other bytes (`told_twice`).
4. Names of files are of closed patterns without a folder (of a bundle's files: with one), and none
   comes twice: no path leads out of the place where a file is put.
5. A release is at most MAX_BYTES long, so that a device may ask for one at any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError, model_validator

from appliance.bundle.manifest import MANIFEST, FileName, Name, Version
from appliance.errors import ReleaseRefused
from appliance.report import Digest, Record

MAX_BYTES = 4_000
"""Of a release."""
MAX_RECALL_BYTES = 200_000
MAX_LIST_BYTES = 1_000_000
"""Of a Lock or a Contents, plain."""
MAX_LENGTH = 1_000_000_000
"""Of the plain bytes of any blob."""
RECALL = "recall.json"
CHANNEL = r"(?:stable|canary|site-[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?)"
Channel = Annotated[str, Field(pattern=rf"^{CHANNEL}$")]
WheelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+!-]{0,190}\.whl$")]
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+!-]{0,190}\.tar\.gz$")]
Release_ = Annotated[str, Field(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){0,3}$")]
"""A release of Python, JetPack or TensorRT: one to four numbers."""
DeviceKind = Literal["x86-64", "orin", "thor"]
_PATH = re.compile(rf"({CHANNEL})/([1-9][0-9]{{0,8}})\.json")
R = TypeVar("R", bound=Record)


class _Named(Record):
    """A record with a schema of its own."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})


class Blob(Record):
    """A file of the repository by its plain bytes."""

    digest: Digest = Field(description="SHA-256 of the plain bytes")
    length: int = Field(ge=0, le=MAX_LENGTH, description="of the plain bytes")
    packed: int = Field(ge=1, le=MAX_LENGTH, description="of the zstd frame, in bytes")

    @property
    def path(self) -> str:
        """Where it lies in the repository."""
        return f"blobs/{self.digest[:2]}/{self.digest}.zst"


class Entry(Blob):
    """One file in a bundle."""

    name: FileName


class Contents(_Named):
    """What a bundle is made of; `archive.write` makes of it the very bytes of the bundle again."""

    schema_: Literal["scanside.contents/1"] = Field("scanside.contents/1", alias="schema")
    digest: Digest = Field(description="SHA-256 of the whole .scanside file")
    length: int = Field(ge=0, le=MAX_LENGTH)
    files: tuple[Entry, ...]

    @model_validator(mode="after")
    def _once(self) -> Contents:
        names = [one.name for one in self.files]
        if names != sorted(set(names)):
            raise ValueError("the files are not in order, or one of them comes twice")
        if MANIFEST not in names:
            raise ValueError(f"{MANIFEST} is missing")
        return self


class Wheel(Blob):
    """A wheel, or the appliance's own."""

    name: WheelName


class Source(Blob):
    """What a device builds itself, without network: pycuda on a Jetson."""

    name: SourceName


class Lock(_Named):
    """All that is installed beside the appliance on one kind of device, for every Python there."""

    schema_: Literal["scanside.lock/1"] = Field("scanside.lock/1", alias="schema")
    requirements: Blob = Field(description="what pip reads with --require-hashes")
    wheels: tuple[Wheel, ...]
    sources: tuple[Source, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> Lock:
        for names in ([w.name for w in self.wheels], [s.name for s in self.sources]):
            if names != sorted(set(names)):
                raise ValueError("the files are not in order, or one of them comes twice")
        return self


class Range(Record):
    """From `at_least` on, and below `below` where that is said."""

    at_least: Release_
    below: Release_ | None = None

    def holds(self, release: str) -> bool:
        """Whether this release (digits and dots) lies in it."""
        at = _numbers(release)
        return _numbers(self.at_least) <= at and (self.below is None or at < _numbers(self.below))

    def words(self) -> str:
        """For a person."""
        return f"from {self.at_least}" + (f", below {self.below}" if self.below else "")


class Device(Record):
    """For which devices of a kind the release is, and what is installed there."""

    kind: DeviceKind
    python: Range
    jetpack: Range | None = None
    tensorrt: Range | None = None
    lock: Blob


class Appliance(Record):
    """The appliance's own wheel."""

    version: Version
    wheel: Wheel


class Admitted(Record):
    """A bundle that comes with the release. `digest` is the bundle's: SHA-256 of its manifest."""

    name: Name
    version: Version
    digest: Digest
    contents: Blob


class Release(_Named):
    """One release. `made` is when; `deadline` from when on a security release waits for no
    window."""

    schema_: Literal["scanside.release/1"] = Field("scanside.release/1", alias="schema")
    channel: Channel
    number: int = Field(ge=1, le=999_999_999)
    made: AwareDatetime
    kind: Literal["security", "feature", "model"]
    deadline: AwareDatetime | None = None
    intended_use_changes: bool
    notes: str = Field(min_length=1, max_length=500)
    appliance: Appliance
    devices: tuple[Device, ...] = Field(min_length=1)
    bundles: tuple[Admitted, ...] = ()
    sbom: Blob = Field(description="parts list, CycloneDX JSON (ECMA-424)")
    vex: Blob = Field(description="what is known of its parts' weak points, CycloneDX JSON")

    @model_validator(mode="after")
    def _whole(self) -> Release:
        if len({one.kind for one in self.devices}) != len(self.devices):
            raise ValueError("a kind of device comes twice")
        if len({one.name for one in self.bundles}) != len(self.bundles):
            raise ValueError("a bundle comes twice")
        if self.deadline is not None and self.kind != "security":
            raise ValueError("only a security release has a deadline")
        return self

    @property
    def path(self) -> str:
        """Its target in the repository."""
        return f"{self.channel}/{self.number}.json"

    def things(self) -> Iterator[tuple[str, str, str]]:
        """(what, name and version, digest) of what may never return with other bytes."""
        yield "appliance", self.appliance.version, self.appliance.wheel.digest
        for one in self.bundles:
            yield "bundle", f"{one.name} {one.version}", one.digest


class Recalled(Record):
    """What must not run any more: a bundle by its digest, an appliance by that of its wheel."""

    what: Literal["bundle", "appliance"]
    name: Name | Literal["scanside"]
    version: Version
    digest: Digest
    reason: str = Field(min_length=1, max_length=500)
    at: AwareDatetime


class Recall(_Named):
    """All that was ever recalled. The list and its number only grow."""

    schema_: Literal["scanside.recall/1"] = Field("scanside.recall/1", alias="schema")
    number: int = Field(ge=0)
    made: AwareDatetime
    entries: tuple[Recalled, ...] = ()

    def names(self, digest: str) -> Recalled | None:
        """Why this digest was recalled; None where it was not."""
        return next((one for one in self.entries if one.digest == digest), None)

    def recalled_of(self, release: Release) -> list[Recalled]:
        """What of a release was recalled."""
        return [one for _, _, digest in release.things() if (one := self.names(digest))]


def write(record: Record) -> bytes:
    """Record -> canonical bytes: equal records, the same bytes, without a superfluous one."""
    data = record.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(data, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def read(model: type[R], data: bytes, what: str, most: int = MAX_LIST_BYTES) -> R:
    """Bytes -> record. ReleaseRefused (`release_record`) where they are none, or more than
    `most`."""
    if len(data) > most:
        raise _refused(f"{what} has {len(data)} bytes; at most {most} are allowed")
    try:
        return model.model_validate_json(data)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise _refused(f"{what}: {where[:80]!a}: {first['msg'][:200]}") from e


def read_release(data: bytes, path: str) -> Release:
    """The release of this target (rules 1 and 5). ReleaseRefused (`release_record`,
    `release_elsewhere`)."""
    place(path)
    release = read(Release, data, path, MAX_BYTES)
    if release.path != path:
        raise ReleaseRefused(
            f"{path} holds the release {release.path}",
            code="release_elsewhere",
            remedy="A release belongs to one channel and number: make one for this channel.",
        )
    return release


def place(path: str) -> tuple[str, int]:
    """Target -> channel and number. ReleaseRefused (`release_path`) where it is no release."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise ReleaseRefused(
            f"{path[:80]!a} is no place of a release",
            code="release_path",
            remedy="A release lies at CHANNEL/N.json; channels are stable, canary and site-NAME.",
        )
    return found[1], int(found[2])


def numbers(paths: Iterable[str], channel: str) -> list[int]:
    """The numbers of a channel's releases among the targets of its role, rising."""
    found = (_PATH.fullmatch(path) for path in paths)
    return sorted(int(one[2]) for one in found if one and one[1] == channel)


def told_twice(releases: Iterable[Release]) -> list[str]:
    """Rule 3: what some of these releases say otherwise than others, one line each."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    wrong = []
    for release in releases:
        for what, name, digest in release.things():
            before, where = seen.setdefault((what, name), (digest, release.path))
            if before != digest:
                wrong.append(
                    f"{what} {name} is {digest[:12]} in {release.path} and {before[:12]} in {where}"
                )
    return wrong


def _numbers(release: str) -> tuple[int, ...]:
    at = tuple(int(part) for part in release.split("."))
    return (*at, 0, 0, 0, 0)[:4]


def _refused(text: str) -> ReleaseRefused:
    return ReleaseRefused(text, code="release_record")
