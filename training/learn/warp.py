"""Moving images and the points in them: turn, scale, mirror, shift, elastic field.

Rules.
1. Coordinates are voxels in the order of the axes; 0 is the centre of the first voxel, (n - 1) / 2
   the middle of the image, which stays the middle.
2. `moved` and `warped` read the same `Move`, one forth, one back: a target follows its pixels.
3. What stands still keeps every bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

F64 = npt.NDArray[np.float64]
Outside = Literal["border", "reflection", "zeros"]


@dataclass(frozen=True)
class Move:
    """Geometry of one sample.

    A voxel o of the output is read at middle_in + matrix @ (o - middle_out - shift) + elastic(o).
    """

    matrix: F64  # [d, d]
    shift: F64  # [d], voxels
    scale: float = 1.0  # of lengths: a diameter grows by it
    elastic: float = 0.0  # voxels, largest displacement of a node; about a third of it between
    elastic_cell: float = 16.0  # voxels between nodes
    elastic_seed: int = 0

    @property
    def still(self) -> bool:
        """Nothing moves."""
        same = np.array_equal(self.matrix, np.eye(len(self.matrix)))
        return same and not self.shift.any() and self.elastic == 0


def way_back(
    angle: float, about: F64, scale: float, mirror: F64, spacing: Sequence[float] | None = None
) -> F64:
    """`Move.matrix` [d, d] of what is mirrored ([d] of 1 or -1), then turned and scaled.

    The angle (radians) turns in the plane, or about the axis `about` [3]; with the `spacing` [d] of
    the voxels, in any unit, it keeps real lengths.
    """
    size = np.ones(len(mirror)) if spacing is None else np.asarray(spacing, np.float64)
    back = _rotation(angle, about, len(mirror)).T * size[None, :] / size[:, None]
    return np.asarray(mirror[:, None] * back / scale, np.float64)


def _rotation(angle: float, about: F64, dims: int) -> F64:
    """Rotation matrix; in 3D by Rodrigues' formula, in 2D as about the axis that is missing."""
    if dims == 2:
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a, b, c = about / np.linalg.norm(about)
    cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    return np.asarray(
        np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross), np.float64
    )


def _spline(at: npt.ArrayLike, cell: float, size: int) -> F64:
    """Cubic B-spline weights [places, nodes] on an axis of `size` voxels; each row sums to 1."""
    nodes = np.arange(-1, int(np.ceil(size / cell)) + 2)
    t = np.clip(np.asarray(at, np.float64), 0, size - 1) / cell
    far = np.abs(t[:, None] - nodes[None, :])
    inner = 2 / 3 - far**2 + far**3 / 2
    return np.asarray(np.where(far < 1, inner, np.clip(2 - far, 0, None) ** 3 / 6), np.float64)


def _nodes(move: Move, shape: Sequence[int]) -> F64:
    """Displacements of the elastic field's nodes [d, nodes...], voxels, within +-`elastic`."""
    count = [len(_spline([0], move.elastic_cell, n)[0]) for n in shape]
    rng = np.random.default_rng(move.elastic_seed)
    return rng.uniform(-move.elastic, move.elastic, (len(shape), *count))


def moved(
    points: npt.ArrayLike, move: Move, shape: Sequence[int], size: Sequence[int] | None = None
) -> F64:
    """Where points [n, d] of an image of `shape` went, in voxels of the output (of `size`).

    Exact for what is affine; through an elastic field found by repeating, to 1e-6 voxels.
    """
    p = np.asarray(points, np.float64).reshape(-1, len(shape))
    size = shape if size is None else size
    forth = np.linalg.inv(move.matrix).T
    start = (p - (np.asarray(shape) - 1) / 2) @ forth + (np.asarray(size) - 1) / 2 + move.shift
    if move.elastic == 0:
        return np.asarray(start, np.float64)
    nodes, out = _nodes(move, size), start
    spell = "pi,pj,dij->pd" if len(size) == 2 else "pi,pj,pk,dijk->pd"
    for _ in range(100):
        bases = [_spline(at, move.elastic_cell, n) for at, n in zip(out.T, size, strict=True)]
        before, out = out, start - np.einsum(spell, *bases, nodes) @ forth
        if np.allclose(before, out, rtol=0, atol=1e-7):
            break
    return np.asarray(out, np.float64)


def warped(
    images: Tensor,
    moves: Sequence[Move],
    size: Sequence[int] | None = None,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    outside: Outside = "reflection",
) -> Tensor:
    """Geometry of a batch, cut to `size` around the middle; `outside` fills what was never seen.

    Reflection looks like anatomy where a repeated border is streaks, but shows a lesion at the rim
    twice: so does its mask, `moved` names one. Detectors cut from larger images instead.
    """
    shape = tuple(images.shape[2:])
    size = shape if size is None else tuple(size)
    which = [i for i, m in enumerate(moves) if size != shape or not m.still]
    if not which:
        return images
    here = [moves[i] for i in which]
    n_in, n_out = np.array(shape, np.float64), np.array(size, np.float64)
    theta = np.zeros((len(here), len(shape), len(shape) + 1), np.float64)
    for row, m in zip(theta, here, strict=True):
        row[:, :-1] = m.matrix * n_out[None, :] / n_in[:, None]
        row[:, -1] = -2 / n_in * (m.matrix @ m.shift)
    # grid_sample counts axes backwards
    theta = np.concatenate([theta[:, ::-1, -2::-1], theta[:, ::-1, -1:]], axis=2)
    taken = images[which]
    place = torch.from_numpy(theta.astype(np.float32)).to(images.device)
    grid = functional.affine_grid(place, [len(here), 1, *size], align_corners=False)
    grid = grid + _fields(here, size, n_in).to(images.device)
    values = taken if taken.dtype == torch.float64 else taken.float()
    got = functional.grid_sample(
        values, grid.to(values.dtype), mode, padding_mode=outside, align_corners=False
    ).to(images.dtype)
    if len(which) == len(images):
        return got
    out = images.clone()
    out[which] = got
    return out


def _fields(moves: Sequence[Move], size: Sequence[int], n_in: F64) -> Tensor:
    """Elastic displacements [N, size..., d] in the units and order of grid_sample."""
    if not any(m.elastic for m in moves):
        return torch.zeros(1)
    out = torch.zeros(len(moves), len(size), *size)
    for cell in {m.elastic_cell for m in moves if m.elastic}:
        rows = [i for i, m in enumerate(moves) if m.elastic and m.elastic_cell == cell]
        unit = (2 / n_in).reshape(-1, *[1] * len(size))
        nodes = torch.from_numpy(np.stack([_nodes(moves[i], size) * unit for i in rows])).float()
        for n in size:  # each turn takes the first axis of nodes and appends one of voxels
            weights = torch.from_numpy(_spline(np.arange(n), cell, n)).float()
            nodes = torch.tensordot(nodes, weights, dims=([2], [1]))
        out[rows] = nodes
    return out.flip(1).movedim(1, -1)
