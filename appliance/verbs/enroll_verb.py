"""The verb `scanside enroll`, as `__main__` has all others: parse, run, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def enroll(
    file: Annotated[Path, typer.Argument(help="What the fleet team made for this box.")],
    cert: Annotated[
        bool, typer.Option("--cert", help="FILE is the answer to this box's request.")
    ] = False,
) -> None:
    """Make this box the one that the fleet team calls so (root only)."""
    from appliance.verbs import enroll as verb

    for line in verb.take(file) if cert else verb.enroll(file):
        print(line)
