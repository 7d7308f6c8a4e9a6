"""scanside.bundle/1: what a bundle says of itself. Data only: no class path, no eval, no pickle.

Ops, heads and line kinds are closed, versioned vocabularies. An unknown one is refused by name with
the appliance version the bundle asks for. The bundle's digest is the SHA-256 of manifest.json.
In `accepts` a missing tag passes on to a check of the content; a contrary value refuses.

What a manifest must say of itself, beyond the types of its fields. What depends on the kind of its
line, the line's own model says (bundle/lines.py):
1. It has every network its line needs; each has as many inputs as the line feeds it, and the
   outputs that its head reads.
2. Every file is named once, and none is called like the manifest or its signature.
3. A network has only ops that its line allows in its role. A line that sees slices needs the
   figures of slices in `accepts`.
4. A golden case belongs to a network that is there.
5. What a version of a line added (bundle/lines.py) is not in a line of an earlier one. A head that
   is there has its network, and a network its head. Series in which only masses are looked for
   (`Limits.masses`) are for a line that finds masses.
6. `requires_appliance` is not below the first appliance that knows the line's version, nor, where a
   network says how it was quantised or has the op `soften`, or the bundle has shapes, below the
   first that knows that.
7. Only an int8 network says how it was quantised.
8. Shapes are for a line that sees slices.
9. Networks that are given one input have the same shapes of it and the same ops.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json

from appliance.bundle.accepts import Accepts
from appliance.bundle.agreement import TOLERANCES, Tolerances
from appliance.bundle.lines import Line, OfLine, Role
from appliance.errors import BundleRefused
from appliance.preprocess.spec import Op
from appliance.report import Digest, FindingKind, Millimetres3, Record

SCHEMA: Literal["scanside.bundle/1"] = "scanside.bundle/1"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Version = Annotated[str, Field(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}$")]
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
FileName = Annotated[str, Field(pattern=FILE_NAME, max_length=100)]
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
SINCE_QUANTIZED = "0.2.0"
"""The first appliance that knows `Network.quantized`."""
SINCE_SOFTEN = "0.2.0"
"""The first appliance that knows the op."""
SINCE_SHAPES = "0.2.0"
"""The first appliance that knows `Manifest.shapes`."""
MAX_BYTES = 1_000_000
"""Of manifest.json."""
L = TypeVar("L", bound=Record)


class Port(Record):
    """One input or output of a network; -1 is a free axis."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "float16", "int8"] = "float32"


class Quantized(Record):
    """How an int8 network got its scales."""

    method: Literal["minmax", "percentile"]
    scales_digest: Digest = Field(description="SHA-256 over name and scale of each activation")
    images: int = Field(ge=1, description="images of the calibration set")
    images_digest: Digest = Field(description="SHA-256 over the calibration set, in order")


class Network(Record):
    file: FileName
    digest: Digest
    precision: Literal["fp32", "fp16", "int8"]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    preprocess: tuple[Op, ...]
    quantized: Quantized | None = None
    """None: a float network, or one from before this was kept."""

    @model_validator(mode="after")
    def _int8_alone(self) -> Network:
        """Rule 7 at the top."""
        if self.quantized is not None and self.precision != "int8":
            raise ValueError(f"a network of {self.precision} was not quantised")
        return self


class Golden(Record):
    """One recorded run of a network: an .npz of its input and outputs, made from our phantom."""

    network: str
    file: FileName
    digest: Digest
    atol: float = Field(gt=0)


class Shapes(Record):
    """Shapes of real nodules for the probe (appliance/probe), of patients on whom no network of the
    bundle was trained."""

    file: FileName = Field(description="npz, as quality/shapes.py reads it")
    digest: Digest
    count: int = Field(ge=1)
    source: str = Field(description="the data set whose readers drew them, and which part of it")
    licence: str


class PhantomFinding(Record):
    """A finding in the phantom, as far as it is compared."""

    kind: FindingKind
    score: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, le=1)
    center_lps_mm: Millimetres3 | None = None
    diameter_mm: float | None = Field(default=None, ge=0)


class PhantomRecord(Record):
    """What the bundle found in the phantom of its kind when it was packed."""

    version: int = Field(ge=1)
    """Of the phantom (phantom/version.py)."""
    findings: tuple[PhantomFinding, ...]
    tolerances: Tolerances = TOLERANCES


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
    phantom: PhantomRecord | None = None
    """None: only golden cases prove it."""
    shapes: Shapes | None = None
    """None: nothing probes how well it finds."""
    provenance: Provenance

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        """Rules 1 to 6, 8 and 9 at the top."""
        self._refuse_older()
        line: OfLine = self.line
        reads = line.reads()
        for role, outputs in reads.items():
            network = next((n for r, n in self.networks.items() if r == role), None)
            if network is None:
                raise ValueError(f"the line needs a network {role!r}")
            if len(network.inputs) != (wanted := line.inputs(role)):
                number = "one input" if wanted == 1 else f"{wanted} inputs"
                raise ValueError(f"network {role!r} must have {number}")
            if missing := outputs - {port.name for port in network.outputs}:
                raise ValueError(f"network {role!r} has no output {min(missing)!r}")
            ops = {op.op for op in network.preprocess}
            if not line.allows(role, ops):
                raise ValueError(f"network {role!r} cannot have these ops: {sorted(ops)}")
        self._refuse_unlike_inputs()
        of_slices = {"spacing_mm", "cover_mm"} - self.accepts.model_fields_set
        if of_slices and line.sees_slices:
            raise ValueError(f"`accepts.{min(of_slices)}` is missing: the line sees slices")
        if idle := set(self.networks) - set(reads):
            raise ValueError(f"the line reads no network {min(idle)!r}")
        if self.accepts.spacing_mm.masses is not None and "mass" not in reads:
            raise ValueError("`accepts.spacing_mm.masses` needs a line that finds masses")
        if self.shapes is not None and not line.sees_slices:
            raise ValueError("`shapes` needs a line that sees slices")
        files = self.files()
        if len({name for name, _ in files}) != len(files):
            raise ValueError("a file is named twice")
        if taken := {MANIFEST, SIGNATURE} & {name for name, _ in files}:
            raise ValueError(f"no network or golden case may be called {min(taken)}")
        if strange := {g.network for g in self.goldens} - set(self.networks):
            raise ValueError(f"a golden case for an unknown network: {_shown(min(strange))}")
        return self

    def _refuse_unlike_inputs(self) -> None:
        """Rule 9 at the top."""
        line: OfLine = self.line
        by_role = {str(role): network for role, network in self.networks.items()}
        for role in line.reads():
            network, other = by_role[role], by_role.get(line.fed_as(role))
            if other is None or network is other:
                continue
            shapes = [[(port.shape, port.dtype) for port in n.inputs] for n in (network, other)]
            if shapes[0] != shapes[1] or network.preprocess != other.preprocess:
                raise ValueError(
                    f"network {role!r} must see what {line.fed_as(role)!r} sees: the same shape "
                    "and ops"
                )

    def _refuse_older(self) -> None:
        """Rule 6 at the top."""
        line: OfLine = self.line
        if older(self.requires_appliance, needed := line.needs_appliance):
            raise ValueError(f"`requires_appliance` is below {needed}, the first for this line")
        said = any(network.quantized is not None for network in self.networks.values())
        if said and older(self.requires_appliance, SINCE_QUANTIZED):
            raise ValueError(
                f"`requires_appliance` is below {SINCE_QUANTIZED}, the first that knows `quantized`"
            )
        if self.shapes is not None and older(self.requires_appliance, SINCE_SHAPES):
            raise ValueError(
                f"`requires_appliance` is below {SINCE_SHAPES}, the first that knows `shapes`"
            )

        softens = any(op.op == "soften" for n in self.networks.values() for op in n.preprocess)
        if softens and older(self.requires_appliance, SINCE_SOFTEN):
            raise ValueError(
                f"`requires_appliance` is below {SINCE_SOFTEN}, the first that knows `soften`"
            )

    def line_of(self, model: type[L]) -> L:
        """The line, for who knows its model; TypeError for a bundle of another kind."""
        if not isinstance(self.line, model):
            raise TypeError(f"{self.name} has a line of kind {self.line.kind!r}")
        return self.line

    def files(self) -> tuple[tuple[str, str], ...]:
        """Name and digest of every file that the bundle must hold beside manifest and signature."""
        networks = tuple((n.file, n.digest) for n in self.networks.values())
        shapes = () if self.shapes is None else ((self.shapes.file, self.shapes.digest),)
        return networks + tuple((g.file, g.digest) for g in self.goldens) + shapes


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
    for name in ("phantom", "shapes"):
        if data[name] is None:
            del data[name]
    for role, network in manifest.networks.items():
        if network.quantized is None:
            del data["networks"][role]["quantized"]
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
