"""Unusual images and findings in an analysis: limitations beside all that is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.bundle import trust
from appliance.bundle.heads import Limit, UsualOutput
from appliance.bundle.lines import SegmentProposeClassify
from appliance.lines.kind import Analysis
from appliance.lines.unlike import judged
from appliance.reasons import Code
from appliance.report import Finding, Reason
from appliance.watching.quality import VolumeQuality

FINDING = Finding(
    id=1,
    tracking_uid="",
    kind="nodule",
    score=0.9,
    threshold=0.5,
    center_lps_mm=(0, 0, 0),
    box_lps_mm=(0, 0, 0, 1, 1, 1),
    key_image=0,
)
NOISY = Analysis(
    limitations=(Reason(code=Code.MULTIFOCAL, text="many"),),
    findings=(FINDING, FINDING.model_copy(update={"id": 2})),
    quality=(VolumeQuality(noise_hu=99),),
)
ILL = Reason(code=Code.DIFFUSE_DISEASE, text="ill")


@pytest.fixture(scope="module")
def line(third_bytes: bytes) -> SegmentProposeClassify:
    """Of version 4, with limits that NOISY exceeds."""
    plain = trust.check(third_bytes).manifest.line_of(SegmentProposeClassify)
    return plain.model_copy(
        update={
            "version": 4,
            "usual_input": (Limit(figure="noise_hu", high=60),),
            "usual_output": UsualOutput(most_findings=1),
        }
    )


def codes(found: Analysis) -> list[Code]:
    return [reason.code for reason in found.limitations]


def test_both_are_the_last_limitations_and_nothing_is_dropped(
    line: SegmentProposeClassify,
) -> None:
    found = judged(NOISY, line)
    assert codes(found) == [Code.MULTIFOCAL, Code.UNUSUAL_INPUT, Code.UNUSUAL_OUTPUT]
    assert replace(found, limitations=NOISY.limitations) == NOISY


def test_where_disease_stands_the_number_of_findings_is_no_news(
    line: SegmentProposeClassify,
) -> None:
    found = judged(replace(NOISY, limitations=(ILL,)), line)
    assert codes(found) == [Code.DIFFUSE_DISEASE, Code.UNUSUAL_INPUT]


def test_a_line_without_limits_a_series_that_was_not_measured_and_a_refusal_stay_as_they_are(
    line: SegmentProposeClassify,
) -> None:
    bare = line.model_copy(update={"usual_input": None, "usual_output": None})
    assert judged(NOISY, bare) is NOISY
    few = replace(NOISY, quality=(), findings=())
    assert judged(few, line) is few
    for refused in (replace(NOISY, reasons=(ILL,)), replace(NOISY, too_wide="too wide")):
        assert judged(refused, line) is refused
