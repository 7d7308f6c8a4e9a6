"""Losses of the recipes.

Rules.
1. Losses take logits and return one scalar. Half precision is reckoned in float32, double stays
   double. No probability enters a logarithm: a saturated logit gives a finite loss and gradient.
2. Logits, target and weight have the same shape; targets lie in [0, 1]. `weight` says how much a
   position counts; what has weight 0 has no gradient, and a loss without any weight is 0.
3. Loss by name: Dice (Milletari et al. 2016), focal (Lin et al. 2017), GHM-C (Li et al. 2019),
   CenterNet focal (Zhou et al. 2019), class weights (Cui et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Loss(Protocol):
    """What `WeightedSum` adds up; every loss of this module but `centre_l1` is one."""

    def __call__(self, logits: Tensor, target: Tensor, *, weight: Tensor) -> Tensor:
        """Three tensors of one shape -> a scalar."""
        ...


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _mean(each: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted mean, 0 without any weight."""
    if weight is None:
        return each.mean()
    weight = weight.to(each.dtype)
    return (each * weight).sum() / weight.sum().clamp(min=torch.finfo(each.dtype).tiny)


def centernet_focal(
    logits: Tensor, target: Tensor, weight: Tensor, alpha: float = 2.0, beta: float = 4.0
) -> Tensor:
    """Penalty-reduced focal loss of CenterNet (Zhou et al. 2019, eq. 1).

    `target` in [0, 1] is 1 at centres and falls off around them; `weight` is 0 where nothing is to
    be learned (ignored lesions). Same shapes. Normalised by the number of centres, at least 1.
    """
    logits = _precise(logits)
    p = logits.sigmoid()
    centre = (target >= 1.0).to(logits.dtype)
    hit = -functional.logsigmoid(logits) * (1 - p) ** alpha * centre
    miss = -functional.logsigmoid(-logits) * p**alpha * (1 - target) ** beta * (1 - centre)
    return ((hit + miss) * weight).sum() / (centre * weight).sum().clamp(min=1.0)


def centre_l1(values: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error where `weight` > 0 (0 if nowhere)."""
    return ((_precise(values) - target).abs() * weight).sum() / weight.sum().clamp(min=1.0)


def soft_dice(
    logits: Tensor, target: Tensor, smooth: float = 50.0, weight: Tensor | None = None
) -> Tensor:
    """1 - Dice of each sample [N, ...], averaged (Milletari et al. 2016, without their squares).

    `smooth` (voxels) keeps the loss of an empty truth near 0 while the mask stays small. All that
    follows the first axis is one mask: flatten channels into it to get one Dice a channel.
    """
    p = _precise(logits).sigmoid().flatten(1)
    t = target.flatten(1).to(p.dtype)
    w = torch.ones_like(p) if weight is None else weight.flatten(1).to(p.dtype)
    total = (p * w).sum(1) + (t * w).sum(1) + smooth
    dice = (2 * (p * t * w).sum(1) + smooth) / total.clamp(min=torch.finfo(p.dtype).tiny)
    return (1 - dice).mean()


def weighted_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross entropy averaged over the positions with weight, soft targets allowed."""
    logits = _precise(logits)
    each = functional.binary_cross_entropy_with_logits(
        logits, target.to(logits.dtype), reduction="none"
    )
    return (each * weight).sum() / weight.sum().clamp(min=1.0)


def focal(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
) -> Tensor:
    """Focal loss (Lin et al. 2017, eq. 5), averaged over the positions with weight.

    -alpha (1 - p)^gamma log p for a positive, -(1 - alpha) p^gamma log(1 - p) for a negative; a
    soft target (mixup) weighs the two. `alpha` None leaves both classes at 1. Lin et al. divide by
    the number of positives instead: for heat maps see `centernet_focal`.
    """
    logits = _precise(logits)
    target = target.to(logits.dtype)
    log_p, log_q = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    # (1 - p)^gamma as a power of e: exact near p = 1, and with a gradient for any gamma
    yes, no = -log_p * (gamma * log_q).exp(), -log_q * (gamma * log_p).exp()
    share = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return _mean(share[0] * target * yes + share[1] * (1 - target) * no, weight)


def gradient_norm_bins(logits: Tensor, target: Tensor, bins: int) -> Tensor:
    """Bin 0..bins-1 of each position's gradient norm |sigmoid(logit) - target| (Li et al. 2019)."""
    norm = (_precise(logits.detach()).sigmoid() - target).abs()
    return (norm * bins).long().clamp(0, bins - 1)  # NaN becomes some bin; the loss stays NaN


def gradient_density(bins_of: Tensor, weight: Tensor | None, bins: int) -> Tensor:
    """How many positions with weight each bin holds [bins], float."""
    counted = bins_of.flatten() if weight is None else bins_of[weight > 0]
    return torch.bincount(counted, minlength=bins).to(torch.get_default_dtype())


def harmonizing_weights(bins_of: Tensor, density: Tensor) -> Tensor:
    """Weight of each position: N / (its bin's density * number of bins in use).

    With the batch's own density their mean is 1, as in the authors' code; the paper's eq. 9 divides
    by all bins, used or not.
    """
    used = density > 0
    total = density.sum()
    each = torch.where(used, total / density.clamp(min=torch.finfo(density.dtype).tiny), 0)
    return (each / used.sum().clamp(min=1))[bins_of]


def ghm(logits: Tensor, target: Tensor, weight: Tensor | None = None, bins: int = 10) -> Tensor:
    """GHM-C (Li et al. 2019, eq. 10): cross entropy, each position divided by how many others have
    a gradient of its size. Both the many easy positions and the outliers weigh less.

    The density comes from this batch alone; `GradientHarmonizing` keeps a moving average.
    """
    bins_of = gradient_norm_bins(logits, target, bins)
    return _harmonized(logits, target, weight, bins_of, gradient_density(bins_of, weight, bins))


def _harmonized(
    logits: Tensor, target: Tensor, weight: Tensor | None, bins_of: Tensor, density: Tensor
) -> Tensor:
    logits = _precise(logits)
    each = functional.binary_cross_entropy_with_logits(
        logits, target.to(logits.dtype), reduction="none"
    )
    return _mean(each * harmonizing_weights(bins_of, density).to(each.dtype), weight)


class GradientHarmonizing(nn.Module):
    """`ghm` over a moving average of the density (Li et al. 2019, section 3.3).

    The average is a buffer, so it goes into a checkpoint; it starts at the first batch's density
    and moves in training mode only.
    """

    density: Tensor

    def __init__(self, bins: int = 10, momentum: float = 0.75) -> None:
        """`momentum` 0 takes each batch's own density."""
        super().__init__()
        self.bins, self.momentum = bins, momentum
        self.register_buffer("density", torch.zeros(bins))

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Tensors of one shape -> a scalar."""
        bins_of = gradient_norm_bins(logits, target, self.bins)
        density = gradient_density(bins_of, weight, self.bins)
        if self.density.any():
            density = torch.lerp(density, self.density.to(density), self.momentum)
        if self.training:
            self.density.copy_(density)
        return _harmonized(logits, target, weight, bins_of, density)


def class_weights(counts: Sequence[int], beta: float | None = None) -> Tensor:
    """Weights of K classes from how many samples each has, [K]; the mean over the samples is 1.

    Inverse frequency, or with `beta` in [0, 1) the inverse of Cui et al.'s (2019, eq. 2) effective
    number (1 - beta^n) / (1 - beta). ValueError for a class without a sample.
    """
    n = torch.tensor([float(c) for c in counts], dtype=torch.float64)
    if not len(n) or bool((n <= 0).any()):
        raise ValueError(f"every class needs a sample, not {list(counts)}")
    if beta is not None and not 0 <= beta < 1:
        raise ValueError(f"beta lies in [0, 1), not {beta}")
    effective = n if beta is None else 1 - beta**n
    inverse = effective.reciprocal()
    weights: Tensor = inverse * (n.sum() / (inverse * n).sum())
    return weights.float()


def weight_of_class(target: Tensor, weights: Tensor) -> Tensor:
    """A weight for each binary target: `weights` [2] of negatives and positives; a soft target
    weighs the two."""
    both = weights.to(target.device)
    return torch.lerp(both[0], both[1], _precise(target).to(both.dtype))


class WeightedSum(nn.Module):
    """Sum of named losses, each with its factor; `last` keeps every term's value for the log.

        WeightedSum({"dice": (1.0, soft_dice), "ghm": (0.5, GradientHarmonizing())})

    A loss that is a module (its density) is a child, so the sum's state goes into a checkpoint.
    """

    def __init__(self, terms: Mapping[str, tuple[float, Loss]]) -> None:
        """Name -> (factor, loss); ValueError unless factors are 0 or more and one is above 0."""
        super().__init__()
        factors = {name: factor for name, (factor, _) in terms.items()}
        if any(not 0 <= f < math.inf for f in factors.values()) or not any(factors.values()):
            raise ValueError(f"factors are 0 or more and one is above 0, not {factors}")
        self.terms = dict(terms)
        self.last: dict[str, Tensor] = {}
        for name, (_, loss) in self.terms.items():
            if isinstance(loss, nn.Module):
                self.add_module(name, loss)

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Tensors of one shape -> a scalar; terms of factor 0 are not reckoned."""
        weight = torch.ones_like(logits) if weight is None else weight
        values = {
            name: (factor, loss(logits, target, weight=weight))
            for name, (factor, loss) in self.terms.items()
            if factor
        }
        self.last = {name: value.detach() for name, (_, value) in values.items()}
        return torch.stack([factor * value for factor, value in values.values()]).sum()
