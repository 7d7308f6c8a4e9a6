"""The network that outlines a finding and names its density."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from appliance.bundle.heads import DENSITIES
from training.networks.blocks import Residual3d, conv3


class MeasureNet(nn.Module):
    """Body and density of the finding in the middle of a cube of 48 voxels of 0.8 mm.

    A residual net from half the resolution down to a sixteenth and a feature pyramid back; what is
    finer than its cells comes out of the last, transposed convolution, which learns one logit for
    each of a cell's eight voxels. A full-resolution net takes five times as long.

    `image` [N,1,48,48,48] in [0, 1] -> body logits of the same shape, density logits [N,4].
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 24, 40, 48)) -> None:
        """`widths`: channels at 1.6, 3.2, 6.4 and 12.8 mm."""
        super().__init__()
        a, b, c, d = widths
        self.stem = nn.Sequential(
            nn.Conv3d(1, a, 5, 2, 2, bias=False), nn.BatchNorm3d(a), nn.ReLU(inplace=True)
        )
        self.finest = Residual3d(a, a)
        self.quarter = nn.Sequential(Residual3d(a, b, 2), Residual3d(b, b))
        self.eighth = nn.Sequential(Residual3d(b, c, 2), Residual3d(c, c))
        self.sixteenth = Residual3d(c, d, 2)
        self.lateral16 = nn.Conv3d(d, c, 1)
        self.merge8 = conv3(c, c)
        self.lateral8 = nn.Conv3d(c, b, 1)
        self.merge4 = conv3(b, b)
        self.lateral4 = nn.Conv3d(b, a, 1)
        self.merge2 = nn.Sequential(conv3(a, a), conv3(a, a))
        self.body = nn.ConvTranspose3d(a, 1, 2, 2)
        self.drop = nn.Dropout(0.1)
        self.density = nn.Linear(2 * b + d, len(DENSITIES))
        nn.init.constant_(self.body.bias, -2.0)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(body, density); density is read from the middle, and from the whole for comparison."""
        f2 = self.finest(self.stem(image))
        f4 = self.quarter(f2)
        f8 = self.eighth(f4)
        f16 = self.sixteenth(f8)
        x = self.merge8(f8 + functional.interpolate(self.lateral16(f16), scale_factor=2.0))
        y = self.merge4(f4 + functional.interpolate(self.lateral8(x), scale_factor=2.0))
        z = self.merge2(f2 + functional.interpolate(self.lateral4(y), scale_factor=2.0))
        near, around = y[:, :, 5:7, 5:7, 5:7], y[:, :, 3:9, 3:9, 3:9]
        pooled = torch.cat([v.mean((2, 3, 4)) for v in (near, around, f16)], 1)
        return self.body(z), self.density(self.drop(pooled))
