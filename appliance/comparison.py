"""The comparison: what is said of an exam's findings beside an earlier exam of the same person.

    Report of today + entry of then -> Comparison (lines/compare.py), stored, published and shown

Rules. A comparison stands beside the Report, which stays byte for byte. It never carries a date, a
patient id, a key or a DICOM UID: the earlier exam has a pseudonym and an interval in days. Figures
are of both exams measured again in the same way, so they may differ from those of the reports.
What cannot be compared says why, and can never be read as "unchanged". Nothing here is advice, a
category or a judgement of what a change means. Ids are derived (`naming`), so a replay is harmless.
Positions are DICOM LPS millimetres (PS3.3 C.7.6.2.1.1), each in the frame of its own exam.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from appliance.report import (
    NOTICE,
    BackendRef,
    BundleRef,
    Millimetres3,
    Reason,
    Record,
    Sentence,
)

SCHEMA: Literal["scanside.comparison/1"] = "scanside.comparison/1"

State = Literal["matched", "new", "gone", "not_comparable"]
Why = Literal[
    "outside_cover",
    "too_thick",
    "list_full",
    "seen_in_pixels",
    "too_small",
    "diseased",
    "registration_weak",
    "ambiguous",
]
"""Why a finding is neither matched nor said to be new or gone: a closed list."""
Verdict = Literal["larger", "smaller", "within_error"]
Identity = Literal["same", "images_disagree", "identity_unsure", "identity_mismatch", "laterality"]
"""Whether both exams show the same person, judged by their images and by what is hashed of them."""
Which = Literal["newest", "oldest"]


class Sizes(Record):
    """What was measured of one body by today's network; None: not measured."""

    volume_mm3: float | None = Field(default=None, gt=0)
    long_axis_mm: float | None = Field(default=None, gt=0)
    short_axis_mm: float | None = Field(default=None, gt=0)
    mean_axis_mm: float | None = Field(default=None, gt=0)
    density: Literal["solid", "part_solid", "ground_glass", "calcified"] | None = None


class Interval(Record):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


class Change(Record):
    """How much one finding changed, and whether beyond the error of measuring it twice."""

    verdict: Verdict | None = Field(
        default=None, description="null where no change is said, such as of a nodule and a mass"
    )
    decided_by: Literal["volume", "mean_axis"] | None = None
    difference_percent: float | None = Field(default=None, description="of the volume, signed")
    limit_percent: float | None = Field(default=None, ge=0)
    difference_mm: float | None = Field(default=None, description="of the mean axis, signed")
    limit_mm: float | None = Field(default=None, ge=0)
    rate_per_year: Interval | None = Field(
        default=None, description="ln(V2 / V1) a year; null under 30 days, or without dates"
    )
    doubling_days: Interval | None = Field(
        default=None, description="only where the whole interval of the rate lies above 0"
    )
    doubling_not_under_days: float | None = Field(
        default=None, gt=0, description="where a doubling time cannot be said"
    )
    over_1_5_mm: bool | None = Field(default=None, description="null unless `larger`")
    over_25_percent: bool | None = Field(default=None, description="null unless `larger`")
    solid_part_not_measured: bool = False


class Followed(Record):
    """One finding of today, or one of then that is gone."""

    finding: int | None = Field(
        default=None, ge=1, description="of today's report; null: gone, or below its threshold"
    )
    prior_finding: int | None = Field(
        default=None, ge=1, description="of the earlier report; null: none, or below its threshold"
    )
    tracking_uid: str | None = Field(
        default=None, description="of the first sighting, derived; null where none is passed on"
    )
    state: State
    why: tuple[Why, ...] = ()
    seen_below_threshold: bool = Field(
        default=False, description="matched with what the earlier report left out"
    )
    center_lps_mm: Millimetres3 | None = Field(
        default=None, description="in today's exam; of what is gone, where it would lie"
    )
    prior_center_lps_mm: Millimetres3 | None = Field(
        default=None, description="in the earlier exam; of what is new, where it would lie"
    )
    distance_mm: float | None = Field(
        default=None, ge=0, description="from where it was expected to where it is"
    )
    merged_from: tuple[int, ...] = Field(
        default=(), description="earlier findings that are one today, these among them"
    )
    split_into: tuple[int, ...] = Field(
        default=(), description="findings of today that were one, these among them"
    )
    then: Sizes | None = None
    now: Sizes | None = None
    change: Change | None = None

    @model_validator(mode="after")
    def _of_its_state(self) -> Followed:
        """What is not comparable says why; only what was matched has a change."""
        if (self.state == "not_comparable") != bool(self.why):
            raise ValueError("what is not comparable says why, and nothing else does")
        if self.change is not None and self.state != "matched":
            raise ValueError("only what was matched has a change")
        if self.finding is None and self.prior_finding is None:
            raise ValueError("it belongs to a finding of today or of then")
        return self


class Person(Record):
    """Whether both exams show the same person."""

    verdict: Identity
    share: float | None = Field(
        default=None, ge=0, le=1, description="of the keypoints, those that match and agree"
    )
    keypoints: int | None = Field(default=None, ge=0)


class Registered(Record):
    """How one exam was laid over the other."""

    method: Literal["network", "demons"]
    weak: bool
    residual_mm: float | None = Field(
        default=None, ge=0, description="median distance of keypoints from the smooth field"
    )


class PriorRef(Record):
    """The earlier exam, as others may know it."""

    study: str = Field(pattern=r"^[0-9a-f]{32}$", description="pseudonym")
    report_id: uuid.UUID
    which: tuple[Which, ...] = Field(description="of the exams that are kept")
    interval_days: int | None = Field(
        default=None, ge=1, description="null where a date is missing or cannot be true"
    )


class Comparison(Record):
    """scanside.comparison/1."""

    schema_: Literal["scanside.comparison/1"] = Field(default=SCHEMA, alias="schema")
    notice: Sentence = NOTICE
    comparison_id: uuid.UUID
    supersedes: uuid.UUID | None = None
    appliance: str | None = None
    report_id: uuid.UUID
    study: str = Field(pattern=r"^[0-9a-f]{32}$", description="pseudonym of today's exam")
    status: Literal["compared", "not_compared"]
    reasons: tuple[Reason, ...] = ()
    prior: PriorRef | None = Field(default=None, description="null where there is none")
    person: Person | None = None
    registered: Registered | None = None
    bundle: BundleRef | None = Field(default=None, description="that registered")
    measured_by: BundleRef | None = Field(default=None, description="that measured both exams")
    backend: BackendRef | None = None
    findings: tuple[Followed, ...] = ()
    committed: datetime | None = None

    @model_validator(mode="after")
    def _of_its_status(self) -> Comparison:
        """What was not compared says why and nothing of findings."""
        if (self.status == "not_compared") != bool(self.reasons):
            raise ValueError("what was not compared says why, and nothing else does")
        if self.status == "not_compared" and self.findings:
            raise ValueError("what was not compared says nothing of findings")
        return self


class PriorImages(Record):
    """Where the earlier exam lies in an archive: for the structured report alone, and kept on the
    device beside the comparison. It is never published."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    key_images: tuple[tuple[int, str], ...] = ()
    """Earlier finding -> SOP Instance UID of its key image."""
    date: Annotated[str, Field(pattern=r"^[0-9]{8}$")] | None = None


class KeptComparison(Record):
    """What lies beside the report that was compared: reports/<report id>/<name>.json."""

    comparison: Comparison
    prior: PriorImages | None = None
    entry_digest: str | None = None
    """Of the entry of the earlier exam: what a replay must find again."""
