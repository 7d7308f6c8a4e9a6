"""The verb `scanside qa`, as `__main__` has all others: parse, run, print."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from appliance import settings as site
from appliance.verbs.stage_verbs import Config


def qa_verb(
    settings_of: Callable[[Path | None], site.Settings], log: Callable[[int], None]
) -> Callable[..., None]:
    """The verb, with what `__main__` shares."""

    def qa(
        folder: Annotated[
            Path | None, typer.Argument(help="A folder with the images of a water phantom.")
        ] = None,
        trend: Annotated[
            bool, typer.Option("--trend", help="What was measured on this device.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        config: Config = None,
    ) -> None:
        """Measure a water phantom, or show the trend."""
        from appliance.verbs import qa as verb

        if (folder is None) != trend:
            raise typer.BadParameter("name a folder, or --trend, and not both")
        log(logging.WARNING)
        settings = settings_of(config)
        records = verb.trend(settings) if folder is None else verb.measured(folder, settings)
        if as_json:
            print(verb.as_json(records))
        elif trend:
            verb.show_trend(records)
        else:
            verb.show(records)

    return qa
