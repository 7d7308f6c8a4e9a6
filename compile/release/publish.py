"""`publish`: what has its signatures becomes what devices read; snapshot and timestamp anew.

Run it after a ceremony, and once a day by a timer: the timestamp holds for two days, the rollout
for one. What waits, waits; what may not be published is left out, said, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
from datetime import datetime

from appliance.errors import ReleaseRefused
from compile.release import adoption, contents, drafts, keys, roles
from compile.release.drafts import Here
from compile.release.folder import Folder


def arguments(parser: argparse.ArgumentParser) -> None:
    """The online keys."""
    keys.arguments(parser, many=True)
    clock_argument(parser)


def clock_argument(parser: argparse.ArgumentParser) -> None:
    """--clock-is-right, for what signs the time."""
    parser.add_argument(
        "--clock-is-right",
        action="store_true",
        help="after a pause of more than 30 days, when a person has looked at the clock",
    )


def run(args: argparse.Namespace, now: datetime) -> None:
    """Adopts what is ready. ReleaseRefused (`publish_left`) where something was left out."""
    signers = keys.signers(args.key, args.passphrase_file)
    folder = Folder(args.repo)
    with folder.held():
        here = folder.here(now)
        found = adoption.publish(
            here, signers, folder.numbers(), now, _bad(here), clock_is_right=args.clock_is_right
        )
        folder.adopt(found)
    for role, why in found.waits.items():
        print(f"{role} waits: {why}")
    for line in found.ended:
        print(f"devices refuse this: {line}")
    print(
        f"published: {', '.join(found.adopted) or 'nothing new'}; snapshot "
        f"{found.numbers.snapshot}, timestamp {found.numbers.timestamp}"
    )
    if found.refused:
        raise ReleaseRefused(
            "; ".join(f"{role} was left out: {why}" for role, why in found.refused.items()),
            code="publish_left",
            remedy="Remove its folder below drafts/, mend what is said, and make it again.",
        )


def _bad(here: Here) -> dict[str, str]:
    """Channels whose new releases have not all their blobs."""
    found = {}
    for role, draft in here.drafts.items():
        if not roles.is_channel(role):
            continue
        try:
            new = drafts.new_releases(here, draft).values()
            lines = [fault.text for one in new for fault in contents.faults(one, here.files)]
        except ReleaseRefused as e:
            lines = [e.text]
        if lines:
            found[role] = "; ".join(lines)
    return found
