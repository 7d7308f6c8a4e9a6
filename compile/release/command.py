"""python -m compile release VERB REPO: a repository of releases, as The Update Framework has it.

    init      a new one, with everybody's public key
    add       one more release in a channel
    sign      one key signs what waits, after it was shown in words
    publish   what has its signatures becomes what devices read
    rotate    another key for a role, a new channel, or a role valid anew
    recall    a bundle or an appliance must not run any more
    stick     a copy for boxes without a network, valid for up to 90 days
    check     all of it read again as a device would

docs/keys.md is the ceremony: who does what with which key, and what to do when one is lost or
stolen. Exit codes: 0 done, 1 the work failed (one line on stderr), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType

from appliance.errors import ScansideError
from compile.release import add, check, init, publish, recall, rotate, sign, stick

VERBS: Mapping[str, ModuleType] = {
    "init": init, "add": add, "sign": sign, "publish": publish, "rotate": rotate, "recall": recall,
    "stick": stick, "check": check,
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The verbs and their arguments."""
    raw = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(
        prog="python -m compile release", description=__doc__, formatter_class=raw
    )
    verbs = whole.add_subparsers(dest="verb", required=True)
    for name, module in VERBS.items():
        verb = verbs.add_parser(name, description=module.__doc__, formatter_class=raw)
        verb.add_argument("repo", type=Path, metavar="REPO")
        module.arguments(verb)
    return whole


def main(argv: Sequence[str], now: datetime | None = None) -> int:
    """Parse and run; the exit code. `now` is what the clock says, if not asked here."""
    args = parser().parse_args(argv)
    try:
        VERBS[args.verb].run(args, now or datetime.now(timezone.utc))
    except ScansideError as e:
        print(e.one_line(), file=sys.stderr)
        return 1
    except OSError as e:
        print(f"{e.filename}: {e.strerror}", file=sys.stderr)
        return 1
    return 0
