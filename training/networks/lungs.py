"""The lung mask's network, and the one that also says where lungs are diseased."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from appliance.bundle.heads import DISEASES
from training.networks.blocks import conv3


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
        self.finest = conv3(a, a)
        self.quarter = nn.Sequential(conv3(a, b, 2), conv3(b, b))
        self.eighth = nn.Sequential(conv3(b, c, 2), conv3(c, c))
        self.sixteenth = nn.Sequential(conv3(c, d, 2), conv3(d, d))
        self.lateral16 = nn.Conv3d(d, c, 1)
        self.merge8 = conv3(c, c)
        self.lateral8 = nn.Conv3d(c, b, 1)
        self.merge4 = conv3(b, b)
        self.lateral4 = nn.Conv3d(b, a, 1)
        self.merge2 = conv3(a, a)
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


NONE_FIRST = 2.0
"""Logit of no disease in a new network: about what its share of the lungs is in training."""


class DiseaseNet(nn.Module):
    """Of each voxel at 3 mm which disease it is of: a small pyramid from 6 to 24 mm.

    It shares nothing with a LungNet, whose features do not know HU any more: that is what its
    lessons of repainted tissue teach it. Disease is told from healthy lung by HU.

    `image` [B,1,Z,Y,X] in [0, 1], sizes multiples of 8 -> logits [B,4,Z,Y,X] of no disease and of
    each of heads.DISEASES.
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 24, 32)) -> None:
        """`widths`: channels at 6, 12 and 24 mm."""
        super().__init__()
        a, b, c = widths
        self.stem = nn.Sequential(
            nn.Conv3d(1, a, 5, 2, 2, bias=False), nn.BatchNorm3d(a), nn.ReLU(inplace=True)
        )
        self.quarter = nn.Sequential(conv3(a, b, 2), conv3(b, b))
        self.eighth = nn.Sequential(conv3(b, c, 2), conv3(c, c))
        self.lateral8 = nn.Conv3d(c, b, 1)
        self.merge4 = conv3(b, b)
        self.lateral4 = nn.Conv3d(b, a, 1)
        self.merge2 = conv3(a, a)
        self.head = nn.ConvTranspose3d(a, 1 + len(DISEASES), 2, 2)
        assert self.head.bias is not None
        with torch.no_grad():  # of none at first: else every voxel teaches that before any is seen
            self.head.bias.copy_(torch.tensor([NONE_FIRST] + [0.0] * len(DISEASES)))

    def forward(self, image: Tensor) -> Tensor:
        """The class of a voxel is that of its largest logit."""
        f2 = self.stem(image)
        f4 = self.quarter(f2)
        x = self.merge4(
            f4 + functional.interpolate(self.lateral8(self.eighth(f4)), scale_factor=2.0)
        )
        x = self.merge2(f2 + functional.interpolate(self.lateral4(x), scale_factor=2.0))
        logits: Tensor = self.head(x)
        return logits


class SickLungNet(nn.Module):
    """A LungNet and a DiseaseNet that look at the same image.

    `image` [B,1,Z,Y,X] in [0, 1], sizes multiples of 16 -> logits of lung [B,1,Z,Y,X], and of no
    disease and of each of heads.DISEASES [B,4,Z,Y,X].
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (16, 24, 40, 64),
        disease_widths: tuple[int, int, int] = (16, 24, 32),
    ) -> None:
        """`widths` as those of a LungNet, `disease_widths` as those of a DiseaseNet."""
        super().__init__()
        self.lungs = LungNet(widths)
        self.disease = DiseaseNet(disease_widths)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(lung logits, class logits)."""
        return self.lungs(image), self.disease(image)
