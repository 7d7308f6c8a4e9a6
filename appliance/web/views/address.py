"""Which series an address names: the one place where a name in a URL becomes a key.

Rules
- A study is named by its pseudonym, a series by its published name, as messages carry it. A series
  of which no message stands any more is named by the report_id of one of its reports.
- A name counts only under its own study: the series of another one is unknown there.
- What has not the form of a name is not looked for: no text of an address reaches a path or a
  query.
"""

from __future__ import annotations

import re
import uuid
from typing import Final

from appliance.report import SeriesKey
from appliance.store.journal import Journal

_PSEUDONYM: Final = re.compile(r"[0-9a-f]{32}")
_NAME: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def study_of(journal: Journal, study: str) -> str | None:
    """Study Instance UID of a pseudonym; None where it is none that is known here."""
    return journal.shown.study(study) if _PSEUDONYM.fullmatch(study) else None


def series_of(journal: Journal, study: str, series: str) -> SeriesKey | None:
    """The series of this name in the study of this pseudonym; None where there is none."""
    study_uid = study_of(journal, study)
    if study_uid is None or not _NAME.fullmatch(series):
        return None
    wanted = uuid.UUID(series)
    reported = journal.reports.series_of(wanted)
    if reported is not None:
        return reported if reported.study == study_uid else None
    for received in journal.shown.series([study_uid]):
        if journal.shown.name(received.series.key) == wanted:
            return received.series.key
    return None


def name_of(journal: Journal, key: SeriesKey) -> str | None:
    """The name of a series in an address; None where nothing was said of it yet."""
    if (name := journal.shown.name(key)) is not None:
        return str(name)
    report = journal.reports.latest(key)
    return str(report.report_id) if report else None
