"""What the pixels themselves say against a series: HU out of range, one image shown twice. Pure.

`hu_check`, a limitation, or a refusal where nothing else speaks for the images. Over a sample of
pixels (every 4th of at most 24 planes, without padding), modes smoothed over 21 HU:

- below -1100 HU there is only fill, one or two exact values: at most 2 % are anything else.
- air: the share of pixels below -600 HU is at least 2 % (some air is in every chest or head field
  of view). Its lowest twentieth lies at or below -920 HU and its mode not below -1070 HU.
- soft tissue: the mode between -300 and 400 HU is fat (about -100) or muscle and blood (30 to 70,
  more with contrast): it lies in [-150, 150].

An intercept off by 1000 or 1024 or a slope off by two fails at least one of them. So do images that
are cut to a part of the body without any air in it; but of these `airless` is true: at most 2 % of
the pixels are below -300 HU, and at most 20 % above 800 HU, which is more bone than a head has.

`repeated`, a refusal. Noise never repeats: neighbours with equal pixels come from a reconstruction
or a gateway that got stuck. Images without tissue may be equal: air and padding are cut at a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from appliance.reasons import Code
from appliance.records import Plane, Stack
from appliance.report import Reason

AIR_HU = -1000
MAX_PLANES = 24
STRIDE = 4
FILL_BELOW = -1100
AIR_BELOW, AIR_SHARE = -600, 0.02
AIR_LOW, AIR_HIGH = -1070, -920
BONE_ABOVE, BONE_SHARE = 800, 0.20
TISSUE = (-300, 400)
TISSUE_LOW, TISSUE_HIGH = -150, 150
TISSUE_ABOVE = -500
_LOWEST, _HIGHEST = -1500, 1500
_SMOOTH = 21


def hu_check(stack: Stack) -> tuple[Reason, ...]:
    """SUSPECT_HU where air or soft tissue is far from its usual HU; () where all is well."""
    counts = _histogram(stack)
    low = counts[1 : _bin(FILL_BELOW)]  # index 0 holds all that is lower still: fill
    fill = int(np.sort(low)[-2:].sum())
    total = int(counts.sum())
    if total == 0:
        return (_suspect("there is no pixel but padding"),)
    if low.sum() - fill > AIR_SHARE * total:
        share = 100.0 * (int(low.sum()) - fill) / total
        return (_suspect(f"{share:.1f} % of the pixels are below {FILL_BELOW} HU"),)
    counts[: _bin(FILL_BELOW)] = 0
    air = counts.copy()
    air[_bin(AIR_BELOW) :] = 0
    if air.sum() < AIR_SHARE * total:
        share = 100.0 * int(air.sum()) / total
        return (_suspect(f"only {share:.1f} % of the pixels are below {AIR_BELOW} HU: no air"),)
    darkest = int(np.searchsorted(np.cumsum(air), 0.05 * int(air.sum()))) + _LOWEST
    mode = _mode(air)
    if mode < AIR_LOW or darkest > AIR_HIGH:
        shown = mode if mode < AIR_LOW else darkest
        return (_suspect(f"air is about {shown} HU, expected {AIR_HU}"),)
    tissue = np.zeros_like(counts)
    inside = slice(_bin(TISSUE[0]), _bin(TISSUE[1]))
    tissue[inside] = counts[inside]
    mode = _mode(tissue)
    if not tissue.any() or not TISSUE_LOW <= mode <= TISSUE_HIGH:
        return (_suspect(f"soft tissue is about {mode} HU, expected -100 to 70"),)
    return ()


def airless(stack: Stack) -> bool:
    """Whether the images show the inside of a body with no air in it, at the usual HU."""
    counts = _histogram(stack)
    total = int(counts.sum())
    thin, bone = counts[: _bin(TISSUE[0])].sum(), counts[_bin(BONE_ABOVE) :].sum()
    return bool(thin <= AIR_SHARE * total and bone <= BONE_SHARE * total)


def repeated(planes: Sequence[Plane]) -> list[Plane]:
    """Of planes in order, those whose pixels are all equal to those of the one before."""
    again = []
    for before, plane in pairwise(planes):
        one, other = before.native, plane.native
        middle = len(one) // 2
        if one.shape != other.shape or not np.array_equal(one[middle], other[middle]):
            continue  # a row tells nearly all of them apart
        if one.min() < one.max() > TISSUE_ABOVE and np.array_equal(one, other):
            again.append(plane)
    return again


def field_of_view(plane: Plane) -> NDArray[np.bool_]:
    """[y, x]: where the plane has data. Padding is what is -1000 HU from a border inwards."""
    if not plane.padding:
        return np.ones(plane.native.shape, dtype=np.bool_)
    empty = plane.native == AIR_HU
    left = np.logical_and.accumulate(empty, axis=1)
    right = np.logical_and.accumulate(empty[:, ::-1], axis=1)[:, ::-1]
    return ~(left | right)


def _suspect(text: str) -> Reason:
    return Reason(code=Code.SUSPECT_HU, text=text, where="series")


def _bin(hu: int) -> int:
    return hu - _LOWEST


def _histogram(stack: Stack) -> NDArray[np.int64]:
    """Pixels per HU, sampled; index 0 holds -1500 HU and less, the last one 1500 and more."""
    planes = stack.planes
    chosen = np.unique(np.linspace(0, len(planes) - 1, min(MAX_PLANES, len(planes))).round())
    counts = np.zeros(_HIGHEST - _LOWEST + 1, dtype=np.int64)
    for i in chosen.astype(int):
        sample = planes[i].native[::STRIDE, ::STRIDE]
        if planes[i].padding:
            sample = sample[field_of_view(planes[i])[::STRIDE, ::STRIDE]]
        whole = np.rint(sample) if sample.dtype == np.float32 else sample
        levels = np.clip(whole, _LOWEST, _HIGHEST).astype(np.int64) - _LOWEST
        counts += np.bincount(levels.ravel(), minlength=len(counts))
    return counts


def _mode(counts: NDArray[np.int64]) -> int:
    smooth = np.convolve(counts, np.ones(_SMOOTH), mode="same")
    return int(smooth.argmax()) + _LOWEST
