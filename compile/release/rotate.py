"""`rotate`: another key for a role, a new channel for a site, or the same role valid anew.

rotate REPO root --out anna --in bert.repository.pub    one key for another
rotate REPO site-north --in north.repository.pub        a new channel
rotate REPO stable                                      valid for a year more
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key

from appliance.errors import ReleaseRefused
from compile.release import drafts, keys, roles
from compile.release.drafts import Here
from compile.release.folder import Folder


def arguments(parser: argparse.ArgumentParser) -> None:
    """The role, who goes and who comes."""
    parser.add_argument("role")
    parser.add_argument(
        "--out", action="append", default=[], metavar="NAME", help="name or id of a key that goes"
    )
    parser.add_argument(
        "--in", action="append", default=[], dest="new", type=Path, metavar="PUB",
        help="public key that comes",
    )  # fmt: skip


def run(args: argparse.Namespace, now: datetime) -> None:
    """Makes the drafts."""
    new = [keys.public(path) for path in args.new]
    folder = Folder(args.repo)
    with folder.held():
        here = folder.here(now)
        out = [_keyid(here, args.role, name) for name in args.out]
        made = drafts.rotated(here, args.role, out, new, now)
        for draft in made.values():
            folder.draft(draft, {})
    print(f"{', '.join(made)} wait for signatures")
    print(f"next: python -m compile release sign {args.repo} --key KEY")


def _keyid(here: Here, role: str, name: str) -> str:
    """Of a key of the role by its name, or by at least 8 digits of its id."""
    roles.kind(role)
    found = [key.keyid for key in _serving(here, role) if _is(key, name)]
    if len(found) != 1:
        known = ", ".join(roles.called(key) for key in _serving(here, role))
        raise ReleaseRefused(
            f"{name} is {'no key' if not found else 'the name of several keys'} of {role}",
            code="release_key",
            remedy=f"Name one of: {known or 'none'}; or give at least 8 digits of its id.",
        )
    return found[0]


def _serving(here: Here, role: str) -> Sequence[Key]:
    delegator = here.root() if role in roles.TOP else here.targets()
    try:
        of = delegator.get_delegated_role(role)
    except ValueError:
        return []
    return [delegator.get_key(keyid) for keyid in of.keyids]


def _is(key: Key, name: str) -> bool:
    by_id = len(name) >= 8 and key.keyid.startswith(name)
    return by_id or key.unrecognized_fields.get(roles.NAME) == name
