"""Water phantoms: what is measured of a series that shows one.

Rules
- A series that its lines set aside as PHANTOM_QA is given to the active bundle that measures such
  phantoms (lines/qa.py), without decoding anything again. Where none is active it is set aside and
  that is all.
- Measured once a series and input, for the first of its reports, and never of an exam that was
  pushed as an earlier one.
- The record is durable before the report is committed; its event is owed in the same transaction.
"""

from __future__ import annotations

import logging
from datetime import datetime, timezone

from appliance.bundle.water import WaterPhantom
from appliance.naming import Naming
from appliance.quality import passing
from appliance.quality.scanner import key
from appliance.reasons import Code
from appliance.records import Result
from appliance.report import Report, Stage
from appliance.runtime.open_bundle import OpenBundle
from appliance.settings import Settings
from appliance.store import qa as store
from appliance.watching.qa import QaRecord
from appliance.work.followed import Followed

log = logging.getLogger("scanside.work")


def measured(
    followed: Followed, digest: str | None, report: Report, settings: Settings, naming: Naming
) -> QaRecord | None:
    """The record of a series whose report this is, kept; None where it is no phantom, or nobody
    measures it here."""
    first = next(iter(followed.opened), None)
    shows = bool(report.reasons) and report.reasons[0].code is Code.PHANTOM_QA
    if not shows or report.stage is not Stage.FINAL or digest != first or followed.silent:
        return None
    by = next((one for one in followed.bundles if not one.manifest.line.reports), None)
    if by is None or followed.fold is None:
        return None
    result = by.finish(followed.fold.again_for(by.bundle))
    at = datetime.fromtimestamp(followed.first_at, timezone.utc)
    made = record(result, by, report, settings, naming, at)
    store.keep(settings.state, made)
    log.info("series %s: water phantom %s", followed.uid, made.verdict)
    return made


def record(
    result: Result,
    by: OpenBundle,
    report: Report,
    settings: Settings,
    naming: Naming,
    at: datetime,
) -> QaRecord:
    """What a bundle that measures phantoms says of a series. report: that it is set aside."""
    scanner = key(result.facts.scanner, naming)
    before = [one for one in store.every(settings.state) if one.report_id != report.report_id]
    wanted = passing.expected(before, scanner, settings.qa.diameter_mm)
    bare = QaRecord(
        report_id=report.report_id,
        study=report.study.pseudonym,
        at=at,
        scanner=scanner,
        bundle=by.bundle.ref,
        input_digest=result.input_digest,
        verdict="not_measured",
        expected=wanted,
        reasons=tuple(reason.code for reason in result.reasons),
    )
    if result.water is None:
        return bare
    codes = passing.judged(result.water, by.manifest.line_of(WaterPhantom), wanted)
    verdict = "failed" if codes else "passed"
    said = {"verdict": verdict, "codes": codes, "figures": result.water}
    return bare.model_copy(update=said)
