"""Heat map and log diameters -> candidates -> findings, in patient millimetres.

Rules.
1. Candidates are what manifest.DetectHead says (CenterNet, arXiv:1904.07850): 3x3x3 local maxima of
   the logits, at the sigmoid-weighted centroid of those cells; diameter = exp(output) at the peak.
   Cells whose middle lies in the padding are none.
2. Within the mask grown by `within_mm`, or by `within_radii` of its own radius where that is more:
   the nearest voxel is set, or a set one lies that near.
3. Best first; a candidate nearer to a better one than the larger of their radii is dropped. At
   most `top_k` stay. Equal logits are ordered by index, so the same map gives the same list.
4. Findings reach the threshold; none is smaller than `least_mm`. Under 3 mm no diameter is given,
   above 30 mm it is a mass (Lung-RADS v2022; Fleischner 2017). Nodules are routine: nothing here
   says how urgent, or how malignant, a finding is.
5. A finding whose score lies below the head's `sure_from` is unsure, and keeps score and place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.bundle.heads import DetectHead
from appliance.bundle.lines import Role
from appliance.errors import Poisoned
from appliance.interpret import segment
from appliance.preprocess import plan
from appliance.records import Candidate, Grid, Mask, Stack, Tensor, Vector
from appliance.report import Doubt, Finding, Scored, Scores

F32 = NDArray[np.float32]

LOG_MM = (np.log(0.5), np.log(200.0))
"""A diameter outside is cut to these: exp() of a stray output must not end the line."""
MEASURED_FROM_MM = 3.0
MASS_ABOVE_MM = 30.0
DOUBTFUL_SCORE: Doubt = "fewer than nine in ten of such a score are right"


def candidates(
    outputs: Mapping[str, F32], image: Tensor, head: DetectHead, mask: Mask, role: Role = "propose"
) -> tuple[Candidate, ...]:
    """Outputs [1, 1, z, y, x] in cells of `stride` voxels -> candidates, best first (rules 1 to 3).

    `score` is sigmoid(logit) until it is calibrated; `role` is the network's. Poisoned
    (`backend_failed`) where the outputs do not cover the grid of `image`.
    """
    grid = segment.grid_of(image)
    heat, log_diameter = _cells(outputs, head, grid)
    peaks = np.argwhere((heat >= _highest_around(heat)) & (heat >= head.min_logit))
    middles = (peaks + 0.5) * head.stride - 0.5
    inside = (middles < np.asarray(grid.shape) - 0.5).all(axis=1)
    peaks = peaks[inside]
    logits = heat[tuple(peaks.T)]
    diameters = np.exp(np.clip(log_diameter[tuple(peaks.T)].astype(np.float64), *LOG_MM))
    kept: list[Candidate] = []
    for i in np.argsort(-logits, kind="stable"):
        cell = plan.triple(peaks[i])
        center = plan.vector(plan.to_lps(grid, (_centroid(heat, cell) + 0.5) * head.stride - 0.5))
        diameter = float(diameters[i])
        if any(_same(center, diameter, better) for better in kept):
            continue
        if not within(mask, center, max(head.within_mm, head.within_radii * diameter / 2)):
            continue
        logit = float(logits[i])
        kept.append(Candidate(center, diameter, {role: logit}, sigmoid(logit)))
        if len(kept) == head.top_k:
            break
    return tuple(kept)


def within(mask: Mask, lps: Vector, reach_mm: float) -> bool:
    """Whether a point lies in the mask grown by `reach_mm` (rule 2)."""
    middle = plan.to_index(mask.grid, lps)
    z, y, x = (math.floor(i + 0.5) for i in middle.tolist())
    depth, rows, columns = mask.grid.shape
    if 0 <= z < depth and 0 <= y < rows and 0 <= x < columns and mask.voxels[z, y, x]:
        return True
    _, away = segment.around(mask.voxels, mask.grid, middle, reach_mm)
    return bool(np.any(away <= reach_mm))


def findings(
    candidates: Sequence[Candidate],
    stack: Stack,
    mask: Mask,
    *,
    threshold: float,
    least_mm: float,
    most: int,
    sure_from: float | None = None,
) -> tuple[Finding, ...]:
    """Scored candidates -> at most `most` findings, best first (rule 4).

    `tracking_uid` is empty until `line.seal` knows the report's id. Key images carry their SOP
    Instance UID; `seal` takes it off unless the site lets it out. One below `sure_from` is unsure
    (heads.Calibration); None: nothing is said of certainty.
    """
    chosen = [c for c in candidates if c.score >= threshold and c.diameter_mm >= least_mm]
    chosen = sorted(chosen, key=lambda c: (-c.score, c.center_lps_mm))[:most]
    sides = segment.sides(mask, [c.center_lps_mm for c in chosen])
    found = []
    for number, (candidate, side) in enumerate(zip(chosen, sides, strict=True), start=1):
        key_image = plan.nearest_plane(stack, candidate.center_lps_mm)
        diameter = round(candidate.diameter_mm, 1)
        x, y, z = (round(v, 2) for v in candidate.center_lps_mm)
        half = candidate.diameter_mm / 2
        low, high = ([round(v + way * half, 2) for v in (x, y, z)] for way in (-1, 1))
        found.append(
            Finding(
                id=number,
                tracking_uid="",
                kind="mass" if diameter > MASS_ABOVE_MM else "nodule",
                score=candidate.score,
                threshold=threshold,
                center_lps_mm=(x, y, z),
                box_lps_mm=(low[0], low[1], low[2], high[0], high[1], high[2]),
                diameter_mm=diameter if diameter >= MEASURED_FROM_MM else None,
                side=side,
                key_image=key_image,
                key_sop_instance_uid=stack.planes[key_image].header.sop_instance_uid,
                **_certainty(candidate.score, sure_from),
            )
        )
    return tuple(found)


def _certainty(score: float, sure_from: float | None) -> dict[str, Any]:
    """What a score alone says of a finding's certainty."""
    if sure_from is None:
        return {}
    if score >= sure_from:
        return {"certainty": "sure"}
    return {"certainty": "unsure", "unsure_why": (DOUBTFUL_SCORE,)}


def scores(candidates: Iterable[Candidate], threshold: float) -> Scores:
    """All that was scored against a threshold, the highest first."""
    best = sorted(candidates, key=lambda c: (-c.score, c.center_lps_mm))
    return Scores(
        threshold=threshold,
        candidates=tuple(
            Scored(score=c.score, center_lps_mm=c.center_lps_mm, diameter_mm=c.diameter_mm)
            for c in best
        ),
    )


def ranked(
    found: Iterable[tuple[Finding, Mask | None]], *, least_mm: float, most: int
) -> tuple[tuple[Finding, ...], tuple[Mask, ...]]:
    """Findings of several detectors, with the bodies of those that were measured, as one list
    (rule 4): best first; the body of the first finding is called `finding-1`."""
    kept = [pair for pair in found if not least_mm or (pair[0].diameter_mm or 0.0) >= least_mm]
    kept.sort(key=lambda pair: (-pair[0].score, pair[0].place_lps_mm))
    numbered = list(enumerate(kept[:most], start=1))
    return (
        tuple(finding.model_copy(update={"id": n}) for n, (finding, _) in numbered),
        tuple(replace(body, name=f"finding-{n}") for n, (_, body) in numbered if body is not None),
    )


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow."""
    return float(0.5 * (1 + np.tanh(0.5 * logit)))


def _cells(outputs: Mapping[str, F32], head: DetectHead, grid: Grid) -> tuple[F32, F32]:
    """Heat and log diameter [z, y, x] of cells, checked against the grid."""
    heat, log_diameter = outputs[head.heat], outputs[head.log_diameter]
    covers = heat.ndim == 5 and np.all(np.multiply(heat.shape[2:], head.stride) >= grid.shape)
    if not covers or heat.shape != log_diameter.shape:
        raise Poisoned(
            f"outputs of shapes {heat.shape} and {log_diameter.shape} at stride {head.stride} do "
            f"not cover the grid {grid.shape}",
            code="backend_failed",
        )
    return heat[0, 0], log_diameter[0, 0]


def _highest_around(heat: F32) -> F32:
    """The largest value of the 3x3x3 cells around each cell; there is nothing beyond the border."""
    padded = np.pad(heat, 1, constant_values=-np.inf)
    padded = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    padded = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return np.asarray(np.maximum(np.maximum(padded[..., :-2], padded[..., 1:-1]), padded[..., 2:]))


def _centroid(heat: F32, cell: tuple[int, int, int]) -> NDArray[np.float64]:
    """Sigmoid-weighted centroid, in cells, of the 3x3x3 cells around a peak."""
    low = [max(i - 1, 0) for i in cell]
    near = heat[tuple(slice(a, b + 2) for a, b in zip(low, cell, strict=True))]
    weight = 0.5 * (1 + np.tanh(0.5 * near.astype(np.float64)))
    total = float(weight.sum())
    if total == 0:
        return np.asarray(cell, np.float64)
    axes = [np.add.reduce(weight, axis=others).tolist() for others in ((1, 2), (0, 2), (0, 1))]
    return np.asarray(
        [
            a + sum(i * w for i, w in enumerate(axis)) / total
            for a, axis in zip(low, axes, strict=True)
        ]
    )


def _same(center: Vector, diameter: float, other: Candidate) -> bool:
    """Rule 3: nearer than the larger radius."""
    return math.dist(center, other.center_lps_mm) < max(diameter, other.diameter_mm) / 2
