"""scanside.bundle/1: what a bundle says of itself. Data only: no class path, no eval, no pickle.

Ops, heads and line kinds are closed, versioned vocabularies. An unknown one is refused by name with
the appliance version the bundle asks for. The bundle's digest is the SHA-256 of manifest.json.
In `accepts` a missing tag passes on to a check of the content; a contrary value refuses.

What a manifest must say of itself, beyond the types of its fields:
1. It has every network its line needs; each has one input, and the outputs that its head reads.
2. Every file is named once, and none is called like the manifest or its signature.
3. `crop` needs a mask, so networks that see the whole series have none; `patch` is for a line's
   `classify` alone, `cube` for `cube` and `measure`; `display`, `collimation` and `square` are for
   the line of one radiograph, which has no other ops but `zscore`.
4. A golden case belongs to a network that is there.
5. What version 2 of a line added (masses, cubes, measuring) is not in a line of version 1. A head
   that is there has its network, and a network its head. Series in which only masses are looked
   for (`Limits.masses`) are for a line that finds masses.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json

from appliance.errors import BundleRefused
from appliance.preprocess.spec import RADIOGRAPH_OPS, Op
from appliance.report import Digest, Record

SCHEMA: Literal["scanside.bundle/1"] = "scanside.bundle/1"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Version = Annotated[str, Field(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}$")]
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
FileName = Annotated[str, Field(pattern=FILE_NAME, max_length=100)]
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MAX_BYTES = 1_000_000
"""Of manifest.json."""


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
    """Logits -> mask: sigmoid >= threshold, parts of at least `min_ml`, closed by `close_mm`."""

    head: Literal["segment"] = "segment"
    version: Literal[1] = 1
    output: str
    threshold: float = Field(default=0.5, gt=0, lt=1)
    min_ml: float = Field(default=100.0, ge=0)
    close_mm: float = Field(default=9.0, ge=0)


class DetectHead(Record):
    """Heat-map logits and log diameters -> candidates (CenterNet, arXiv:1904.07850).

    Cell c lies at voxel (c + 0.5) * stride - 0.5. Local maxima over 3x3x3 cells, centre refined by
    the heat-weighted centroid of those cells, kept within the mask grown by `within_mm` (or by
    `within_radii` times the candidate's own radius, where that is more: the middle of a large
    nodule at the pleura lies outside), best `top_k`, neighbours nearer than the larger radius
    merged.
    """

    head: Literal["detect"] = "detect"
    version: Literal[1] = 1
    heat: str
    log_diameter: str
    stride: int = Field(ge=1)
    top_k: int = Field(ge=1, le=512)
    within_mm: float = Field(ge=0)
    within_radii: float = Field(default=0.0, ge=0)
    min_logit: float = -7.0


class ClassifyHead(Record):
    """Patch logits, averaged over the first `views` of the 8 flips and quarter turns."""

    head: Literal["classify"] = "classify"
    version: Literal[1] = 1
    output: str
    views: Literal[1, 2, 4, 8] = 8


class CubeHead(Record):
    """One logit a cube: the 3D branch of the classifier."""

    head: Literal["cube"] = "cube"
    version: Literal[1] = 1
    output: str


class MassHead(Record):
    """Masses, from a network that sees the whole chest: score = sigmoid(scale * heat logit + bias),
    fitted out of fold. Kept from `least_mm` on; a nodule candidate inside a mass is part of it."""

    head: Literal["mass"] = "mass"
    version: Literal[1] = 1
    detect: DetectHead
    scale: float
    bias: float
    threshold: float = Field(ge=0, le=1)
    least_mm: float = Field(default=25.0, ge=0)


Density = Literal["solid", "part_solid", "ground_glass", "calcified"]
DENSITIES: tuple[Density, ...] = ("solid", "part_solid", "ground_glass", "calcified")


class MeasureHead(Record):
    """Logits of a finding's body [n, 1, z, y, x] and of its density class [n, 4] (DENSITIES), from
    cubes around the findings. A body is sigmoid >= threshold, the part at the cube's middle."""

    head: Literal["measure"] = "measure"
    version: Literal[1] = 1
    body: str
    density: str
    threshold: float = Field(default=0.5, gt=0, lt=1)


class Calibration(Record):
    """score = sigmoid(propose * heat logit + classify * patch logit + cube * cube logit + bias),
    fitted out of fold."""

    propose: float
    classify: float
    cube: float = 0.0
    bias: float
    threshold: float = Field(ge=0, le=1)


class SegmentProposeClassify(Record):
    """The line of lung nodules. Version 2 added `cube`, `mass` and `measure`, each optional."""

    kind: Literal["segment-propose-classify-measure"] = "segment-propose-classify-measure"
    version: Literal[1, 2] = 1
    segment: SegmentHead
    propose: DetectHead
    classify: ClassifyHead
    calibration: Calibration
    cube: CubeHead | None = None
    mass: MassHead | None = None
    measure: MeasureHead | None = None
    max_findings: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _of_its_version(self) -> SegmentProposeClassify:
        """Rule 5 at the top."""
        added = [name for name in ("cube", "mass", "measure") if getattr(self, name) is not None]
        if self.version == 1 and added:
            raise ValueError(f"version 1 of the line has no {added[0]!r}")
        return self

    def reads(self) -> dict[str, set[str]]:
        """Role -> the outputs that its head reads."""
        found = {
            "segment": {self.segment.output},
            "propose": {self.propose.heat, self.propose.log_diameter},
            "classify": {self.classify.output},
        }
        if self.cube is not None:
            found["cube"] = {self.cube.output}
        if self.mass is not None:
            found["mass"] = {self.mass.detect.heat, self.mass.detect.log_diameter}
        if self.measure is not None:
            found["measure"] = {self.measure.body, self.measure.density}
        return found


class ClassifyImage(Record):
    """The line of one radiograph: logit [n] -> score = sigmoid(scale * logit + bias), fitted out of
    fold; `activation`, if named, is the class activation map [n, 1, y, x] that shows where (Zhou et
    al., arXiv:1512.04150)."""

    kind: Literal["classify"] = "classify"
    version: Literal[1] = 1
    finding: Literal["pneumonia"]
    output: str
    activation: str | None = None
    scale: float = 1.0
    bias: float = 0.0
    threshold: float = Field(ge=0, le=1)

    def reads(self) -> dict[str, set[str]]:
        """Role -> the outputs that its head reads."""
        return {"classify": {self.output, *((self.activation,) if self.activation else ())}}


Line = Annotated[SegmentProposeClassify | ClassifyImage, Field(discriminator="kind")]
Role = Literal["segment", "propose", "classify", "cube", "mass", "measure"]


class Limits(Record):
    """Spacing or thickness in mm: full up to `full`, limited up to `limited`, from there to
    `masses` only masses are looked for (None: not at all), refused above."""

    full: float = Field(gt=0)
    limited: float = Field(gt=0)
    masses: float | None = Field(default=None, gt=0)
    limited_min_diameter_mm: float = Field(
        default=8.0, description="findings below this are not reported when limited"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Limits:
        if self.limited < self.full:
            raise ValueError("`limited` is below `full`")
        if self.masses is not None and self.masses < self.limited:
            raise ValueError("`masses` is below `limited`")
        return self

    @property
    def most(self) -> float:
        """Above this it is refused."""
        return self.limited if self.masses is None else self.masses


NO_SLICES = Limits(full=1000.0, limited=1000.0)
"""Of a bundle for single images: it binds nothing."""


class Accepts(Record):
    """What a bundle is meant for. The figures of slices say nothing of single images."""

    modality: tuple[str, ...]
    body_part: tuple[str, ...] = Field(description="upper case; substring of BodyPartExamined")
    required: tuple[Literal["age", "body_part"], ...] = Field(
        default=(), description="where this is missing or not understood, the bundle refuses"
    )
    spacing_mm: Limits = NO_SLICES
    cover_mm: float = Field(default=0.0, ge=0, description="least extent along the normal")
    min_slices: int = Field(default=10, ge=1)
    max_gap_mm: float = 10.0
    kernels_preferred: tuple[str, ...] = ()
    age_years: tuple[float, float] | None = None
    organ_ml: float = Field(default=500.0, description="least volume of the segmented organ")

    @model_validator(mode="after")
    def _in_order(self) -> Accepts:
        if self.age_years is not None and self.age_years[1] < self.age_years[0]:
            raise ValueError("`age_years` ends before it begins")
        if self.age_years is None and "age" in self.required:
            raise ValueError("`required` names the age, but there is no `age_years`")
        return self


class Golden(Record):
    """One recorded run of a network: an .npz of its input and outputs, made from our phantom."""

    network: str
    file: FileName
    digest: Digest
    atol: float = Field(gt=0)


class Source(Record):
    """A data set that trained the bundle."""

    name: str
    licence: str
    digest: str


class Figure(Record):
    """A measured figure with its 95 % interval and how many cases it counts."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Figure:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if self.low is not None and self.high is not None and self.high < self.low:
            raise ValueError("the interval ends before it begins")
        return self


class Provenance(Record):
    sources: tuple[Source, ...]
    seed: int
    code_digest: str
    made: str = Field(description="date, ISO 8601")
    figures: dict[str, Figure | float] = Field(default_factory=dict)
    never_tested: tuple[str, ...] = Field(
        default=(), description="besides what holds of any bundle"
    )
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
    line: Line
    networks: dict[Role, Network]
    goldens: tuple[Golden, ...] = ()
    provenance: Provenance

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        """Rules 1 to 5 at the top."""
        reads = self.line.reads()
        for role, outputs in reads.items():
            network = next((n for r, n in self.networks.items() if r == role), None)
            if network is None:
                raise ValueError(f"the line needs a network {role!r}")
            if len(network.inputs) != 1:
                raise ValueError(f"network {role!r} must have one input")
            if missing := outputs - {port.name for port in network.outputs}:
                raise ValueError(f"network {role!r} has no output {min(missing)!r}")
            if not _fits(role, {op.op for op in network.preprocess}, self.line):
                raise ValueError(
                    f"network {role!r} cannot have these ops: "
                    f"{sorted({op.op for op in network.preprocess})}"
                )
        of_slices = {"spacing_mm", "cover_mm"} - self.accepts.model_fields_set
        if of_slices and not isinstance(self.line, ClassifyImage):
            raise ValueError(f"`accepts.{min(of_slices)}` is missing: the line sees slices")
        if idle := set(self.networks) - set(reads):
            raise ValueError(f"the line reads no network {min(idle)!r}")
        if self.accepts.spacing_mm.masses is not None and "mass" not in reads:
            raise ValueError("`accepts.spacing_mm.masses` needs a line that finds masses")
        files = self.files()
        if len({name for name, _ in files}) != len(files):
            raise ValueError("a file is named twice")
        if taken := {MANIFEST, SIGNATURE} & {name for name, _ in files}:
            raise ValueError(f"no network or golden case may be called {min(taken)}")
        if strange := {g.network for g in self.goldens} - set(self.networks):
            raise ValueError(f"a golden case for an unknown network: {_shown(min(strange))}")
        return self

    def nodules(self) -> SegmentProposeClassify:
        """The line of lung nodules; TypeError for a bundle of another kind."""
        if not isinstance(self.line, SegmentProposeClassify):
            raise TypeError(f"{self.name} has a line of kind {self.line.kind!r}")
        return self.line

    def radiographs(self) -> ClassifyImage:
        """The line of one radiograph; TypeError for a bundle of another kind."""
        if not isinstance(self.line, ClassifyImage):
            raise TypeError(f"{self.name} has a line of kind {self.line.kind!r}")
        return self.line

    def files(self) -> tuple[tuple[str, str], ...]:
        """Name and digest of every file that the bundle must hold beside manifest and signature."""
        networks = tuple((n.file, n.digest) for n in self.networks.values())
        return networks + tuple((g.file, g.digest) for g in self.goldens)


def _fits(role: str, ops: set[str], line: SegmentProposeClassify | ClassifyImage) -> bool:
    """Rule 3 at the top."""
    if isinstance(line, ClassifyImage):
        return ops <= RADIOGRAPH_OPS and ops >= {"display", "square"}
    return (
        not ops & (RADIOGRAPH_OPS - {"zscore"})
        and ("patch" in ops) == (role == "classify")
        and ("cube" in ops) == (role in ("cube", "measure"))
        and ("crop" not in ops or role == "propose")
    )


def digest(manifest_json: bytes) -> str:
    """The bundle's digest: SHA-256 of the bytes of manifest.json."""
    return hashlib.sha256(manifest_json).hexdigest()


def read(manifest_json: bytes, appliance: str | None = None) -> Manifest:
    """Bytes -> Manifest, for an appliance of this version (None: whichever).

    BundleRefused names what this appliance does not know and the version that the bundle asks for:
    `bundle_unknown` an op, head, line kind, role, schema or their version; `bundle_requires` a
    newer appliance; `bundle_manifest` anything else.
    """
    if len(manifest_json) > MAX_BYTES:
        raise BundleRefused(f"{MANIFEST}: larger than {MAX_BYTES} bytes", code="bundle_manifest")
    required = _required(manifest_json)
    newer = required is not None and appliance is not None and older(appliance, required)
    asks = f"; the bundle asks for appliance {required or 'unknown'}"
    asks += f", this is {appliance}" if appliance else ""
    update = f"Update the appliance to {required} or later, then add the bundle again."
    try:
        manifest = Manifest.model_validate_json(manifest_json)
    except ValidationError as e:
        errors = e.errors(include_url=False)
        unknown = next((what for error in errors if (what := _unknown(error))), None)
        if unknown is not None:
            raise BundleRefused(
                f"{MANIFEST}: {unknown}{asks}",
                remedy=update if newer else None,
                code="bundle_unknown",
            ) from e
        if newer:
            raise BundleRefused(f"{MANIFEST}{asks}", remedy=update, code="bundle_requires") from e
        first = errors[0]
        raise BundleRefused(
            f"{MANIFEST}: {_where(first)}: {first['msg']}{asks}", code="bundle_manifest"
        ) from e
    if newer:
        raise BundleRefused(f"{MANIFEST}{asks}", remedy=update, code="bundle_requires")
    return manifest


def write(manifest: Manifest) -> bytes:
    """Manifest -> canonical bytes: equal manifests, the same bytes."""
    data = manifest.model_dump(mode="json", by_alias=True)
    return json.dumps(data, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def older(version: str, than: str) -> bool:
    """Whether one `Version` comes before another, by its three numbers."""
    return tuple(map(int, version.split("."))) < tuple(map(int, than.split(".")))


def _required(manifest_json: bytes) -> str | None:
    """`requires_appliance` even of a manifest that does not validate; None where it has none."""
    try:
        loose: Any = from_json(manifest_json)
        return _Required.model_validate(loose).requires_appliance
    except ValueError:
        return None


class _Required(Record):
    requires_appliance: Version

    model_config = ConfigDict(extra="ignore")


_VOCABULARIES = {"op": "op", "head": "head", "kind": "line kind", "schema": "schema"}


def _unknown(error: ErrorDetails) -> str | None:
    """What a closed vocabulary does not hold, by name; None for any other error."""
    last = str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "union_tag_invalid":
        what = "line kind" if last == "line" else "op"
        return f"unknown {what} {_shown(error['ctx']['tag'])} ({_where(error)})"
    if error["type"] != "literal_error":
        return None
    if last == "[key]":
        return f"unknown network {_shown(error['input'])}"
    if last == "version":
        return (
            f"unknown version {_shown(error['input'])} of {_where(error).removesuffix('.version')}"
        )
    if last in _VOCABULARIES:
        return f"unknown {_VOCABULARIES[last]} {_shown(error['input'])} ({_where(error)})"
    return None


def _where(error: ErrorDetails) -> str:
    """The place as the manifest has it: pydantic also names the line kind that it chose."""
    parts = error["loc"]
    if parts[:1] == ("line",):
        parts = ("line", *parts[2:]) if len(parts) > 2 else parts[:1]
    return ".".join(_plain(str(part)) for part in parts) or "the whole"


def _plain(part: str) -> str:
    return part if part.isascii() and part.isprintable() and len(part) <= 40 else _shown(part)


def _shown(value: object) -> str:
    """A hostile value as one short ASCII literal."""
    return ascii(str(value)[:40])
