"""A piece of a scan, turned, scaled and mirrored at random, in one interpolation.

Rules. Axes are [z, y, x]. A turn is a matrix that takes a step of one voxel of the piece to steps
of voxels of the scan. What lies outside the scan is 0: hand HU in as HU above air.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from training.read.volume import F32, F64


def drawn_turn(rng: np.random.Generator, ratio: float) -> F64:
    """A turn [3, 3]: some degrees about each axis, a fifth larger or smaller, often mirrored.
    `ratio`: voxels of the scan in one of the piece."""
    overall = np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    scale = overall * np.exp(rng.uniform(-0.1, 0.1, 3))
    az, ay, ax = np.deg2rad(rng.normal(0, [6, 3, 4]))
    turn = np.array([[1, 0, 0], [0, np.cos(az), -np.sin(az)], [0, np.sin(az), np.cos(az)]])
    tilt = np.array([[1, ax, ay], [-ax, 1, 0], [-ay, 0, 1]])
    flip = np.diag([1.0, -1.0 if rng.random() < 0.12 else 1.0, -1.0 if rng.random() < 0.5 else 1.0])
    matrix: F64 = np.diag(ratio / scale) @ turn @ tilt @ flip
    return matrix


def cut(arrays: F32, turn: F64, centre: F64, size: tuple[int, int, int]) -> F32:
    """Arrays [C, z, y, x] of a scan on a piece [C, *size] around `centre` (voxels of the scan)."""
    # to the normalised coordinates of grid_sample (x, y, z order, align_corners=True)
    n = np.array(arrays.shape[1:]) - 1.0
    out = np.array(size) - 1.0
    theta = np.zeros((3, 4))
    theta[:, :3] = (turn * (out / 2)[None, :]) * (2 / n)[:, None]
    theta[:, 3] = centre * 2 / n - 1
    theta = theta[::-1][:, [2, 1, 0, 3]]
    where = functional.affine_grid(
        torch.from_numpy(theta.copy()).float()[None], [1, 1, *size], align_corners=True
    )
    got = functional.grid_sample(torch.from_numpy(arrays)[None], where, align_corners=True)
    piece: F32 = got[0].numpy()
    return piece
