"""Patches that teach the proposal network: pieces of CTs with nodules, and where these lie.

Rules.
1. Nodules and decoys are put in on the CT's own grid; then slices are thinned or thickened, the
   piece is stretched, resampled as the appliance does, turned and bent, and windowed. Targets go
   the same way (`training.learn.warp.moved`).
2. Real lesions of a host are positives; the first targets are theirs, trusted less in place and
   size. Its boxed mass is ignored, and so is what may be a nodule (`Host.spots`, `unsure`). None of
   these is ever a negative; everything else in a host is.
3. A nodule that nobody could see is no lesson: one that hardly changes its CT is taken out again,
   one of which thick slices leave less than FAINT_HU counts neither way.
4. The same generator gives the same patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy import ndimage

from appliance.preprocess.reference import axis_weights
from appliance.quality.implant import (
    Block,
    Implant,
    Nodule,
    Shape,
    blurred_in_plane,
    draw_kind,
    implanted,
    pick_shape,
)
from training.implant.decoys import add_vessels
from training.implant.hosts import Host, Target
from training.implant.nodules import Places
from training.learn.warp import Move, moved, warped, way_back
from training.read.volume import F32, F64, resample, window

GRID_MM = 1.25
SIDE = 64  # voxels of a patch
TURNED_SIDE = 80  # voxels of the piece that a turned patch is cut from
STRIDE = 4
BODY_STRIDE = 2
FAINT_HU = 110.0
"""Least change of HU at a nodule's densest voxel."""
UNKNOWN = -1.0
"""Of `Patch.body`: nobody has outlined what is here."""


@dataclass(frozen=True)
class Drawing:
    """How patches are drawn."""

    implants: float = 2.2  # mean number a patch
    smallest_mm: float = 3.5
    largest_mm: float = 36.0
    real: float = 0.06  # share of patches around a host's real lesion
    faint: float = 0.15  # share of implants made ground glass or part solid on top of the usual
    hard: float = 0.3  # share of isolated ones that move to the pleura or a vessel
    decoys: float = 0.4  # share of patches with painted vessels
    thin: float = 0.3  # share of patches re-sliced to 1-1.6 mm
    thick: float = 0.3  # share of patches averaged to slices of up to 5 mm
    turned: float = 0.6  # share of patches that are turned and bent
    turn_deg: float = 20.0  # about any axis, either way
    bend: float = 3.5  # voxels, largest displacement of a node
    squeeze: float = 0.1  # each axis by itself, of its length
    noise_hu: float = 60.0  # upper end of the added noise


@dataclass(frozen=True)
class Patch:
    """Image [64, 64, 64] in [0, 1]; heat, ln diameter (mm) and heat weight [16, 16, 16]; share of
    nodule [32, 32, 32], UNKNOWN around real lesions and what may be one."""

    image: F32
    heat: F32
    size: F32
    weight: F32
    body: F32


@dataclass(frozen=True)
class Piece:
    """A block of a host, its nodules in mm from its outer edge; the first `real` are lesions."""

    block: Block
    targets: list[Target]
    real: int
    body: F32  # [z, y, x] share of implants in each voxel
    contrast_hu: list[float]  # of each target, where it fills a voxel


def draw_diameter(rng: np.random.Generator, d: Drawing) -> float:
    """Log-uniform with the small sizes drawn more often."""
    low, high = np.log(d.smallest_mm), np.log(d.largest_mm)
    return float(np.exp(low + (high - low) * rng.random() ** 1.5))


def sample(rng: np.random.Generator, host: Host, shapes: Sequence[Shape], d: Drawing) -> Patch:
    """One patch of a host."""
    turned = rng.random() < d.turned
    stretch = np.exp(rng.uniform(np.log(0.85), np.log(1.2)) + rng.uniform(-1, 1, 3) * d.squeeze)
    reach = (TURNED_SIDE if turned else SIDE) * GRID_MM / stretch
    if host.lesions and rng.random() < d.real:
        focus = np.array(host.lesions[int(rng.integers(len(host.lesions)))].center_mm)
    else:
        focus = host.places.deep[rng.integers(len(host.places.deep))]
    whole, spacing = np.array(host.volume.hu.shape), np.array(host.volume.spacing)
    low = np.floor((focus - reach / 2 + rng.uniform(-22, 22, 3)) / spacing).astype(int)
    size = np.ceil((reach + 2) / spacing).astype(int) + 1
    low = np.clip(low, 0, np.maximum(whole - size, 0))
    high = np.minimum(low + size, whole)
    hu = host.volume.hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]].copy()
    edge, roll = low * spacing, rng.random()
    if roll < d.thin:
        hu, spacing = resliced(hu, spacing, rng.uniform(1.0, 1.6))
        hu += rng.standard_normal(hu.shape).astype(np.float32) * host.noise_hu * 0.5
    piece = filled(rng, host, Block(hu, _three(spacing), host.noise_hu), edge, shapes, stretch, d)
    body = piece.body
    if roll > 1 - d.thick:
        thickness = rng.uniform(min(spacing[0] * 1.2, 4.5), 5.0)
        body, _ = resliced(body, spacing, thickness)
        hu, spacing = resliced(hu, spacing, thickness)
    side = TURNED_SIDE if turned else SIDE
    got = np.zeros((1, 2, side, side, side), np.float32)
    got[:, 0] = -1000
    for into, values in zip(got[0], (hu, body), strict=True):
        cut = resample(values, _three(spacing * stretch), [GRID_MM] * 3)[:side, :side, :side]
        into[: cut.shape[0], : cut.shape[1], : cut.shape[2]] = cut
    move = draw_move(rng, d) if turned else Move(np.eye(3), np.zeros(3))
    if turned:
        got = warped(torch.from_numpy(got), [move], (SIDE,) * 3, outside="border").numpy()
    image, body = got[0]
    lesions, plain, faint = list[Target](), list[Target](), list[Target]()
    for i, (t, contrast) in enumerate(zip(piece.targets, piece.contrast_hu, strict=True)):
        here = in_patch(t, np.zeros(3), stretch, move, side)
        kind = lesions if i < piece.real else plain
        if i >= piece.real and contrast * _densest(body, here) < FAINT_HU:
            kind = faint
        kind.append(here)
    doubtful = [*host.spots, *host.unsure]
    unsure = [*faint, *(in_patch(one, edge, stretch, move, side) for one in doubtful)]
    heat, size_map, weight = draw_targets([*lesions, *plain], len(lesions))
    weight *= away_from(unsure, STRIDE)
    if host.ignored.any():
        weight *= seen(host, edge, stretch, move, side)
    n = SIDE // BODY_STRIDE
    share = body.reshape((n, BODY_STRIDE) * 3).mean((1, 3, 5))
    share = np.where(away_from([*lesions, *unsure], BODY_STRIDE) > 0, share, UNKNOWN)
    image = window(altered(rng, image, d))
    return mirrored(
        rng, Patch(image, heat, size_map, weight, np.asarray(np.clip(share, -1, 1), np.float32))
    )


def in_patch(t: Target, edge_mm: F64, stretch: F64, move: Move, side: int) -> Target:
    """A target of the CT (or of the piece that begins at `edge_mm`), in mm from the patch's edge;
    it may lie outside."""
    at = (np.array(t.center_mm) - edge_mm) * stretch / GRID_MM - 0.5
    (there,) = moved(at, move, (side,) * 3, (SIDE,) * 3)
    return Target(
        _three((there + 0.5) * GRID_MM), float(t.diameter_mm * np.prod(stretch) ** (1 / 3))
    )


def _densest(body: F32, target: Target) -> float:
    """The largest share within half a radius (at least 2 voxels) of a target's centre; 1 where that
    lies outside the patch."""
    at = np.array(target.center_mm) / GRID_MM - 0.5
    if (at < 0).any() or (at > SIDE - 1).any():
        return 1.0
    reach = max(target.diameter_mm / 4 / GRID_MM, 2.0)
    low = np.clip(np.floor(at - reach).astype(int), 0, SIDE - 1)
    high = np.clip(np.ceil(at + reach).astype(int) + 1, 1, SIDE)
    return float(body[low[0] : high[0], low[1] : high[1], low[2] : high[2]].max())


def away_from(targets: Sequence[Target], stride: int) -> F32:
    """0 in the cells of `stride` voxels at these targets and one cell around, else 1."""
    n = SIDE // stride
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij")).astype(np.float32)
    out = np.ones((n, n, n), np.float32)
    for target in targets:
        at = np.array(target.center_mm) / (GRID_MM * stride) - 0.5
        squared = ((grid - at[:, None, None, None]) ** 2).sum(0)
        out[squared < (target.diameter_mm / 2 / (GRID_MM * stride) + 1) ** 2] = 0
    return out


def filled(
    rng: np.random.Generator,
    host: Host,
    block: Block,
    edge_mm: F64,
    shapes: Sequence[Shape],
    stretch: F64,
    d: Drawing,
) -> Piece:
    """The block, changed in place, with decoys and nodules; `edge_mm` is where it begins."""
    extent = np.array(block.hu.shape) * block.spacing
    targets = [
        Target(_three(at), lesion.diameter_mm)
        for lesion in host.lesions
        for at in [np.array(lesion.center_mm) - edge_mm]
        if (at > -8).all() and (at < extent + 8).all()
    ]
    real = len(targets)
    body, contrast = np.zeros(block.hu.shape, np.float32), [np.inf] * real
    if rng.random() < d.decoys:
        add_vessels(rng, block, int(rng.integers(1, 4)))
    for _ in range(int(rng.poisson(d.implants * float(np.prod(extent)) / (SIDE * GRID_MM) ** 3))):
        diameter = draw_diameter(rng, d) / float(np.prod(stretch)) ** (1 / 3)
        place, at = draw_place(rng, host.places, diameter, edge_mm, extent, targets, d)
        if at is None:
            continue
        kind = draw_kind(rng, diameter)
        if rng.random() < d.faint:
            kind = "ground_glass" if rng.random() < 0.7 else "part_solid"
        shape = pick_shape(rng, shapes, diameter)
        before = block.hu.copy()
        done = implanted(rng, block, at, Nodule(shape, diameter, kind, place), before)
        if done:
            targets.append(Target(done.center_mm, diameter))
            np.maximum(body[done.part], done.occupancy, out=body[done.part])
            contrast.append(contrast_of(done, before, block.hu))
    return Piece(block, targets, real, body, contrast)


def contrast_of(one: Implant, before: F32, after: F32) -> float:
    """HU by which a voxel full of the nodule would differ: a mean over its body."""
    squared = float((one.occupancy**2).sum())
    changed = np.abs(after[one.part] - before[one.part])
    return float((changed * one.occupancy).sum()) / max(squared, 1e-6)


def draw_place(
    rng: np.random.Generator,
    places: Places,
    diameter: float,
    edge_mm: F64,
    extent: F64,
    others: Sequence[Target],
    d: Drawing,
) -> tuple[str, F64 | None]:
    """A kind of place and a point in the block for a nodule of this size, clear of the others."""
    for _ in range(60):
        place, at = places.draw(rng, diameter)
        if place == "isolated" and rng.random() < d.hard:
            continue
        at = at - edge_mm + rng.uniform(-0.7, 0.7, 3)
        if (at > 2).all() and (at < extent - 2).all():
            far = [np.linalg.norm(at - t.center_mm) for t in others]
            near = [0.6 * (diameter + t.diameter_mm) + 3 for t in others]
            if all(f > n for f, n in zip(far, near, strict=True)):
                return place, at
    return "", None


def draw_move(rng: np.random.Generator, d: Drawing) -> Move:
    """A turn about any axis and an elastic field."""
    angle = float(np.deg2rad(rng.uniform(-d.turn_deg, d.turn_deg)))
    back = way_back(angle, rng.standard_normal(3), 1.0, np.ones(3))
    return Move(back, np.zeros(3), 1.0, rng.uniform(0, d.bend), 16.0, int(rng.integers(2**62)))


def resliced(hu: F32, spacing: F64, target: float) -> tuple[F32, F64]:
    """The same block on slices of another thickness, by the line's own rule for z."""
    weights = axis_weights(hu.shape[0], float(spacing[0]), target)
    flat = weights @ hu.reshape(hu.shape[0], -1)
    new = np.array([target, spacing[1], spacing[2]])
    return np.asarray(flat.reshape(-1, *hu.shape[1:]), np.float32), new


def altered(rng: np.random.Generator, hu: F32, d: Drawing) -> F32:
    """Another kernel, more noise, a little gain and offset."""
    roll = rng.random()
    if roll < 0.3:
        hu = blurred_in_plane(hu, (rng.uniform(0.2, 0.75),) * 2)
    elif roll < 0.5:
        hu = hu + rng.uniform(0.2, 0.8) * (hu - ndimage.gaussian_filter(hu, 0.8))
    if rng.random() < 0.6:
        noise = rng.standard_normal(hu.shape, dtype=np.float32)
        if rng.random() < 0.5:
            noise = ndimage.gaussian_filter(noise, 0.6) * 2.4
        hu = hu + noise * np.float32(rng.uniform(0, d.noise_hu) * rng.random())
    return np.asarray(hu * rng.uniform(0.96, 1.04) + rng.uniform(-25, 25), np.float32)


def draw_targets(targets: Sequence[Target], real: int = 0) -> tuple[F32, F32, F32]:
    """Heat, ln diameter and heat weight [16,16,16] for nodules given in mm from the patch's edge.

    The first `real` targets are lesions marked by eye: their place and size are trusted less.
    """
    n = SIDE // STRIDE
    heat, size = np.zeros((n, n, n), np.float32), np.zeros((n, n, n), np.float32)
    weight = np.ones((n, n, n), np.float32)
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij")).astype(np.float32)
    cell = GRID_MM * STRIDE
    for i, target in enumerate(targets):
        at = np.array(target.center_mm) / cell - 0.5
        sigma = float(np.clip(target.diameter_mm / 2 / cell * 0.5, 0.55, 1.3))
        squared = ((grid - at[:, None, None, None]) ** 2).sum(0)
        blob = np.exp(-squared / (2 * sigma**2)).astype(np.float32)
        nearest = np.round(at).astype(int)
        if (nearest >= 0).all() and (nearest < n).all():
            blob[tuple(nearest)] = 1.0
        size = np.where(blob > heat, np.float32(np.log(target.diameter_mm)), size)
        heat = np.maximum(heat, blob)
        if i < real:
            weight = np.where(
                (squared < (target.diameter_mm / 2 / cell + 1) ** 2) & (blob < 1), 0, weight
            )
    return heat, size.astype(np.float32), weight.astype(np.float32)


def seen(host: Host, edge_mm: F64, stretch: F64, move: Move, side: int) -> F32:
    """0 at the cells [16, 16, 16] near the host's boxed mass, else 1 (the elastic part is within
    the margin)."""
    n = SIDE // STRIDE
    cells = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1)
    voxels = (cells + 0.5) * STRIDE - 0.5 - (SIDE - 1) / 2 - move.shift
    back = voxels @ move.matrix.T + (side - 1) / 2
    at = ((back + 0.5) * GRID_MM / stretch + edge_mm) / 1.5
    index = np.clip(at.astype(int), 0, np.array(host.ignored.shape) - 1)
    near = ndimage.binary_dilation(host.ignored[tuple(np.moveaxis(index, -1, 0))], iterations=2)
    return np.asarray(~near, np.float32)


def _three(values: F64) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x


def mirrored(rng: np.random.Generator, patch: Patch) -> Patch:
    """The same mirrorings and axis swap on all (cells lie symmetrically in a patch)."""
    flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
    swap = rng.random() < 0.5

    def one(a: F32) -> F32:
        b = np.flip(a, flips)
        return np.ascontiguousarray(np.swapaxes(b, 1, 2) if swap else b)

    return Patch(*(one(getattr(patch, f.name)) for f in fields(Patch)))
