"""A comparison of two reports about three nodules, made by the records: for who shows it."""

from __future__ import annotations

import uuid

from appliance.comparison import Change, Comparison, Followed, PriorRef, Sizes
from appliance.naming import Naming
from appliance.report import (
    BackendRef,
    BundleRef,
    Finding,
    Millimetres3,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)

NAMING = Naming(bytes(range(32)))
DIGEST = "a" * 64


def report(study: str, *places: Millimetres3) -> Report:
    """One that is analysed, with a nodule of 8 mm at each place, numbered from 1."""
    return Report(
        report_id=NAMING.report(SeriesKey(study, "1"), DIGEST, DIGEST),
        input_digest=DIGEST,
        revision=1,
        status=Status.ANALYSED,
        stage=Stage.FINAL,
        study=StudyRef(pseudonym=NAMING.study(study)),
        series=SeriesRef(slices=10),
        bundle=BundleRef(name="lung-nodule", version="1.0.0", digest=DIGEST),
        backend=BackendRef(name="openvino", precision="fp32"),
        findings=tuple(
            Finding(
                id=number,
                tracking_uid=f"2.25.{number}",
                kind="nodule",
                score=0.9,
                threshold=0.5,
                center_lps_mm=at,
                box_lps_mm=(*at, *(v + 8 for v in at)),
                diameter_mm=8.0,
                key_image=0,
            )
            for number, at in enumerate(places, start=1)
        ),
    )


def comparison(prior: Report, current: Report, *findings: Followed) -> Comparison:
    """Of these two, a year apart."""
    return Comparison(
        comparison_id=NAMING.comparison(current.report_id, prior.report_id, (), ()),
        report_id=current.report_id,
        study=current.study.pseudonym,
        status="compared",
        prior=PriorRef(
            study=prior.study.pseudonym,
            report_id=prior.report_id,
            which=("newest", "oldest"),
            interval_days=364,
        ),
        findings=findings,
    )


def matched(now: int, then: int, change: Change | None = None) -> Followed:
    """Finding `now` of today is finding `then`."""
    sizes = Sizes(volume_mm3=268.0, mean_axis_mm=8.0)
    return Followed(
        finding=now, prior_finding=then, state="matched", then=sizes, now=sizes, change=change
    )


def anybody() -> uuid.UUID:
    """Another report."""
    return NAMING.report(SeriesKey("9", "9"), DIGEST, DIGEST)
