"""How many images of a series are here while it arrives: the spool knows it, the journal does not.

Rules
- The journal counts an association when it ends (no row per slice). A page that says `ARRIVING, n
  images` counts the files of the series instead, of the MOST newest series that are open.
- The spool is only read. A series whose folder is not there yet has what the journal says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from appliance.report import SeriesKey
from appliance.store.journal import Journal
from appliance.store.rows import Received
from appliance.store.spool import Spool

MOST: Final = 8
"""More do not arrive at once: a room has one scanner, a hospital some."""


def folders(journal: Journal, state: Path) -> dict[SeriesKey, Path]:
    """Where the images of the series lie that are open, of the newest ones."""
    spool = Spool(state)
    return {one.key: spool.folder(one.key) for one in journal.series.all("open")[-MOST:]}


def counts(state: Path, keys: Sequence[SeriesKey]) -> dict[SeriesKey, int]:
    """How many images of each series lie there."""
    spool = Spool(state)
    return {key: len(spool.instances(key)) for key in keys}


def counted(received: Sequence[Received], found: Mapping[SeriesKey, int]) -> list[Received]:
    """The same series, those that arrive with as many images as are here."""
    return [
        replace(one, images=max(one.images, found.get(one.series.key, 0)))
        if one.series.state == "open"
        else one
        for one in received
    ]
