"""What readers said of a report, as an Enhanced SR that a person reads as text.

Rules
1. It is a document of its own beside those of the report, in a series of its own (identity.Kind
   `feedback`), so that no viewer shows it in place of a result. Its tree is that of a text.
2. First how many findings were accepted and rejected, and how many places marked as missed; then a
   line for each finding, also where nobody judged it, and for each place.
3. It names the role of a reader, never the reader, and no comment. It is UNVERIFIED as every
   document of a device: who marks on a page signs nothing (PS3.3 C.17.2.6).
4. Its UID is made of the report and the last act about it: what is said later is another object,
   and the same acts are the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from appliance.report import Finding
from appliance.results.feedback import Counting, Feedback, counting
from appliance.results.identity import (
    COMPOSER,
    SERIES_DESCRIPTION,
    SERIES_NUMBER,
    Identified,
)
from appliance.results.sr import words
from appliance.results.sr.case import Case
from appliance.results.sr.document import ENHANCED, Composed, composed
from appliance.results.sr.text import content


def feedback(case: Case, acts: Sequence[Feedback]) -> Composed:
    """acts: all about the report of the case, in order; ValueError where there is none."""
    if not acts:
        raise ValueError("nobody said anything of this report")
    counts, last = counting(acts), acts[-1]
    said = replace(case, at=datetime.fromtimestamp(last.at, timezone.utc), predecessors=())
    return composed(
        said,
        _identified(case, last, len(acts)),
        content(_verdict(counts), _lines(case, counts), ()),
    )


def _identified(case: Case, last: Feedback, count: int) -> Identified:
    """Rules 1 and 4. count: of all acts, so that later objects have higher numbers."""
    report, naming, kind = case.report, case.naming, "feedback"
    bundle = "-" if report.bundle is None else report.bundle.name
    return Identified(
        sop_class_uid=ENHANCED,
        sop_instance_uid=naming.document(report.report_id, kind, str(last.uid), COMPOSER),
        series_uid=naming.documents(case.source.key, bundle, kind),
        series_number=SERIES_NUMBER["feedback"],
        series_description=SERIES_DESCRIPTION["feedback"],
        instance_number=count,
    )


def _verdict(counts: Counting) -> str:
    """The first line."""
    verdicts = [act.verdict for act in counts.findings.values()]
    return (
        f"FEEDBACK OF READERS: {verdicts.count('accept')} ACCEPTED, "
        f"{verdicts.count('reject')} REJECTED, {len(counts.missed)} MARKED AS MISSED"
    )


def _lines(case: Case, counts: Counting) -> Iterator[str]:
    """What stands below it."""
    yield f"Report: {case.report.report_id}"
    for finding in case.report.findings:
        yield _of_finding(finding, counts.findings.get(finding.id))
    for act in counts.missed:
        if act.size_mm is not None:
            yield f"Missed: about {act.size_mm:g} mm{_place(act)}, {_by(act)}"
    yield f"Notice: {case.report.notice}"


def _place(act: Feedback) -> str:
    """Of what was missed; on a radiograph the size is that at the detector."""
    if act.place_px is not None:
        at = act.place_px
        pixel = f"column {at.column:.0f}, row {at.row:.0f} of image {at.image + 1} as it was sent"
        return f" at the detector, at {pixel}"
    if act.center_lps_mm is None:
        return ""
    x, y, z = act.center_lps_mm
    return f" at x {x:.1f}, y {y:.1f}, z {z:.1f} mm (LPS)"


def _of_finding(finding: Finding, act: Feedback | None) -> str:
    said = {"accept": "ACCEPTED", "reject": "REJECTED"}
    verdict = "not judged" if act is None else f"{said[act.verdict]} {_by(act)}"
    return f"{words.detected(finding)}: {verdict}"


def _by(act: Feedback) -> str:
    at = datetime.fromtimestamp(act.at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    by = "on the screen in the room" if act.role == "display" else f"by a {act.role}"
    return f"{by}, {at}"
