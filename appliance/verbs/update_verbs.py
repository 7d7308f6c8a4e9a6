"""The verbs below `scanside update`, as `__main__` has all others: parse, run, print.

    scanside update                                   the stage
    scanside update check [--from DIR|URL]            look for something newer
    scanside update now [--from DIR|URL]              take it, and show each step
    scanside update status                            how updates stand
    scanside update hold|release|accept|rollback      by hand

Rule: libraries are imported inside each verb, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance import settings as site
from appliance.verbs.stage_verbs import Below, Config, Configured

if TYPE_CHECKING:
    from appliance.apply.requests import Request

From = Annotated[
    str | None,
    typer.Option("--from", help="A folder, such as a USB stick, or a URL, for this once."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def update_group(row_help: str, serve: Callable[[Path | None, bool], None]) -> typer.Typer:
    """The verb and the verbs below it."""
    made = typer.Typer(help=row_help, invoke_without_command=True)

    @made.callback()
    def update(
        context: typer.Context, config: Config = None, configured: Configured = False
    ) -> None:
        context.obj = config
        if context.invoked_subcommand is None:
            serve(config, configured)

    def does(context: typer.Context, config: Path | None, as_json: bool, **asked: Any) -> None:
        from appliance.verbs import update as verb

        settings = site.load(site.find(config or context.obj))
        raise typer.Exit(verb.done(settings, _request(**asked), as_json=as_json))

    @made.command("check")
    def check(
        context: typer.Context, from_: From = None, as_json: AsJson = False, config: Below = None
    ) -> None:
        """Look for something newer; what may come by itself comes."""
        does(context, config, as_json, verb="check", place=from_)

    @made.command("now")
    def now(
        context: typer.Context, from_: From = None, as_json: AsJson = False, config: Below = None
    ) -> None:
        """Take the newest release now, and show each step."""
        does(context, config, as_json, verb="now", place=from_)

    @made.command("status")
    def status(context: typer.Context, as_json: AsJson = False, config: Below = None) -> None:
        """What runs, what is offered, and why nothing happens."""
        does(context, config, as_json, verb="status")

    @made.command("hold")
    def hold(context: typer.Context, as_json: AsJson = False, config: Below = None) -> None:
        """Change nothing until `release`; what was recalled goes all the same."""
        does(context, config, as_json, verb="hold")

    @made.command("release")
    def release(context: typer.Context, as_json: AsJson = False, config: Below = None) -> None:
        """End the hold."""
        does(context, config, as_json, verb="release")

    @made.command("accept")
    def accept(
        context: typer.Context,
        which: Annotated[
            str | None, typer.Argument(help="CHANNEL/N.json; the one that waits without it.")
        ] = None,
        as_json: AsJson = False,
        config: Below = None,
    ) -> None:
        """Accept what a release is meant for, where that changes."""
        does(context, config, as_json, verb="accept", release=which)

    @made.command("rollback")
    def rollback(context: typer.Context, as_json: AsJson = False, config: Below = None) -> None:
        """Go back to what ran before the last update."""
        does(context, config, as_json, verb="rollback")

    return made


def _request(*, place: str | None = None, **asked: Any) -> Request:
    from appliance.apply.requests import Request

    if place is not None and "://" in place:
        asked["url"] = place
    elif place is not None:
        asked["source"] = str(Path(place).absolute())
    return Request(**asked)
