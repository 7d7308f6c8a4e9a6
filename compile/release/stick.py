"""`stick`: the repository on a folder that a technician carries to boxes without a network.

On it lie every root, the roles as they are published, of each channel the newest release with its
blobs, and what was recalled; snapshot and timestamp are signed for it alone, for up to 90 days. Its
numbers are the repository's own, so publish afterwards: a box that read the stick goes on from the
network only with what is newer than the stick.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from appliance.errors import ReleaseRefused
from appliance.release.record import RECALL
from compile.release import adoption, contents, keys, publish
from compile.release.folder import SERVED, Folder, put, reader
from compile.release.published import Published, Read, read, target_path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, for how long, what of it."""
    parser.add_argument("out", type=Path, help="folder on the stick; empty, or not there")
    parser.add_argument("--days", type=int, required=True, help="at most 90")
    parser.add_argument(
        "--channel", action="append", default=[], help="only the releases of these; once for each"
    )
    keys.arguments(parser, many=True)
    publish.clock_argument(parser)


def run(args: argparse.Namespace, now: datetime) -> None:
    """Reserves the numbers, copies, and writes the timestamp last. ReleaseRefused
    (`stick_there`)."""
    if args.out.exists() and any(args.out.iterdir()):
        raise ReleaseRefused(
            f"{args.out} is not empty", code="stick_there", remedy="Empty it, or choose another."
        )
    signers = keys.signers(args.key, args.passphrase_file)
    folder = Folder(args.repo)
    with folder.held():
        published = folder.here(now).published
        if published is None:
            raise ReleaseRefused(
                "nothing is published yet", code="release_missing", remedy="Publish first."
            )
        unknown = set(args.channel) - set(published.channels)
        if unknown:
            raise ReleaseRefused(
                f"there is no channel {min(unknown)}",
                code="release_role",
                remedy=f"Channels: {', '.join(published.channels)}.",
            )
        new, numbers = adoption.stick(
            published,
            signers,
            folder.numbers(),
            args.days,
            now,
            clock_is_right=args.clock_is_right,
        )
        folder.reserve(numbers)
        for path in carried(published, folder.files, args.channel or published.channels):
            data = folder.files(path)
            if data is None:
                raise ReleaseRefused(
                    f"{path} is missing", code="release_missing", remedy="Run `check` first."
                )
            put(SERVED, args.out, (path, data))
        for file in new:
            put(SERVED, args.out, file)
    _, faults = read(reader(args.out), now)
    if faults:
        raise faults[0]
    print(f"{args.out}: valid for {args.days} days, timestamp {numbers.timestamp}")
    print("now publish, so that boxes that read it go on from the network")


def carried(published: Published, files: Read, channels: Sequence[str]) -> Iterator[str]:
    """The paths of all that lies on a stick but snapshot and timestamp."""
    for number in range(1, published.root.signed.version + 1):
        yield f"metadata/{number}.root.json"
    for role, metadata in published.roles.items():
        yield f"metadata/{metadata.signed.version}.{role}.json"
    line = published.roles["targets"].signed.targets.get(RECALL)
    if line is not None:
        yield target_path(RECALL, line.hashes["sha256"])
    seen = set()
    for channel in channels:
        release = published.newest(channel)
        if release is not None:
            line = published.roles[channel].signed.targets[release.path]
            yield target_path(release.path, line.hashes["sha256"])
            for path in contents.paths(release, files):
                if path not in seen:
                    seen.add(path)
                    yield path
