"""What most likely changed, from the pattern of all statistics. Pure.

Rules.
1. A cause is named where exactly one row of the table fits; two rows, or none, are `unclear`.
2. What a row asks of a statistic is asked of the mean since the change. Of few studies the mean is
   unsure by 1 / sqrt(studies) spreads, and what must not have moved may be away by so much more.
3. The rows were made from faults painted into real CTs by `python -m training.judge.spreads`, dose
   with the noise spectrum of the series itself: white noise of the same size has another texture,
   and turns dose and kernel round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.watching.alarm import Cause, Statistic

STILL: Final = 1.0
"""A mean of so many spreads, and UNSURE standard errors more, has not moved."""
UNSURE: Final = 1.5


@dataclass(frozen=True, slots=True)
class Change:
    """All that is known of a change."""

    z: Mapping[Statistic, float]
    """Mean since the change, in spreads."""
    hu: Mapping[Statistic, float]
    """Of tissue and air, how far the mean moved, in HU; tissue given contrast medium."""
    studies: int
    contrast: tuple[float, float] | None = None
    """Share of studies with contrast medium, usually and since; None: not known of either."""

    def still(self, which: Statistic) -> bool:
        """Whether it has not moved; also of what was not measured."""
        return abs(self.z.get(which, 0.0)) < STILL + UNSURE / math.sqrt(self.studies)

    def moved(self, which: Statistic) -> bool:
        """Whether it has."""
        return which in self.z and not self.still(which)


def cause(change: Change) -> Cause:
    """The one row that fits."""
    fitting = [found for found, fits in _ROWS if fits(change)]
    return fitting[0] if len(fitting) == 1 else Cause.UNCLEAR


def _dose(change: Change) -> bool:
    """Noise alone: its texture and all edges are what they were."""
    return change.moved(Statistic.NOISE) and all(
        change.still(which)
        for which in (Statistic.TEXTURE, Statistic.SKIN, Statistic.TISSUE, Statistic.AIR)
    )


def _sharper_kernel(change: Change) -> bool:
    """More noise, of higher frequency."""
    z = change.z
    return (
        change.moved(Statistic.TEXTURE)
        and z[Statistic.TEXTURE] > 0
        and z.get(Statistic.NOISE, 0.0) > 0
        and change.still(Statistic.TISSUE)
    )


_ROWS: Final[tuple[tuple[Cause, Callable[[Change], bool]], ...]] = (
    (Cause.DOSE, _dose),
    (Cause.SHARPER_KERNEL, _sharper_kernel),
)
