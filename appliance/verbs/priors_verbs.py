"""The verbs of `scanside priors`, as `__main__` has all others: parse, run, print.

    scanside priors list                       what is kept, without whose it is
    scanside priors show    < id               what is kept of one person
    scanside priors forget  < id               take it away, with its comparisons
    scanside priors merge   < two ids          the first is the second from now on

Rule: libraries are imported inside each verb, as there. An id is never an argument.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from appliance.settings import Settings
from appliance.verbs.stage_verbs import Config

Issuer = Annotated[
    str | None, typer.Option(help="Issuer of Patient ID; that of the settings without it.")
]


def priors_group(
    settings_of: Callable[[Path | None], Settings],
    user: Callable[[], str],
    log: Callable[[int], None],
) -> typer.Typer:
    """The verbs below `priors`. `user`: who types, for the audit; `log`: from which level on."""
    made = typer.Typer(help="What is kept of earlier exams.", no_args_is_help=True)

    @made.command("list")
    def listed(config: Config = None) -> None:
        """All entries, without whose they are."""
        from rich.console import Console

        from appliance.verbs import priors as verb

        log(logging.WARNING)
        verb.show_all(settings_of(config), Console(highlight=False))

    @made.command("show")
    def show(issuer: Issuer = None, config: Config = None) -> None:
        """What is kept of one person: the id on standard input."""
        from rich.console import Console

        from appliance.verbs import priors as verb

        log(logging.WARNING)
        (patient_id,) = verb.ids(sys.stdin, "patient id")
        verb.show(settings_of(config), patient_id, issuer, Console(highlight=False))

    @made.command("forget")
    def forget(issuer: Issuer = None, config: Config = None) -> None:
        """Take all that is kept of one person away, with its comparisons (audited)."""
        from appliance.verbs import priors as verb

        log(logging.WARNING)
        (patient_id,) = verb.ids(sys.stdin, "patient id")
        entries, said = verb.forget(settings_of(config), patient_id, issuer, f"{user()}@cli")
        print(f"forgot {entries} entries and {said} comparisons")
        for line in verb.OUT_OF_REACH:
            print(line)

    @made.command("merge")
    def merge(issuer: Issuer = None, config: Config = None) -> None:
        """Two ids are one person: what is and comes under the first is the second's (audited)."""
        from appliance.verbs import priors as verb

        log(logging.WARNING)
        one, into = verb.ids(sys.stdin, "patient id that ends", "patient id that stays")
        count = verb.merge(settings_of(config), (one, into), issuer, f"{user()}@cli")
        print(f"merged {count} entries")

    return made
