"""The hybrid classifier: an axial patch and a cube of one candidate, weighed by attention.

    patch -> ResNeSt-50 ----------> width -.
                                            attention per branch -> logit
    cube  -> 3D U-Net's encoder --> width -'

Rules.
1. A case may have one branch only: what is absent gets no weight, whatever lies in its place, and
   while training does not enter the batch statistics. A case without any branch is refused.
2. The weights of the branches of a case sum to 1 (softmax over the branches present).
3. It teaches and exports; it does not ship.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.blocks import conv3
from training.networks.resnest import BLOCKS, ResNeSt50

Look = Callable[[Tensor], Tensor]
ABSENT = -1e4
"""Score of a branch that is not there: its softmax is 0 in half precision too."""


class UNetEncoder3d(nn.Module):
    """The analysis path of the 3D U-Net (Cicek et al., arXiv:1606.06650, figure 2).

    [N,1,Z,Y,X] in [0, 1] -> [N,`width`,Z/8,Y/8,X/8]. Two 3x3x3 convolutions a level, the second one
    doubles the channels, 2x2x2 max pooling between the levels.
    """

    def __init__(self, scale: float = 1.0) -> None:
        """`scale` multiplies every width (1: the paper's 32 to 512)."""
        super().__init__()
        first = max(round(32 * scale), 1)
        levels, inputs = [], 1
        for i in range(4):
            inside = first * 2**i
            levels.append(nn.Sequential(conv3(inputs, inside), conv3(inside, 2 * inside)))
            inputs = 2 * inside
        self.levels = nn.ModuleList(levels)
        self.width = inputs

    def forward(self, cube: Tensor) -> Tensor:
        """Maps of the deepest level."""
        x = cube
        for i, level in enumerate(self.levels):
            x = level(x if i == 0 else functional.max_pool3d(x, 2))
        return x


class HybridNet(nn.Module):
    """Nodule or not, from `patch` [N,channels,S,S], `cube` [N,1,32,32,32] or both, in [0, 1]."""

    def __init__(
        self,
        channels: int = 1,
        width: int = 256,
        scale: float = 1.0,
        zoom: int = 2,
        blocks: tuple[int, ...] = BLOCKS,
    ) -> None:
        """`channels`: 3 for neighbouring slices (2.5D); `scale`: of the branches' widths; `zoom` of
        the patch before the 2D branch, which shrinks it by 32; `blocks` of each of its stages."""
        super().__init__()
        self.zoom, self.width = zoom, width
        self.flat, self.solid = ResNeSt50(channels, scale, blocks), UNetEncoder3d(scale)
        self.from_flat = nn.Linear(self.flat.width, width)
        self.from_solid = nn.Linear(self.solid.width, width)
        # one score a branch (Ilse et al., arXiv:1802.04712, eq. 8)
        self.attention = nn.Sequential(nn.Linear(width, width // 4), nn.Tanh())
        self.score = nn.Linear(width // 4, 1)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(width, 1)

    def forward(
        self, patch: Tensor | None = None, cube: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Logit [N] of each case; `present` [N,2] is 0 where a case lacks its patch or its cube.

        ValueError without a branch.
        """
        return self.judged(patch, cube, present)[0]

    def judged(
        self, patch: Tensor | None, cube: Tensor | None, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(logits [N], weights of patch and cube [N,2])."""
        given = [one for one in (patch, cube) if one is not None]
        if not given:
            raise ValueError("a case has a patch, a cube or both")
        if present is None:
            present = given[0].new_ones((len(given[0]), 2))
        exporting = torch.compiler.is_exporting()
        branches = ((patch, self.look_flat), (cube, self.look_solid))
        seen: list[Tensor | None] = []
        for at, (image, look) in enumerate(branches):
            if image is None:
                seen.append(None)
            elif self.training and not exporting:
                seen.append(of_present(look, image, present[:, at] > 0, self.width))
            else:
                seen.append(look(image))
        shape = next(one for one in seen if one is not None)
        there = torch.stack([present[:, i] * (one is not None) for i, one in enumerate(seen)], 1)
        if not exporting and not bool((there > 0).any(1).all()):
            raise ValueError("a case has a patch, a cube or both")
        each = torch.stack([torch.zeros_like(shape) if one is None else one for one in seen], 1)
        scores = self.score(self.attention(each)).squeeze(2)
        weights = torch.where(there > 0, scores, ABSENT).softmax(1)
        # what is absent may hold anything, even what is no number
        each = torch.where(there.unsqueeze(2) > 0, each, 0.0)
        fused = (each * weights.unsqueeze(2)).sum(1)
        logit: Tensor = self.head(self.drop(functional.relu(fused))).squeeze(1)
        return logit, weights

    def look_flat(self, patch: Tensor) -> Tensor:
        """[N,channels,S,S] -> [N,width]."""
        if self.zoom != 1:
            patch = functional.interpolate(patch, scale_factor=float(self.zoom), mode="bilinear")
        seen: Tensor = self.from_flat(self.flat(patch).mean((2, 3)))
        return seen

    def look_solid(self, cube: Tensor) -> Tensor:
        """[N,1,Z,Y,X] -> [N,width]."""
        seen: Tensor = self.from_solid(self.solid(cube).mean((2, 3, 4)))
        return seen


def of_present(look: Look, images: Tensor, there: Tensor, width: int) -> Tensor:
    """What `look` sees of the cases that are there [N,width]; 0 for the others."""
    rows = torch.nonzero(there).squeeze(1)
    if len(rows) == len(images):
        return look(images)
    if not len(rows):
        return images.new_zeros((len(images), width))
    # batch normalisation of one vector has no variance: a lone case goes twice
    found = look(images[rows if len(rows) > 1 else rows.repeat(2)])[: len(rows)]
    return found.new_zeros((len(images), width)).index_copy(0, rows, found)
