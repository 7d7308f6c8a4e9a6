"""Heat, patch and cube logits -> one calibrated score a candidate.

Rules. A candidate's patch logit is the mean over its views, that reference.views lays side by side;
a cube has one view. score = sigmoid(propose * heat logit + classify * patch logit + cube * cube
logit + bias), without the cube's part where the line has no such network, fitted out of fold:
detection confidence, never a probability of malignancy. Best first; equal scores are ordered by
place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from appliance.bundle.heads import Calibration, ClassifyHead, CubeHead
from appliance.errors import Poisoned
from appliance.interpret.detect import sigmoid
from appliance.records import Candidate

F32 = NDArray[np.float32]


def logits(outputs: Mapping[str, F32], head: ClassifyHead) -> F32:
    """The head's output [n * views, 1] or [n * views] -> one logit a candidate [n].

    Poisoned (`backend_failed`) where it is not one logit a view.
    """
    array = outputs[head.output]
    if array.size != array.shape[0] or array.size % head.views:
        raise Poisoned(
            f"an output of shape {array.shape} is not one logit for each of {head.views} views",
            code="backend_failed",
        )
    return np.asarray(array.reshape(-1, head.views).mean(axis=1), np.float32)


def cube_logits(outputs: Mapping[str, F32], head: CubeHead) -> F32:
    """The head's output [n, 1] or [n] -> one logit a candidate [n].

    Poisoned (`backend_failed`) where it is not one logit a cube.
    """
    array = outputs[head.output]
    if array.size != array.shape[0]:
        raise Poisoned(
            f"an output of shape {array.shape} is not one logit a cube", code="backend_failed"
        )
    return array.reshape(-1)


def scored(
    candidates: Sequence[Candidate],
    logits: F32,
    calibration: Calibration,
    cube: F32 | None = None,
) -> tuple[Candidate, ...]:
    """Candidates with their patch logits [n], and cube logits [n] if the line has them -> the same
    with calibrated scores, best first."""
    named = {"classify": logits} if cube is None else {"classify": logits, "cube": cube}
    for role, given in named.items():
        if len(given) != len(candidates):
            raise Poisoned(
                f"{len(candidates)} candidates have {len(given)} {role} logits",
                code="backend_failed",
            )
    done = []
    for i, candidate in enumerate(candidates):
        own = {role: float(given[i]) for role, given in named.items()}
        total = calibration.propose * candidate.logits["propose"]
        total += calibration.classify * own["classify"] + calibration.bias
        total += calibration.cube * own.get("cube", 0.0)
        done.append(replace(candidate, logits={**candidate.logits, **own}, score=sigmoid(total)))
    return tuple(sorted(done, key=lambda c: (-c.score, c.center_lps_mm)))
