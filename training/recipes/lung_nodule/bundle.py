"""What the lung-nodule bundle is, apart from its weights: inputs, heads, intended use.

Rules.
1. The ops and heads here are the appliance's own records, so a recipe cannot mean something else
   than a device does.
2. Figures that training finds (calibration, digests, dates) come in as arguments.
3. The networks of FILES make the line's version 1; each of those of ADDED makes it version 2, and a
   network that draws what is in DRAWN makes it version 3.
4. A mass network reads the very tensor of the lung network, so it has the same ops.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import onnx

from appliance.bundle.accepts import Accepts, Limits
from appliance.bundle.heads import (
    DISEASES,
    BodyHead,
    Calibration,
    ClassifyHead,
    CubeHead,
    DetectHead,
    DiseaseHead,
    MassHead,
    MeasureHead,
    SegmentHead,
)
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.manifest import Network, Port
from appliance.preprocess.spec import Crop, Cube, Op, Orient, Pad, Patch, Resample, Rescale, Window
from training.read.volume import HIGH_HU, LOW_HU
from training.ship import source_folder
from training.ship.source_folder import Precision

Role = Literal["segment", "propose", "classify", "cube", "mass", "measure"]

SEGMENT_MM, PROPOSE_MM = 3.0, 1.25
MULTIPLE = 16
MARGIN_MM = 8.0
WITHIN_RADII = 1.0  # a nodule's surface reaches the lungs, wherever its middle lies
STRIDE = 4
PATCH = 48
CUBE, MEASURE, CUBE_MM = 32, 48, 0.8
FILES: dict[Role, str] = {
    "segment": "lungs.onnx",
    "propose": "propose.onnx",
    "classify": "classify.onnx",
}
ADDED: dict[Role, str] = {
    "cube": "cube.onnx",
    "mass": "mass.onnx",
    "measure": "measure.onnx",
}
NAME = "lung-nodule"
TITLE = "Lung nodules on chest CT"
INTENDED_USE = (
    "Marks places in adult chest CT that may be lung nodules of 4 to 30 mm, for a reader who looks "
    "at the images anyway. It does not judge malignancy and does not exclude nodules."
)
INTENDED_USE_MASSES = (
    "Marks places in adult chest CT that may be lung nodules of 4 to 30 mm or larger masses, for a "
    "reader who looks at the images anyway. It does not judge malignancy and does not exclude "
    "nodules or masses."
)

NEVER_TESTED = (
    "Contrast phases, low-dose protocols and metal, one by one.",
    "Nodules inside consolidated or collapsed lung; calcified pleural plaques.",
    "Children, pregnancy, and chests after resection.",
)


def volume_ops(spacing_mm: float, crop: bool) -> tuple[Op, ...]:
    """The ops of a 3D network at an isotropic spacing."""
    grid = Resample(spacing_mm=(spacing_mm, spacing_mm, spacing_mm))
    box: tuple[Op, ...] = (Crop(margin_mm=MARGIN_MM),) if crop else ()
    window = Window(low=LOW_HU, high=HIGH_HU)
    return (Rescale(), Orient(), grid, *box, window, Pad(multiple=MULTIPLE))


def cube_ops(size: int) -> tuple[Op, ...]:
    """The ops of a network that sees cubes around candidates or findings."""
    window = Window(low=LOW_HU, high=HIGH_HU)
    return (Rescale(), Orient(), Cube(size=size, spacing_mm=CUBE_MM), window)


OPS: dict[Role, tuple[Op, ...]] = {
    "segment": volume_ops(SEGMENT_MM, crop=False),
    "propose": volume_ops(PROPOSE_MM, crop=True),
    "classify": (Rescale(), Orient(), Patch(size=PATCH), Window(low=LOW_HU, high=HIGH_HU)),
    "cube": cube_ops(CUBE),
    "mass": volume_ops(SEGMENT_MM, crop=False),
    "measure": cube_ops(MEASURE),
}
CUBE_HEAD = CubeHead(output="logit")
MEASURE_HEAD = MeasureHead(body="body", density="density")
BODY_HEAD = BodyHead(output="body")
VOLUME = (1, 1, -1, -1, -1)
DRAWN: dict[Role, Port] = {
    "mass": Port(name=BODY_HEAD.output, shape=VOLUME),
    "segment": Port(name="disease", shape=(1, 1 + len(DISEASES), -1, -1, -1)),
}
"""What a network may draw besides: the bodies of masses, the diseases of lungs."""
ONE_LUNG_SHARE = 0.32
"""Half of the least share that the smaller lung has of the larger one in eight CTs, of which two
have a tumour that takes up a part of a lung (docs/lung-nodule.md)."""


def mass_head(
    scale: float, bias: float, threshold: float, least_mm: float = 25.0, top_k: int = 8
) -> MassHead:
    """Masses: centres up to 30 mm from the lungs, for they sit in the chest wall and mediastinum
    too."""
    detect = DetectHead(
        heat="heat", log_diameter="log_diameter", stride=STRIDE, top_k=top_k, within_mm=30.0
    )
    return MassHead(detect=detect, scale=scale, bias=bias, threshold=threshold, least_mm=least_mm)


def disease_head(diffuse_share: float) -> DiseaseHead:
    """Diseases of the lungs, a limitation from this share of both lungs on."""
    return DiseaseHead(output=DRAWN["segment"].name, diffuse_share=diffuse_share)


def line_model(
    calibration: Calibration,
    top_k: int = 24,
    *,
    cube: CubeHead | None = None,
    mass: MassHead | None = None,
    measure: MeasureHead | None = None,
    body: BodyHead | None = None,
    disease: DiseaseHead | None = None,
) -> SegmentProposeClassify:
    """The heads of the line: version 1, 2 with any of what it added, 3 with bodies of masses,
    diseases of lungs or a score from which on a finding is sure."""
    third = body is not None or disease is not None or calibration.sure_from is not None
    version: Literal[1, 2, 3] = 3 if third else 2 if cube or mass or measure else 1
    return SegmentProposeClassify(
        version=version,
        segment=SegmentHead(output="lungs", threshold=0.5, min_ml=100.0, close_mm=9.0),
        propose=DetectHead(
            heat="heat",
            log_diameter="log_diameter",
            stride=STRIDE,
            top_k=top_k,
            within_mm=5.0,
            within_radii=WITHIN_RADII,
        ),
        classify=ClassifyHead(output="logit", views=8),
        calibration=calibration,
        cube=cube,
        mass=mass,
        measure=measure,
        body=body,
        one_lung_share=ONE_LUNG_SHARE if third else None,
        disease=disease,
    )


def network(
    role: Role, digest: str, precision: Precision = "int8", *, drawn: bool = False
) -> Network:
    """One network's entry in a manifest; spatial axes and the number of patches are free. `drawn`:
    it also says what DRAWN has of its role."""
    volume = VOLUME
    body = (-1, 1, MEASURE, MEASURE, MEASURE)
    inputs: dict[Role, tuple[int, ...]] = {
        "classify": (-1, 1, PATCH, PATCH),
        "cube": (-1, 1, CUBE, CUBE, CUBE),
        "measure": body,
    }
    centers = (Port(name="heat", shape=volume), Port(name="log_diameter", shape=volume))
    outputs: dict[Role, tuple[Port, ...]] = {
        "segment": (Port(name="lungs", shape=volume),),
        "propose": centers,
        "classify": (Port(name="logit", shape=(-1,)),),
        "cube": (Port(name="logit", shape=(-1,)),),
        "mass": centers,
        "measure": (Port(name="body", shape=body), Port(name="density", shape=(-1, 4))),
    }
    return Network(
        file={**FILES, **ADDED}[role],
        digest=digest,
        precision=precision,
        inputs=(Port(name="image", shape=inputs.get(role, volume)),),
        outputs=(*outputs[role], *([DRAWN[role]] if drawn else [])),
        preprocess=OPS[role],
    )


def network_of(role: Role, onnx_file: bytes) -> Network:
    """The entry of a network that no bundle holds yet: its outputs tell what it draws."""
    return network(role, "0" * 64, drawn=draws(role, onnx_file))


def draws(role: Role, onnx_file: bytes) -> bool:
    """Whether a network says what DRAWN has of its role."""
    outputs = {port.name for port in onnx.load_model_from_string(onnx_file).graph.output}
    return role in DRAWN and DRAWN[role].name in outputs


def described(
    calibration: Calibration,
    provenance: Mapping[str, Any],
    goldens: list[dict[str, Any]],
    version: str,
    top_k: int,
    precision: Precision = "int8",
    *,
    cube: CubeHead | None = None,
    mass: MassHead | None = None,
    measure: MeasureHead | None = None,
    body: BodyHead | None = None,
    disease: DiseaseHead | None = None,
    masses_mm: float | None = None,
    name: str = NAME,
) -> dict[str, Any]:
    """source.json: the manifest without the digests that packing fills in.

    `masses_mm`: spacing and thickness up to which only masses are looked for; None: refused above
    the limit of nodules.
    """
    heads = line_model(
        calibration, top_k, cube=cube, mass=mass, measure=measure, body=body, disease=disease
    )
    accepts = Accepts(
        modality=("CT",),
        body_part=("CHEST", "THORAX", "LUNG"),
        spacing_mm=Limits(full=2.5, limited=5.0, masses=masses_mm, limited_min_diameter_mm=8.0),
        cover_mm=150.0,
        age_years=(18.0, 120.0),
    )
    about = source_folder.About(
        name=name,
        version=version,
        title=TITLE,
        intended_use=INTENDED_USE if mass is None else INTENDED_USE_MASSES,
        never_tested=NEVER_TESTED,
    )
    drawn = {"mass": body, "segment": disease}
    networks: dict[str, Network] = {
        role: network(role, "0" * 64, precision, drawn=drawn.get(role) is not None)
        for role in OPS
        if role in heads.reads()
    }
    accepted = accepts.model_dump(mode="json")
    said = source_folder.described(about, accepted, heads, networks, goldens, provenance)
    return said if heads.version < 3 else {**said, "requires_appliance": heads.needs_appliance}
