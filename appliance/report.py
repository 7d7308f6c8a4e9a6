"""The report: what the line says of one series, as it is stored, published and printed.

Rules. A report stands alone. It never carries a name, a patient id, a birth date, an accession
number or free text of the scanner, but the name of the kernel. `not_analysed` is a result like any
other and can never be read as a negative: it has reasons and no findings. Positions are DICOM
patient coordinates (LPS, PS3.3 C.7.6.2.1.1) in millimetres; what is found in a radiograph has none,
but a heat map kept on the device. `score` is detection confidence, never
a probability of malignancy. Ids are derived (`naming`), so a replay is harmless.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from appliance.reasons import REMEDIES, Code

SCHEMA: Literal["scanside.report/1"] = "scanside.report/1"
NOTICE = "research use, not for clinical use"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://scanside.org/ns")
"""Of ids that are no secret: what the device says of itself, its implementation, its parts list."""

Millimetres3 = tuple[float, float, float]
Product = Literal["sr", "seg", "lungs", "sc"]
"""What is composed of a report for an archive."""
Priority = Literal["routine", "stat"]
"""`stat`: analysed before what is `routine` (work/priority.py)."""
Verb = Literal["ping", "resend", "stat", "pause", "resume", "update-check"]
"""What may be asked of the device over MQTT (publish/commands.py)."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, order=True)
class SeriesKey:
    """A series: (StudyInstanceUID, SeriesInstanceUID). Neither is checked here."""

    study: str
    series: str


LONGEST_TEXT = 500


def cut(text: object) -> object:
    """A text of at most LONGEST_TEXT characters; what is no text is for the validator."""
    if isinstance(text, str) and len(text) > LONGEST_TEXT:
        return text[: LONGEST_TEXT - 1] + "…"
    return text


Sentence = Annotated[str, BeforeValidator(cut), Field(max_length=LONGEST_TEXT)]
"""A text that is published: cut where it is longer, whatever it was made of."""


def absent(value: object) -> bool:
    """Of a field that came later: it is not written where it says nothing, so that what was said
    before is said in the same bytes."""
    return value in (None, ())


R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """Base of everything that crosses a process or a disk: frozen, and no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def stored(cls: type[R], data: bytes | str) -> R:
        """The record as it lies on this device, where a later release may have written it: what
        that one has added is left out. ValidationError for what it cannot be.

        A release that was rolled back must start on the state of its successor. So every file of
        state is read in this way, and what comes from elsewhere is not.
        """
        return cls.model_validate_json(data, extra="ignore")


class LungDisease(Record):
    """Of one lung, in ml: its volume, and what of it is airless, hazy, or destroyed."""

    lung_ml: int = Field(ge=0)
    consolidated_ml: int = Field(ge=0)
    ground_glass_ml: int = Field(ge=0)
    emphysema_ml: int = Field(ge=0)


class Disease(Record):
    """How much of each lung is diseased."""

    right: LungDisease
    left: LungDisease


class Reason(Record):
    """One reason or limitation: stable code, a sentence with the figure, where it was seen."""

    code: Code
    text: Sentence
    where: str | None = None
    """What it is about: `image 12`, `z -34.5 mm`, `series`. Never a UID or a name."""
    remedy: str = ""
    disease: Disease | None = Field(
        default=None,
        exclude_if=absent,
        description="of `diffuse_disease` alone: its figures; not written where there are none",
    )

    @model_validator(mode="after")
    def _figures_of_its_code(self) -> Reason:
        """Figures of disease belong to one code."""
        if self.disease is not None and self.code is not Code.DIFFUSE_DISEASE:
            raise ValueError(f"{self.code.value} has no figures of disease")
        return self

    @model_validator(mode="before")
    @classmethod
    def _remedy_of_the_code(cls, data: object) -> object:
        if isinstance(data, dict) and "code" in data and not data.get("remedy"):
            return {**data, "remedy": REMEDIES[Code(data["code"])]}
        return data

    def sentence(self) -> str:
        """Text and remedy for a person."""
        return f"{self.text.rstrip('.')}. {self.remedy}"


class Status(str, Enum):
    ANALYSED = "analysed"
    NOT_ANALYSED = "not_analysed"
    FAILED = "failed"


class Stage(str, Enum):
    PRELIMINARY = "preliminary"
    FINAL = "final"


class Urgency(str, Enum):
    CRITICAL = "critical"
    URGENT = "urgent"
    ROUTINE = "routine"


PLACE_OF: Mapping[str, Literal["millimetres", "heat map"]] = {
    "nodule": "millimetres",
    "mass": "millimetres",
    "pneumonia": "heat map",
}
"""Every kind of finding that a report may name, and how it says where: by centre and box in patient
millimetres, or by a heat map that is kept on the device."""


def _known(kind: str) -> str:
    if kind not in PLACE_OF:
        raise ValueError(f"unknown kind of finding, not one of {', '.join(PLACE_OF)}")
    return kind


Doubt = Literal[
    "inside disease",
    "one of many ground-glass findings on both sides",
    "fewer than nine in ten of such a score are right",
    "images without it score as high too often",
    "images with it seldom score as low",
]
"""Why a finding is unsure, in words: a closed list."""

FindingKind = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": [*PLACE_OF]})]


class Finding(Record):
    """One finding in patient space. What was not measured is None, never 0."""

    id: int = Field(ge=1, description="1 is the finding of highest score in its report")
    tracking_uid: str = Field(description="2.25 UID derived from report and finding (PS3.3 C.18.8)")
    kind: FindingKind
    score: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, le=1)
    urgency: Urgency = Urgency.ROUTINE
    center_lps_mm: Millimetres3 | None = None
    box_lps_mm: tuple[float, float, float, float, float, float] | None = None
    """x0, y0, z0, x1, y1, z1. Of a finding in a radiograph neither: it has no millimetres."""
    diameter_mm: float | None = Field(default=None, ge=0)
    """Mean axis where measured, else the detector's estimate (`measured` tells)."""
    measured: bool = False
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    mean_axis_mm: float | None = None
    equivalent_diameter_mm: float | None = None
    volume_mm3: float | None = None
    density: Literal["solid", "part_solid", "ground_glass", "calcified"] | None = None
    side: Literal["left", "right"] | None = None
    lobe: str | None = None
    key_image: int = Field(
        ge=0,
        description="index along the sorted series, from 0: slices feet first, radiographs in "
        "order of their numbers",
    )
    key_sop_instance_uid: str | None = Field(
        default=None, description="only where the site's settings let UIDs out"
    )
    heat_map: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]{1,64}$",
        description="of a radiograph: reports/{report_id}/{heat_map}.npz on the device shows where",
    )
    certainty: Literal["sure", "unsure"] | None = Field(
        default=None,
        exclude_if=absent,
        description="not written where the bundle does not judge it; it says nothing of malignancy",
    )
    unsure_why: tuple[Doubt, ...] = Field(
        default=(), exclude_if=absent, description="of an unsure finding alone, and never empty"
    )

    @model_validator(mode="after")
    def _unsure_for_a_reason(self) -> Finding:
        """An unsure finding says why, and no other does."""
        if (self.certainty == "unsure") != bool(self.unsure_why):
            raise ValueError("an unsure finding says why, and no other does")
        return self

    @model_validator(mode="after")
    def _of_its_kind(self) -> Finding:
        """It has the place that its kind has, and no other (PLACE_OF)."""
        ends = self.center_lps_mm, self.box_lps_mm
        if PLACE_OF[self.kind] == "heat map" and ends != (None, None):
            raise ValueError(f"a finding of kind {self.kind!r} has no place in millimetres")
        if PLACE_OF[self.kind] == "millimetres" and None in ends:
            raise ValueError(f"a finding of kind {self.kind!r} has a centre and a box")
        return self

    @property
    def place_lps_mm(self) -> Millimetres3:
        """The centre; ValueError for a finding in a radiograph."""
        if self.center_lps_mm is None:
            raise ValueError(f"a finding of kind {self.kind!r} has no place in millimetres")
        return self.center_lps_mm


class ConformalBounds(Record):
    """Which scores of one image speak for which class: bounds of class-conditional split conformal
    prediction (appliance/quality/coverage.py fits them, appliance/interpret/certainty.py reads
    them)."""

    alpha: float = Field(gt=0, lt=0.5)
    """The share of each class that may lie beyond its bound."""
    with_from: float = Field(ge=0, le=1)
    """An image with the finding scores so high, but for `alpha` of them."""
    without_to: float = Field(ge=0, le=1)
    """An image without it scores no higher, but for `alpha` of them."""
    n_with: int = Field(ge=1)
    n_without: int = Field(ge=1)
    """Images of each class that the bounds were fitted on."""


class Scored(Record):
    """A place that the line scored, whether or not it became a finding."""

    score: float = Field(ge=0, le=1)
    center_lps_mm: Millimetres3 | None = None
    """None of a radiograph, which has no millimetres."""
    diameter_mm: float | None = Field(default=None, ge=0, exclude_if=absent)
    """As the detector estimated it; None where it has none, and in a file of before."""


class Scores(Record):
    """All that the line scored for a report: kept on the device beside it, and never published."""

    threshold: float = Field(ge=0, le=1)
    """From which on a score is reported."""
    candidates: tuple[Scored, ...] = ()
    """The highest first."""
    certainty: ConformalBounds | None = Field(default=None, exclude_if=absent)
    """By which the certainty of single images was judged; None where the bundle has none."""


class Coverage(Record):
    """How much of the organ the series shows. What is None is unknown, as in reports of before."""

    lungs: Literal["covered", "cut_head", "cut_feet", "cut_both", "absent", "unknown"] = "unknown"
    z_mm: tuple[float, float] | None = Field(
        default=None, description="lowest and highest slice centre along z (LPS)"
    )
    lungs_z_mm: tuple[float, float] | None = Field(
        default=None, description="lowest and highest point of the lungs along z (LPS)"
    )
    sides: Literal["both", "one"] | None = Field(
        default=None, description="lungs that are seen; of one alone nobody can say which it is"
    )
    fov_mm: tuple[float, float, float, float] | None = Field(
        default=None, description="field of view of all slices (LPS): x0, y0, x1, y1 of its edges"
    )


class StudyRef(Record):
    pseudonym: str = Field(pattern=r"^[0-9a-f]{32}$")


class SeriesRef(Record):
    instance_uid: str | None = None
    modality: str | None = None
    slices: int = Field(ge=0)
    spacing_mm: Millimetres3 | None = Field(
        default=None, description="between slices (from positions), rows, columns"
    )
    thickness_mm: float | None = None
    kernel: str | None = None


class BundleRef(Record):
    name: str
    version: str
    digest: Digest


class BackendRef(Record):
    name: str
    precision: str
    engine_digest: str | None = None


class Times(Record):
    """UTC. None where it does not apply (a file from disk has no association)."""

    first_slice: datetime | None = None
    last_slice: datetime | None = None
    released: datetime | None = None
    complete: datetime | None = None
    prepared: datetime | None = None
    inferred: datetime | None = None
    committed: datetime | None = None


NOT_COMPARED = frozenset({"times", "revision", "edition", "supersedes", "appliance"})
"""Fields of a Report that may differ where two are the same (`Report.same_as`)."""
OF_OTHER_IMAGES = frozenset({Code.SET_ASIDE_IMAGES, Code.GAP_FILLED})
"""Limitations that may differ too where something is set aside: that it is, and the hole that it
leaves. The input digest covers neither, and is compared."""


class Report(Record):
    """scanside.report/1."""

    schema_: Literal["scanside.report/1"] = Field(default=SCHEMA, alias="schema")
    notice: Sentence = NOTICE
    appliance: str | None = Field(
        default=None, description="version of the appliance that made it; null before 0.2.0"
    )
    report_id: uuid.UUID
    input_digest: Digest
    revision: int = Field(ge=1)
    edition: int = Field(
        default=1,
        ge=1,
        description="one more each time what the report says of other series of its study changes, "
        "or whether it stands beside them; of one report_id the highest counts",
    )
    supersedes: uuid.UUID | None = None
    status: Status
    stage: Stage
    reasons: tuple[Reason, ...] = ()
    limitations: tuple[Reason, ...] = ()
    coverage: Coverage = Coverage()
    study: StudyRef
    series: SeriesRef
    bundle: BundleRef | None = None
    backend: BackendRef | None = None
    tuning: Digest | None = Field(
        default=None,
        exclude_if=absent,
        description="of the tuning that it was analysed with; not written where there was none",
    )
    findings: tuple[Finding, ...] = ()
    times: Times = Times()

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )

    @model_validator(mode="after")
    def _never_mistakable(self) -> Report:
        """A refusal has reasons and no findings; only an analysis has findings."""
        if self.status is Status.ANALYSED:
            if self.reasons:
                raise ValueError("an analysed report has limitations, not reasons")
            if self.bundle is None or self.backend is None:
                raise ValueError("an analysed report names its bundle and backend")
        elif self.findings or not self.reasons:
            raise ValueError(f"a {self.status.value} report has reasons and no findings")
        return self

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True)

    def same_as(self, other: Report) -> bool:
        """Equal apart from times, revision, edition, supersedes, the appliance's version, and the
        images beside that are set aside."""
        aside = any(
            reason.code is Code.SET_ASIDE_IMAGES
            for reason in (*self.limitations, *other.limitations)
        )
        passing = OF_OTHER_IMAGES if aside else frozenset()
        return self._compared(passing) == other._compared(passing)

    def _compared(self, passing: frozenset[Code]) -> dict[str, object]:
        kept = tuple(reason for reason in self.limitations if reason.code not in passing)
        return self.model_copy(update={"limitations": kept}).model_dump(exclude=set(NOT_COMPARED))


def input_digest(digests: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the sorted (SOPInstanceUID, digest of decoded pixels and geometry) pairs.

    The same images in another transfer syntax, order or association have the same digest.
    """
    whole = hashlib.sha256()
    for uid, digest in sorted(digests):
        whole.update(f"{uid} {digest}\n".encode())
    return whole.hexdigest()
