"""Blocks that several networks are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Convolution of 3x3x3, batch normalisation, ReLU: [B,C,Z,Y,X] -> [B,C',Z/s,Y/s,X/s]."""
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
        self.first = conv3(inputs, outputs, stride)
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


def parameter_count(model: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in model.parameters())
