"""Losses of the recipes.

Rules. Losses take logits in float32 and return one scalar; what a mask excludes has no gradient.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def centernet_focal(
    logits: Tensor, target: Tensor, weight: Tensor, alpha: float = 2.0, beta: float = 4.0
) -> Tensor:
    """Penalty-reduced focal loss of CenterNet (Zhou et al. 2019, eq. 1).

    `target` in [0, 1] is 1 at centres and falls off around them; `weight` is 0 where nothing is to
    be learned (ignored lesions). Same shapes. Normalised by the number of centres, at least 1.
    """
    logits = logits.float()
    p = logits.sigmoid()
    centre = (target >= 1.0).float()
    hit = -functional.logsigmoid(logits) * (1 - p) ** alpha * centre
    miss = -functional.logsigmoid(-logits) * p**alpha * (1 - target) ** beta * (1 - centre)
    return ((hit + miss) * weight).sum() / (centre * weight).sum().clamp(min=1.0)


def centre_l1(values: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error where `weight` > 0 (0 if nowhere)."""
    return ((values.float() - target).abs() * weight).sum() / weight.sum().clamp(min=1.0)


def soft_dice(logits: Tensor, target: Tensor, smooth: float = 50.0) -> Tensor:
    """1 - Dice of each sample, averaged; an empty truth is answered by an empty mask.

    `smooth` (voxels) keeps the loss of an empty truth near 0 while the mask stays small.
    """
    p = logits.float().sigmoid().flatten(1)
    t = target.flatten(1)
    dice = (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)
    return (1 - dice).mean()


def weighted_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross entropy averaged over the positions with weight, soft targets allowed."""
    each = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return (each * weight).sum() / weight.sum().clamp(min=1.0)
