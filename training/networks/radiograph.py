"""Pneumonia or not, from a small chest radiograph, and the map that the answer is the mean of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.blocks import Residual2d


class RadiographNet(nn.Module):
    """`image` [N,1,Y,X] in [0, 1] -> `logit` [N] and `activation` [N,1,Y/4,X/4].

    The activation is the class activation map (Zhou et al., arXiv:1512.04150): the head's weights
    over the last feature map. logit = mean of the map + bias, so that the map is the logit's own
    account of itself, cell by cell.
    """

    def __init__(
        self, widths: tuple[int, int, int] = (24, 48, 96), depth: int = 1, drop: float = 0.1
    ) -> None:
        """`widths`: channels at strides 1, 2 and 4; `depth`: residual blocks that keep a stride;
        `drop`: share of feature maps left out in training."""
        super().__init__()
        a, b, c = widths
        self.body = nn.Sequential(
            nn.Conv2d(1, a, 3, 1, 1, bias=False),
            nn.BatchNorm2d(a),
            nn.ReLU(inplace=True),
            Residual2d(a, b, 2),
            *(Residual2d(b, b) for _ in range(depth)),
            Residual2d(b, c, 2),
            *(Residual2d(c, c) for _ in range(depth)),
        )
        self.drop = nn.Dropout2d(drop)
        self.head = nn.Conv2d(c, 1, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(1))

    def features(self, image: Tensor) -> Tensor:
        """[N,1,Y,X] -> [N,C,Y/4,X/4], 0 or more."""
        maps: Tensor = self.body(image)
        return maps

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(logit, activation)."""
        activation: Tensor = self.head(self.drop(self.features(image)))
        return activation.mean((1, 2, 3)) + self.bias, activation


class LogitAlone(nn.Module):
    """`image` [N,1,Y,X] in [0, 1] -> `logit` [N]: a RadiographNet without its map."""

    def __init__(self, whole: RadiographNet) -> None:
        """`whole` is kept, not copied."""
        super().__init__()
        self.whole = whole

    def forward(self, image: Tensor) -> Tensor:
        """The logit."""
        logit: Tensor = self.whole(image)[0]
        return logit
