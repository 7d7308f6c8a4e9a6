"""Masses: what a network that sees the whole chest finds, and which nodules are part of one.

Rules.
1. Candidates are those of detect.candidates, over the lungs grown far enough to reach masses of the
   chest wall and the mediastinum. score = sigmoid(scale * heat logit + bias), fitted out of fold.
2. Kept from `threshold` and `least_mm` on. A network of nodules finds a mass as several nodules at
   its rim; a candidate whose centre lies within a kept mass's radius is part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from appliance.bundle.heads import MassHead
from appliance.interpret import detect
from appliance.records import Candidate, Mask, Tensor


def kept(
    outputs: Mapping[str, NDArray[np.float32]], image: Tensor, head: MassHead, lungs: Mask
) -> tuple[Candidate, ...]:
    """Outputs [1, 1, z, y, x] in cells of the head's stride -> masses, best first (rules 1, 2).

    Poisoned (`backend_failed`) where the outputs do not cover the grid of `image`.
    """
    found = []
    for candidate in detect.candidates(outputs, image, head.detect, lungs, "mass"):
        score = detect.sigmoid(head.scale * candidate.logits["mass"] + head.bias)
        if score >= head.threshold and candidate.diameter_mm >= head.least_mm:
            found.append(replace(candidate, score=score))
    return tuple(sorted(found, key=lambda c: (-c.score, c.center_lps_mm)))


def outside(candidates: Sequence[Candidate], masses: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates that are part of no mass (rule 2), in their order."""
    return tuple(
        c
        for c in candidates
        if all(math.dist(c.center_lps_mm, m.center_lps_mm) >= m.diameter_mm / 2 for m in masses)
    )
