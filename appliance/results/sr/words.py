"""The sentences of a structured report. Pure, and without highdicom.

Rules
1. The first line of a text is the verdict, in capitals. "Not analysed" can never be taken for
   "nothing found", nor an analysis with limits for one without.
2. Each reason and each limitation stands on a line of its own, with its remedy.
3. A score is the confidence of a detection and is called so. It is no probability of a disease.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from appliance.report import Coverage, Finding, Report, Stage, Status
from appliance.results.sr import beside
from appliance.results.sr.case import Case

_LUNGS = {
    "covered": "both ends of the lungs are shown",
    "cut_head": "the lungs are cut at the head end",
    "cut_feet": "the lungs are cut at the feet end",
    "cut_both": "the lungs are cut at both ends",
    "absent": "no lungs are shown",
}


def verdict(report: Report) -> str:
    """One line in capitals (rule 1)."""
    if report.status is Status.FAILED:
        said = "ANALYSIS FAILED: THE IMAGES WERE NOT ANALYSED"
    elif report.status is Status.NOT_ANALYSED:
        said = "NOT ANALYSED"
    elif report.findings:
        kinds = ", ".join(sorted({finding.kind for finding in report.findings}))
        said = f"FINDINGS REPORTED: {len(report.findings)} ({kinds.upper()})"
    else:
        said = "NO FINDING REACHED ITS THRESHOLD"
    if report.limitations:
        said += ", ANALYSED WITH LIMITATIONS" if report.status is Status.ANALYSED else ""
    return f"{said} (PRELIMINARY)" if report.stage is Stage.PRELIMINARY else said


def withdrawal(by: str | None) -> str:
    """The verdict of a report that does not stand any more. by: what replaces it."""
    if by is None:
        return "WITHDRAWN: THIS REPORT DOES NOT STAND ANY MORE, AND NOTHING REPLACES IT"
    return f"WITHDRAWN: THIS REPORT IS REPLACED BY {by}"


def withdrawn(case: Case) -> Iterator[str]:
    """What stands below the verdict of a report that does not stand any more."""
    yield f"Withdrawn report: {case.report.report_id}"
    yield from remarks(replace(case, others=(), beside=()))


def lines(case: Case) -> Iterator[str]:
    """What stands below the verdict of a text."""
    report = case.report
    for reason in report.reasons:
        yield reason.sentence()
    for finding in report.findings:
        yield detected(finding)
    yield from remarks(case)


def remarks(case: Case) -> Iterator[str]:
    """What is said of the whole report: coverage, limits, thresholds, series and the notice."""
    report = case.report
    if report.status is Status.ANALYSED:
        yield from _covered(report.coverage)
    for limitation in report.limitations:
        yield f"Limitation: {limitation.sentence()}"
    thresholds = sorted({finding.threshold for finding in report.findings})
    if thresholds:
        yield "Threshold of the detection confidence: " + ", ".join(f"{t:.3f}" for t in thresholds)
    yield _series(report)
    yield from beside.remarks(case.beside)
    for other in case.others:
        yield f"Other series of the study: {other}"
    yield f"Notice: {report.notice}"


def detected(finding: Finding) -> str:
    """A finding in one line (rule 3)."""
    said = [f"Finding {finding.id}: {finding.kind}", *_size(finding)]
    if finding.density is not None:
        said.append(finding.density.replace("_", " "))
    if finding.side is not None:
        said.append(f"{finding.side} lung")
    if finding.center_lps_mm is not None:
        said.append(f"z {finding.center_lps_mm[2]:.1f} mm")
    said.append(f"detection confidence {finding.score:.3f} (threshold {finding.threshold:.3f})")
    if finding.unsure_why:
        said.append(unsure(finding))
    return ", ".join(said)


def unsure(finding: Finding) -> str:
    """Why a finding is not sure."""
    return f"unsure: {', '.join(finding.unsure_why)}"


def _size(finding: Finding) -> Iterator[str]:
    if not finding.measured:
        if finding.diameter_mm is not None:
            yield f"about {finding.diameter_mm:.1f} mm (not measured)"
        return
    if finding.long_axis_mm is not None and finding.short_axis_mm is not None:
        yield f"{finding.long_axis_mm:.1f} x {finding.short_axis_mm:.1f} mm"
    if finding.volume_mm3 is not None:
        yield f"{finding.volume_mm3:.0f} mm3"


def _covered(coverage: Coverage) -> Iterator[str]:
    said = [_LUNGS[coverage.lungs]] if coverage.lungs in _LUNGS else []
    if coverage.z_mm is not None:
        low, high = coverage.z_mm
        said.append(f"slices from z {low:.1f} mm to z {high:.1f} mm")
    if coverage.sides == "one":
        said.append("one lung alone is seen")
    if said:
        yield f"Coverage: {', '.join(said)}"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _series(report: Report) -> str:
    series, said = report.series, [_images(report.series.slices)]
    if series.spacing_mm is not None:
        said.append(f"{series.spacing_mm[0]:.2f} mm apart")
    if series.thickness_mm is not None:
        said.append(f"{series.thickness_mm:.2f} mm thick")
    if series.kernel:
        said.append(f"kernel {series.kernel}")
    verb = "Analysed series" if report.status is Status.ANALYSED else "Series"
    bundle = "" if report.bundle is None else f", by {report.bundle.name} {report.bundle.version}"
    return f"{verb}: {', '.join(said)}{bundle}"
