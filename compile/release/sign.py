"""`sign`: one key, one draft at a time. What is signed is shown in words before.

What is shown is how a draft differs from what is published. It comes from REPO/drafts,
REPO/public/metadata and REPO/public/targets; so a copy of these three, without the blobs, is enough
on a computer without a network. Who brings the copy could bring a made-up published state with it,
against which a change does not show: `--root`, the signer's own copy of the first root, refuses
such a one. Blobs are compared with what was signed by `publish`.
"""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path

from appliance.errors import ReleaseRefused
from compile.release import drafts, judge, keys
from compile.release.folder import Folder
from compile.release.words import words


def arguments(parser: argparse.ArgumentParser) -> None:
    """The key, and which drafts."""
    keys.arguments(parser, many=False)
    parser.add_argument("--root", type=Path, help="the signer's own copy of 1.root.json")
    parser.add_argument("--role", help="this draft alone; else all that the key may sign")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace, now: datetime) -> None:
    """Shows, asks, signs. ReleaseRefused (`draft_wrong`, `draft_missing`, `draft_key`)."""
    if len(args.key) != 1:
        raise ReleaseRefused(
            "one key at a time signs",
            code="draft_key",
            remedy="Run `sign` once for each key: each is another person's.",
        )
    (signer,) = keys.signers(args.key, args.passphrase_file)
    folder, done = Folder(args.repo), 0
    with folder.held():
        here = folder.here(now, anchor=args.root.read_bytes() if args.root else None)
        asked = (
            [args.role]
            if args.role
            else [
                role
                for role in here.drafts
                if signer.public_key.keyid in {key.keyid for key in here.keys(role)}
            ]
        )
        for role in asked:
            signature = drafts.signed(here, role, signer)
            draft = here.drafts[role]
            if signature.keyid in draft.signatures:
                print(f"{role}: this key has signed it; it counts once")
                done += 1
                continue
            if lines := judge.wrong(here, draft, now):
                raise ReleaseRefused(
                    f"{role}: {'; '.join(lines)}",
                    code="draft_wrong",
                    remedy=f"Remove drafts/{role} and make it again.",
                )
            print("\n".join(words(here, draft)))
            if not args.yes and keys.ask(f"sign {role}? yes or no: ") != "yes":
                print(f"{role}: not signed")
                continue
            where = folder.signature(role, signature)
            print(f"{where}: signed")
            done += 1
    if not done:
        raise ReleaseRefused(
            "nothing was signed",
            code="draft_missing",
            remedy="`python -m compile release check` lists what waits, and for whom.",
        )
