"""Implants of known place and size in a series that is in memory: what a probe looks for.

    stack -> Look -> implants -> altered Stack, truth

Rules.
1. An implant is put into the scanner's own pixels as `implant` puts it, with the partial volume of
   the slices themselves, and the series' own point spread and noise (`look`).
2. The series that was given is not touched: slices that an implant reaches are new ones, the others
   are shared. What is altered has a digest of its own, so that nobody takes it for a slice that
   came from a scanner, and no facts of its quality: it is in no library.
3. The same series, shapes, places and seed give the same bytes.
4. Only evenly spaced slices: ValueError for others, because an implant across a hole has no size.
5. Noise and point spread are of the plane. Along the normal an implant is averaged over the
   distance of the slices: where they overlap it is a little sharper than the scanner's own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import fast, plan
from appliance.quality.implant import (
    SPICULE_MM,
    SPREAD_MM,
    Block,
    Nodule,
    Part,
    Shape,
    implanted,
    near,
    pick_shape,
)
from appliance.records import Grid, Mask, Plane, Stack, Vector

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CLEAR_MM = 12.0
"""Between the edges of two implants, or of one and what is there already."""
UNEVEN = 0.02
"""How far the distances of slices may differ from their median, as a share of it."""
LOOKED_AT = 24
"""Slices of which the look is taken, at most."""
USUAL_NOISE_HU, USUAL_GRAIN_PX = 25.0, 0.5
"""Of a series in which they cannot be measured."""
NOISE_HU, GRAIN_PX, WIDEST_MM = (3.0, 150.0), (0.1, 2.0), 1.5
SKIN_HU, AIR_HU, TISSUE_HU = -500.0, -900.0, -250.0
BEFORE_MM, BEHIND_MM = 6.0, 4.0
"""So much clean air and so much tissue make an edge of the skin."""
BLOCK_MM, SOFT_HU = 6.0, (0.0, 200.0)
"""Squares of tissue above fat, with blood and liver that hold contrast medium."""
EVENEST, FEWEST_BLOCKS = 0.25, 200
"""The quantile of the blocks' SDs that leaves edges and vessels out, and of how many blocks it
says something."""
QUARTILE = 0.6745
"""Of a normal distribution, in SDs below its middle."""
FEWEST_EDGES = 50


@dataclass(frozen=True, slots=True)
class Look:
    """How a series shows what is in it."""

    noise_hu: float
    grain_mm: float
    """SD of the Gaussian that gives white noise the texture of the series' own, in the plane."""
    spread_mm: float
    """SD of its point spread in the plane."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An implant that is asked for."""

    diameter_mm: float
    """Of the sphere of equal volume."""
    centers_lps_mm: tuple[Vector, ...]
    """Where it may go; the first at which it can be seen is taken."""
    kind: str = "solid"
    """One of implant.KINDS."""


@dataclass(frozen=True, slots=True)
class Inserted:
    """The truth of one implant."""

    center_lps_mm: Vector
    diameter_mm: float
    kind: str


def look(stack: Stack) -> Look:
    """Point spread and noise of a series, measured in its own pixels."""
    step = max(1, -(-len(stack.planes) // LOOKED_AT))
    planes = stack.planes[step // 2 :: step]
    pixel = stack.spacing_mm[2]
    sizes = tuple(max(4, round(BLOCK_MM / mm)) for mm in stack.spacing_mm[1:])
    even = [_even(plane.native, (sizes[0], sizes[1])) for plane in planes]
    blocks = np.concatenate(even)
    noise_hu, grain = USUAL_NOISE_HU, USUAL_GRAIN_PX
    if len(blocks) >= FEWEST_BLOCKS:
        blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
        sd = blocks.std(axis=(1, 2))
        quartile = float(np.quantile(sd, EVENEST))
        evenest = blocks[sd <= quartile]
        beside = (evenest[:, :, 1:] * evenest[:, :, :-1]).mean()
        below = (evenest[:, 1:] * evenest[:, :-1]).mean()
        alike = float(beside + below) / 2 / max(float((evenest**2).mean()), 1e-6)
        grain, shown = _grain(alike, sizes[0] * sizes[1])
        noise_hu = quartile / shown
    return Look(
        noise_hu=float(np.clip(noise_hu, *NOISE_HU)),
        grain_mm=grain * pixel,
        spread_mm=_spread(planes),
    )


def _even(hu: NDArray[np.int16] | F32, size: tuple[int, int]) -> F32:
    """Blocks [n, y, x] of soft tissue, side by side in the slice."""
    rows, columns = hu.shape[0] // size[0], hu.shape[1] // size[1]
    whole = hu[: rows * size[0], : columns * size[1]].astype(np.float32)
    blocks = whole.reshape(rows, size[0], columns, size[1]).swapaxes(1, 2).reshape(-1, *size)
    mean = blocks.mean(axis=(1, 2))
    return blocks[(mean > SOFT_HU[0]) & (mean < SOFT_HU[1])]


def _grain(correlation: float, pixels: int) -> tuple[float, float]:
    """Correlation of the noise one pixel aside, in blocks of so many pixels less their means ->
    SD in pixels of the Gaussian that makes such noise (implant.correlated_noise), and the share of
    its SD that the lower quartile of the blocks shows.

    White noise under a kernel is correlated as the kernel is with itself. Its correlations add up
    to so many pixels: that share of a block's variance goes with the mean. Their squares add up to
    the pixels that count as one: the SDs of blocks spread by 1 / sqrt(2 n), n of them in a block.
    """
    sds = np.linspace(*GRAIN_PX, 200)
    seen, shown = np.empty(len(sds)), np.empty(len(sds))
    for i, sd in enumerate(sds):
        kernel = cv2.getGaussianKernel(2 * int(4 * sd + 0.5) + 1, sd).ravel()
        alike = np.correlate(kernel, kernel, "full")
        alike /= alike.max()
        beside = float(alike[len(kernel)]) if len(kernel) > 1 else 0.0
        lost = min(float(alike.sum()) ** 2 / pixels, 0.9)
        seen[i] = (beside - lost) / (1 - lost)
        count = pixels / float(alike @ alike) ** 2
        shown[i] = math.sqrt(1 - lost) * max(1 - QUARTILE / math.sqrt(2 * count), 0.5)
    last = int(seen.argmax()) + 1  # wider ones hide in the mean
    best = int(np.abs(seen[:last] - correlation).argmin())
    return float(sds[best]), float(shown[best])


def _spread(planes: Sequence[Plane]) -> float:
    """SD in mm of the point spread, from the skin's front edge in the middle third of the columns.

    Across an edge of height H under a Gaussian of SD s two values h to either side of it differ by
    H erf(h / (s sqrt 2)). The width of a pixel (SD h / sqrt 12) is taken off, because an implant
    is averaged over pixels by itself.
    """
    found: list[float] = []
    for plane in planes:
        pixel = plane.geometry.spacing_mm[0]
        widths = np.linspace(0.2, 4.0, 400)
        falls = np.array([math.erf(1 / (w * math.sqrt(2))) for w in widths])
        for share in _edges(plane.native, pixel):
            found.append(pixel * float(np.interp(-share, -falls, widths)))
    if len(found) < FEWEST_EDGES:
        return sum(SPREAD_MM) / 2
    pixel = planes[0].geometry.spacing_mm[0]
    width = float(np.median(found))
    return float(np.clip(math.sqrt(max(width**2 - pixel**2 / 12, 0.0)), 0.0, WIDEST_MM))


def _edges(hu: NDArray[np.int16] | F32, pixel: float) -> list[float]:
    """Of columns whose skin has clean air before it: the steepest rise over two pixels there, as a
    share of the whole."""
    third = hu.shape[1] // 3
    columns = hu[:, third : 2 * third : 2].astype(np.float32)
    before, behind = math.ceil(BEFORE_MM / pixel), math.ceil(BEHIND_MM / pixel)
    first = (columns > SKIN_HU).argmax(axis=0)
    shares = []
    for column, at in zip(columns.T, first, strict=True):
        if at < before + 3 or at + behind + 3 > len(column):
            continue
        air, tissue = column[at - before : at - 3].mean(), column[at + 3 : at + behind + 3].mean()
        if air < AIR_HU and tissue > TISSUE_HU:
            rises = column[at - 2 : at + 3] - column[at - 4 : at + 1]
            skin = max(tissue, column[at + 1 : at + 3].mean())  # denser than the fat behind it
            shares.append(float(min(rises.max() / (skin - air), 1.0)))
    return shares


def places(
    lungs: Mask,
    taken: Sequence[tuple[Vector, float]],
    diameters_mm: Sequence[float],
    seed: int,
    tries: int = 40,
) -> tuple[Wanted, ...]:
    """Places for implants of these sizes in the lungs, clear of what is `taken` (centre LPS mm and
    diameter: findings, lesions). `implants` keeps them clear of each other.

    ValueError where there are no lungs.
    """
    inside = np.argwhere(lungs.voxels)
    if not len(inside):
        raise ValueError("no lungs: there is no place for an implant")
    rng = np.random.default_rng([61, seed])
    found = []
    for diameter in diameters_mm:
        at = inside[rng.integers(len(inside), size=tries)] + rng.uniform(-0.5, 0.5, (tries, 3))
        centers = plan.to_lps(lungs.grid, at)
        free = [c for c in centers if _clear(c, diameter, taken)]
        found.append(Wanted(diameter, tuple(plan.vector(c) for c in free)))
    return tuple(found)


def _clear(center: F64, diameter: float, taken: Sequence[tuple[Vector, float]]) -> bool:
    return all(
        float(np.linalg.norm(center - other)) > (diameter + wide) / 2 + CLEAR_MM
        for other, wide in taken
    )


def implants(
    stack: Stack,
    shapes: Sequence[Shape],
    wanted: Sequence[Wanted],
    seed: int,
    seen: Look | None = None,
) -> tuple[Stack, tuple[Inserted, ...]]:
    """The series with these implants, and what is in it: fewer than wanted where some would not be
    seen anywhere. `shapes` ascend in diameter; `seen`: None measures it (`look`).

    ValueError for slices that are not evenly spaced.
    """
    gaps, grid = np.diff(stack.z_mm), plan.grid_of(stack)
    if float(np.abs(gaps / plan.distance(stack.z_mm) - 1).max()) > UNEVEN:
        raise ValueError("the slices are not evenly spaced: an implant would have no size")
    seen = seen or look(stack)
    altered: dict[int, F32 | NDArray[np.int16]] = {}
    done: list[Inserted] = []
    for number, one in enumerate(wanted):
        rng = np.random.default_rng([67, seed, number])
        shape = pick_shape(rng, shapes, one.diameter_mm)
        nodule = Nodule(shape, one.diameter_mm, one.kind)
        for center in one.centers_lps_mm:
            others = [(d.center_lps_mm, d.diameter_mm) for d in done]
            if not _clear(np.asarray(center), one.diameter_mm, others):
                continue
            if _put(rng, stack, grid, altered, nodule, center, seen):
                done.append(Inserted(center, one.diameter_mm, one.kind))
                break
    planes = [
        _altered(plane, altered[k]) if k in altered else plane
        for k, plane in enumerate(stack.planes)
    ]
    return replace(stack, planes=tuple(planes)), tuple(done)


def _put(
    rng: np.random.Generator,
    stack: Stack,
    grid: Grid,
    altered: dict[int, F32 | NDArray[np.int16]],
    nodule: Nodule,
    center: Vector,
    seen: Look,
) -> bool:
    """Puts one nodule into copies of the slices that it reaches; False, and nothing done, where it
    would not be seen or reaches over an edge."""
    spacing = np.array(grid.spacing_mm)
    at = (plan.to_index(grid, center) + 0.5) * spacing
    radius = nodule.diameter_mm / 2
    if (at < radius).any() or (at > np.array(grid.shape) * spacing - radius).any():
        return False
    part = _inside(near(grid.spacing_mm, at, radius + SPICULE_MM), grid)
    z, y, x = part
    images = {k: altered.get(k, stack.planes[k].native) for k in range(z.start, z.stop)}
    hu = np.stack([image[y, x] for image in images.values()]).astype(np.float32)
    grain_px = seen.grain_mm / grid.spacing_mm[2]
    block = Block(hu, grid.spacing_mm, seen.noise_hu, grain_px, seen.spread_mm)
    before, corner = hu.copy(), np.array([p.start for p in part]) * spacing
    if implanted(rng, block, at - corner, nodule, before) is None:
        return False
    for k, now, was in zip(images, hu, before, strict=True):
        if (now != was).any():
            image = altered.setdefault(k, images[k].copy())
            image[y, x] = _stored(now, image.dtype)
    return True


def _inside(part: Part, grid: Grid) -> Part:
    z, y, x = (slice(p.start, min(p.stop, n)) for p, n in zip(part, grid.shape, strict=True))
    return z, y, x


def _stored(hu: F32, dtype: np.dtype[np.int16] | np.dtype[np.float32]) -> F32 | NDArray[np.int16]:
    """HU as the series holds them."""
    if dtype != np.int16:
        return hu
    return np.clip(np.rint(hu), -32768, 32767).astype(np.int16)


def _altered(plane: Plane, native: F32 | NDArray[np.int16]) -> Plane:
    """The plane with other pixels (rule 2)."""
    exact = native.astype(np.float32, copy=False)
    spacing = plane.geometry.spacing_mm
    return replace(
        plane,
        native=native,
        resampled={mm: fast.inplane(exact, spacing, mm) for mm in plane.resampled},
        digest=hashlib.sha256(f"implants {plane.digest}".encode() + native.tobytes()).hexdigest(),
        facts=None,
    )
