"""Bundles, wheels and lists as blobs, and whether a release has them all. Pure: bytes to bytes.

Rules.
1. A blob that is there keeps its frame: another release of zstd would pack it otherwise, and the
   length of a frame is signed. A file that did not change is the same blob, and costs a device
   nothing.
2. A bundle is checked as a device checks it, must be signed, and must come out again of its files
   byte for byte.
3. A lock is whole: for every Python of its device kind there is a wheel of each line of its
   requirements, with the digest that stands in that line; and no file that no line asks for. What
   has no wheel is built on the device from a source that is named.
4. Parts list and weak points are CycloneDX JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from appliance.bundle import archive, trust
from appliance.errors import BundleRefused, ReleaseRefused
from appliance.release import blobs
from appliance.release.record import (
    Admitted,
    Blob,
    Contents,
    DeviceKind,
    Entry,
    Lock,
    Range,
    Release,
    Source,
    Wheel,
    write,
)
from compile import lock as locks
from compile.release.published import Read

MACHINE: Mapping[DeviceKind, str] = {"x86-64": "x86_64", "orin": "aarch64", "thor": "aarch64"}


@dataclass(slots=True)
class Store:
    """The blobs that are there, and those that come (rule 1)."""

    files: Read
    new: dict[str, bytes] = field(default_factory=dict)
    """Path -> frame."""

    def add(self, data: bytes, *, dense: bool = True) -> Blob:
        """A file as a blob."""
        fresh, frame = blobs.pack(data, dense=dense)
        there = self.new.get(fresh.path) or self.files(fresh.path)
        if there is None:
            self.new[fresh.path] = frame
            return fresh
        kept = fresh.model_copy(update={"packed": len(there)})
        blobs.unpack(kept, there)
        return kept


def bundle(store: Store, data: bytes) -> Admitted:
    """A .scanside file as what a release says of it (rule 2). BundleRefused; ReleaseRefused."""
    loaded = trust.check(data)
    if loaded.signature is None:
        raise BundleRefused(
            f"{loaded.manifest.name} {loaded.manifest.version} is not signed",
            code="bundle_unsigned",
            remedy="Sign it first: `python -m compile sign BUNDLE --key KEY`.",
        )
    entries = archive.read(data)
    contents = Contents(
        digest=blobs.digest(data),
        length=len(data),
        files=tuple(
            Entry(name=name, **store.add(entries[name]).model_dump()) for name in sorted(entries)
        ),
    )
    blobs.rebuild(contents, entries)
    return Admitted(
        name=loaded.manifest.name,
        version=loaded.manifest.version,
        digest=loaded.digest,
        contents=store.add(write(contents)),
    )


def wheel(store: Store, name: str, data: bytes) -> Wheel:
    """A wheel as a blob."""
    _wheel_name(name)
    return Wheel(name=name, **store.add(data, dense=False).model_dump())


def lock(
    store: Store,
    kind: DeviceKind,
    python: Range,
    requirements: bytes,
    wheels: Mapping[str, bytes],
    sources: Mapping[str, bytes],
) -> Blob:
    """All that is installed on a kind of device, as one blob (rule 3). ReleaseRefused
    (`lock_incomplete`)."""
    made = Lock(
        requirements=store.add(requirements),
        wheels=tuple(wheel(store, name, wheels[name]) for name in sorted(wheels)),
        sources=tuple(
            Source(name=name, **store.add(sources[name], dense=False).model_dump())
            for name in sorted(sources)
        ),
    )
    for line in lacking(kind, python, requirements, made):
        raise ReleaseRefused(
            f"{kind}: {line}",
            code="lock_incomplete",
            remedy="Fetch them anew: `python -m compile.lock --fetch FOLDER --machine MACHINE`.",
        )
    return store.add(write(made))


def lacking(kind: DeviceKind, python: Range, requirements: bytes, made: Lock) -> Iterator[str]:
    """Rule 3: what is missing or too much, one line each."""
    pins = locks.read(requirements.decode())
    pythons = [one for one in locks.PYTHONS if python.holds(one)]
    if not pythons:
        yield f"no Python {python.words()} is known to the locks"
    built = {str(parse_sdist_filename(one.name)[0]) for one in made.sources}
    used = set()
    for number in pythons:
        target = locks.Target(number, MACHINE[kind])
        for pin in pins:
            if not target.takes(pin.marker):
                continue
            found = [
                one.name
                for one in made.wheels
                if one.digest in pin.hashes and _fits(one.name, pin, target)
            ]
            used.update(found)
            if not found and canonicalize_name(pin.name) not in built:
                yield f"no wheel of {pin.name} {pin.version} for Python {number}"
    for one in made.wheels:
        if one.name not in used:
            yield f"{one.name} is in no line of the requirements for this kind"


def cyclonedx(store: Store, data: bytes, what: str) -> Blob:
    """Rule 4. ReleaseRefused (`release_sbom`)."""
    try:
        said = json.loads(data)
        known = said["bomFormat"] == "CycloneDX"
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ReleaseRefused(
            f"the {what} is no CycloneDX JSON",
            code="release_sbom",
            remedy="`python -m compile sbom` writes the parts list.",
        )
    return store.add(data)


def paths(release: Release, files: Read) -> Iterator[str]:
    """Every blob of a release. ReleaseRefused where a list of them is not what was signed."""

    def of(blob: Blob) -> bytes:
        return files(blob.path) or b""

    for one in (release.appliance.wheel, release.sbom, release.vex):
        yield one.path
    for device in release.devices:
        yield device.lock.path
        lock = blobs.read_lock(device.lock, of(device.lock))
        for part in (lock.requirements, *lock.wheels, *lock.sources):
            yield part.path
    for bundle in release.bundles:
        yield bundle.contents.path
        for entry in blobs.read_contents(bundle.contents, of(bundle.contents)).files:
            yield entry.path


def faults(release: Release, files: Read) -> Iterator[ReleaseRefused]:
    """Every blob of a release that is not what was signed."""
    looked: set[str] = set()

    def frame(blob: Blob) -> bytes:
        data = files(blob.path)
        if data is None:
            raise ReleaseRefused(
                f"{blob.path} is missing, for {release.path}",
                code="release_missing",
                remedy="Copy it again from where the release was made.",
            )
        return data

    def plain(blob: Blob) -> bytes:
        return blobs.unpack(blob, frame(blob))

    def device(blob: Blob) -> None:
        found = blobs.read_lock(blob, frame(blob))
        for one in (found.requirements, *found.wheels, *found.sources):
            if one.path not in looked:
                plain(one)
                looked.add(one.path)

    def whole(one: Admitted) -> None:
        contents = blobs.read_contents(one.contents, frame(one.contents))
        data = blobs.rebuild(contents, {entry.name: plain(entry) for entry in contents.files})
        ref = trust.check(data).ref
        if (ref.name, ref.version, ref.digest) != (one.name, one.version, one.digest):
            raise ReleaseRefused(
                f"{release.path}: the bundle {one.name} {one.version} is {ref.name} {ref.version}",
                code="release_digest",
            )

    checks: list[Callable[[], object]] = [
        partial(plain, one) for one in (release.appliance.wheel, release.sbom, release.vex)
    ]
    checks += [partial(device, one.lock) for one in release.devices]
    checks += [partial(whole, one) for one in release.bundles]
    for check in checks:
        try:
            check()
        except ReleaseRefused as e:
            yield e
        except BundleRefused as e:
            yield ReleaseRefused(f"{release.path}: {e.text}", code=e.code, remedy=e.remedy)


def _wheel_name(name: str) -> None:
    try:
        parse_wheel_filename(name)
    except InvalidWheelFilename as e:
        raise ReleaseRefused(
            f"{name[:80]!a} is no wheel",
            code="release_wheel",
            remedy="Only wheels are installed on a device: build one where the release is made.",
        ) from e


def _fits(name: str, pin: locks.Pin, target: locks.Target) -> bool:
    """Whether this wheel is of that line, and for that Python (PEP 425) and machine."""
    found, version, _, tags = parse_wheel_filename(name)
    if found != canonicalize_name(pin.name) or version != Version(pin.version):
        return False
    major, minor = (int(part) for part in target.python.split("."))
    machines = {"any", *target.platforms()}

    def speaks(interpreter: str, abi: str) -> bool:
        if interpreter in (f"py{major}", f"py{major}{minor}", f"cp{major}{minor}"):
            return True
        older = interpreter.startswith(f"cp{major}") and interpreter[3:].isdigit()
        return abi == "abi3" and older and int(interpreter[3:]) <= minor

    return any(speaks(t.interpreter, t.abi) and t.platform in machines for t in tags)
