"""The source folder of a bundle: what `compile pack` takes.

    networks of finished runs, heads, figures -> NAME.onnx, golden/, source.json and, for a reader,
                                                 heads.json, metrics.json, provenance.json

Rules.
1. Nothing is trained and nothing is chosen here: networks come from the folders of the runs, where
   the task's quantising step put them.
2. source.json is the manifest without the digests of networks and golden cases: packing fills them
   in.
3. An int8 network says how it was quantised, as far as its run wrote that down.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from appliance.bundle.manifest import SINCE_QUANTIZED, Network, Quantized, older
from appliance.report import Record
from training.errors import RunError
from training.read.files import file_digest

Precision = Literal["fp32", "int8"]
FILES: dict[Precision, str] = {"int8": "int8.onnx", "fp32": "float.onnx"}
"""The networks in a run's folder."""
RESEARCH_USE = "research use, not for clinical use"


@dataclass(frozen=True)
class About:
    """What a manifest says for its reader."""

    name: str
    version: str
    title: str
    intended_use: str
    never_tested: Sequence[str]
    notice: str = RESEARCH_USE
    licence: str = "CC-BY-4.0"


def precision_named(text: str) -> Precision:
    """A precision by its name; one that is none ends the program with one line."""
    for precision in FILES:
        if precision == text:
            return precision
    raise SystemExit(f"error: --precision is one of {', '.join(FILES)}, not {text!r}")


def read_json(path: Path) -> dict[str, Any]:
    """What an earlier step of the task wrote; RunError where it did not."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as e:
        raise RunError(f"{path}: not there or not whole: run the step that writes it first") from e


def copied(run: Path, precision: Precision, target: Path) -> tuple[bytes, dict[str, Any]]:
    """Copies the network of a run's folder to `target`: its bytes, and what is known of it."""
    quantised = read_json(run / "quantize.json")
    data = (run / FILES[precision]).read_bytes()
    target.write_bytes(data)
    return data, {**quantised, "bytes": len(data), "sha256": file_digest(target)}


def described(
    about: About,
    accepts: Mapping[str, Any],
    line: Record,
    networks: Mapping[str, Network],
    goldens: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """source.json (rule 2)."""
    return {
        "schema": "scanside.bundle/1",
        "name": about.name,
        "version": about.version,
        "title": about.title,
        "intended_use": about.intended_use,
        "notice": about.notice,
        "licence": about.licence,
        "accepts": dict(accepts),
        "line": line.model_dump(mode="json"),
        "networks": {
            role: network.model_dump(mode="json", exclude={"digest"})
            for role, network in networks.items()
        },
        "goldens": list(goldens),
        "provenance": {**provenance, "never_tested": list(about.never_tested)},
    }


def quantized_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """manifest.Quantized of a network, by what its run's quantize.json says; empty where it does
    not say."""
    try:
        scales = json.dumps(about["scales"], sort_keys=True, separators=(",", ":"))
        way = Quantized(
            method=about["method"],
            scales_digest=hashlib.sha256(scales.encode()).hexdigest(),
            images=about["calibration"]["images"],
            images_digest=about["calibration"]["digest"],
        )
    except KeyError:
        return {}
    return way.model_dump(mode="json")


def with_quantized(source: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """source.json with rule 3; `about`: by role, what `copied` gave, or for a network that was
    kept, its `quantized` of before."""
    networks, said = {}, False
    for role, network in source["networks"].items():
        known = about.get(role, {})
        way = known.get("quantized") or quantized_of(known)
        networks[role] = dict(network)
        if way and network["precision"] == "int8":
            networks[role]["quantized"] = way
            said = True
    required = source.get("requires_appliance", "0.1.0")
    if said and older(required, SINCE_QUANTIZED):
        required = SINCE_QUANTIZED
    return {**source, "networks": networks, **({"requires_appliance": required} if said else {})}


def write(
    out: Path,
    source: Mapping[str, Any],
    heads: Mapping[str, Any],
    metrics: Mapping[str, Any],
    networks: Mapping[str, Any],
) -> None:
    """Writes source.json, and what a reader wants beside it. `networks`: what is known of each."""
    source = with_quantized(source, networks)
    for name, content in (
        ("heads", heads),
        ("metrics", metrics),
        ("provenance", {**source["provenance"], "networks": networks}),
        ("source", source),
    ):
        (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"source folder {out}")
