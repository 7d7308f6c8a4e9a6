"""What is kept of a series for the watch over its scanner."""

from __future__ import annotations

from dataclasses import replace

from appliance.naming import Naming
from appliance.quality import scanner, summary
from appliance.reasons import Code
from appliance.records import Facts, Result
from appliance.report import Coverage, Finding, Reason, Scored, Scores, Status
from appliance.watching.quality import VolumeQuality
from appliance.watching.scanner import Tags

NAMING = Naming(b"k" * 32)
TAGS = Tags("CT", maker="Siemens", serial="1234567")
FACTS = Facts("1.2", "1.2.3", "CT", 9, None, None, None, Coverage(), scanner=TAGS)
MEASURED = VolumeQuality(noise_hu=20.0, texture_per_mm=0.4)


def finding(number: int, **says: object) -> Finding:
    said = {"id": number, "tracking_uid": "", "kind": "pneumonia", "score": 0.9, **says}
    return Finding.model_validate({"threshold": 0.5, "key_image": 0, **said})


def test_an_analysed_series_says_its_scanner_its_figures_and_what_came_out() -> None:
    scores = Scores(threshold=0.5, candidates=tuple(Scored(score=s) for s in (0.9, 0.5, 0.2, 0.1)))
    unsure = finding(2, certainty="unsure", unsure_why=["inside disease"])
    result = Result(
        Status.ANALYSED, FACTS, "", findings=(finding(1), unsure), scores=scores,
        quality=(MEASURED,),
    )  # fmt: skip
    found = summary.of_series(result, NAMING)
    assert found is not None
    assert found.scanner == scanner.key(TAGS, NAMING)
    assert found.measured == (MEASURED,)
    assert found.outputs.model_dump() == {
        "analysed": True, "findings": 2, "scored": 4, "above": 2, "median_score": 0.35,
        "unsure": 1,
    }  # fmt: skip
    assert "1234567" not in found.model_dump_json()


def test_a_refused_series_is_kept_with_nothing_found() -> None:
    reasons = (Reason(code=Code.NO_LUNGS, text="none"),)
    result = Result(Status.NOT_ANALYSED, FACTS, "", reasons=reasons, quality=(MEASURED,))
    found = summary.of_series(result, NAMING)
    assert found is not None
    assert (found.outputs.analysed, found.outputs.scored) == (False, 0)
    assert found.outputs.median_score is None


def test_of_what_nothing_was_measured_nothing_is_kept() -> None:
    result = Result(Status.ANALYSED, FACTS, "", quality=())
    assert summary.of_series(result, NAMING) is None
    assert summary.of_series(replace(result, status=Status.FAILED), NAMING) is None
