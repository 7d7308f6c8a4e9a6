"""ResNeSt-50: a residual network whose 3x3 convolutions are split-attention blocks.

Rules (Zhang et al., arXiv:2004.08955, and its settings for ResNeSt-50, 2s1x64d). Radix 2,
cardinality 1; a stem of three 3x3 convolutions; the stride sits in an average pooling, on the skip
(section 4.2) and after the split-attention block. A teacher: it exports, but does not ship.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

BLOCKS = (3, 4, 6, 3)
RADIX, EXPANSION, STEM = 2, 4, 32


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class SplitAttention(nn.Module):
    """RADIX groups of 3x3 convolutions, summed with weights that each channel draws from the whole
    picture (eq. 1 to 3)."""

    def __init__(self, channels: int) -> None:
        """`channels` in and out."""
        super().__init__()
        self.split = nn.Sequential(
            nn.Conv2d(channels, channels * RADIX, 3, 1, 1, groups=RADIX, bias=False),
            nn.BatchNorm2d(channels * RADIX),
            nn.ReLU(inplace=True),
        )
        inner = max(channels * RADIX // 4, 32)
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(inplace=True)
        )
        self.weigh = nn.Conv2d(inner, channels * RADIX, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,Y,X] -> [B,C,Y,X]."""
        parts = self.split(x).unflatten(1, (RADIX, -1))
        whole = parts.sum(1).mean((2, 3), keepdim=True)
        weights = self.weigh(self.squeeze(whole)).unflatten(1, (RADIX, -1)).softmax(1)
        summed: Tensor = (parts * weights).sum(1)
        return summed


class Bottleneck(nn.Module):
    """1x1, split attention, 1x1, and a skip (average pooling and 1x1 where the shape changes)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        """`width` inside, EXPANSION times that outside."""
        super().__init__()
        outputs = width * EXPANSION
        self.enter = _unit(inputs, width, 1)
        self.attend = SplitAttention(width)
        self.shrink = nn.AvgPool2d(3, stride, 1) if stride != 1 else nn.Identity()
        self.leave = nn.Sequential(
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
                if stride != 1
                else nn.Identity(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,Y,X] -> [B,C',Y/s,X/s]."""
        out = self.leave(self.shrink(self.attend(self.enter(x))))
        return functional.relu(out + self.skip(x))


class ResNeSt50(nn.Module):
    """Maps of an image: [N,channels,Y,X] in [0, 1] -> [N,`width`,Y/32,X/32]."""

    def __init__(
        self, channels: int = 1, scale: float = 1.0, blocks: tuple[int, ...] = BLOCKS
    ) -> None:
        """`channels`: 1, or 3 neighbouring slices; `scale` multiplies every width (1: the paper's);
        `blocks`: how many in each of the four stages.

        ValueError for a scale that leaves no whole pair of channels.
        """
        super().__init__()
        stem, inner = round(STEM * scale), [round(64 * scale * 2**i) for i in range(4)]
        if stem < 2 or any(w % RADIX for w in inner):
            raise ValueError(f"a scale of {scale} leaves widths {stem}, {inner}")
        self.stem = nn.Sequential(
            _unit(channels, stem, 3, 2), _unit(stem, stem, 3), _unit(stem, 2 * stem, 3)
        )
        self.pool = nn.MaxPool2d(3, 2, 1)
        inputs, stages = 2 * stem, []
        for i, (count, width) in enumerate(zip(blocks, inner, strict=True)):
            stage = []
            for j in range(count):
                stage.append(Bottleneck(inputs, width, 2 if i and not j else 1))
                inputs = width * EXPANSION
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)
        self.width = inputs

    def forward(self, image: Tensor) -> Tensor:
        """Maps of the last stage."""
        x: Tensor = self.pool(self.stem(image))
        for stage in self.stages:
            x = stage(x)
        return x
