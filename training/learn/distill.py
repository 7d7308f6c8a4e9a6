"""What a student learns from a teacher besides the labels.

Rules.
1. Teachers come detached: no gradient flows back into them. Losses are means over the samples, in
   float32, and weigh nothing: the recipe adds them up.
2. `logit_loss` is Hinton et al. 2015 (arXiv:1503.02531, section 2): both at a temperature, times
   its square, so that the gradient keeps its size whatever the temperature.
3. `feature_loss` is FitNets (arXiv:1412.6550, eq. 3): the student's maps through a 1x1 projection
   that is trained along and thrown away. `attention_loss` is arXiv:1612.03928, eq. 2: where the
   maps are strong, whatever their channels. Maps of other sizes are averaged to the smaller one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def logit_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 times the divergence of the teacher's probabilities from the student's, a scalar.

    Logits [N] of one class against none (a sigmoid is the softmax of (0, z)), or [N,classes].
    ValueError for a temperature of 0 or less or other shapes.
    """
    if temperature <= 0:
        raise ValueError(f"a temperature is above 0, not {temperature}")
    if student.shape != teacher.shape or student.ndim not in {1, 2}:
        raise ValueError(f"logits [N] or [N,classes], not {student.shape} and {teacher.shape}")

    def log_probability(logits: Tensor) -> Tensor:
        z = logits if logits.dtype == torch.float64 else logits.float()
        pairs = torch.stack([torch.zeros_like(z), z], 1) if z.ndim == 1 else z
        return functional.log_softmax(pairs / temperature, dim=1)

    wanted = log_probability(teacher.detach())
    return temperature**2 * functional.kl_div(
        log_probability(student), wanted, reduction="batchmean", log_target=True
    )


def projection(student_channels: int, teacher_channels: int, dims: int = 2) -> nn.Module:
    """FitNets' regressor for maps of 2 or 3 axes: one convolution of size 1 and nothing else."""
    kind: type[nn.Module] = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    return kind(student_channels, teacher_channels, 1)


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared distance of projected maps [N,C,...] from the teacher's, a scalar."""
    ours, theirs = _same_size(student, teacher.detach())
    if ours.shape != theirs.shape:
        raise ValueError(f"project to the teacher's channels: {ours.shape} and {theirs.shape}")
    return 0.5 * functional.mse_loss(ours, theirs)


def attention(maps: Tensor) -> Tensor:
    """Sum over channels of the squares, as vectors [N,positions] of length 1 (maps [N,C,...])."""
    strength = (maps if maps.dtype == torch.float64 else maps.float()).square().sum(1).flatten(1)
    return functional.normalize(strength, dim=1)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean distance of the attention vectors of maps [N,C,...] and [N,C',...], a scalar in
    [0, sqrt(2)]."""
    ours, theirs = _same_size(student, teacher.detach())
    # the root's slope has no end at 0, where student and teacher agree
    squares = (attention(ours) - attention(theirs)).square().sum(1)
    return (squares + torch.finfo(squares.dtype).eps).sqrt().mean()


def _same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps in float, averaged to the smaller of the two sizes axis by axis."""
    ours = student if student.dtype == torch.float64 else student.float()
    theirs = teacher.to(ours.dtype)
    size = [min(a, b) for a, b in zip(ours.shape[2:], theirs.shape[2:], strict=True)]

    def shrunk(maps: Tensor) -> Tensor:
        if list(maps.shape[2:]) == size:
            return maps
        kind = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[len(size)]
        smaller: Tensor = kind(tuple(size))(maps)
        return smaller

    return shrunk(ours), shrunk(theirs)
