"""The verbs of `scanside drift`, as `__main__` has all others: parse, run, print.

    scanside drift [--json]      what is usual of each scanner, and what changed
    scanside drift ack ROW       a person has seen the alarm
    scanside drift accept ROW    what comes now is the new usual
    scanside drift tune ROW      the tuning that a trial proposes is accepted
    scanside drift withdraw ROW  it is taken back
    scanside drift export FILE   what was learnt, for other boxes
    scanside drift import FILE   what other boxes have learnt

Rules. Libraries are imported inside each verb, as there. On a box with slots whose state folder
belongs to somebody else, `apply` writes down what root or a member of scanside-admin decides, and
what becomes of it is waited for (verbs/drift_asked.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance import settings as site
from appliance.settings import Settings
from appliance.verbs.stage_verbs import Config

if TYPE_CHECKING:
    from appliance.verbs.drift import Decision

RowName = Annotated[str, typer.Argument(help="Its digits, or the first four or more.")]


def drift_group(
    settings_of: Callable[[Path | None], Settings],
    user: Callable[[], str],
    log: Callable[[int], None],
) -> typer.Typer:
    """The verbs below `drift`. `user`: who types, for the audit; `log`: from which level on."""
    made = typer.Typer(help="What is usual of each scanner, and what changed.")

    @made.callback(invoke_without_command=True)
    def listed(
        context: typer.Context,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        config: Config = None,
    ) -> None:
        """What is usual of each scanner, and what changed."""
        if context.invoked_subcommand is not None:
            return
        from rich.console import Console

        from appliance.verbs import drift as verb

        log(logging.WARNING)
        if as_json:
            print(verb.said(settings_of(config)).model_dump_json(by_alias=True, indent=1))
        else:
            verb.show(settings_of(config), Console(highlight=False))

    @made.command("ack")
    def acknowledge(row: RowName, config: Config = None) -> None:
        """Say that the alarms of a row were seen; what is usual stays as it is (audited)."""
        print(_decided(config, "ack", row))

    @made.command("accept")
    def accept(row: RowName, config: Config = None) -> None:
        """Take what came since the alarm for the new usual; the old row is kept (audited)."""
        print(_decided(config, "accept", row))

    @made.command("tune")
    def tune(row: RowName, config: Config = None) -> None:
        """Soften what detection sees of a row, as a trial on implants proposes (audited)."""
        print(_decided(config, "tune", row))

    @made.command("withdraw")
    def withdraw(row: RowName, config: Config = None) -> None:
        """Take back the tuning of a row, or one whose row is gone, by its digits (audited)."""
        print(_decided(config, "withdraw", row))

    @made.command("export")
    def export(
        out: Annotated[Path, typer.Argument(help="A new file.", dir_okay=False)],
        config: Config = None,
    ) -> None:
        """What was learnt of 20 studies or more, without serial numbers, for other boxes."""
        from appliance.verbs import drift as verb

        log(logging.WARNING)
        print(f"exported {verb.export(settings_of(config), out)} rows")

    @made.command("import")
    def bring(
        path: Annotated[Path, typer.Argument(help="A file that another box has exported.")],
        config: Config = None,
    ) -> None:
        """Take what other boxes have learnt as priors (audited)."""
        from appliance.verbs import drift as verb

        log(logging.WARNING)
        print(f"imported {verb.bring(settings_of(config), path, f'{user()}@cli')} rows")

    def _decided(config: Path | None, decision: Decision, row: str) -> str:
        from appliance.verbs import bundle, drift_asked
        from appliance.verbs import drift as verb

        log(logging.WARNING)
        settings = site.load(site.find(config))
        if bundle.is_foreign(settings):
            return drift_asked.decided(settings, decision, row)
        noted = verb.decide(settings_of(config), decision, row, f"{user()}@cli")
        return drift_asked.NOTED.format(noted)

    return made
