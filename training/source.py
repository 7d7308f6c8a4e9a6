"""What the lung-nodule bundle is, apart from its weights: inputs, heads, intended use.

Rules. The ops and heads here are the appliance's own records, so a recipe cannot mean something
else than a device does. Figures that training finds (calibration, digests, dates) come in as
arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from appliance.bundle.manifest import (
    Accepts,
    Calibration,
    ClassifyHead,
    DetectHead,
    Limits,
    Network,
    Port,
    SegmentHead,
    SegmentProposeClassify,
)
from appliance.preprocess.spec import Crop, Op, Orient, Pad, Patch, Resample, Rescale, Window

Role = Literal["segment", "propose", "classify"]
Precision = Literal["fp32", "int8"]

LOW_HU, HIGH_HU = -1000.0, 400.0
SEGMENT_MM, PROPOSE_MM = 3.0, 1.25
MULTIPLE = 16
MARGIN_MM = 8.0
STRIDE = 4
PATCH = 48
FILES: dict[Role, str] = {
    "segment": "lungs.onnx",
    "propose": "propose.onnx",
    "classify": "classify.onnx",
}
TITLE = "Lung nodules on chest CT"
INTENDED_USE = (
    "Marks places in adult chest CT that may be lung nodules of 4 to 30 mm, for a reader who looks "
    "at the images anyway. It does not judge malignancy and does not exclude nodules."
)
NOTICE = "research use, not for clinical use"


def volume_ops(spacing_mm: float, crop: bool) -> tuple[Op, ...]:
    """The ops of a 3D network at an isotropic spacing."""
    grid = Resample(spacing_mm=(spacing_mm, spacing_mm, spacing_mm))
    box: tuple[Op, ...] = (Crop(margin_mm=MARGIN_MM),) if crop else ()
    window = Window(low=LOW_HU, high=HIGH_HU)
    return (Rescale(), Orient(), grid, *box, window, Pad(multiple=MULTIPLE))


OPS: dict[Role, tuple[Op, ...]] = {
    "segment": volume_ops(SEGMENT_MM, crop=False),
    "propose": volume_ops(PROPOSE_MM, crop=True),
    "classify": (Rescale(), Orient(), Patch(size=PATCH), Window(low=LOW_HU, high=HIGH_HU)),
}


def line(calibration: Calibration, top_k: int = 24) -> SegmentProposeClassify:
    """The heads of the line."""
    return SegmentProposeClassify(
        segment=SegmentHead(output="lungs", threshold=0.5, min_ml=100.0, close_mm=9.0),
        propose=DetectHead(
            heat="heat", log_diameter="log_diameter", stride=STRIDE, top_k=top_k, within_mm=5.0
        ),
        classify=ClassifyHead(output="logit", views=8),
        calibration=calibration,
    )


def network(role: Role, digest: str, precision: Precision = "int8") -> Network:
    """One network's entry in a manifest; spatial axes and the number of patches are free."""
    volume = (1, 1, -1, -1, -1)
    inputs = (-1, 1, PATCH, PATCH) if role == "classify" else volume
    outputs = {
        "segment": (Port(name="lungs", shape=volume),),
        "propose": (Port(name="heat", shape=volume), Port(name="log_diameter", shape=volume)),
        "classify": (Port(name="logit", shape=(-1,)),),
    }
    return Network(
        file=FILES[role],
        digest=digest,
        precision=precision,
        inputs=(Port(name="image", shape=inputs),),
        outputs=outputs[role],
        preprocess=OPS[role],
    )


def described(
    calibration: Calibration,
    provenance: Mapping[str, Any],
    goldens: list[dict[str, Any]],
    version: str,
    top_k: int,
    precision: Precision = "int8",
) -> dict[str, Any]:
    """source.json: the manifest without the digests that packing fills in."""
    networks = {}
    for role in FILES:
        entry = network(role, "0" * 64, precision).model_dump(mode="json")
        del entry["digest"]
        networks[role] = entry
    accepts = Accepts(
        modality=("CT",),
        body_part=("CHEST", "THORAX", "LUNG"),
        spacing_mm=Limits(full=2.5, limited=5.0, limited_min_diameter_mm=8.0),
        cover_mm=150.0,
        age_years=(18.0, 120.0),
    )
    return {
        "schema": "scanside.bundle/1",
        "name": "lung-nodule",
        "version": version,
        "title": TITLE,
        "intended_use": INTENDED_USE,
        "notice": NOTICE,
        "licence": "CC-BY-4.0",
        "accepts": accepts.model_dump(mode="json"),
        "line": line(calibration, top_k).model_dump(mode="json"),
        "networks": networks,
        "goldens": goldens,
        "provenance": dict(provenance),
    }
