"""How a series and a study stand, in a word, a shape and a colour that say the same. Pure.

| sign  | shape          | it says                                                  |
|-------|----------------|----------------------------------------------------------|
| wait  | blue square    | images arrive, or are being analysed: nothing is final   |
| ok    | green circle   | analysed in full, whether or not something was found     |
| look  | amber triangle | analysed, with limits or not all of it: read what to do  |
| stop  | red octagon    | not analysed: it is no negative                          |
| quiet | grey dash      | rightly set aside, nothing to do                         |

Rules
- What still arrives is never green, whatever was said of it before.
- A study waits while one of its series does. A study of which one series was analysed and another
  was refused is amber, and says how many were not analysed.
- Only what is analysed has a number of findings. The findings of several series of a study may be
  the same ones, so the number says of how many series it is.
- What only concerns counting (`NOTED`) is no limit of the analysis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from appliance.reasons import SET_ASIDE, Code
from appliance.report import Reason, Report, Stage, Status
from appliance.store.rows import Received
from appliance.web.views.phrase import Phrase

Sign = Literal["wait", "ok", "look", "stop", "quiet"]
NOTED: Final = frozenset({Code.ALSO_SHOWN_IN})


@dataclass(frozen=True, slots=True)
class Light:
    """Sign and word."""

    sign: Sign
    word: Phrase


def of_series(one: Received, reports: Sequence[Report]) -> Light:
    """One series; reports: of each bundle the one that counts."""
    state = one.series.state
    if state == "open":
        if any(report.stage is Stage.PRELIMINARY for report in reports):
            return Light("wait", Phrase("status.preliminary", {"findings": _findings(reports)}))
        return Light("wait", Phrase("status.arriving", {"images": one.images}))
    if state == "complete":
        return Light("wait", Phrase("status.analysing"))
    if state == "failed":
        return Light("stop", Phrase("status.failed"))
    if state == "refused":
        return Light("stop", Phrase("status.not_analysed"))
    if state == "set_aside":
        return Light("quiet", Phrase("status.set_aside"))
    return _analysed(reports, 1)


def of_study(series: Sequence[tuple[Received, Sequence[Report]]]) -> Light:
    """A study of at least one series."""
    states = [one.series.state for one, _ in series]
    waiting = [pair for pair in series if pair[0].series.state in ("open", "complete")]
    if waiting:
        if "open" not in states or any(reports for _, reports in waiting):
            return of_series(*waiting[-1])
        images = sum(one.images for one, _ in waiting)
        return Light("wait", Phrase("status.arriving", {"images": images}))
    left_out = sum(state in ("refused", "failed") for state in states)
    analysed = [reports for one, reports in series if one.series.state == "analysed"]
    if left_out and analysed:
        said = [report for reports in analysed for report in reports]
        values = {"findings": _findings(said), "series": left_out}
        return Light("look", Phrase("status.in_part", values))
    if left_out:
        return Light("stop", Phrase(f"status.{'failed' if 'failed' in states else 'not_analysed'}"))
    if analysed:
        said = [report for reports in analysed for report in reports]
        return _analysed(said, len(analysed))
    return Light("quiet", Phrase("status.set_aside"))


def to_do(reports: Sequence[Report]) -> tuple[Phrase, ...]:
    """What a person can do about it: the remedy of each reason and limit, each once, without those
    that say that there is nothing to do."""
    codes: dict[Code, None] = {}
    for report in reports:
        for reason in (*report.reasons, *report.limitations):
            if reason.code not in SET_ASIDE:
                codes.setdefault(reason.code)
    return tuple(Phrase(f"reasons.remedy.{code.value}") for code in codes)


def limits(report: Report) -> tuple[Reason, ...]:
    """The limitations that make an analysis less than whole."""
    return tuple(reason for reason in report.limitations if reason.code not in NOTED)


def _analysed(reports: Sequence[Report], series: int) -> Light:
    analysed = [report for report in reports if report.status is Status.ANALYSED]
    findings = _findings(analysed)
    # a bundle that refused what another one analysed is a limit of the whole
    limited = len(analysed) < len(reports) or any(limits(report) for report in analysed)
    key = "found" if findings else "nothing"
    if findings and series > 1:
        key = "found_in_several"
    if limited:
        return Light("look", Phrase(f"status.{key}_limited", _counted(findings, series)))
    return Light("ok", Phrase(f"status.{key}", _counted(findings, series)))


def _counted(findings: int, series: int) -> dict[str, object]:
    if not findings:
        return {}
    return {"findings": findings, "series": series} if series > 1 else {"findings": findings}


def _findings(reports: Sequence[Report]) -> int:
    return sum(len(report.findings) for report in reports)
