"""What most likely changed, from the pattern of all statistics. Pure.

Rules.
1. A cause is named where exactly one row of the table fits; two rows, or none, are `unclear`.
2. What a row asks of a statistic is asked of the mean since the change. Of few studies the mean is
   unsure by 1 / sqrt(studies) spreads, and what must not have moved may be away by so much more.
3. The rows were read off faults painted into real CTs by `python -m training.judge.spreads`
   (docs/watching/drift.md), dose with the noise spectrum of the series itself: white noise of the
   same size has another texture, and turns dose and kernel round.

Of volumes (VOLUMES):
    dose               noise moves, its texture and the edges do not follow
    sharper_kernel     noise rises, and texture and edges with it
    offset             tissue and air move by the same HU; below -1024 air can no longer be measured
    scale              tissue moves and air stays (-1000 HU is next to the intercept), with as much
                       contrast medium as ever
    contrast_medium    the same, and contrast medium is given more, or less, often
    positioning_or_protocol   another share of the body is lung

Of radiographs (IMAGES): `offset` is brighter or darker as a whole (exposure, gamma), `scale` the
same with as much more contrast, `positioning_or_protocol` one half against the other. More noise
and more sharpness look alike in them: `unclear`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.quality.windows import OF_IMAGES
from appliance.watching.alarm import Cause, Statistic

STILL: Final = 1.0
"""A mean of so many spreads, and UNSURE standard errors more, has not moved."""
UNSURE: Final = 1.5
SHARPENED: Final = {Statistic.TEXTURE: 0.2, Statistic.SKIN: 0.9, Statistic.LUNG_EDGE: 0.4}
"""By how many spreads each moves for each that noise does, where the kernel is sharper."""
WITH_DOSE, WITH_KERNEL = 0.5, 0.2
"""Sharpness for each spread that noise moves, 1 where it is as SHARPENED: with its standard error
below the one the dose changed, without it above the other the kernel."""
HALF, MARGIN = 0.5, 0.5
"""Air that moves by less than HALF of the HU that tissue does stays, else it follows; within so
many standard errors of it that is not known."""
MORE, MOST = 0.35, 0.9
"""A step in the share of studies with contrast medium, and UNSURE SD of it, is one; so is MOST."""
IMAGE_STILL: Final = 0.5
"""A window of images whose mean is away by so many SD of single ones has not moved."""


@dataclass(frozen=True, slots=True)
class Change:
    """All that is known of a change."""

    z: Mapping[Statistic, float]
    """Mean since the change, in spreads."""
    studies: int
    hu: Mapping[Statistic, tuple[float, float]]
    """Of tissue and air, how far the mean moved, and the spread of one study, in HU; tissue given
    contrast medium."""
    missing: frozenset[Statistic] = frozenset()
    """What was had before, and in no study since."""
    contrast: tuple[float, float] | None = None
    """Share of studies with contrast medium, usually and since; None: not known of either."""

    def still(self, *several: Statistic) -> bool:
        """Whether none of them has moved; also of what was not measured."""
        most = STILL + UNSURE / math.sqrt(self.studies)
        return all(
            abs(self.z.get(which, 0.0)) < (IMAGE_STILL if which in OF_IMAGES else most)
            for which in several
        )

    def moved(self, which: Statistic) -> bool:
        """Whether it was measured and has."""
        return which in self.z and not self.still(which)


def cause(change: Change) -> Cause:
    """The one row that fits (rule 1)."""
    rows = IMAGES if any(which in change.z for which in OF_IMAGES) else VOLUMES
    fitting = [named for named, fits in rows if fits(change)]
    return fitting[0] if len(fitting) == 1 else Cause.UNCLEAR


def _noise(change: Change) -> bool:
    """Noise moved, and neither the scale of HU nor what is shown did."""
    others = (Statistic.TISSUE, Statistic.AIR, Statistic.LUNG_SHARE)
    return change.moved(Statistic.NOISE) and change.still(*others)


def _sharpness(change: Change) -> tuple[float, float]:
    """What texture and edges say, for each spread that noise moved, and its standard error."""
    known = [which for which in SHARPENED if which in change.z]
    weight = math.fsum(SHARPENED[which] ** 2 for which in known)
    noise = change.z[Statistic.NOISE]
    if not known:
        return 0.0, math.inf
    found = math.fsum(SHARPENED[which] * change.z[which] for which in known) / weight / noise
    return found, 1 / (abs(noise) * math.sqrt(weight * change.studies))


def _dose(change: Change) -> bool:
    if not _noise(change):
        return False
    found, error = _sharpness(change)
    return abs(found) + error < WITH_DOSE


def _sharper_kernel(change: Change) -> bool:
    if not _noise(change) or change.z[Statistic.NOISE] < 0:
        return False
    found, error = _sharpness(change)
    return found - error > WITH_KERNEL


def _with_tissue(change: Change) -> tuple[float, float] | None:
    """By how many HU air moved for each that tissue did, and its standard error; None where tissue
    did not move, or other things are shown. Air that is gone has followed downward."""
    if not change.moved(Statistic.TISSUE) or not change.still(Statistic.LUNG_SHARE):
        return None
    tissue, _ = change.hu[Statistic.TISSUE]
    if Statistic.AIR in change.missing:
        return (1.0, 0.0) if tissue < 0 else None
    if Statistic.AIR not in change.hu:
        return None
    air, spread = change.hu[Statistic.AIR]
    return air / tissue, spread / abs(tissue) / math.sqrt(change.studies)


def _offset(change: Change) -> bool:
    if (follows := _with_tissue(change)) is None:
        return False
    return follows[0] > HALF + MARGIN * follows[1]


def _air_stays(change: Change) -> bool:
    if (follows := _with_tissue(change)) is None:
        return False
    return abs(follows[0]) < HALF - MARGIN * follows[1]


def _more_contrast(change: Change) -> bool | None:
    """Whether contrast medium is given more, or less, often; None where that is not known."""
    if change.contrast is None:
        return None
    before, since = change.contrast
    sd = math.sqrt(max(before * (1 - before), 0.01) / change.studies)
    return abs(since - before) > min(MOST, MORE + UNSURE * sd)


def _scale(change: Change) -> bool:
    return _air_stays(change) and _more_contrast(change) is False


def _contrast_medium(change: Change) -> bool:
    return _air_stays(change) and _more_contrast(change) is True


def _another_body(change: Change) -> bool:
    return change.moved(Statistic.LUNG_SHARE)


def _brighter(change: Change) -> bool:
    return change.moved(Statistic.MEAN) and change.still(Statistic.CONTRAST, Statistic.HALVES)


def _brighter_and_richer(change: Change) -> bool:
    both = (Statistic.MEAN, Statistic.CONTRAST)
    if not all(change.moved(which) for which in both) or not change.still(Statistic.HALVES):
        return False
    return change.z[Statistic.MEAN] * change.z[Statistic.CONTRAST] > 0


def _aside(change: Change) -> bool:
    return change.moved(Statistic.HALVES) and change.still(Statistic.MEAN)


Rows = tuple[tuple[Cause, Callable[[Change], bool]], ...]
VOLUMES: Final[Rows] = (
    (Cause.DOSE, _dose),
    (Cause.SHARPER_KERNEL, _sharper_kernel),
    (Cause.OFFSET, _offset),
    (Cause.SCALE, _scale),
    (Cause.CONTRAST_MEDIUM, _contrast_medium),
    (Cause.POSITIONING_OR_PROTOCOL, _another_body),
)
IMAGES: Final[Rows] = (
    (Cause.OFFSET, _brighter),
    (Cause.SCALE, _brighter_and_richer),
    (Cause.POSITIONING_OR_PROTOCOL, _aside),
)
