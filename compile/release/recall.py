"""`recall`: a bundle or an appliance must not run any more. The list is signed like targets, 2 of
3.

Nothing leaves the list again: what was right after all comes back under a new version.
"""

from __future__ import annotations

import argparse
from datetime import datetime

from pydantic import ValidationError

from appliance.errors import ReleaseRefused
from appliance.release.record import Recalled
from compile.release import drafts
from compile.release.drafts import Here
from compile.release.folder import Folder


def arguments(parser: argparse.ArgumentParser) -> None:
    """What, and why."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bundle", nargs=2, metavar=("NAME", "VERSION"))
    what.add_argument("--appliance", metavar="VERSION")
    parser.add_argument(
        "--digest", help="of what no release here holds: of its manifest, its wheel"
    )
    parser.add_argument("--reason", required=True, help="for a technician, one sentence")


def run(args: argparse.Namespace, now: datetime) -> None:
    """Makes the draft of targets with a longer list."""
    what = "bundle" if args.bundle else "appliance"
    name, version = args.bundle or ("scanside", args.appliance)
    folder = Folder(args.repo)
    with folder.held():
        here = folder.here(now)
        digests = [args.digest] if args.digest else _digests(here, what, name, version)
        try:
            entries = [
                Recalled(
                    what=what, name=name, version=version, digest=digest, reason=args.reason,
                    at=now.replace(microsecond=0),
                )
                for digest in digests
            ]  # fmt: skip
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            raise ReleaseRefused(
                f"{first['loc'][0]}: {first['msg']}",
                code="release_recall",
                remedy="A digest has 64 hexadecimal digits, a version three numbers.",
            ) from e
        draft, path, data = drafts.with_recall(here, entries, now)
        folder.draft(draft, {path: data})
    print(f"targets waits for signatures: recalls {what} {name} {version}")
    print(f"next: python -m compile release sign {args.repo} --key KEY")


def _digests(here: Here, what: str, name: str, version: str) -> list[str]:
    """Of what releases here call so, also those that are offered no longer."""
    called = version if what == "appliance" else f"{name} {version}"
    found = {
        digest
        for release in here.ever().values()
        for kind, said, digest in release.things()
        if (kind, said) == (what, called)
    }
    if not found:
        raise ReleaseRefused(
            f"no release here holds {what} {called}",
            code="release_missing",
            remedy="Correct the name and version, or give its digest with --digest.",
        )
    return sorted(found)
