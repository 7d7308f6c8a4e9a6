"""The verb `scanside compare`, as `__main__` has all others: parse, run, print."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from appliance import settings as site
from appliance.verbs.stage_verbs import Config


def compare_verb(
    settings_of: Callable[[Path | None], site.Settings], log: Callable[[int], None]
) -> Callable[..., None]:
    """The verb, with what `__main__` shares."""

    def compare(
        prior: Annotated[Path, typer.Argument(help="A folder with the earlier CT of the chest.")],
        current: Annotated[Path, typer.Argument(help="A folder with today's.")],
        points: Annotated[
            Path | None,
            typer.Option(help="JSON of [[x, y, z]], LPS mm of CURRENT: where were they in PRIOR?"),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        config: Config = None,
    ) -> None:
        """Compare two folders: ids are not asked, images are."""
        from appliance.verbs import compare as verb

        log(logging.WARNING)
        found = verb.laid(prior, current, settings_of(config), points)
        if as_json:
            print(verb.as_json(found))
        else:
            verb.show(found)

    return compare
