"""How much a series blurs: the SD of a Gaussian along z and in plane, from its own edges. Pure.

    Stack -> edges of air and tissue on lines of pixels -> (along z, in plane) in mm

It says by how much the sharper of two exams has to be blurred before both are measured: one scan in
two kernels gives volumes that differ by a third.

Rules
1. An edge is where a line of native pixels goes from air (AIR_HU and below: around the body and in
   the trachea; aerated lung is denser) to tissue, with nothing else within REACH_MM on either side.
   Where padding cuts the body no edge is seen: it is sharper than any that a scanner shows.
2. Of a step of height A that a Gaussian of SD s has blurred, sampled every p mm, the squares of the
   differences of neighbouring samples add up to A^2 f(s / p), on average over all places of the
   step between two samples:

       f(t) = erf(1 / (2 t)) - 2 t / sqrt(pi) * (1 - exp(-1 / (4 t^2)))

   This is the integral of the square of a Gaussian's derivative that was averaged over p. No curve
   is fitted and no edge has to be aligned, and it also holds where s is smaller than a pixel. What
   noise adds is what the same differences have away from the edge, and is taken off.
3. A line that meets the surface at a slant sees a wider step: for a surface of slopes a, b across
   the line, in directions of SD u and v, the width along the line is sqrt(s^2 + (a u)^2 + (b v)^2).
   Slopes come from the lines beside. In plane only lines are taken that the surface crosses without
   a slope along z; along z the share of the plane is taken off.
4. Fewer than FEWEST edges, or nothing left when the share of the plane is off, is None: not known.
5. A kernel that enhances edges overshoots: its edges are steeper than any Gaussian's, and its SD is
   the least that is said, LEAST of a sample. It is then the sharper one, which is all that counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import plan
from appliance.preprocess.reference import AIR_HU as PADDING_HU
from appliance.records import Pair, Stack

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
HU = NDArray[Any]
"""Signed integers or floats."""

AIR_HU: Final = -900.0
HALF_HU: Final = -500.0
TISSUE_HU: Final = -250.0
"""Fat is -120, noise included."""
REACH_MM: Final = 5.0
FEWEST: Final = 60
MOST: Final = 6000
"""Edges that are looked at, spread over all that there are: more say nothing more."""
BLOCKS: Final = 8
"""Places along z at which the plane is looked at, three slices each."""
BESIDE_MM: Final = 2.0
"""How far the lines beside lie, at least, and at least as far as samples on a line."""
FLAT, STEEP = 0.5, 1.0
"""Largest slope across a line in the plane, and across one along z."""
UPRIGHT: Final = 0.12
"""Largest slope along z of a surface that is looked at in the plane."""
LEAST: Final = 0.05
_T: Final = np.linspace(LEAST, 4.0, 2000)
_F: Final = np.array(
    [
        math.erf(1 / (2 * t)) - 2 * t / math.sqrt(math.pi) * (1 - math.exp(-1 / (4 * t * t)))
        for t in _T
    ]
)


@dataclass(frozen=True, slots=True)
class _Edges:
    """Edges on parallel lines."""

    power: F64
    """[n]: f of each, noise taken off."""
    slopes: F64
    """[n, 2]: of the surface across its line, mm a mm, along the other two axes."""


def measured(stack: Stack) -> Pair | None:
    """SD in mm along z and in plane; None where either could not be measured (rule 4)."""
    flat = in_plane(stack)
    steep = None if flat is None else along_z(stack, flat)
    return None if flat is None or steep is None else (steep, flat)


def in_plane(stack: Stack) -> float | None:
    """SD in mm within a slice, of lines along x and along y."""
    dz = plan.distance(stack.z_mm)
    dy, dx = stack.planes[0].geometry.spacing_mm
    padded = _is_padded(stack)
    each: list[_Edges] = []
    sampled = max(3, len(stack.planes) - 2)
    for middle in np.unique(np.linspace(1, sampled, BLOCKS).astype(int)):
        if middle + 1 >= len(stack.planes):
            continue
        block = np.stack([stack.planes[k].native for k in (middle - 1, middle, middle + 1)])
        most = MOST // BLOCKS // 2
        each.append(_edges(np.moveaxis(block, 1, 0), (dy, dz, dx), most, padded=padded))
        each.append(_edges(np.moveaxis(block, 2, 0), (dx, dz, dy), most, padded=padded))
    found = _joined(each)
    good = (np.abs(found.slopes[:, 0]) < UPRIGHT) & (np.abs(found.slopes[:, 1]) < FLAT)
    if np.count_nonzero(good) < FEWEST:
        return None
    wide = _width(found.power[good]) * math.sqrt(dy * dx)
    return wide / math.sqrt(1 + float(np.mean(found.slopes[good, 1] ** 2)))


def along_z(stack: Stack, flat_mm: float) -> float | None:
    """SD in mm along z; flat_mm: that in plane."""
    dz = plan.distance(stack.z_mm)
    if np.ptp(np.diff(stack.z_mm)) > 0.1 * dz:
        return None  # the differences of neighbours are of unlike steps
    dy, dx = stack.planes[0].geometry.spacing_mm
    step_y, step_x = (max(1, round(BESIDE_MM / mm)) for mm in (dy, dx))
    volume = np.stack([plane.native[::step_y, ::step_x] for plane in stack.planes])
    spacing = (dz, dy * step_y, dx * step_x)
    found = _edges(volume, spacing, MOST, padded=_is_padded(stack))
    across = (found.slopes**2).sum(axis=1)
    good = across < STEEP**2
    if np.count_nonzero(good) < FEWEST:
        return None
    wide = _width(found.power[good]) * dz
    rest = wide**2 - flat_mm**2 * float(across[good].mean())
    return math.sqrt(rest) if rest > 0 else None


def _width(power: F64) -> float:
    """SD, in samples, of which f is the mean of these (rule 2). The outer tenths are left out:
    a blanket, a hair, a fold."""
    low, high = np.quantile(power, (0.1, 0.9))
    mean = float(power[(power >= low) & (power <= high)].mean())
    return float(np.interp(-mean, -_F, _T))


def _is_padded(stack: Stack) -> bool:
    return any(plane.padding for plane in stack.planes)


def _edges(volume: HU, spacing: tuple[float, float, float], most: int, *, padded: bool) -> _Edges:
    """Edges on the lines along the first axis of a volume of this spacing in mm, either way up.
    padded: some of its pixels are padding."""
    reach = max(2, math.ceil(REACH_MM / spacing[0]))
    apart_mm = max(BESIDE_MM, spacing[0])  # less, and a crossing between thick slices is too coarse
    y, x = (max(1, round(apart_mm / mm)) for mm in spacing[1:])
    y = min(y, (volume.shape[1] - 1) // 2)
    if volume.shape[0] < 2 * reach + 2 or not y:
        return _joined([])
    lines = volume[:, y:-y, x:-x]
    dense = lines[reach : len(lines) - reach] >= HALF_HU
    first, last = lines[: len(lines) - 2 * reach - 1], lines[2 * reach + 1 :]
    found = []
    for up, air, flesh in ((True, first, last), (False, last, first)):
        step = dense[1:] > dense[:-1] if up else dense[1:] < dense[:-1]
        step &= air < AIR_HU
        step &= flesh > TISSUE_HU
        places = np.argwhere(step)
        del step
        places += (reach, y, x)
        every = max(1, len(places) // most)
        seen = places[::every]
        found.append(_looked_at(volume, seen, reach, (y, x), spacing, up=up, padded=padded))
    return _joined(found)


def _looked_at(
    volume: HU,
    places: NDArray[np.intp],
    reach: int,
    beside: tuple[int, int],
    spacing: tuple[float, float, float],
    *,
    up: bool,
    padded: bool,
) -> _Edges:
    """The edges between each of these samples [n, 3] and the next one on its line; up: the tissue
    lies behind them."""

    def along(y: int, x: int) -> F32:
        """[n, samples] of the lines so far beside, from air to tissue."""
        k = places[:, :1] + np.arange(-reach, reach + 2)
        values: F32 = volume[k, places[:, 1:2] + y, places[:, 2:] + x].astype(np.float32)
        return values if up else values[:, ::-1]

    own = along(0, 0)
    far = max(2, reach // 2)
    air, flesh = own[:, :far], own[:, -far:]
    height = (flesh.mean(axis=1) - air.mean(axis=1)).astype(np.float64)
    squares = np.diff(own, axis=1).astype(np.float64) ** 2
    noise = (squares[:, : far - 1].mean(axis=1) + squares[:, 1 - far :].mean(axis=1)) / 2
    slopes = np.stack(
        [
            (_crossing(along(y, x)) - _crossing(along(-y, -x))) * spacing[0] / (2 * apart_mm)
            for y, x, apart_mm in (
                (beside[0], 0, beside[0] * spacing[1]),
                (0, beside[1], beside[1] * spacing[2]),
            )
        ],
        axis=1,
    )
    good = (air.max(axis=1) < AIR_HU) & (flesh.min(axis=1) > TISSUE_HU)
    if padded:
        good &= own[:, reach] != PADDING_HU
    good &= np.isfinite(slopes).all(axis=1)
    good &= np.count_nonzero(np.diff(own >= HALF_HU, axis=1), axis=1) == 1
    power = squares.sum(axis=1) - noise * squares.shape[1]
    return _Edges(power[good] / height[good] ** 2, slopes[good])


def _crossing(values: F32) -> F64:
    """Where each line [n, samples] first reaches HALF_HU, in samples; NaN where it does not, or
    begins above it."""
    dense = values >= HALF_HU
    at = np.argmax(dense, axis=1)
    rows = np.arange(len(values))
    high, low = values[rows, at], values[rows, np.maximum(at - 1, 0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        place = at - (high - HALF_HU) / (high - low)
    return np.asarray(np.where(at > 0, place, np.nan), np.float64)


def _joined(edges: Sequence[_Edges]) -> _Edges:
    if not edges:
        return _Edges(np.zeros(0), np.zeros((0, 2)))
    return _Edges(
        np.concatenate([one.power for one in edges]), np.concatenate([one.slopes for one in edges])
    )
