"""scanside.bundle/1: what a bundle says of itself. Data only: no class path, no eval, no pickle.

Ops, heads and line kinds are closed, versioned vocabularies. An unknown one is refused by name with
the appliance version the bundle asks for. The bundle's digest is the SHA-256 of manifest.json.
In `accepts` a missing tag passes on to a check of the content; a contrary value refuses.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from appliance.errors import BundleRefused
from appliance.preprocess.spec import Op
from appliance.report import Digest, Record

SCHEMA: Literal["scanside.bundle/1"] = "scanside.bundle/1"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")]


class Port(Record):
    """One input or output of a network; -1 is a free axis."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "float16", "int8"] = "float32"


class Network(Record):
    file: FileName
    digest: Digest
    precision: Literal["fp32", "fp16", "int8"]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    preprocess: tuple[Op, ...]


class SegmentHead(Record):
    """Logits -> mask: sigmoid >= threshold, largest parts of at least `min_ml`, closed by `close_mm`."""

    head: Literal["segment"] = "segment"
    version: Literal[1] = 1
    output: str
    threshold: float = Field(default=0.5, gt=0, lt=1)
    min_ml: float = Field(default=100.0, ge=0)
    close_mm: float = Field(default=9.0, ge=0)


class DetectHead(Record):
    """Heat-map logits and log diameters -> candidates (CenterNet, arXiv:1904.07850).

    Cell c lies at voxel (c + 0.5) * stride - 0.5. Local maxima over 3x3x3 cells, centre refined by
    the heat-weighted centroid of those cells, kept within the mask grown by `within_mm`, best
    `top_k`, neighbours nearer than the larger radius merged.
    """

    head: Literal["detect"] = "detect"
    version: Literal[1] = 1
    heat: str
    log_diameter: str
    stride: int = Field(ge=1)
    top_k: int = Field(ge=1, le=512)
    within_mm: float = Field(ge=0)
    min_logit: float = -7.0


class ClassifyHead(Record):
    """Patch logits, averaged over the first `views` of the 8 flips and quarter turns."""

    head: Literal["classify"] = "classify"
    version: Literal[1] = 1
    output: str
    views: Literal[1, 2, 4, 8] = 8


class Calibration(Record):
    """score = sigmoid(propose * heat logit + classify * patch logit + bias), fitted out of fold."""

    propose: float
    classify: float
    bias: float
    threshold: float = Field(ge=0, le=1)


class SegmentProposeClassify(Record):
    """The line of lung nodules. A later version adds the optional networks for masses and measures."""

    kind: Literal["segment-propose-classify-measure"] = "segment-propose-classify-measure"
    version: Literal[1] = 1
    segment: SegmentHead
    propose: DetectHead
    classify: ClassifyHead
    calibration: Calibration
    max_findings: int = Field(default=32, ge=1)


class Limits(Record):
    """Spacing or thickness in mm: full up to `full`, limited up to `limited`, refused above."""

    full: float = Field(gt=0)
    limited: float = Field(gt=0)
    limited_min_diameter_mm: float = Field(
        default=8.0, description="findings below this are not reported when limited"
    )


class Accepts(Record):
    modality: tuple[str, ...]
    body_part: tuple[str, ...] = Field(description="upper case; substring of BodyPartExamined")
    spacing_mm: Limits
    cover_mm: float = Field(ge=0, description="least extent along the normal")
    min_slices: int = Field(default=10, ge=2)
    max_gap_mm: float = 10.0
    kernels_preferred: tuple[str, ...] = ()
    age_years: tuple[float, float] | None = None
    organ_ml: float = Field(default=500.0, description="least volume of the segmented organ")


class Golden(Record):
    """One recorded run of one network: an .npz with its inputs and outputs, made from our phantom."""

    network: str
    file: FileName
    digest: Digest
    atol: float = Field(gt=0)


class Source(Record):
    """A data set that trained the bundle."""

    name: str
    licence: str
    digest: str


class Provenance(Record):
    sources: tuple[Source, ...]
    seed: int
    code_digest: str
    made: str = Field(description="date, ISO 8601")
    figures: dict[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Manifest(Record):
    """manifest.json of a bundle."""

    schema_: Literal["scanside.bundle/1"] = Field(default=SCHEMA, alias="schema")
    name: Name
    version: Version
    title: str
    intended_use: str
    notice: str
    requires_appliance: Version = "0.1.0"
    licence: str
    accepts: Accepts
    line: SegmentProposeClassify
    networks: dict[Literal["segment", "propose", "classify"], Network]
    goldens: tuple[Golden, ...] = ()
    provenance: Provenance

    model_config = {**Record.model_config, "populate_by_name": True}  # type: ignore[assignment]


def digest(manifest_json: bytes) -> str:
    """The bundle's digest: SHA-256 of the bytes of manifest.json."""
    return hashlib.sha256(manifest_json).hexdigest()


def read(manifest_json: bytes) -> Manifest:
    """Bytes -> Manifest; BundleRefused names what this appliance does not know."""
    try:
        return Manifest.model_validate_json(manifest_json)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        where = ".".join(str(p) for p in first["loc"])
        raise BundleRefused(
            f"manifest.json: {where}: {first['msg']}",
            remedy="The bundle was made for another appliance version; see its requires_appliance.",
            code="bundle_manifest",
        ) from e


def write(manifest: Manifest) -> bytes:
    """Manifest -> canonical bytes: the same manifest, the same bytes."""
    return manifest.model_dump_json(by_alias=True, indent=1).encode() + b"\n"
