"""The network that proposes candidates."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from training.networks.blocks import Residual3d, conv3


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
        self.merge8 = conv3(b, b)
        self.merge4 = conv3(b, b)
        self.heat = nn.Conv3d(b, 1, 1)
        self.size = nn.Conv3d(b, 1, 1)
        nn.init.constant_(self.heat.bias, -4.0)  # type: ignore[arg-type]
        nn.init.constant_(self.size.bias, 2.2)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(heat logits, log diameter); cell c's centre lies at voxel (c + 0.5) * 4 - 0.5."""
        _, x = self.features(image)
        return self.heat(x), self.size(x)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What is known at strides 2 and 4: [B,a,Z/2,Y/2,X/2] and [B,b,Z/4,Y/4,X/4]."""
        f2 = self.fine(self.stem(image))
        f4 = self.quarter(f2)
        f8 = self.eighth(f4)
        f16 = self.sixteenth(f8)
        x = self.lateral8(f8) + functional.interpolate(self.lateral16(f16), scale_factor=2.0)
        x = self.merge8(x)
        return f2, self.merge4(f4 + functional.interpolate(x, scale_factor=2.0))


class Outlined(nn.Module):
    """A ProposeNet that also outlines, for training alone: an outline says more about a nodule
    than its centre does."""

    def __init__(self, net: ProposeNet, widths: tuple[int, int] = (16, 32)) -> None:
        """`widths`: channels of `net.features`."""
        super().__init__()
        a, b = widths
        self.net = net
        self.coarse = nn.Conv3d(b, a, 1)
        self.merge2 = conv3(a, a)
        self.body = nn.Conv3d(a, 1, 1)
        nn.init.constant_(self.body.bias, -4.0)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(heat logits, log diameter, logits of a nodule's share [B,1,Z/2,Y/2,X/2])."""
        f2, x = self.net.features(image)
        fine = self.merge2(f2 + functional.interpolate(self.coarse(x), scale_factor=2.0))
        return self.net.heat(x), self.net.size(x), self.body(fine)
