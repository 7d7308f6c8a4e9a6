"""The verbs below the verb of a stage, as `__main__` has all others: parse, run, print.

    scanside web                                       the stage
    scanside web user add|reset|remove|list            who may log in
    scanside web display [--revoke]                    the screen of this machine

Rule: libraries are imported inside each verb, as there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from appliance.settings import Settings

Config = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file (TOML).", envvar="SCANSIDE_CONFIG"),
]
Configured = Annotated[
    bool,
    typer.Option("--configured", help="Serve nothing: exit 0 if the settings ask for this stage."),
]
Name = Annotated[str, typer.Argument(help="Small letters, digits, and . _ - between them.")]


def web_group(
    row_help: str,
    serve: Callable[[Path | None, bool], None],
    settings_of: Callable[[Path | None], Settings],
    user: Callable[[], str],
) -> typer.Typer:
    """The verb and the verbs below it. `user`: who types, for the audit."""
    made = typer.Typer(help=row_help, invoke_without_command=True)
    users = typer.Typer(help="Who may log in to the page.", no_args_is_help=True)
    made.add_typer(users, name="user")

    @made.callback()
    def web(context: typer.Context, config: Config = None, configured: Configured = False) -> None:
        context.obj = config
        if context.invoked_subcommand is None:
            serve(config, configured)

    def settings(context: typer.Context, config: Path | None) -> Settings:
        return settings_of(config or context.obj)

    @users.command("add")
    def add(
        context: typer.Context,
        name: Name,
        role: Annotated[str, typer.Option(help="technologist, radiologist or service.")],
        config: Config = None,
    ) -> None:
        """A new account; prints its first password, once."""
        from appliance.verbs import web as verb

        _say_password(name, verb.added(settings(context, config), name, role, user()))

    @users.command("reset")
    def reset(context: typer.Context, name: Name, config: Config = None) -> None:
        """Another first password, printed once; its logins end."""
        from appliance.verbs import web as verb

        _say_password(name, verb.reset_password(settings(context, config), name, user()))

    @users.command("remove")
    def remove(context: typer.Context, name: Name, config: Config = None) -> None:
        """No account any more; its logins end."""
        from appliance.verbs import web as verb

        verb.removed(settings(context, config), name, user())
        print(f"removed {name}")

    @users.command("list")
    def list_(context: typer.Context, config: Config = None) -> None:
        """Name, role, and what rows of the journal call each one."""
        from appliance.verbs import web as verb

        for line in verb.listed(settings(context, config)):
            print(line)

    @made.command("display")
    def display(
        context: typer.Context,
        revoke: Annotated[bool, typer.Option("--revoke", help="End what it may.")] = False,
        config: Config = None,
    ) -> None:
        """Let the screen of this machine read, without names."""
        from appliance.verbs import web as verb

        print(verb.bound(settings(context, config), user(), revoke=revoke))

    return made


def _say_password(name: str, password: str) -> None:
    print(password)
    print(f"The first password of {name}; it is shown once, and is changed at the first login.",
          file=sys.stderr)  # fmt: skip
