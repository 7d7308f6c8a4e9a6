"""Painted disease as a lesson of the lung network: what a chest gets, what is learned of it.

Rules.
1. Which diseases, how many and how many ml is drawn (KINDS_ML, COUNT). None takes more of the lungs
   that it lies in than FIRST, or than REST beside another one: the painter then never runs out of
   room.
2. Classes are those of the device (heads.DISEASES); paint.COUNTS says which kinds are of one.
   Fluid, honeycombs, cavities, scars, metal and masses are of none. So is what the host has of its
   own, because nobody has drawn it.
3. A class is learned in the lungs and BAND voxels around them, for the device reads it in its own
   lungs, which are not quite the truth's. It is learned where disease was painted with its mask,
   and in lungs that were left as they are; nowhere else.
4. The loss is cross entropy and Dice, on probabilities that add up to 1. A diseased voxel weighs
   SICK_WEIGHT: they are one in fifty. Dice is that of the classes which a piece has: that of an
   absent one falls with every voxel that is said, and two runs that had it said `none` of
   everything (2026-11-29, fold 1, 1000 and 500 steps).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor
from torch.nn import functional

from appliance.bundle.heads import DISEASES
from training.implant.disease.chest import Chest, Side
from training.implant.disease.layers import Kind
from training.implant.disease.paint import COUNTS, Sick, Wanted
from training.read.volume import F32

UNKNOWN = -1.0
KINDS_ML: Mapping[Kind, tuple[float, float, float]] = {
    "consolidation": (8, 700, 0.18),
    "ground_glass": (8, 900, 0.18),
    "multifocal": (10, 400, 0.1),
    "effusion": (50, 700, 0.1),
    "atelectasis": (8, 300, 0.1),
    "emphysema": (10, 1200, 0.16),
    "bulla": (5, 200, 0.04),
    "honeycombing": (20, 300, 0.04),
    "cavity": (5, 60, 0.04),
    "scar": (2, 40, 0.04),
    "metal": (0.1, 5, 0.02),
}
"""Least and most ml, and how often a kind is drawn."""
COUNT = (0.15, 0.4, 0.3, 0.15)
"""Shares of chests with 0, 1, 2 and 3 diseases."""
ONE_SIDE = 0.5
FIRST, REST = 0.35, 0.12
BAND = 2
SICK_WEIGHT = 8.0
SMOOTH = 50.0
"""Voxels that keep the Dice of a class of which there is little from jumping."""


def drawn(rng: np.random.Generator, chest: Chest) -> list[Wanted]:
    """The diseases of one chest, often none."""
    kinds, odds = list(KINDS_ML), [odds for *_, odds in KINDS_ML.values()]
    number = int(rng.choice(len(COUNT), p=COUNT))
    chosen = rng.choice(len(kinds), number, replace=False, p=odds)
    most = [FIRST, *[REST] * (number - 1)]
    return [wanted(rng, chest, kinds[i], most=m) for i, m in zip(chosen, most, strict=False)]


def wanted(rng: np.random.Generator, chest: Chest, kind: Kind, *, most: float) -> Wanted:
    """One disease, of at most the share `most` of the lungs that it lies in."""
    ml_of: dict[Side, float] = {
        lung.side: float(lung.inside.sum()) * chest.voxel_ml for lung in chest.lungs
    }
    low, high, _ = KINDS_ML[kind]
    side: Side | None = None
    if rng.random() < ONE_SIDE:
        side = list(ml_of)[int(rng.integers(len(ml_of)))]
    room = most * (sum(ml_of.values()) if side is None else ml_of[side])
    ml = float(np.exp(rng.uniform(np.log(low), np.log(max(min(high, room), low)))))
    return Wanted(kind, ml, side or "both")


def shares_of(sick: Sick) -> F32:
    """[3, z, y, x] in the order of DISEASES: 1 where a voxel is of the class."""
    out = np.zeros((len(DISEASES), *sick.hu.shape), np.float32)
    for i, name in enumerate(DISEASES):
        for kind in COUNTS[f"{name}_ml"]:
            if kind in sick.masks:
                out[i][sick.masks[kind]] = 1
    return out


def loss_of(logits: Tensor, shares: Tensor, lungs: Tensor) -> Tensor:
    """Rule 4. Logits [B,4,Z,Y,X], shares of DISEASES [B,3,Z,Y,X] or UNKNOWN, lungs [B,1,Z,Y,X]."""
    known = (_grown(lungs) * (shares[:, :1] >= 0))[:, 0]
    sick = shares.clamp(min=0)
    none = 1 - sick.sum(1).clamp(max=1)
    log_p = functional.log_softmax(logits.float(), 1)
    each = -(none * log_p[:, 0] + (sick * log_p[:, 1:]).sum(1))
    weight = known * (1 + (SICK_WEIGHT - 1) * (1 - none))
    cross = (each * weight).sum() / weight.sum().clamp(min=1)
    p, truth = log_p[:, 1:].exp() * known[:, None], sick * known[:, None]
    both, total = (p * truth).flatten(2).sum(2), (p + truth).flatten(2).sum(2)
    there = (truth.flatten(2).sum(2) > 0).float()
    dice = (1 - (2 * both + SMOOTH) / (total + SMOOTH)) * there
    return cross + dice.sum() / there.sum().clamp(min=1)


def _grown(lungs: Tensor) -> Tensor:
    """1 in lungs [B,1,Z,Y,X] and BAND voxels around them, axis by axis: half the time of a cube."""
    out, side = (lungs > 0).float(), 2 * BAND + 1
    for axis in range(3):
        kernel, pad = ([n if i == axis else m for i in range(3)] for n, m in ((side, 1), (BAND, 0)))
        out = functional.max_pool3d(out, kernel, 1, pad)
    return out
