"""Painted disease as a lesson: what a chest gets, which pieces of it are seen, what is learned.

Rules.
1. Which diseases, how many and how many ml is drawn (KINDS_ML, COUNT). None takes more of the lungs
   that it lies in than FIRST, or than REST beside another one: the painter then never runs out of
   room.
2. Classes are those of the device (heads.DISEASES); paint.COUNTS says which kinds are of one.
   Fluid, honeycombs, cavities, scars, metal and masses are of none. So is what the host has of its
   own, because nobody has drawn it.
3. A lesson is a small piece. LOOKED_AT of them lie around a voxel of a class, each class of the
   chest as often as another, the rest anywhere in the lungs. In pieces as large as a chest one
   voxel in forty was diseased, and one piece in sixteen had any emphysema: three runs of 500 to
   1000 such steps said `none` of what they had learned from too (2026-11-29, fold 1).
4. A class is learned in the lungs and BAND voxels around them, for the device reads it in its own
   lungs, which are not quite the truth's.
5. The loss is cross entropy and Dice, on probabilities that add up to 1, of all pieces together. In
   the cross entropy a class weighs as its voxels to the power POWER: with 1, healthy lung is nearly
   all that counts; with 0.5, a network that is not sure says disease, and over twice the emphysema
   that is there. Dice is that of the classes which are there: that of an absent one falls with
   every voxel that is said.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from appliance.bundle.heads import DISEASES
from training.implant.disease.chest import Chest, Side
from training.implant.disease.layers import Kind
from training.implant.disease.paint import COUNTS, Sick, Wanted, paint
from training.read.volume import AIR_HU, F32, F64, window
from training.recipes.lung_nodule.altered import CALIBRATED, scanned, with_masses
from training.recipes.lung_nodule.turned import cut, drawn_turn

KINDS_ML: Mapping[Kind, tuple[float, float, float]] = {
    "consolidation": (30, 700, 0.17),
    "ground_glass": (40, 900, 0.19),
    "multifocal": (20, 400, 0.1),
    "effusion": (50, 700, 0.08),
    "atelectasis": (20, 300, 0.1),
    "emphysema": (60, 1200, 0.18),
    "bulla": (10, 200, 0.05),
    "honeycombing": (20, 300, 0.04),
    "cavity": (5, 60, 0.04),
    "scar": (2, 40, 0.04),
    "metal": (0.1, 5, 0.01),
}
"""Least and most ml, and how often a kind is drawn."""
COUNT = (0.08, 0.22, 0.35, 0.35)
"""Shares of chests with 0, 1, 2 and 3 diseases."""
ONE_SIDE = 0.5
FIRST, REST = 0.35, 0.12
LOOKED_AT = 0.7
MASSES = 0.15
"""Share of pieces into which masses are painted."""
MASS_HU = 40.0
"""A mass that changes a voxel by more hides the disease that was there."""
BAND = 2
POWER = 0.85
SMOOTH = 50.0
"""Voxels that keep the loss of a class of which there is little from jumping."""


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


def painted(rng: np.random.Generator, chest: Chest) -> Sick:
    """A chest with diseases that are drawn."""
    return paint(rng, chest, drawn(rng, chest))


def shares_of(sick: Sick) -> F32:
    """[3, z, y, x] in the order of DISEASES: 1 where a voxel is of the class."""
    out = np.zeros((len(DISEASES), *sick.hu.shape), np.float32)
    for i, name in enumerate(DISEASES):
        for kind in COUNTS[f"{name}_ml"]:
            if kind in sick.masks:
                out[i][sick.masks[kind]] = 1
    return out


def pieces(
    rng: np.random.Generator, sick: Sick, lungs: F32, count: int, size: tuple[int, int, int]
) -> tuple[F32, F32, F32]:
    """`count` pieces of a painted chest: windowed images [count, 1, *size], `lungs` (the chest's,
    [z, y, x] in [0, 1]) on them, and shares of DISEASES [count, 3, *size]."""
    shares = shares_of(sick)
    every = np.concatenate([(sick.hu - AIR_HU)[None], lungs[None], shares])
    found = np.empty((count, len(every), *size), np.float32)
    for one in found:
        one[:] = cut(every, drawn_turn(rng, 1.0), _looked_at(rng, shares, lungs), size)
        hu, inside = one[0] + AIR_HU, one[1]
        if rng.random() < MASSES:
            hu, before = with_masses(rng, hu, inside), hu
            one[2:] *= np.abs(hu - before) <= MASS_HU
        one[0] = window(scanned(rng, hu, CALIBRATED))
    return found[:, :1], found[:, 1:2], found[:, 2:]


def _looked_at(rng: np.random.Generator, shares: F32, lungs: F32) -> F64:
    """The middle of a piece (rule 3)."""
    there = np.flatnonzero(shares.any((1, 2, 3)))
    if len(there) and rng.random() < LOOKED_AT:
        at = np.flatnonzero(shares[rng.choice(there)])
    else:
        at = np.flatnonzero(lungs > 0.5)
    return np.array(np.unravel_index(at[rng.integers(len(at))], lungs.shape), np.float64)


def loss_of(logits: Tensor, shares: Tensor, lungs: Tensor) -> Tensor:
    """Rules 4 and 5. Logits [B,4,Z,Y,X], shares of DISEASES [B,3,Z,Y,X], lungs [B,1,Z,Y,X]."""
    known = _grown(lungs)[:, 0]
    none = 1 - shares.sum(1, keepdim=True).clamp(max=1)
    truth = torch.cat([none, shares], 1) * known[:, None]
    log_p = functional.log_softmax(logits.float(), 1)
    every = (0, 2, 3, 4)
    count = truth.sum(every)
    weight = count**POWER
    each = -(truth * log_p).sum(every) / count.clamp(min=SMOOTH)
    cross = (each * weight).sum() / weight.sum().clamp(min=1)
    p, sick = log_p[:, 1:].exp() * known[:, None], truth[:, 1:]
    overlap = (2 * (p * sick).sum(every) + SMOOTH) / ((p + sick).sum(every) + SMOOTH)
    there = (count[1:] > 0).float()
    return cross + ((1 - overlap) * there).sum() / there.sum().clamp(min=1)


def _grown(lungs: Tensor) -> Tensor:
    """1 in lungs [B,1,Z,Y,X] and BAND voxels around them, axis by axis: half the time of a cube."""
    out, side = (lungs > 0).float(), 2 * BAND + 1
    for axis in range(3):
        kernel, pad = ([n if i == axis else m for i in range(3)] for n, m in ((side, 1), (BAND, 0)))
        out = functional.max_pool3d(out, kernel, 1, pad)
    return out
