"""Sick lungs: how much of each lung is consolidated, hazy or destroyed, and which findings are
unsure because of it.

Rules.
1. A voxel of the closed lungs is of the class of its largest logit (heads.DISEASES; of equal ones
   the first, so nothing is said before disease is). What lies outside the lungs is of none. Of what
   is diseased, whatever its class, only what is three voxels thick counts: a voxel whose six
   neighbours are all diseased too, and the diseased among the 26 around it. Thinner things are the
   lungs' rim at the diaphragm and the wall and the vessels of the hilum: their voxels are half
   tissue, and every healthy CT has 60 to 200 ml of them at 3 mm.
2. A voxel is of the lung that one_lung.left_lung says. The share of disease is that of both lungs
   together. From the head's `diffuse_share` on the series has the limitation `diffuse_disease`,
   which gives the ml of each class in each lung.
3. A finding lies inside disease if its ball grown by RIM_MM holds some of an opaque part
   (face-connected; consolidated or ground glass) of LUMP_ML and more, or, where that limitation
   stands, if a quarter of the lung in that ball is opaque. The ball is grown, because the middle of
   a nodule may be taken for disease, and what frays at the edge of a pneumonia for nodules. A
   finding whose ball has more than half of the part's volume is that part, and lies in none; nor
   does one without lung around it. Emphysema hides no nodule.
4. More than MANY ground-glass findings, on both sides, are `multifocal`: each of them is unsure for
   it, and no other. Density is that of measure.py; what was not measured has none.
5. A finding keeps score and place whatever is said here, and what its score says of its certainty
   (detect.py). With a head of disease each one is sure or unsure; without it nothing more is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.backend.protocol import Pointwise, highest
from appliance.bundle.heads import DISEASES, DiseaseHead
from appliance.errors import Poisoned
from appliance.interpret import one_lung, segment
from appliance.reasons import Code
from appliance.records import Mask, Stack, Tensor
from appliance.report import Coverage, Disease, Doubt, Finding, LungDisease, Reason

RIM_MM = 6.0
"""Two voxels of the network that draws disease."""
QUARTER, HALF = 0.25, 0.5
LUMP_ML = 20.0
"""More than the ball of a nodule of 30 mm (14 ml), and than a hilum has in most CTs."""
OPAQUE = tuple(DISEASES.index(name) + 1 for name in ("consolidated", "ground_glass"))
MANY = 5
LEAST_MM = 3.0
"""The diameter of a finding that has none: smaller ones are not measured (detect.py, rule 4)."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a network says of the voxels of the lungs."""

    lungs: Mask
    classes: NDArray[np.uint8]
    """[z, y, x]: 0 for none and outside the lungs, else the place in DISEASES from 1 on."""

    @property
    def share(self) -> float:
        """Diseased share of both lungs, 0 to 1; 0 where there are none."""
        sick, all_of_it = (int(np.count_nonzero(a)) for a in (self.classes, self.lungs.voxels))
        return sick / max(all_of_it, 1)


def drawn(
    outputs: Mapping[str, NDArray[np.float32]], image: Tensor, head: DiseaseHead, lungs: Mask
) -> Drawn:
    """Logits [1, 4, z, y, x], padding still on -> the classes on the grid of `image` (rule 1).

    Poisoned (`backend_failed`) where they are not four or do not cover the grid.
    """
    grid, name, count = segment.grid_of(image), head.output, len(DISEASES) + 1
    partly = outputs if isinstance(outputs, Pointwise) else None
    shape = outputs[name].shape if partly is None else partly.shape(name)
    if len(shape) != 5 or shape[1] != count:
        raise Poisoned(
            f"an output of shape {shape} has no {count} classes of disease",
            code="backend_failed",
        )
    segment.covers(shape, grid)
    if partly is None:
        classes = highest(outputs[name], lungs.voxels)
    else:
        classes = partly.highest(name, lungs.voxels)
    classes *= _thick(classes > 0)
    return Drawn(lungs, classes)


def _thick(diseased: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which voxels are of something three voxels thick (rule 1); beyond the grid lies none."""
    middles = diseased.copy()
    for axis in range(3):
        lower, upper = _beside(axis)
        middles[upper] &= diseased[lower]
        middles[lower] &= diseased[upper]
        middles[_ends(axis)] = False
    near = middles.copy()
    for axis in range(3):
        lower, upper = _beside(axis)
        before = near.copy()
        near[upper] |= before[lower]
        near[lower] |= before[upper]
    return np.asarray(diseased & near, np.bool_)


def _beside(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """All planes of an axis but the last, and all but the first."""
    before = (slice(None),) * axis
    return (*before, slice(-1)), (*before, slice(1, None))


def _ends(axis: int) -> tuple[slice | list[int], ...]:
    """The first and the last plane of an axis."""
    return (*(slice(None),) * axis, [0, -1])


def figures(drawn: Drawn, middle: float) -> Disease:
    """The ml of each class in each lung; `middle`: x of the body's middle (LPS mm)."""
    left = one_lung.left_lung(drawn.lungs, middle)
    voxel_ml = float(np.prod(drawn.lungs.grid.spacing_mm)) / 1000

    def of(side: NDArray[np.bool_]) -> LungDisease:
        counts = np.bincount(drawn.classes[side], minlength=len(DISEASES) + 1) * voxel_ml
        named = {
            f"{name}_ml": round(float(ml)) for name, ml in zip(DISEASES, counts[1:], strict=True)
        }
        return LungDisease(lung_ml=round(float(counts.sum())), **named)

    return Disease(right=of(drawn.lungs.voxels & ~left), left=of(left))


def limitation(
    drawn: Drawn, head: DiseaseHead, stack: Stack, coverage: Coverage
) -> tuple[Reason, ...]:
    """DIFFUSE_DISEASE with its figures, where the share is reached (rule 2)."""
    if drawn.share < head.diffuse_share:
        return ()
    found = figures(drawn, one_lung.body_middle_mm(stack, coverage))
    sides = "; ".join(
        f"{side} lung of {of.lung_ml} ml: {of.consolidated_ml} ml consolidated, "
        f"{of.ground_glass_ml} ml ground glass, {of.emphysema_ml} ml emphysema"
        for side, of in (("right", found.right), ("left", found.left))
    )
    text = f"Disease takes up {100 * drawn.share:.0f} % of the lungs. In the {sides}."
    return (Reason(code=Code.DIFFUSE_DISEASE, text=text, where="series", disease=found),)


def judged(
    findings: Sequence[Finding], drawn: Drawn, *, diffuse: bool
) -> tuple[tuple[Finding, ...], tuple[Reason, ...]]:
    """Findings with their certainty, in their order, and MULTIFOCAL where it stands (rules 3 to 5).

    diffuse: whether the series has the limitation `diffuse_disease`.
    """
    glass = [f for f in findings if f.density == "ground_glass"]
    right, left = (sum(f.side == side for f in glass) for side in ("right", "left"))
    many = len(glass) > MANY and bool(right and left)
    sure_or_not = []
    opaque = np.isin(drawn.classes, OPAQUE)
    parts = segment.found_in(opaque)
    for finding in findings:
        why: list[Doubt] = [*finding.unsure_why]
        if _inside(finding, drawn.lungs, opaque, parts, diffuse=diffuse):
            why.append("inside disease")
        if many and finding in glass:
            why.append("one of many ground-glass findings on both sides")
        doubt = {"certainty": "unsure" if why else "sure", "unsure_why": tuple(why)}
        sure_or_not.append(finding.model_copy(update=doubt))
    text = f"{len(glass)} ground-glass findings: {right} on the right, {left} on the left."
    reasons = (Reason(code=Code.MULTIFOCAL, text=text, where="series"),) if many else ()
    return tuple(sure_or_not), reasons


def _inside(
    finding: Finding,
    lungs: Mask,
    opaque: NDArray[np.bool_],
    parts: segment.Found,
    *,
    diffuse: bool,
) -> bool:
    """Rule 3; `parts`: those of `opaque`."""
    diameter = finding.diameter_mm or LEAST_MM
    reach = diameter / 2 + RIM_MM
    near, away = segment.nearby(lungs.voxels, lungs.grid, finding.place_lps_mm, reach)
    at = near[away <= reach]
    sick = at[opaque[tuple(at.T)]]
    if not len(sick):
        return False
    owners = parts.owner[parts.pieces[tuple((sick - np.asarray(parts.low)).T)]]
    part_ml = float(parts.sizes[owners - 1].max() * np.prod(lungs.grid.spacing_mm)) / 1000
    if math.pi / 6 * diameter**3 / 1000 > HALF * part_ml:
        return False
    return part_ml >= LUMP_ML or (diffuse and len(sick) >= QUARTER * len(at))
