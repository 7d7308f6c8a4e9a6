"""What the chest-pneumonia bundle is, apart from its weights: input, head, intended use.

Rules. Ops and heads are the appliance's own records, so that a recipe cannot mean something else
than a device does; what training finds comes in as arguments. The age and the body part must be
said by the image: its data are children.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.bundle.accepts import Accepts
from appliance.bundle.heads import FrontalHead
from appliance.bundle.lines import ClassifyImage
from appliance.bundle.manifest import Network, Port
from appliance.preprocess.spec import Collimation, Display, Square
from appliance.report import ConformalBounds
from training.recipes.chest_pneumonia.pneumonia_mnist import SIZE
from training.ship import source_folder
from training.ship.source_folder import Precision

STRIDE = 4
"""Pixels of the input to a cell of the activation map."""
FILE = "pneumonia.onnx"
FRONTAL_FILE = "frontal.onnx"
NOTICE = f"demonstration, {source_folder.RESEARCH_USE}"
TITLE = "Pneumonia on a child's chest radiograph (demonstration)"
INTENDED_USE = (
    "A demonstration. Marks frontal chest radiographs of children of 1 to 5 years that may show "
    "pneumonia, for a reader who looks at the images anyway. It sees 28 x 28 pixels; it does not "
    "exclude pneumonia and says nothing of its kind."
)
NEVER_TESTED = (
    "Adults, newborns and children under 1 or over 5 years.",
    "Other hospitals, devices and exposures than those of the one centre its data come from.",
    "Digital originals: its data were JPEG files that someone else shrunk to 28 x 28 pixels.",
    "Effusion, heart failure, tuberculosis, masses; tubes, lines and casts; lateral views.",
)
NEVER_SEEN = (
    "Real radiographs that are no frontal chest. What tells these from others never saw a real "
    "lateral: it learned lateral, oblique and abdominal views from projections of CTs of eight "
    "adults."
)
"""Besides, of a bundle with a network `frontal`."""


def network(digest: str, precision: Precision = "int8") -> Network:
    """The network's entry in a manifest; the number of images is free."""
    cells = SIZE // STRIDE
    return Network(
        file=FILE,
        digest=digest,
        precision=precision,
        inputs=(Port(name="image", shape=(-1, 1, SIZE, SIZE)),),
        outputs=(
            Port(name="logit", shape=(-1,)),
            Port(name="activation", shape=(-1, 1, cells, cells)),
        ),
        preprocess=(Display(), Collimation(), Square(size=SIZE)),
    )


def frontal_network(digest: str) -> Network:
    """The entry of the network that says what is frontal: it sees what the other one sees."""
    seen = network(digest)
    return Network(
        file=FRONTAL_FILE,
        digest=digest,
        precision="fp32",
        inputs=seen.inputs,
        outputs=(Port(name="logit", shape=(-1,)),),
        preprocess=seen.preprocess,
    )


def line_model(
    heads: Mapping[str, float],
    certainty: ConformalBounds | None = None,
    frontal: FrontalHead | None = None,
) -> ClassifyImage:
    """The head, with the figures that were fitted out of fold; with bounds, of version 2, with a
    network of frontal views, of version 3."""
    return ClassifyImage(
        version=3 if frontal is not None else 2 if certainty is not None else 1,
        certainty=certainty,
        frontal=frontal,
        finding="pneumonia",
        output="logit",
        activation="activation",
        scale=heads["scale"],
        bias=heads["bias"],
        threshold=heads["threshold"],
    )


def described(
    heads: Mapping[str, float],
    provenance: Mapping[str, Any],
    goldens: list[dict[str, Any]],
    version: str,
    precision: Precision = "int8",
    certainty: ConformalBounds | None = None,
    frontal: FrontalHead | None = None,
) -> dict[str, Any]:
    """source.json: a manifest without the digests that packing fills in."""
    accepts = Accepts(
        modality=("CR", "DX"),
        body_part=("CHEST", "THORAX", "LUNG"),
        required=("age", "body_part"),
        age_years=(1.0, 5.0),
        min_slices=1,
    )
    about = source_folder.About(
        name="chest-pneumonia",
        version=version,
        title=TITLE,
        intended_use=INTENDED_USE,
        never_tested=NEVER_TESTED if frontal is None else (*NEVER_TESTED, NEVER_SEEN),
        notice=NOTICE,
    )
    accepted = accepts.model_dump(mode="json", exclude_unset=True)
    networks = {"classify": network("0" * 64, precision)}
    if frontal is not None:
        networks["frontal"] = frontal_network("0" * 64)
    line = line_model(heads, certainty, frontal)
    said = source_folder.described(about, accepted, line, networks, goldens, provenance)
    return said if line.version == 1 else {**said, "requires_appliance": line.needs_appliance}
