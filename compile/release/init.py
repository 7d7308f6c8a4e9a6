"""`init`: a new repository, whose root, targets and channels wait for their first signatures.

No private key is needed: everybody brings the public one (docs/keys.md).
"""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path

from appliance.errors import ReleaseRefused
from compile.release import drafts, keys, roles
from compile.release.folder import Folder


def arguments(parser: argparse.ArgumentParser) -> None:
    """A public key for each place in the table of roles."""
    for role, row in {**roles.TOP, **roles.DELEGATED}.items():
        parser.add_argument(f"--{role}", type=Path, nargs=row.keys, required=True, metavar="PUB")
    parser.add_argument(
        "--site", action="append", default=[], metavar="NAME=PUB", help="a channel for one site"
    )


def run(args: argparse.Namespace, now: datetime) -> None:
    """Makes REPO and the drafts. ReleaseRefused (`release_there`) where REPO is one already."""
    held = {
        role: [keys.public(path) for path in getattr(args, role)]
        for role in [*roles.TOP, *roles.DELEGATED]
    }
    for site in args.site:
        name, _, path = site.partition("=")
        held[f"site-{name}"] = [keys.public(Path(path))]
    folder = Folder(args.repo)
    folder.make()
    with folder.held():
        if folder.drafts() or folder.files("metadata/1.root.json") is not None:
            raise ReleaseRefused(
                f"{args.repo} is a repository already",
                code="release_there",
                remedy="Choose an empty folder; a key is exchanged by `rotate`.",
            )
        made = drafts.first(held, now)
        for draft in made.values():
            folder.draft(draft, {})
    print(f"{args.repo}: {', '.join(made)} wait for signatures")
    print(f"next, for each key: python -m compile release sign {args.repo} --key KEY")
