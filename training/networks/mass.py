"""The networks that propose masses: with their outlines, and without."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from training.networks.blocks import conv3
from training.networks.propose import ProposeNet

WIDTHS = (12, 24, 48, 48)
"""Channels at 6, 12, 24 and 48 mm."""


class MassNet(ProposeNet):
    """Masses at 3 mm over the whole chest: `ProposeNet`, narrower; a cell of its stride 4 is 12 mm.

    `image` [B,1,Z,Y,X] in [0, 1], sizes multiples of 16 -> heat logits and ln diameter in mm, both
    [B,1,Z/4,Y/4,X/4].
    """

    def __init__(self, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        """`widths`: channels at 6, 12, 24 and 48 mm."""
        super().__init__(widths)
        nn.init.constant_(self.size.bias, math.log(45.0))  # type: ignore[arg-type]


class DrawnMassNet(nn.Module):
    """A MassNet that also draws each mass, on the voxels of 3 mm that it sees.

    The pyramid goes on to cells of 6 mm, which the network computes anyway, and a transposed
    convolution learns one logit for each of a cell's eight voxels, as in `LungNet`. At 12 mm a mass
    of 25 mm would be two cells wide; a 3x3x3 layer at 3 mm would take more multiplications than all
    the others together, where this takes a sixth more.

    `image` [B,1,Z,Y,X] in [0, 1], sizes multiples of 16 -> heat logits and ln diameter in mm, both
    [B,1,Z/4,Y/4,X/4], and logits of the body [B,1,Z,Y,X].
    """

    def __init__(self, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        """`widths`: channels at 6, 12, 24 and 48 mm."""
        super().__init__()
        a, b, *_ = widths
        self.net = MassNet(widths)
        self.coarse = nn.Conv3d(b, a, 1)
        self.merge2 = conv3(a, a)
        self.body = nn.ConvTranspose3d(a, 1, 2, 2)
        nn.init.constant_(self.body.bias, -4.0)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(heat logits, log diameter, body logits: above 0 is mass)."""
        f2, x = self.net.features(image)
        fine = self.merge2(f2 + functional.interpolate(self.coarse(x), scale_factor=2.0))
        return self.net.heat(x), self.net.size(x), self.body(fine)
