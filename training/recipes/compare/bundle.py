"""What the lung-compare bundle is, apart from its weights: inputs, head, intended use.

Rules. The head is the appliance's own record. The network has no ops: `prior` makes what it sees of
two entries, as the head says. Its ports are those of DisplaceNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.bundle.accepts import Accepts
from appliance.bundle.exams import Compare
from appliance.bundle.heads import DisplaceHead
from appliance.bundle.manifest import Network, Port
from training.implant.pairs.fields import FIELD_MM
from training.read.volume import HIGH_HU, LOW_HU
from training.recipes.compare.seen import MULTIPLE
from training.ship import source_folder

FILE = "displace.onnx"
INPUTS = ["prior", "current"]
OUTPUT = "field"
VOLUME = (1, 1, -1, -1, -1)
ABOUT = {
    "name": "lung-compare",
    "title": "One chest CT laid over an earlier one",
    "intended_use": (
        "Lays a chest CT over an earlier one of the same adult, so that findings can be followed, "
        "for a reader who looks at both. It judges no change and excludes none."
    ),
}
NEVER_TESTED = (
    "Two dates of one patient: all figures are of synthetic pairs.",
    "Prone or lateral position, resection, one lung, large effusions.",
)


def network(digest: str) -> Network:
    """The network's entry in a manifest."""
    return Network(
        file=FILE,
        digest=digest,
        precision="fp32",
        inputs=tuple(Port(name=name, shape=VOLUME) for name in INPUTS),
        outputs=(Port(name=OUTPUT, shape=(1, 3, -1, -1, -1)),),
        preprocess=(),
    )


def line_model(passes: int) -> Compare:
    """The line; its table of repeatability is measured apart, and put in before it is packed."""
    head = DisplaceHead(
        output=OUTPUT,
        grid_mm=FIELD_MM,
        low_hu=LOW_HU,
        high_hu=HIGH_HU,
        multiple=MULTIPLE,
        passes=passes,
    )
    return Compare(displace=head)


def described(
    provenance: Mapping[str, Any], goldens: list[dict[str, Any]], version: str, passes: int
) -> dict[str, Any]:
    """source.json: the manifest without the digests that packing fills in."""
    line = line_model(passes)
    accepts = Accepts(modality=("CT",), body_part=("CHEST", "THORAX", "LUNG"))
    about = source_folder.About(version=version, never_tested=NEVER_TESTED, **ABOUT)
    said = source_folder.described(
        about,
        accepts.model_dump(mode="json"),
        line,
        {"displace": network("0" * 64)},
        goldens,
        provenance,
    )
    return {**said, "requires_appliance": line.needs_appliance}
