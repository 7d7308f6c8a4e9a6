"""What `work` does for comparing with earlier exams, beside the line: which reports are to be
compared, and of which studies nothing is said.

Rules
- A final report that stands is to be compared where its line finds nodules in slices and the
  settings keep exams. It is noted in the transaction of the report; nobody waits for what follows.
- A study is an earlier exam where each of its images came from a sender with `role = "prior"`. Then
  nothing is owed of it, and it is judged when nothing else is to be done. Where it is not known who
  sent a part of it, it is an exam: no date and no doubt silences a study.
- One image from another sender, also one that is here already, makes it an exam like any other:
  what is owed of its reports is owed from then on.
- A journal that cannot note the silence (of a release on trial) knows no earlier exams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from appliance.dicom import policy
from appliance.naming import Naming
from appliance.report import Report, SeriesKey, Stage, Status
from appliance.results import destinations
from appliance.results.owed import Destination, Owed
from appliance.room.check import RoomCheck
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.kept import ROOM, kept_record
from appliance.store.rows import ToCompare


def to_compare(
    reports: Iterable[tuple[SeriesKey, Report]], *, prior_only: bool
) -> Iterator[ToCompare]:
    """The rows of those that stand."""
    for key, report in reports:
        stands = report.status is Status.ANALYSED and report.stage is Stage.FINAL
        if stands and report.bundle is not None:
            yield ToCompare(
                report_id=str(report.report_id),
                study_uid=key.study,
                series_uid=key.series,
                bundle_digest=report.bundle.digest,
                prior_only=prior_only,
            )


def is_silent(settings: Settings, journal: Journal, study_uid: str) -> bool:
    """Whether a study is an earlier exam, of which nothing is said."""
    if not policy.any_priors(settings) or not journal.series.may_be_silent():
        return False
    return policy.are_priors(settings, journal.series.senders(study_uid))


def say_after_all(
    settings: Settings,
    journal: Journal,
    study_uid: str,
    naming: Naming,
    to: tuple[Destination, ...],
) -> bool:
    """What is owed of a study that is an exam after all; whether anything was."""
    silent = frozenset(journal.series.silent(study_uid))
    if not silent:
        return False
    owed: list[Owed] = []
    for key, report in journal.shown.latest([study_uid]):
        if key not in silent:
            continue
        at = datetime.now(timezone.utc)
        owed += destinations.of_report(report, key, naming=naming, at=at, to=to)
        check = kept_record(settings.state, report.report_id, ROOM, RoomCheck)
        if check is not None:
            owed += destinations.of_check(check, report, key, naming=naming, at=at, to=to)
    journal.say_after_all(study_uid, owed)
    return True
