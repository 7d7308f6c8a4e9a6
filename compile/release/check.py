"""`check`: the whole repository, read again as a device would, down to every blob.

FOLDER is a repository, its `public`, a mirror of that, or a stick. Nothing is changed, no key is
needed. Printed are the roles with who signs them and how long they hold, the releases, what was
recalled, what waits for signatures, and all that is wrong, each with its remedy; the exit code is 1
if anything is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata

from appliance.errors import ReleaseRefused
from compile.release import contents, drafts, judge, roles
from compile.release.drafts import Here
from compile.release.folder import DRAFTS, PUBLIC, Folder, reader
from compile.release.published import Published, read


def arguments(parser: argparse.ArgumentParser) -> None:
    """The root to begin with."""
    parser.add_argument("--root", type=Path, help="the root that a device has; else 1.root.json")


def run(args: argparse.Namespace, now: datetime) -> None:
    """Prints it all. ReleaseRefused (`release_check`) where anything is wrong."""
    public = args.repo / PUBLIC
    files = reader(public if public.is_dir() else args.repo)
    anchor = args.root.read_bytes() if args.root else None
    published, found = read(files, now, anchor=anchor)
    faults = list(found)
    if published is not None:
        for line in shown(published):
            print(line)
        for release in published.releases.values():
            faults += contents.faults(release, files)
    if published is None and _interrupted(args.repo, now):
        print("publishing was interrupted between root and timestamp: publish again")
    elif (args.repo / DRAFTS).is_dir():
        for line in waiting(Here(published, Folder(args.repo).drafts(), files), now):
            print(line)
    for fault in faults:
        print(f"WRONG {fault.one_line()}")
    if faults:
        raise ReleaseRefused(
            f"{args.repo}: {len(faults)} things are wrong",
            code="release_check",
            remedy="Each has its remedy above.",
        )
    print(f"{args.repo}: whole")


def _interrupted(repo: Path, now: datetime) -> bool:
    """Whether it is whole but for a root that came first (compile.release.folder, rule 3)."""
    try:
        return Folder(repo).here(now).published is not None
    except ReleaseRefused:
        return False


def shown(published: Published) -> Iterator[str]:
    """Roles, releases and recalls, line by line."""
    root, targets = published.root.signed, published.roles[roles.TARGETS].signed
    below = targets.delegations
    for role, of in [*root.roles.items(), *(below.roles.items() if below and below.roles else ())]:
        of_role: Mapping[str, Metadata[Any]] = {
            roles.ROOT: published.root, roles.SNAPSHOT: published.snapshot,
            roles.TIMESTAMP: published.timestamp, **published.roles,
        }  # fmt: skip
        signed = of_role.get(role)
        keys = root.keys if role in roles.TOP or below is None else below.keys
        until = (
            f"version {signed.signed.version}, valid until {signed.signed.expires:%Y-%m-%d %H:%M}"
            if signed
            else "missing"
        )
        yield f"{ascii(role)[1:-1]}: {of.threshold} of {roles.names(of, keys)}; {until}"
    if published.stick:
        yield "made for a stick"
    for path, release in published.releases.items():
        bundles = ", ".join(f"{one.name} {one.version}" for one in release.bundles)
        yield f"{path}: appliance {release.appliance.version}; {bundles or 'no bundle'}"
    for one in published.recall.entries if published.recall else ():
        yield f"recalled: {one.what} {one.name} {one.version}: {one.reason!a}"


def waiting(here: Here, now: datetime) -> Iterator[str]:
    """What waits for signatures, and for whose."""
    for role, draft in here.drafts.items():
        if drafts.is_settled(here.published, draft):
            continue
        lines = judge.wrong(here, draft, now)
        if lines:
            yield f"the draft of {role} cannot be published: {'; '.join(lines)}"
            continue
        keys = here.keys(role)
        left = ", ".join(roles.called(key) for key in keys if key.keyid not in draft.signatures)
        yield f"{role} waits for {drafts.lacking(here, draft)} more of: {left}"
