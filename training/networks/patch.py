"""The classifier of axial patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.blocks import Residual2d


class PatchNet(nn.Module):
    """Nodule or not, from one axial patch in the scan's own pixels.

    `image` [N,1,48,48] in [0, 1] -> `logit` [N].
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 64, 80)) -> None:
        """`widths`: channels at strides 1, 2, 4 and 8."""
        super().__init__()
        a, b, c, d = widths
        self.body = nn.Sequential(
            nn.Conv2d(1, a, 3, 1, 1, bias=False),
            nn.BatchNorm2d(a),
            nn.ReLU(inplace=True),
            Residual2d(a, b, 2),
            Residual2d(b, b),
            Residual2d(b, c, 2),
            Residual2d(c, c),
            Residual2d(c, d, 2),
            Residual2d(d, d),
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(2 * d, 1)

    def features(self, image: Tensor) -> Tensor:
        """Maps [N,C,6,6] at stride 8."""
        maps: Tensor = self.body(image)
        return maps

    def judged(self, maps: Tensor) -> Tensor:
        """Logit from maps; the pooled middle keeps 'nodule here' apart from 'nodule nearby'."""
        pooled = torch.cat([maps.mean((2, 3)), maps[:, :, 2:4, 2:4].mean((2, 3))], 1)
        logit: Tensor = self.head(self.drop(pooled)).squeeze(1)
        return logit

    def forward(self, image: Tensor) -> Tensor:
        """Logit of each patch."""
        return self.judged(self.features(image))
