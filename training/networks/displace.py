"""The displacement between two exams of one chest, coarse to fine, without a warp inside.

Rules.
1. Both images pass one encoder (8, 16, 32, 64 mm). At each level the features of current meet those
   of prior at the 27 places about each cell: their products are summed over the channels (the
   correlation of FlowNet, Dosovitskiy et al., arXiv:1504.06852), so that the network is told what
   is alike and need not learn each chest by heart.
2. The field of a coarser level is doubled and corrected. Warping between levels is left to whoever
   asks twice, with prior warped by the first answer: no backend then needs GridSample.
3. Ops of the exported network: Add, Concat, Conv, Mul, Relu, Resize. A shift is a convolution with
   a fixed kernel of one 1; sums over channels and the smoothing after Resize are fixed kernels too.
4. Batch normalisation is folded into the convolutions at export.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.blocks import conv3

CELL_MM = 8.0
PLACES = 27
"""Of the 3x3x3 cells about one."""


class Meet(nn.Module):
    """Correlation of two feature maps over 3x3x3 places: [B,C,Z,Y,X] twice -> [B,27,Z,Y,X].

    Sums of products of `kept` channels that both share, of current here and prior at each place:
    they have no mean and unit variance, so what is unlike is about 0.
    """

    def __init__(self, channels: int, kept: int) -> None:
        """`kept`: channels that are compared, of a projection that both share."""
        super().__init__()
        self.kept = kept
        self.project = nn.Sequential(nn.Conv3d(channels, kept, 1, bias=False), nn.BatchNorm3d(kept))
        cube, many = torch.eye(PLACES).reshape(PLACES, 1, 3, 3, 3), kept * PLACES
        total = torch.eye(PLACES).repeat(1, kept).reshape(PLACES, many, 1, 1, 1) * kept**-0.5
        self.register_buffer("each", torch.ones(many, 1, 1, 1, 1), persistent=False)
        self.register_buffer("shift", cube.repeat(kept, 1, 1, 1, 1), persistent=False)
        self.register_buffer("total", total, persistent=False)

    def forward(self, current: Tensor, prior: Tensor) -> Tensor:
        """As convolutions where it is exported, else as slices, which teach ten times as fast."""
        here: Tensor = self.project(current)
        there: Tensor = self.project(prior)
        if torch.compiler.is_exporting():
            return self.by_convolutions(here, there)
        z, y, x = here.shape[2:]
        wide = functional.pad(there, (1,) * 6)
        alike = [
            (here * wide[:, :, i : i + z, j : j + y, k : k + x]).sum(1)
            for i in range(3)
            for j in range(3)
            for k in range(3)
        ]
        return torch.stack(alike, 1) * float(self.kept**-0.5)

    def by_convolutions(self, here: Tensor, there: Tensor) -> Tensor:
        """The same with fixed kernels: each channel 27 times, at its places; products; sums."""
        each, shift, total = (cast(Tensor, b) for b in (self.each, self.shift, self.total))
        repeated = functional.conv3d(here, each, groups=self.kept)
        moved = functional.conv3d(there, shift, padding=1, groups=self.kept)
        return functional.conv3d(repeated * moved, total)


class Level(nn.Module):
    """Corrects the field of a coarser level by what meets at this one."""

    def __init__(self, channels: int, coarser: int, kept: int, inside: int) -> None:
        """`coarser`: channels that come from the level above; 0: none. `kept`: as Meet has it."""
        super().__init__()
        self.meet = Meet(channels, kept)
        self.join = conv3(2 * channels + PLACES + coarser, inside)
        self.look = conv3(inside, inside)
        self.field = nn.Conv3d(inside, 3, 3, 1, 1)
        nn.init.normal_(self.field.weight, std=1e-2)
        assert self.field.bias is not None
        nn.init.zeros_(self.field.bias)

    def forward(
        self, current: Tensor, prior: Tensor, above: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(features, correction [B,3,Z,Y,X] in cells of 8 mm)."""
        parts = [current, prior, self.meet(current, prior)]
        if above is not None:
            parts.append(above)
        joined = self.join(torch.cat(parts, 1))
        seen = joined + self.look(joined)
        return seen, self.field(seen)


class DisplaceNet(nn.Module):
    """`prior`, `current` [B,1,Z,Y,X] in [0, 1] at 8 mm, sizes multiples of 8 -> mm [B,3,Z,Y,X].

    A point of current and its displacement (z, y, x) is the same point of prior.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (8, 28, 36, 40)) -> None:
        """`widths`: channels at 8, 16, 32 and 64 mm."""
        super().__init__()
        a, b, c, d = widths
        self.finest = b
        self.stem = conv3(1, a)
        self.downs = nn.ModuleList([_down(a, b), _down(b, c), _down(c, d)])
        self.coarsest = Level(d, 0, 16, d)
        self.levels = nn.ModuleList([Level(c, d, 16, c), Level(b, c, 8, b)])
        smooth = torch.zeros(3, 3, 3, 3, 3)
        line = torch.tensor([0.25, 0.5, 0.25])
        for i in range(3):
            smooth[i, i] = line[:, None, None] * line[None, :, None] * line[None, None, :]
        self.register_buffer("smooth", smooth)

    def forward(self, prior: Tensor, current: Tensor) -> Tensor:
        """The field of the finest level at 8 mm, in mm."""
        return self.doubled(self.pyramid(prior, current)[-1])

    def pyramid(self, prior: Tensor, current: Tensor) -> list[Tensor]:
        """The fields of 64, 32 and 16 mm, each on its own grid, in mm."""
        old, new = self.encoded(prior), self.encoded(current)
        seen, field = self.coarsest(new[2], old[2], None)
        fields = [field]
        for i, level in enumerate(self.levels):
            above = functional.interpolate(seen, scale_factor=2.0)
            seen, correction = level(new[1 - i], old[1 - i], above)
            field = self.doubled(field) + correction
            fields.append(field)
        return [one * CELL_MM for one in fields]

    def doubled(self, field: Tensor) -> Tensor:
        """A field on a grid twice as fine: nearest, then [1 2 1] / 4 along each axis, which is
        linear interpolation."""
        twice = functional.interpolate(field, scale_factor=2.0)
        return functional.conv3d(twice, cast(Tensor, self.smooth), padding=1)

    def encoded(self, image: Tensor) -> list[Tensor]:
        """Maps of 16, 32 and 64 mm."""
        maps = [self.stem(image)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        return maps[1:]


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv3(inputs, outputs, 2), conv3(outputs, outputs))
