"""The network that proposes masses."""

from __future__ import annotations

import math

from torch import nn

from training.networks.propose import ProposeNet


class MassNet(ProposeNet):
    """Masses at 3 mm over the whole chest: `ProposeNet`, narrower; a cell of its stride 4 is 12 mm.

    `image` [B,1,Z,Y,X] in [0, 1], sizes multiples of 16 -> heat logits and ln diameter in mm, both
    [B,1,Z/4,Y/4,X/4].
    """

    def __init__(self, widths: tuple[int, int, int, int] = (12, 24, 48, 48)) -> None:
        """`widths`: channels at 6, 12, 24 and 48 mm."""
        super().__init__(widths)
        nn.init.constant_(self.size.bias, math.log(45.0))  # type: ignore[arg-type]
