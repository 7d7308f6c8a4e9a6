"""`scanside retry SERIES | --failed`: a person has failed series tried again.

A series that failed is left alone until more of it comes, or the bundle or the appliance changes.
Whoever has mended the cause may not want to wait for that. It is audited.
"""

from __future__ import annotations

import os

from appliance.errors import ScansideError
from appliance.report import SeriesKey
from appliance.settings import Settings
from appliance.store import hint
from appliance.store.hint import Hint
from appliance.store.journal import Journal
from appliance.store.spool import Spool


def retry(settings: Settings, series_uid: str | None = None) -> int:
    """Have one failed series (None: all of them) tried again; how many.

    ScansideError where the one that is named has not failed, or its images are not here any more.
    """
    failed = _failed(settings)
    wanted = [key for key in failed if series_uid in (None, key.series)]
    if series_uid is not None and not wanted:
        raise ScansideError(
            f"series {series_uid} has not failed on this device",
            remedy="`scanside retry --failed` takes all that have; the log of `work` names each.",
            code="not_failed",
        )
    if not wanted:
        return 0
    spool = Spool(settings.state)
    there = [key for key in wanted if spool.instances(key)]
    if series_uid is not None and not there:
        raise ScansideError(
            f"the images of series {series_uid} are not on this device any more",
            remedy="Send the series again.",
            code="images_deleted",
        )
    with Journal.open(settings.state) as journal:
        count = journal.attempts.retry(f"uid {os.getuid()}", there)
    for key in there:
        hint.send(settings.state, Hint(study=key.study, series=key.series))
    return count


def _failed(settings: Settings) -> list[SeriesKey]:
    """Before the first start nothing has failed, and looking makes no journal."""
    reader = Journal.read(settings.state)
    if reader is None:
        return []
    with reader:
        return [row.key for row in reader.series.all("failed")]
