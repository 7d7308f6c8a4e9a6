"""Masses: what a network that sees the whole chest finds and draws, and which nodules are part of
one.

Rules.
1. Candidates are those of detect.candidates, over the lungs grown far enough to reach masses of the
   chest wall and the mediastinum. score = sigmoid(scale * heat logit + bias), fitted out of fold.
2. Kept from `threshold` and `least_mm` on. A network of nodules finds a mass as several nodules at
   its rim; a candidate whose centre lies within a kept mass's radius is part of it.

Where the network draws bodies too (version 3 of the line):
3. Parts are the face-connected parts of the voxels where sigmoid(logit) >= threshold. The part of a
   mass is the one of which most lies in the ball that the detector says. Smaller ones beside it are
   not of the mass.
4. The part is measured as measure.py says (rules 2 to 5 there), on the grid of the network, with
   what it encloses, because a mass may have a cavity. It is the body of the mass unless it is cut
   off or its mean axis is more than APART times larger or smaller than the detector's diameter.
   A mass without a body keeps the detector's diameter, and `Measured.why` says what was wrong.
5. What lies in a body, or within RIM_MM of it, is part of that mass: a nodule, and a mass of lower
   score. For a mass without a body rule 2 stands.
6. A nodule may be part of no mass and still lie in a part that leaves the cube around it. What its
   cube shows is then not measured: the part is its body, as in rule 4, and all nodules that lie in
   the part are one, the best. The detector of nodules knows nothing so large, so the part may be
   any times larger than it says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from appliance.bundle.heads import BodyHead, MassHead
from appliance.interpret import detect, measure, segment
from appliance.interpret.measure import APART, Body
from appliance.preprocess import plan
from appliance.records import Candidate, Grid, Mask, Stack, Tensor, Vector

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

RIM_MM = 3.0
"""How far from a body a nodule still is its rim: the voxel of the network that draws it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a network draws (rule 3)."""

    level: F32
    """[z, y, x]: logits less that of the threshold."""
    voxels: Bool
    """[z, y, x]: what belongs to any part."""
    found: segment.Found
    grid: Grid


@dataclass(frozen=True, slots=True)
class Measured:
    """A mass with the body that it is measured by, or why it has none."""

    mass: Candidate
    body: Body | None = None
    why: str | None = None


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
    return tuple(sorted(found, key=_order))


def outside(candidates: Sequence[Candidate], masses: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates that are part of no mass (rule 2), in their order."""
    return tuple(
        c
        for c in candidates
        if all(math.dist(c.center_lps_mm, m.center_lps_mm) >= m.diameter_mm / 2 for m in masses)
    )


def parts(outputs: Mapping[str, F32], image: Tensor, head: BodyHead) -> Parts:
    """Logits [1, 1, z, y, x], padding still on -> the parts on the grid of `image` (rule 3).

    Poisoned (`backend_failed`) where the logits do not cover the grid.
    """
    grid = segment.grid_of(image)
    logits = segment.unpadded(outputs[head.output], grid)
    level = logits - np.float32(np.log(head.threshold / (1 - head.threshold)))
    voxels = level >= 0
    return Parts(level, voxels, segment.found_in(voxels), grid)


def measured(
    masses: Sequence[Candidate], drawn: Parts | None, stack: Stack
) -> tuple[Measured, ...]:
    """Masses, best first, with their bodies (rules 3 to 5); none where the network draws none."""
    if drawn is None:
        return tuple(Measured(mass) for mass in masses)
    done: list[Measured] = []
    for mass in masses:
        if not any(_holds(one.body, mass.center_lps_mm) for one in done):
            part = _part_in_ball(drawn, mass)
            done.append(_with_body(mass, part, drawn, stack, most=APART))
    return tuple(done)


def apart(candidates: Sequence[Candidate], masses: Sequence[Measured]) -> tuple[Candidate, ...]:
    """The candidates that are part of no mass (rule 5), in their order."""
    beside = outside(candidates, [one.mass for one in masses if one.body is None])
    return tuple(c for c in beside if not any(_holds(one.body, c.center_lps_mm) for one in masses))


def overgrown(
    nodules: Sequence[Candidate], drawn: Parts, stack: Stack, cube_mm: float
) -> tuple[tuple[Measured, ...], tuple[Candidate, ...]]:
    """Nodules that are findings -> those that leave a cube with edges of `cube_mm`, best first, and
    the others in their order (rule 6)."""
    under = [_part_under(drawn, c.center_lps_mm) for c in nodules]
    large = {
        part
        for part, c in zip(under, nodules, strict=True)
        if part and _leaves(drawn, part, c.center_lps_mm, cube_mm)
    }
    best: dict[int, Candidate] = {}
    for part, nodule in zip(under, nodules, strict=True):
        if part in large:
            best[part] = min(nodule, best.get(part, nodule), key=_order)
    done = [_with_body(c, part, drawn, stack, most=math.inf) for part, c in best.items()]
    others = tuple(c for part, c in zip(under, nodules, strict=True) if part not in large)
    return tuple(sorted(done, key=lambda one: _order(one.mass))), others


def _order(candidate: Candidate) -> tuple[float, Vector]:
    """Best first; equal scores by place."""
    return -candidate.score, candidate.center_lps_mm


def _holds(body: Body | None, lps: Vector) -> bool:
    """Rule 5."""
    return body is not None and detect.within(body.mask, lps, RIM_MM)


def _part_in_ball(drawn: Parts, mass: Candidate) -> int:
    """Rule 3: the part of a mass; 0 where nothing is drawn in its ball."""
    radius = mass.diameter_mm / 2
    near, away = segment.nearby(drawn.voxels, drawn.grid, mass.center_lps_mm, radius)
    at = near[away <= radius] - np.asarray(drawn.found.low)
    if not len(at):
        return 0
    owners = drawn.found.owner[drawn.found.pieces[tuple(at.T)]]
    return int(np.argmax(np.bincount(owners)))


def _part_under(drawn: Parts, lps: Vector) -> int:
    """The part that a point lies in, 0 where it lies in none."""
    at = np.floor(plan.to_index(drawn.grid, lps) + 0.5).astype(int)
    inside = bool(((at >= 0) & (at < drawn.grid.shape)).all())
    return drawn.found.at(at.tolist()) if inside and drawn.voxels[tuple(at)] else 0


def _leaves(drawn: Parts, part: int, center: Vector, cube_mm: float) -> bool:
    """Whether a part reaches beyond the cube around a point; both have the axes of the images."""
    middle = plan.to_index(drawn.grid, center)
    box = drawn.found.box(part)
    low, high = (np.array([getattr(s, end) for s in box]) for end in ("start", "stop"))
    reach = np.maximum(middle - (low - 0.5), high - 0.5 - middle) * drawn.grid.spacing_mm
    return bool(reach.max() > cube_mm / 2)


def _with_body(mass: Candidate, part: int, drawn: Parts, stack: Stack, *, most: float) -> Measured:
    """Rule 4; `most`: how many times larger than the detector's diameter the part may be."""
    if not part:
        return Measured(mass, why="the network drew no outline there")
    voxels, box = np.zeros(drawn.grid.shape, np.bool_), drawn.found.box(part)
    voxels[box] = segment.filled(drawn.found.of(part, box))
    body = measure.whole(voxels, drawn.level, drawn.grid, measure.edges_of(stack))
    if body is None:
        return Measured(mass, why="its outline reaches the edge of the images")
    if not 1 / APART <= body.mean_mm / mass.diameter_mm <= most:
        sizes = f"{body.mean_mm:.0f} mm in the mean, the detector says {mass.diameter_mm:.0f} mm"
        return Measured(mass, why=f"its outline measures {sizes}")
    return Measured(mass, body)
