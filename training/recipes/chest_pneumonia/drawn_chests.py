"""The drawn radiographs that the network of frontal views must keep, as a device sees them.

    phantom -> DX image -> what the bundle's ops make of it, [28, 28] in [0, 1]

Rules.
1. They are what `scanside demo --radiograph` sends, and more that it could send: SEEDS, healthy,
   with both lower lungs filled, and with either of them.
2. Nothing learns from them. But lessons were changed for what was said of them (brighter exposures,
   docs/radiographs.md), so that they are kept is a bar and no evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from appliance.phantom import instances
from appliance.phantom import radiograph as drawn
from appliance.phantom.chest import Phantom, chest
from appliance.preprocess import projection
from appliance.series.radiograph import read
from training.errors import DataError
from training.read.volume import F32
from training.recipes.chest_pneumonia import bundle

SEEDS = (1, 2, 3, 4, 5)
SPACING_MM = (2.5, 1.5, 1.5)
"""Of all but the demo's own, which has the phantom's."""
FILLED: Mapping[str, tuple[drawn.Consolidation, ...]] = {
    "healthy": (),
    "both lower lungs": drawn.LOWER_LUNGS,
    "right lower lung": drawn.LOWER_LUNGS[:1],
    "left lower lung": drawn.LOWER_LUNGS[1:],
}


def pictures() -> dict[str, F32]:
    """What is drawn -> the picture [28, 28]."""
    found = {"the demo's": seen(drawn.consolidated(chest()))}
    for seed in SEEDS:
        body = chest(seed, spacing_mm=SPACING_MM)
        for what, areas in FILLED.items():
            found[f"phantom {seed}, {what}"] = seen(drawn.consolidated(body, areas))
    return found


def seen(body: Phantom) -> F32:
    """A phantom, as the networks of the bundle see its radiograph [28, 28]."""
    image = read(instances.packed(drawn.instance(drawn.projected(body))))
    made = projection.tensor(image, bundle.network("0" * 64).preprocess)
    if isinstance(made, str):
        raise DataError(f"drawn radiograph: {made}")
    return np.asarray(made.values[0, 0], np.float32)


def lowest(scores: Mapping[str, float]) -> tuple[str, float]:
    """The chest that is kept least, and its score."""
    return min(scores.items(), key=lambda one: one[1])
