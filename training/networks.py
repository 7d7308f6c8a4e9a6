"""The three networks of the nodule line.

Rules.
1. Only plain convolutions, batch normalisation, ReLU, nearest upsampling, addition and
   concatenation: what every backend fuses and what explicit INT8 can carry.
2. Inputs are windowed to [0, 1]; outputs are logits (or ln mm). No activation at the end.
3. Fully convolutional where the input's size varies; sizes are multiples of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual3d(nn.Module):
    """Two 3x3x3 convolutions and a skip (1x1x1 where the shape changes)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """`stride` acts on the first convolution and on the skip."""
        super().__init__()
        self.first = _conv3(inputs, outputs, stride)
        self.second = nn.Sequential(
            nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm3d(outputs)
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,Z,Y,X] -> [B,C',Z/s,Y/s,X/s]."""
        return functional.relu(self.second(self.first(x)) + self.skip(x))


class LungNet(nn.Module):
    """Lung mask at 3 mm: a residual net from 6 to 48 mm whose pyramid ends in sub-voxel logits.

    `image` [B,1,Z,Y,X] in [0, 1], sizes multiples of 16 -> logits of the same shape.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 24, 40, 64)) -> None:
        """`widths`: channels at 6, 12, 24 and 48 mm."""
        super().__init__()
        a, b, c, d = widths
        self.stem = nn.Sequential(
            nn.Conv3d(1, a, 5, 2, 2, bias=False), nn.BatchNorm3d(a), nn.ReLU(inplace=True)
        )
        self.finest = _conv3(a, a)
        self.quarter = nn.Sequential(_conv3(a, b, 2), _conv3(b, b))
        self.eighth = nn.Sequential(_conv3(b, c, 2), _conv3(c, c))
        self.sixteenth = nn.Sequential(_conv3(c, d, 2), _conv3(d, d))
        self.lateral16 = nn.Conv3d(d, c, 1)
        self.merge8 = _conv3(c, c)
        self.lateral8 = nn.Conv3d(c, b, 1)
        self.merge4 = _conv3(b, b)
        self.lateral4 = nn.Conv3d(b, a, 1)
        self.merge2 = _conv3(a, a)
        self.head = nn.ConvTranspose3d(a, 1, 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        """Logits: above 0 is lung (closed: vessels and disease inside count as lung)."""
        f2 = self.finest(self.stem(image))
        f4 = self.quarter(f2)
        f8 = self.eighth(f4)
        f16 = self.sixteenth(f8)
        x = self.merge8(f8 + functional.interpolate(self.lateral16(f16), scale_factor=2.0))
        x = self.merge4(f4 + functional.interpolate(self.lateral8(x), scale_factor=2.0))
        x = self.merge2(f2 + functional.interpolate(self.lateral4(x), scale_factor=2.0))
        logits: Tensor = self.head(x)
        return logits


class ProposeNet(nn.Module):
    """Candidates at 1.25 mm: a residual net with a stride-2 stem, a feature pyramid back to stride
    4.

    `image` [B,1,Z,Y,X] in [0, 1], sizes multiples of 16 -> heat logits and ln diameter in mm, both
    [B,1,Z/4,Y/4,X/4].
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 64, 64)) -> None:
        """`widths`: channels at strides 2, 4, 8 and 16."""
        super().__init__()
        a, b, c, d = widths
        self.stem = nn.Sequential(
            nn.Conv3d(1, a, 5, 2, 2, bias=False), nn.BatchNorm3d(a), nn.ReLU(inplace=True)
        )
        self.fine = Residual3d(a, a)
        self.quarter = nn.Sequential(Residual3d(a, b, 2), Residual3d(b, b))
        self.eighth = nn.Sequential(Residual3d(b, c, 2), Residual3d(c, c))
        self.sixteenth = Residual3d(c, d, 2)
        self.lateral16 = nn.Conv3d(d, b, 1)
        self.lateral8 = nn.Conv3d(c, b, 1)
        self.merge8 = _conv3(b, b)
        self.merge4 = _conv3(b, b)
        self.heat = nn.Conv3d(b, 1, 1)
        self.size = nn.Conv3d(b, 1, 1)
        nn.init.constant_(self.heat.bias, -4.0)  # type: ignore[arg-type]
        nn.init.constant_(self.size.bias, 2.2)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(heat logits, log diameter); cell c's centre lies at voxel (c + 0.5) * 4 - 0.5."""
        f4 = self.quarter(self.fine(self.stem(image)))
        f8 = self.eighth(f4)
        f16 = self.sixteenth(f8)
        x = self.lateral8(f8) + functional.interpolate(self.lateral16(f16), scale_factor=2.0)
        x = self.merge8(x)
        x = self.merge4(f4 + functional.interpolate(x, scale_factor=2.0))
        return self.heat(x), self.size(x)


class Residual2d(nn.Module):
    """Two 3x3 convolutions and a skip (1x1 where the shape changes)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """`stride` acts on the first convolution and on the skip."""
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,Y,X] -> [B,C',Y/s,X/s]."""
        return functional.relu(self.body(x) + self.skip(x))


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

    def forward(self, image: Tensor) -> Tensor:
        """Logit of each patch; the pooled middle keeps 'nodule here' apart from 'nodule nearby'."""
        f = self.body(image)
        pooled = torch.cat([f.mean((2, 3)), f[:, :, 2:4, 2:4].mean((2, 3))], 1)
        logit: Tensor = self.head(self.drop(pooled)).squeeze(1)
        return logit


def parameter_count(model: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in model.parameters())
