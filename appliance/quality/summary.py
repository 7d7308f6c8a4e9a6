"""Result -> what the watch over the scanner keeps beside a report (watching/quality.py). Pure.

Rules.
1. Of every series of which images were measured, analysed or refused; None of all others: a series
   that is set aside by name, or of which no image could be read, says nothing of a scanner.
2. `outputs` counts what the report reports; scores are those of all that was scored.
"""

from __future__ import annotations

from statistics import median

from appliance.naming import Naming
from appliance.quality import scanner
from appliance.records import Result
from appliance.report import Status
from appliance.watching.quality import Outputs, SeriesQuality

DIGITS = 4


def of_series(result: Result, naming: Naming) -> SeriesQuality | None:
    """What is kept of a series (rule 1)."""
    if not result.quality:
        return None
    return SeriesQuality(
        scanner=scanner.key(result.facts.scanner, naming),
        measured=result.quality,
        outputs=outputs(result),
    )


def outputs(result: Result) -> Outputs:
    """What was found in a series (rule 2)."""
    scores = [one.score for one in result.scores.candidates] if result.scores else []
    threshold = result.scores.threshold if result.scores else 1.0
    return Outputs(
        analysed=result.status is Status.ANALYSED,
        findings=len(result.findings),
        scored=len(scores),
        above=sum(score >= threshold for score in scores),
        median_score=round(median(scores), DIGITS) if scores else None,
        unsure=sum(finding.certainty == "unsure" for finding in result.findings),
    )
