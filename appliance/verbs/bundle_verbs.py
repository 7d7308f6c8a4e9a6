"""The verbs of `scanside bundle`, as `__main__` has all others: parse, run, print.

Rules.
1. Libraries are imported inside each verb, as there.
2. On a box with slots whose state folder belongs to somebody else, `apply` does what is asked, if
   the asker may (root, and the group scanside-admin): appliance/apply/by_hand.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance import settings as site
from appliance.settings import Settings
from appliance.verbs.stage_verbs import Config

if TYPE_CHECKING:
    from appliance.bundle.shelf import Entry, Shelf
    from appliance.update.plan import Named


def bundle_group(
    settings_of: Callable[[Path | None], Settings],
    user: Callable[[], str],
    log: Callable[[int], None],
) -> typer.Typer:
    """The verbs below `bundle`. `user`: who types, for the audit; `log`: from which level on."""
    made = typer.Typer(help="The bundles on this device.", no_args_is_help=True)

    @contextmanager
    def opened(config: Path | None) -> Iterator[Shelf]:
        from appliance.verbs import bundle as verbs

        log(logging.WARNING)
        with verbs.opened(settings_of(config), f"{user()}@cli") as shelf:
            yield shelf

    @made.command("list")
    def listed(config: Config = None) -> None:
        """What is on the shelf, what is active."""
        from appliance.verbs import bundle as verbs

        with opened(config) as shelf:
            verbs.show(shelf.list())

    @made.command("add")
    def add(
        path: Path,
        allow_unsigned: Annotated[
            bool, typer.Option("--allow-unsigned", help="For development; audited.")
        ] = False,
        allow_development: Annotated[
            bool, typer.Option("--allow-development", help="A development key's; audited.")
        ] = False,
        config: Config = None,
    ) -> None:
        """Check a bundle and put it on the shelf (it is not active yet)."""
        from appliance.verbs import bundle as verbs

        entry = _by_apply(
            config,
            "bundle_add",
            source=str(path.resolve()),
            allow_unsigned=allow_unsigned,
            allow_development=allow_development,
        )
        if entry is None:
            verbs.require_by_hand(settings_of(config))
            with opened(config) as shelf:
                entry = verbs.add(
                    shelf, path, allow_unsigned=allow_unsigned, allow_development=allow_development
                )
        print(f"added {entry.name} {entry.version} {entry.digest[:12]}")
        print(f"next: scanside bundle activate {entry.name} {entry.version}")

    @made.command("activate")
    def activate(
        name: str,
        which: Annotated[str, typer.Argument(help="Version, or digest or its first 8 digits.")],
        config: Config = None,
    ) -> None:
        """Use this version from the next study on."""
        from appliance.verbs import bundle as verbs

        entry = _by_apply(config, "bundle_activate", bundle=name, which=which)
        if entry is None:
            with opened(config) as shelf:
                entry = verbs.activate(shelf, name, which)
        _say_active(entry)

    @made.command("rollback")
    def rollback(name: str, config: Config = None) -> None:
        """Go back to the version that was active before."""
        from appliance.verbs import bundle as verbs

        entry = _by_apply(config, "bundle_rollback", bundle=name)
        if entry is None:
            with opened(config) as shelf:
                entry = verbs.rollback(shelf, name)
        _say_active(entry)

    return made


def _by_apply(config: Path | None, verb: str, **asked: object) -> Entry | Named | None:
    """Rule 2: what `apply` answers; None where this user does it himself."""
    from appliance.verbs import bundle as verbs

    settings = site.load(site.find(config))
    return verbs.by_apply(settings, verb, **asked) if verbs.is_foreign(settings) else None


def _say_active(entry: Entry | Named) -> None:
    print(f"active: {entry.name} {entry.version} {entry.digest[:12]}")
