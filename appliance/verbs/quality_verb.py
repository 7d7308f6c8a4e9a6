"""The verb `scanside quality`, as `__main__` has all others: parse, run, print."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from appliance import settings as site
from appliance.verbs.stage_verbs import Config


def quality_verb(
    settings_of: Callable[[Path | None], site.Settings], log: Callable[[int], None]
) -> Callable[..., None]:
    """The verb, with what `__main__` shares."""

    def quality(
        path: Annotated[Path, typer.Argument(help="A folder or file of DICOM images.")],
        bundle: Annotated[
            str | None, typer.Option(help="Name or .scanside file of one bundle.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        config: Config = None,
    ) -> None:
        """What a series is worth, and whether preprocessing keeps it."""
        from appliance.verbs import quality as verb

        log(logging.WARNING)
        every = verb.examined(path, settings_of(config), bundle)
        if as_json:
            print(verb.as_json(every))
        else:
            verb.show(every)

    return quality
