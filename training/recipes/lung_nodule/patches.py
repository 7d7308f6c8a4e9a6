"""Axial patches of candidates: read, drawn, varied, and judged as the device does it.

Rules. A patch stays in the scan's own pixels: only a scale of 0.75-1.3 varies it. The published
patches were JPEG-compressed once, so noise and blur are added. Nobody of `read.left_out` is learned
from, chosen by or judged on.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import DataError, RunError
from training.read.left_out import kept_patches

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Variation:
    """How far patches are varied, besides any turn, flips and a scale of 0.75-1.3."""

    noise_hu: float = 40.0  # upper end of the added noise's standard deviation
    blur_px: float = 0.8  # upper end of the added Gaussian blur
    shift_px: float = 3.0  # candidates are not centred exactly
    mixup: float = 0.3  # Beta(a, a); 0 switches it off


def patch_file(shared: Path) -> Path:
    """LUNA16 candidates as axial patches: $SCANSIDE_PATCHES (`luna16` writes one), else
    those of the shared data."""
    if named := os.environ.get("SCANSIDE_PATCHES"):
        return Path(named)
    return shared / "data" / "patches" / "luna16_patches50.npz"


def load_patches(path: Path) -> dict[str, U8]:
    """train/val images [N,50,50] and labels [N] of the LUNA16 patch file, but for those of
    `read.left_out`. RunError where it is none, DataError where it does not tell
    whose its patches are."""
    names = ("train_images", "train_labels", "val_images", "val_labels")
    try:
        with np.load(path) as file:
            kept = kept_patches(path, file)
            return {name: np.asarray(kept[name], dtype=np.uint8) for name in names}
    except DataError:
        raise
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as e:
        raise RunError(f"{path}: not the LUNA16 patch file: {e}".splitlines()[0]) from e


def drawn(
    rng: np.random.Generator, images: U8, labels: U8, count: int, positives: float
) -> tuple[U8, U8]:
    """`count` patches, nodules with probability `positives`."""
    yes, no = np.flatnonzero(labels), np.flatnonzero(labels == 0)
    want = rng.random(count) < positives
    pick = np.where(
        want, yes[rng.integers(0, len(yes), count)], no[rng.integers(0, len(no), count)]
    )
    return images[pick], labels[pick]


def augment(patches: Tensor, rng: np.random.Generator, v: Variation) -> Tensor:
    """Uint8 [B,50,50] -> float [B,1,48,48] in [0, 1]: rotation, flip, scale, shift, blur, noise."""
    n = patches.shape[0]
    x = patches.float().div(255.0).unsqueeze(1)
    angle = torch.from_numpy(rng.uniform(0, 2 * np.pi, n)).float()
    scale = torch.from_numpy(np.exp(rng.uniform(np.log(0.75), np.log(1.3), n))).float()
    flip = torch.from_numpy(rng.choice([-1.0, 1.0], n)).float()
    shift = torch.from_numpy(rng.uniform(-v.shift_px, v.shift_px, (n, 2)) / 25.0).float()
    cos, sin = angle.cos() / scale * 48 / 50, angle.sin() / scale * 48 / 50
    rows = [
        torch.stack([cos * flip, -sin, shift[:, 0]], 1),
        torch.stack([sin * flip, cos, shift[:, 1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), [n, 1, 48, 48], align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    sigma = torch.from_numpy(rng.uniform(0, v.blur_px, n) * (rng.random(n) < 0.5)).float()
    tail = torch.exp(-0.5 / sigma.clamp(min=0.05) ** 2)
    kernel = torch.stack([tail, torch.ones(n), tail], 1)
    kernel = kernel / kernel.sum(1, keepdim=True)
    both = (kernel[:, :, None] * kernel[:, None, :]).unsqueeze(1)
    padded = functional.pad(x.transpose(0, 1), (1, 1, 1, 1), mode="replicate")
    x = functional.conv2d(padded, both, groups=n).transpose(0, 1)
    sharp = torch.from_numpy(rng.uniform(0, v.noise_hu / 1400, (n, 1, 1, 1))).float()
    sharp = sharp * torch.from_numpy((rng.random((n, 1, 1, 1)) < 0.6).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal((n, 1, 48, 48), dtype=np.float32))
    if rng.random() < 0.5:
        noise = functional.avg_pool2d(functional.pad(noise, (1, 1, 1, 1)), 3, 1) * 2.0
    gain = torch.from_numpy(rng.uniform(0.93, 1.07, (n, 1, 1, 1))).float()
    offset = torch.from_numpy(rng.uniform(-0.03, 0.03, (n, 1, 1, 1))).float()
    return (x * gain + offset + noise * sharp).clamp(0, 1)


def mixed(rng: np.random.Generator, images: U8, labels: U8, v: Variation) -> tuple[Tensor, Tensor]:
    """Varied and mixed images [N,1,48,48] in [0, 1] and labels [N] in [0, 1]."""
    x, y = augment(torch.from_numpy(images), rng, v), torch.from_numpy(labels).float()
    if v.mixup > 0:
        mix = float(rng.beta(v.mixup, v.mixup))
        order = torch.from_numpy(rng.permutation(len(y)))
        x, y = mix * x + (1 - mix) * x[order], mix * y + (1 - mix) * y[order]
    return x, y


def eight_views(x: Tensor) -> list[Tensor]:
    """The flips and quarter turns of [N,1,Y,X], as the device averages them."""
    turned = [torch.rot90(x, q, (2, 3)) for q in range(4)]
    return turned + [t.flip(3) for t in turned]


def logits_of(model: nn.Module, images: U8, views: int = 8, batch: int = 256) -> F32:
    """Mean logit over the first `views` of the eight views of the central 48x48."""
    out, here = [], next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        for i in range(0, len(images), batch):
            x = torch.from_numpy(images[i : i + batch, 1:49, 1:49]).float().div(255.0).unsqueeze(1)
            every = [model(v.to(here)) for v in eight_views(x)[:views]]
            out.append(torch.stack(every).mean(0).float().cpu())
    return np.asarray(torch.cat(out).numpy(), np.float32)
