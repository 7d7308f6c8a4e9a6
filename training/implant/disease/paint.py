"""Disease painted into a chest: what is wanted, the table of kinds, and the truth of what was done.

Rules.
1. `paint` is a pure function of the generator, the chest and what is wanted: the host is not
   changed, the same seed gives the same bytes.
2. Diseases are laid one after the other, and each keeps out of the masks of those before it. So
   masks never overlap, and their volumes add up.
3. A volume that is wanted is met to a voxel for each lung, in the mask of the disease itself. Masks
   lie in the lungs. Effusion brings collapsed lung along, as a mask of its own.
4. A painted voxel outside of every mask is a border that fades, an edge blurred by the scanner, the
   air of a bronchus, the wall of a bulla or a ray of metal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from appliance.report import Record
from training.errors import DataError
from training.implant.disease import fluid, holes, lines, opacities
from training.implant.disease.chest import SIDES, Chest, Lung, Side
from training.implant.disease.layers import Kind, Layer, Site, mix
from training.read.volume import F32, Bool

KINDS: tuple[Kind, ...] = get_args(Kind)
Painter = Callable[[np.random.Generator, Site, float], list[Layer]]

PAINTERS: dict[Kind, Painter] = {
    "consolidation": opacities.consolidation,
    "ground_glass": opacities.ground_glass,
    "multifocal": opacities.multifocal,
    "effusion": fluid.effusion,
    "atelectasis": fluid.atelectasis,
    "emphysema": holes.emphysema,
    "bulla": holes.bulla,
    "honeycombing": holes.honeycombing,
    "cavity": holes.cavity,
    "scar": lines.scar,
    "metal": lines.metal,
}
RANGE_ML: dict[Kind, tuple[float, float]] = {
    **dict.fromkeys(KINDS, (5.0, 1500.0)),
    "scar": (2.0, 60.0),
    "metal": (0.05, 10.0),
}
"""What may be wanted of each kind, in ml: no lung holds a litre of scars or of clips."""
FULL = 0.75
"""Largest share of what is free in a lung that one disease may take."""
UNEVEN = (0.3, 0.7)
"""Share of the right lung where both are wanted."""


@dataclass(frozen=True)
class Wanted:
    """A disease to paint: `ml` ml of it in one lung or in both together."""

    kind: Kind
    ml: float
    side: Side | Literal["both"] = "both"


@dataclass(frozen=True)
class Sick:
    """A chest with disease, in the frame that the chest came in."""

    hu: F32  # [z, y, x]
    masks: dict[Kind, Bool]  # [z, y, x] of each kind that is there
    ml: dict[Kind, dict[Side, float]]  # of each of these masks in each lung


class LungTruth(Record):
    """Of one lung in ml what the report's limitation `diffuse_disease` tells."""

    consolidated_ml: float
    ground_glass_ml: float
    emphysema_ml: float


class DiffuseTruth(Record):
    """What a report should say of disease in each lung."""

    right: LungTruth
    left: LungTruth


COUNTS: dict[str, tuple[Kind, ...]] = {
    "consolidated_ml": ("consolidation", "atelectasis"),
    "ground_glass_ml": ("ground_glass", "multifocal"),
    "emphysema_ml": ("emphysema", "bulla"),
}
"""Collapsed and consolidated lung hold no air alike, and no CT without contrast tells them apart.
Fluid is outside of the lung; honeycombs, cavities, scars and metal are none of the three."""


def diffuse_truth(sick: Sick) -> DiffuseTruth:
    """What the report should say of a painted chest."""
    lungs = {
        side: LungTruth(
            **{
                name: sum(sick.ml.get(kind, {}).get(side, 0.0) for kind in kinds)
                for name, kinds in COUNTS.items()
            }
        )
        for side in SIDES
    }
    return DiffuseTruth(right=lungs["right"], left=lungs["left"])


def paint(rng: np.random.Generator, chest: Chest, wanted: Sequence[Wanted]) -> Sick:
    """The chest with each disease of `wanted`, in their order.

    DataError, before anything is painted of it, where a volume is out of RANGE_ML or more than the
    lungs have left.
    """
    hu = chest.hu.copy()
    taken = np.zeros(hu.shape, bool)
    masks: dict[Kind, Bool] = {}
    for want in wanted:
        for lung, ml in _shared_out(rng, chest, taken, want):
            site = Site(lung, hu[lung.part], lung.inside & ~taken[lung.part], chest.spacing)
            layers = PAINTERS[want.kind](rng, site, ml)
            hu[lung.part] = mix(rng, site, layers, chest.noise_hu)
            for layer in layers:
                if layer.kind is not None and layer.mask is not None:
                    whole = masks.setdefault(layer.kind, np.zeros(hu.shape, bool))
                    whole[lung.part] |= layer.mask
                    taken[lung.part] |= layer.mask
        if want.kind == "metal":
            lines.rays(rng, chest, hu, masks["metal"])
    ml_of: dict[Kind, dict[Side, float]] = {
        kind: {
            lung.side: float((mask[lung.part] & lung.inside).sum()) * chest.voxel_ml
            for lung in chest.lungs
        }
        for kind, mask in masks.items()
    }
    turned = chest.frame.turned
    return Sick(turned(hu), {kind: turned(mask) for kind, mask in masks.items()}, ml_of)


def _shared_out(
    rng: np.random.Generator, chest: Chest, taken: Bool, want: Wanted
) -> list[tuple[Lung, float]]:
    """How many ml of a disease each lung gets."""
    low, high = RANGE_ML[want.kind]
    if not low <= want.ml <= high:
        raise DataError(f"{want.ml:g} ml of {want.kind}: ask for {low:g} to {high:g} ml")
    room = {
        lung.side: FULL * float((lung.inside & ~taken[lung.part]).sum()) * chest.voxel_ml
        for lung in chest.lungs
        if want.side in ("both", lung.side)
    }
    if want.ml > sum(room.values()):
        raise DataError(
            f"{want.ml:g} ml of {want.kind}: there is room for {sum(room.values()):.0f} ml "
            f"(side: {want.side}); ask for less"
        )
    right = rng.uniform(*UNEVEN) * want.ml
    right = float(np.clip(right, want.ml - room.get("left", 0.0), room.get("right", 0.0)))
    shares: dict[Side, float] = {"right": right, "left": want.ml - right}
    return [(lung, shares[lung.side]) for lung in chest.lungs if shares[lung.side] > 0]
