"""What a network of displacements is taught by: fields, warps and how alike two images are.

Rules. Images are [B,1,Z,Y,X], fields [B,3,Z,Y,X] in mm (z, y, x) on a grid of `cell_mm`; a place of
fixed and its field is the place in moving. A loss is a mean over the batch, smaller is better.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CELL_MM = 8.0
BINS = 24
SMALL = 1e-5


def warped(image: Tensor, field: Tensor, cell_mm: float = CELL_MM) -> Tensor:
    """image(x + field(x)), linear, the border repeated: also of fields, [B,C,Z,Y,X]."""
    size = image.shape[2:]
    axes = [torch.arange(n, dtype=field.dtype, device=field.device) for n in size]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None] + field / cell_mm
    unit = [(2 * at[:, i] + 1) / n - 1 for i, n in enumerate(size)]
    grid = torch.stack(unit[::-1], -1)
    return functional.grid_sample(image, grid, padding_mode="border", align_corners=False)


def composed(first: Tensor, second: Tensor, cell_mm: float = CELL_MM) -> Tensor:
    """Where moving was warped by `first` and the pair then has `second`: the field of both."""
    return second + warped(first, second, cell_mm)


def apart(field: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean distance of two fields in cells; `weight` [B,1,Z,Y,X]."""
    off = (((field - truth) / CELL_MM) ** 2).sum(1, keepdim=True)
    return ((off + 1e-4).sqrt() * weight).sum() / weight.sum().clamp_min(SMALL)


def roughness(field: Tensor) -> Tensor:
    """Mean square of the differences of neighbours (VoxelMorph, arXiv:1809.05231)."""
    cells = field / CELL_MM
    total = field.new_zeros(())
    for axis in (2, 3, 4):
        total = total + cells.diff(dim=axis).square().mean()
    return total / 3


def unlike(fixed: Tensor, moved: Tensor, weight: Tensor) -> Tensor:
    """1 - local correlation squared over 3x3x3 cells (NCC)."""

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool3d(values, 3, 1, 1, count_include_pad=False)

    a, b = mean(fixed), mean(moved)
    both = mean(fixed * moved) - a * b
    spread = (mean(fixed**2) - a**2).clamp_min(0) * (mean(moved**2) - b**2).clamp_min(0)
    alike = both**2 / (spread + SMALL)
    return 1 - (alike * weight).sum() / weight.sum().clamp_min(SMALL)


def unshared(fixed: Tensor, moved: Tensor, weight: Tensor) -> Tensor:
    """Minus the mutual information of both images, by Parzen windows of BINS (arXiv:1910.04434)."""
    centres = torch.linspace(0, 1, BINS, device=fixed.device)

    def soft(image: Tensor) -> Tensor:
        near = (1 - (image.reshape(len(image), -1, 1) - centres).abs() * (BINS - 1)).clamp_min(0)
        return near / near.sum(2, keepdim=True).clamp_min(SMALL)

    part = weight.reshape(len(weight), -1, 1)
    joint = (soft(fixed) * part).transpose(1, 2) @ soft(moved)
    joint = joint / joint.sum((1, 2), keepdim=True).clamp_min(SMALL)
    alone = joint.sum(1, keepdim=True) * joint.sum(2, keepdim=True)
    shared = (joint * ((joint + SMALL) / (alone + SMALL)).log()).sum((1, 2))
    return -shared.mean()
