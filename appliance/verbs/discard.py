"""`scanside discard SERIES`: delete the kept images of a series, so that it can be sent again.

The spool never overwrites an image: one that comes again with a corrected header is answered 0111.
Whoever wants the correction discards the series here and has it sent again.

Rules
- Only a series that has been judged, with all its images: else images that nobody has seen would
  go, or `work` would go on with those that it holds.
- What was said of it stands until the images come again. They are judged anew: other than before,
  the new report takes the place of the old one (`work.discarded`); the same as before, that stays.
- What is kept of them for later exams goes at once: the header that is wrong may be the patient's
  id, and under it lie another person's exams. It is made anew when the images are here again.
- The journal then says that the state of the series is about 0 images: whatever comes is news.
- It is audited. Whoever typed it may still be wrong: nothing but the sender has the images then.
"""

from __future__ import annotations

import os

from appliance.errors import ScansideError
from appliance.report import SeriesKey
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from appliance.store.rows import Series
from appliance.store.spool import Spool

JUDGED = frozenset({"analysed", "set_aside", "refused", "failed"})


def discard(settings: Settings, series_uid: str, study_uid: str | None = None) -> int:
    """Delete the images of one series; how many there were.

    study_uid: of which study, where two have this series. ScansideError where there is none, where
    two have it and none is named, and where it is not judged yet.
    """
    here = _named(settings, series_uid)
    named = [row for row in here if study_uid in (None, row.study_uid)]
    studies = ", ".join(row.study_uid for row in here)
    if here and not named:
        raise ScansideError(
            f"series {series_uid} is not on this device under study {study_uid}",
            remedy=f"It is here under: {studies}",
            code="no_series",
        )
    if not named:
        raise ScansideError(
            f"series {series_uid} is not on this device",
            remedy="`scanside doctor` names the series whose header changed.",
            code="no_series",
        )
    if len(named) > 1:
        raise ScansideError(
            f"series {series_uid} is here under {len(named)} studies",
            remedy=f"Give --study with one of: {studies}",
            code="ambiguous_series",
        )
    (row,) = named
    if row.state not in JUDGED or row.instances is None:
        raise _not_judged(row.key)
    spool = Spool(settings.state)
    count = len(spool.instances(row.key))
    if not count:
        raise ScansideError(
            f"the images of series {series_uid} are not on this device any more",
            remedy="Send the series again.",
            code="images_deleted",
        )
    with Journal.open(settings.state) as journal:
        named_in_audit = {"study": row.study_uid, "series": row.series_uid, "images": count}
        journal.audit.add(f"uid {os.getuid()}", "series_discard", **named_in_audit)
        if not spool.delete(row.key, row.instances):
            raise _not_judged(row.key)
        reports = {report.report_id for report in journal.reports.of_series(row.key)}
        Priors(settings.state).withdraw(reports)
        journal.discard(row.key)
    return count


def _not_judged(key: SeriesKey) -> ScansideError:
    return ScansideError(
        f"series {key.series} is still arriving, or not judged yet",
        remedy="Try again when its report is there.",
        code="not_judged",
    )


def _named(settings: Settings, series_uid: str) -> list[Series]:
    """Of this UID, one a study. Before the first start none, and looking makes no journal."""
    reader = Journal.read(settings.state)
    if reader is None:
        return []
    with reader:
        return [row for row in reader.series.all() if row.series_uid == series_uid]
