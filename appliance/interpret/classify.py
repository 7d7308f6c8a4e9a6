"""Patch logits and heat logits -> one calibrated score a candidate.

Rules. A candidate's patch logit is the mean over its views, that reference.views lays side by side.
score = sigmoid(propose * heat logit + classify * patch logit + bias), fitted out of fold: detection
confidence, never a probability of malignancy. Best first; equal scores are ordered by place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from appliance.bundle.manifest import Calibration, ClassifyHead
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


def scored(
    candidates: Sequence[Candidate], logits: F32, calibration: Calibration
) -> tuple[Candidate, ...]:
    """Candidates with their patch logits [n] -> the same with calibrated scores, best first."""
    if len(logits) != len(candidates):
        raise Poisoned(
            f"{len(candidates)} candidates have {len(logits)} patch logits", code="backend_failed"
        )
    done = []
    for candidate, logit in zip(candidates, logits.tolist(), strict=True):
        total = calibration.propose * candidate.logits["propose"]
        total += calibration.classify * logit + calibration.bias
        both = {**candidate.logits, "classify": logit}
        done.append(replace(candidate, logits=both, score=sigmoid(total)))
    return tuple(sorted(done, key=lambda c: (-c.score, c.center_lps_mm)))
