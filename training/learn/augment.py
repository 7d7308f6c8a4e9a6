"""Variations of training images: place, shape and what another scanner or reconstruction would do.

Rules.
1. Images [N, 1, H, W] or [N, 1, D, H, W] are windowed to [0, 1]; masks have the images' shape and
   any dtype. Geometry moves both (linear and nearest), intensity the image alone. Lengths are in
   voxels, intensities in parts of the window.
2. What happens to a sample is drawn from (seed, epoch, index) alone: the same in any batch, worker,
   order and device. Switching one factor off leaves the draws of the others as they were.
3. `draw` says what, `apply` does it, `warp.moved` says where a point went.
4. Factors that are off leave every bit as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from training.learn.warp import Move, Outside, warped, way_back

F64 = npt.NDArray[np.float64]
Pair = tuple[float, float]

BLUR_PX = 0.8
"""Standard deviation of the Gaussian that a change of kernel takes away or adds, in the plane."""
LEVELS = 256
CLAHE_CLIP, CLAHE_TILE = 2.0, 16  # times the mean count of a level; pixels, at least


@dataclass(frozen=True)
class Ranges:
    """How far each factor may go; 0, None or () switches it off."""

    share: float = 0.5  # chance that a factor is applied to a sample, each on its own
    rotate_deg: float = 15.0  # either way; in 3D about an axis of any direction
    scale: Pair | None = (0.8, 1.2)  # log-uniform
    shift: float = 0.0  # voxels either way, each axis
    flip: tuple[int, ...] = (-1, -2, -3)  # axes, each with a chance of one half
    elastic: float = 5.0  # voxels, upper end of a node's displacement, at most cell / 3
    elastic_cell: float = 16.0  # voxels between the nodes of a cubic B-spline field
    thickness: Pair | None = (1.0, 4.0)  # slices averaged into one, 3D only
    kernel: Pair | None = (-1.0, 1.0)  # -1 soft, 0 as it is, 1 sharp: see `other_kernel`
    gamma: Pair | None = (0.7, 1.5)  # log-uniform
    gain: Pair | None = None
    offset: float = 0.0  # either way
    noise: float = 0.03  # upper end of the standard deviation
    clahe: float = 0.0  # chance of contrast-limited adaptive equalisation (Zuiderveld 1994)
    equalize: float = 0.0  # chance of histogram equalisation

    def __post_init__(self) -> None:
        """ValueError for a range that means nothing, or an elastic field that could fold."""
        for name in ("scale", "thickness", "kernel", "gamma", "gain"):
            pair = getattr(self, name)
            least = -1.0 if name == "kernel" else 1.0 if name == "thickness" else 1e-3
            if pair is not None and not least <= pair[0] <= pair[1] < np.inf:
                raise ValueError(f"{name} wants {least:g} <= low <= high, not {pair}")
        for name in ("rotate_deg", "shift", "elastic", "offset", "noise"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} wants 0 or more, not {getattr(self, name)}")
        for name in ("share", "clahe", "equalize"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a chance, not {getattr(self, name)}")
        if 3 * self.elastic > self.elastic_cell:
            # Choi and Lee 2000: cell / 2.48 keeps the map one to one; a scale of 1.2 takes a part
            raise ValueError(f"elastic {self.elastic} folds cells of {self.elastic_cell} voxels")


@dataclass(frozen=True)
class Change:
    """What happens to one sample."""

    move: Move
    thickness: float = 1.0
    phase: float = 0.0  # part of a slice by which the first one begins before the image
    kernel: float = 0.0
    gamma: float = 1.0
    gain: float = 1.0
    offset: float = 0.0
    noise: float = 0.0
    grain: float = 0.0  # 0 white noise, 1 as smooth as a soft kernel's
    noise_seed: int = 0
    clahe: bool = False
    equalize: bool = False


@dataclass(frozen=True)
class Augmented:
    """A batch with what was done to it."""

    images: Tensor
    masks: Tensor | None
    changes: tuple[Change, ...]


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The only source of chance for one sample in one epoch."""
    return np.random.default_rng([seed, epoch, index])


def draw(
    rng: np.random.Generator, ranges: Ranges, dims: int, spacing: Sequence[float] | None = None
) -> Change:
    """A sample's change; `dims` is 2 or 3, `spacing` [dims] any unit (a rotation keeps lengths).

    Takes as many numbers from `rng` whatever is on.
    """
    chances, ats = rng.random((2, 16))
    flips, about = rng.random(3), rng.standard_normal(3)
    seeds = rng.integers(0, 2**62, 2)
    order = iter(zip(chances, ats, strict=True))

    def within(limits: Pair | None, neutral: float) -> float:
        chance, at = next(order)
        if limits is None or chance >= ranges.share:
            return neutral
        return float(limits[0] + (limits[1] - limits[0]) * at)

    def ratio(limits: Pair | None) -> float:
        logs = None if limits is None else (float(np.log(limits[0])), float(np.log(limits[1])))
        return float(np.exp(within(logs, 0.0)))

    def either(most: float) -> float:
        return within((-most, most) if most else None, 0.0)

    angle, scale = np.deg2rad(either(ranges.rotate_deg)), ratio(ranges.scale)
    shift = np.array([either(ranges.shift) for _ in range(3)])[:dims]
    mirror = np.array(
        [-1.0 if a - dims in ranges.flip and flips[a] < 0.5 else 1 for a in range(dims)]
    )
    return Change(
        Move(
            way_back(float(angle), about, scale, mirror, spacing),
            shift,
            scale,
            within((0.0, ranges.elastic), 0.0),
            ranges.elastic_cell,
            int(seeds[0]),
        ),
        thickness=within(ranges.thickness if dims == 3 else None, 1.0),
        phase=float(ats[15]),
        kernel=within(ranges.kernel, 0.0),
        gamma=ratio(ranges.gamma),
        gain=within(ranges.gain, 1.0),
        offset=either(ranges.offset),
        noise=within((0.0, ranges.noise), 0.0),
        grain=float(ats[14]),
        noise_seed=int(seeds[1]),
        clahe=bool(chances[14] < ranges.clahe),
        equalize=bool(chances[15] < ranges.equalize),
    )


def thick_slices(size: int, thickness: float, phase: float) -> F64:
    """Matrix [size, size]: averages over slices of `thickness` voxels, then linear between them.

    Slices touch; the first begins `phase` of one before the image, and the ends are cut there.
    """
    edges = np.arange(-phase * thickness, size + thickness, thickness)
    low, high = np.clip(edges[:-1], 0, size), np.clip(edges[1:], 0, size)
    low, high = low[high > low], high[high > low]
    cells = np.arange(size)
    shared = np.minimum(high[:, None], cells + 1) - np.maximum(low[:, None], cells)
    averages = np.clip(shared, 0, None) / (high - low)[:, None]
    middles = (low + high) / 2
    between = np.stack([np.interp(cells + 0.5, middles, one) for one in np.eye(len(middles))], 1)
    return np.asarray(between @ averages, np.float64)


def blurred(images: Tensor) -> Tensor:
    """Gaussian of BLUR_PX in the plane; edges repeat."""
    at = torch.arange(-3, 4, device=images.device, dtype=images.dtype)
    taps = torch.exp(-0.5 * (at / BLUR_PX) ** 2)
    taps = taps / taps.sum()
    planes = images.reshape(-1, 1, *images.shape[-2:])
    planes = functional.pad(planes, (3, 3, 3, 3), mode="replicate")
    planes = functional.conv2d(planes, taps.reshape(1, 1, 7, 1))
    return functional.conv2d(planes, taps.reshape(1, 1, 1, 7)).reshape(images.shape)


def other_kernel(images: Tensor, amount: Tensor) -> Tensor:
    """x + amount (x - blurred x): another reconstruction kernel, as its modulation transfer.

    At f cycles a pixel contrast changes by 1 + amount (1 - exp(-2 (pi BLUR_PX f)^2)): -1 blurs by
    BLUR_PX, 1 nearly doubles the finest detail, and the noise that is there with it.
    """
    return images + amount * (images - blurred(images))


def noise_of(change: Change, shape: Sequence[int]) -> Tensor:
    """Noise [1, shape...] of standard deviation 1, between white and smooth by `grain`."""
    rng = np.random.default_rng(change.noise_seed)
    white = torch.from_numpy(rng.standard_normal((1, *shape), dtype=np.float32))
    smooth = blurred(white)
    both = (1 - change.grain) * white + change.grain * smooth / smooth.std()
    return both / both.std()


def equalized(image: Tensor) -> Tensor:
    """One image in [0, 1] through its own cumulative histogram, linear between LEVELS levels."""
    x = image.clamp(0, 1).flatten() * (LEVELS - 1)
    below = x.long().clamp(max=LEVELS - 2)
    counts = torch.bincount(x.round().long(), minlength=LEVELS).to(image.dtype)
    share = counts.cumsum(0) / counts.sum()
    first = counts[counts > 0][0] / counts.sum()
    if first == 1:
        return image
    table = ((share - first) / (1 - first)).clamp(0, 1)
    return torch.lerp(table[below], table[below + 1], x - below).reshape(image.shape)


def clahe(image: Tensor) -> Tensor:
    """Contrast-limited adaptive histogram equalisation plane by plane, on 8 bits."""
    planes = image.detach().cpu().clamp(0, 1).reshape(-1, *image.shape[-2:]).numpy()
    tiles = [int(np.clip(n // CLAHE_TILE, 1, 8)) for n in reversed(planes.shape[1:])]
    tool = cv2.createCLAHE(CLAHE_CLIP, tiles)
    done = np.stack([tool.apply(np.round(p * 255).astype(np.uint8)) for p in planes])
    return torch.from_numpy(done).to(image).div(255).reshape(image.shape)


def apply(
    images: Tensor,
    changes: Sequence[Change],
    masks: Tensor | None = None,
    size: Sequence[int] | None = None,
    outside: Outside = "reflection",
) -> Augmented:
    """Changes of a batch: geometry, slice thickness, kernel, gamma, gain, noise, equalisation.

    `size` cuts the middle out of larger images, so that turning needs nothing from `outside`.
    ValueError for images that are not floating point in [0, 1] or masks of another shape.
    """
    if not images.is_floating_point() or images.ndim not in {4, 5} or images.shape[1] != 1:
        raise ValueError(f"images are float [N, 1, (D,) H, W], not {images.dtype} {images.shape}")
    if len(changes) != len(images) or (masks is not None and masks.shape != images.shape):
        raise ValueError("one change and one mask for each image")
    if len(images) and not (images.min() >= 0 and images.max() <= 1):  # NaN is neither
        raise ValueError("images lie in [0, 1]: window them first")
    moves = [c.move for c in changes]
    x = warped(images, moves, size, outside=outside)
    if masks is not None:
        masks = warped(masks, moves, size, "nearest", outside)

    def column(values: Iterable[float]) -> Tensor:
        return (
            torch.tensor(list(values), dtype=x.dtype).to(x.device).reshape(-1, *[1] * (x.ndim - 1))
        )

    thick = [i for i, c in enumerate(changes) if c.thickness > 1 and x.ndim == 5]
    if thick:
        mix = np.stack(
            [thick_slices(x.shape[2], changes[i].thickness, changes[i].phase) for i in thick]
        )
        mixed = torch.einsum("nab,ncbyx->ncayx", torch.from_numpy(mix).to(x), x[thick])
        x = _replaced(x, thick, mixed)
    cut = [i for i, c in enumerate(changes) if c.kernel]
    if cut:
        x = _replaced(x, cut, other_kernel(x[cut], column(changes[i].kernel for i in cut)))
    toned = [i for i, c in enumerate(changes) if (c.gamma, c.gain, c.offset) != (1, 1, 0)]
    if toned:
        here = [changes[i] for i in toned]
        y = x[toned].clamp(0, 1) ** column(c.gamma for c in here)
        y = y * column(c.gain for c in here) + column(c.offset for c in here)
        x = _replaced(x, toned, y)
    noisy = [i for i, c in enumerate(changes) if c.noise]
    if noisy:
        grains = torch.stack([noise_of(changes[i], x.shape[2:]) for i in noisy]).to(x)
        x = _replaced(x, noisy, x[noisy] + grains * column(changes[i].noise for i in noisy))
    x = x.clamp(0, 1)
    leveled = [i for i, c in enumerate(changes) if c.clahe or c.equalize]
    if leveled:
        each = [equalized(x[i]) if changes[i].equalize else x[i] for i in leveled]
        each = [clahe(y) if changes[i].clahe else y for i, y in zip(leveled, each, strict=True)]
        x = _replaced(x, leveled, torch.stack(each))
    return Augmented(x, masks, tuple(changes))


def _replaced(images: Tensor, which: list[int], new: Tensor) -> Tensor:
    if len(which) == len(images):
        return new
    out = images.clone()
    out[which] = new
    return out


def augment(
    images: Tensor,
    ranges: Ranges,
    *,
    seed: int,
    epoch: int,
    indices: Sequence[int],
    masks: Tensor | None = None,
    spacing: Sequence[float] | None = None,
    size: Sequence[int] | None = None,
    outside: Outside = "reflection",
) -> Augmented:
    """Draws and applies the changes of the samples `indices` of an epoch."""
    dims = images.ndim - 2
    changes = [draw(generator(seed, epoch, i), ranges, dims, spacing) for i in indices]
    return apply(images, changes, masks, size, outside)
