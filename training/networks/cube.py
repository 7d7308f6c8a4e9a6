"""The classifier of cubes: the 3D branch beside the classifier of axial patches.

Rules. The 2D branch is `PatchNet`: the size of MobileNetV3-Small's features, but with dense 3x3
convolutions, since depthwise ones, hard-swish and squeeze-excite lose most in INT8 and gain least
from it. The 3D branch begins with stride 2: at full resolution a net of its size costs four times
the milliseconds. Both together hold at most MOST_PARAMETERS.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.blocks import Residual3d

MOST_PARAMETERS = 1_000_000


class CubeNet(nn.Module):
    """Nodule or not, from one cube of isotropic voxels.

    `image` [N,1,32,32,32] in [0, 1] -> `logit` [N].
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        """`widths`: channels at strides 2, 4 and 8."""
        super().__init__()
        a, b, c = widths
        self.body = nn.Sequential(
            nn.Conv3d(1, a, 5, 2, 2, bias=False),
            nn.BatchNorm3d(a),
            nn.ReLU(inplace=True),
            Residual3d(a, b, 2),
            Residual3d(b, b),
            Residual3d(b, c, 2),
            Residual3d(c, c),
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(2 * c, 1)

    def features(self, image: Tensor) -> Tensor:
        """Maps [N,C,4,4,4] at stride 8."""
        maps: Tensor = self.body(image)
        return maps

    def judged(self, maps: Tensor) -> Tensor:
        """Logit from maps; the pooled middle keeps 'nodule here' apart from 'nodule nearby'."""
        middle = maps[:, :, 1:3, 1:3, 1:3]
        pooled = torch.cat([maps.mean((2, 3, 4)), middle.mean((2, 3, 4))], 1)
        logit: Tensor = self.head(self.drop(pooled)).squeeze(1)
        return logit

    def forward(self, image: Tensor) -> Tensor:
        """Logit of each cube."""
        return self.judged(self.features(image))
