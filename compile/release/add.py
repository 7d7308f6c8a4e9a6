"""`add`: one more release in a channel, from a description (TOML) or like one of another channel.

    kind = "feature"                        # or security, model
    notes = "what a technician should know"
    intended_use_changes = false
    deadline = 2027-01-31T00:00:00Z         # of a security release, if it has one
    appliance = "dist/scanside-0.2.0-py3-none-any.whl"
    bundles = ["build/lung-nodule.scanside"]
    sbom = "dist/sbom.json"
    vex = "dist/vex.json"

    [[devices]]
    kind = "x86-64"                         # or orin, thor
    python = { at_least = "3.10", below = "3.14" }
    jetpack = { at_least = "6.0" }          # tensorrt likewise; left out on x86-64
    requirements = "locks/device.txt"
    wheels = "wheels/x86-64"                # a folder with a wheel of each line, for every Python
    sources = "sources/orin"                # a folder, or left out: what a device builds itself

Paths are those beside the description.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from packaging.utils import parse_wheel_filename
from pydantic import AwareDatetime, Field, ValidationError

from appliance.errors import ReleaseRefused
from appliance.release.record import Appliance, Device, DeviceKind, Range, Release
from appliance.report import Record
from compile.release import contents, drafts, roles, words
from compile.release.contents import Store
from compile.release.drafts import Here
from compile.release.folder import Folder


class DescribedDevice(Record):
    """One kind of device."""

    kind: DeviceKind
    python: Range
    jetpack: Range | None = None
    tensorrt: Range | None = None
    requirements: str
    wheels: str
    sources: str | None = None


class Described(Record):
    """The description of a release."""

    kind: Literal["security", "feature", "model"]
    notes: str
    intended_use_changes: bool
    deadline: AwareDatetime | None = None
    appliance: str
    bundles: tuple[str, ...] = ()
    sbom: str
    vex: str
    devices: tuple[DescribedDevice, ...] = Field(min_length=1)


def arguments(parser: argparse.ArgumentParser) -> None:
    """CHANNEL, and one of two sources."""
    parser.add_argument("channel", help="stable, canary or site-NAME")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--from", type=Path, dest="source", metavar="TOML", help="a description")
    source.add_argument("--like", metavar="CHANNEL/N", help="the same as another channel's release")


def run(args: argparse.Namespace, now: datetime) -> None:
    """Writes the blobs, the release and the draft, in this order."""
    folder = Folder(args.repo)
    with folder.held():
        here = folder.here(now)
        if not roles.is_channel(args.channel) or (
            here.of(args.channel) is None and args.channel not in here.drafts
        ):
            raise ReleaseRefused(
                f"{args.channel} is no channel here",
                code="release_role",
                remedy="A site's channel is made by `rotate REPO site-NAME --in PUB`.",
            )
        store = Store(folder.files)
        head = {
            "channel": args.channel,
            "number": drafts.next_number(here, args.channel),
            "made": now.replace(microsecond=0),
        }
        if args.like is not None:
            release = _like(here, args.like, head)
        else:
            release = _described(args.source, store, head)
        draft, path, data = drafts.with_release(here, release, now)
        folder.draft(draft, {**store.new, path: data})
    for line in words.release_words(release):
        print(line)
    print(f"{len(store.new)} blobs are new, {sum(map(len, store.new.values()))} bytes")
    print(f"next: python -m compile release sign {args.repo} --key KEY")


def _like(here: Here, path: str, head: dict[str, Any]) -> Release:
    found = here.releases().get(f"{path}.json")
    if found is None:
        raise ReleaseRefused(
            f"there is no release {path}",
            code="release_missing",
            remedy="`python -m compile release check` lists the releases.",
        )
    return found.model_copy(update=head)


def _described(source: Path, store: Store, head: dict[str, Any]) -> Release:
    """What the description asks for, its files as blobs."""
    said, at = _read(source), source.parent
    wheel = at / said.appliance
    made = contents.wheel(store, wheel.name, wheel.read_bytes())
    version = str(parse_wheel_filename(wheel.name)[1])
    try:
        return Release(
            **head,
            kind=said.kind,
            deadline=said.deadline,
            intended_use_changes=said.intended_use_changes,
            notes=said.notes,
            appliance=Appliance(version=version, wheel=made),
            devices=tuple(_device(at, one, store) for one in said.devices),
            bundles=tuple(contents.bundle(store, (at / one).read_bytes()) for one in said.bundles),
            sbom=contents.cyclonedx(store, (at / said.sbom).read_bytes(), "parts list"),
            vex=contents.cyclonedx(store, (at / said.vex).read_bytes(), "list of weak points"),
        )
    except ValidationError as e:
        raise _wrong(source, e) from e


def _device(at: Path, said: DescribedDevice, store: Store) -> Device:
    sources = {} if said.sources is None else _folder(at / said.sources, "*.tar.gz")
    lock = contents.lock(
        store,
        said.kind,
        said.python,
        (at / said.requirements).read_bytes(),
        _folder(at / said.wheels, "*"),
        sources,
    )
    return Device(
        kind=said.kind, python=said.python, jetpack=said.jetpack, tensorrt=said.tensorrt, lock=lock
    )


def _folder(folder: Path, pattern: str) -> dict[str, bytes]:
    """All files of a folder: one that is no wheel is refused, not left out."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern)) if path.is_file()}


def _read(source: Path) -> Described:
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415
    else:
        import tomli as tomllib  # noqa: PLC0415
    try:
        return Described.model_validate(tomllib.loads(source.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as e:
        raise ReleaseRefused(
            f"{source}: {e}", code="release_source", remedy="Correct this line of the description."
        ) from e
    except ValidationError as e:
        raise _wrong(source, e) from e


def _wrong(source: Path, e: ValidationError) -> ReleaseRefused:
    first = e.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    return ReleaseRefused(
        f"{source}: {where}: {first['msg']}",
        code="release_source",
        remedy="Correct the description; `python -m compile release add --help` shows one.",
    )
