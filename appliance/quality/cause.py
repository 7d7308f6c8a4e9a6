"""What most likely changed, from the pattern of all statistics. Pure.

Rules.
1. A cause is named where exactly one row of the table fits; two rows, or none, are `unclear`.
2. What a row asks of a statistic is asked of the mean since the change. Of few studies the mean is
   unsure by 1 / sqrt(studies) spreads, and what must not have moved may be away by so much more.
3. The rows were read off faults painted into real CTs by `python -m training.judge.spreads`
   (docs/watching.md), dose with the noise spectrum of the series itself: white noise of the same
   size has another texture, and turns dose and kernel round.

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
SHARPNESS: Final = (Statistic.TEXTURE, Statistic.SKIN, Statistic.LUNG_EDGE)
WITH_DOSE, WITH_KERNEL = 0.25, 0.35
"""By how many spreads sharpness moves, on average, for each that noise does: below the one the dose
changed, above the other the kernel. Painted: 0.0 and 0.5."""
STAYS, FOLLOWS = 0.35, 0.65
"""By how many HU air moves for each that tissue does: below the one it stays."""
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
    hu: Mapping[Statistic, float]
    """Of tissue and air, how far the mean moved, in HU; tissue given contrast medium."""
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


def _sharpness(change: Change) -> float:
    """By how many spreads sharpness moved for each that noise did; 0 where none was measured."""
    known = [change.z[which] for which in SHARPNESS if which in change.z]
    return math.fsum(known) / len(known) / change.z[Statistic.NOISE] if known else 0.0


def _dose(change: Change) -> bool:
    return _noise(change) and abs(_sharpness(change)) < WITH_DOSE


def _sharper_kernel(change: Change) -> bool:
    return _noise(change) and change.z[Statistic.NOISE] > 0 and _sharpness(change) > WITH_KERNEL


def _with_tissue(change: Change) -> float | None:
    """By how many HU air moved for each that tissue did; None where tissue did not move, or other
    things are shown. Air that is gone has followed downward."""
    if not change.moved(Statistic.TISSUE) or not change.still(Statistic.LUNG_SHARE):
        return None
    tissue = change.hu[Statistic.TISSUE]
    if Statistic.AIR in change.missing:
        return 1.0 if tissue < 0 else None
    air = change.hu.get(Statistic.AIR)
    return None if air is None else air / tissue


def _offset(change: Change) -> bool:
    follows = _with_tissue(change)
    return follows is not None and follows > FOLLOWS


def _air_stays(change: Change) -> bool:
    follows = _with_tissue(change)
    return follows is not None and abs(follows) < STAYS


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
