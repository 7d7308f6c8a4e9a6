"""Radiographs: each WINDOW images, without overlap, against the first FIRST of a detector. Pure.

Rules.
1. The first FIRST images are the reference, and stay it. Nothing is judged before; then their older
   half is tested against the younger, so that a reference that was made while something changed
   says so.
2. Each statistic of a whole window is tested with two_samples.py. A window's chance of a false
   alarm is at most ALPHA, whatever the statistics are and however they hang together: each is held
   to ALPHA over their number (Bonferroni).
3. Values are kept with four digits.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.quality.two_samples import chance, distance
from appliance.watching.alarm import Statistic
from appliance.watching.quality import RadiographQuality
from appliance.watching.row import Seen, Window

FIRST: Final = 200
WINDOW: Final = 50
ALPHA: Final = 0.01
OF_IMAGES: Final = (Statistic.MEAN, Statistic.CONTRAST, Statistic.LAPLACIAN, Statistic.HALVES)
TESTED: Final = (*OF_IMAGES, Statistic.SCORES)
FEWEST: Final = 20
"""A sample of fewer values is not tested: scores, of which a study has one."""


@dataclass(frozen=True, slots=True)
class Tested:
    """Two samples of one statistic: how likely they are so far apart by chance, and by how much
    the middle moved, in SD of the reference."""

    chance: float
    size: float

    @property
    def odd(self) -> bool:
        """Whether it is an alarm (rule 2)."""
        return self.chance <= ALPHA / len(TESTED)


def values(seen: Seen) -> dict[Statistic, tuple[float, ...]]:
    """What a study of radiographs adds to each window (rule 3); nothing of one without."""
    images = [one for one in seen.measured if isinstance(one, RadiographQuality)]
    if not images:
        return {}
    found = {which: [getattr(one, which.value) for one in images] for which in OF_IMAGES}
    found[Statistic.SCORES] = [seen.outputs.median_score]
    return {
        which: tuple(float(f"{value:.4g}") for value in some if value is not None)
        for which, some in found.items()
    }


def learnt(kept: Mapping[Statistic, Window], seen: Seen) -> dict[Statistic, Window]:
    """The windows, whose references have the images of one study more, up to FIRST."""
    found = dict(kept)
    for which, some in values(seen).items():
        window = kept.get(which, Window())
        reference = (*window.reference, *some)[:FIRST]
        found[which] = window.model_copy(update={"reference": reference})
    return found


def settled(kept: Mapping[Statistic, Window]) -> bool:
    """Whether the reference is whole."""
    return any(len(kept[which].reference) >= FIRST for which in OF_IMAGES if which in kept)


def halves(kept: Mapping[Statistic, Window]) -> dict[Statistic, Tested]:
    """The older half of each reference against the younger (rule 1)."""
    return {
        which: _tested(window.reference[: FIRST // 2], window.reference[FIRST // 2 :])
        for which, window in kept.items()
        if len(window.reference) >= FIRST // 2 + FEWEST
    }


def added(kept: Mapping[Statistic, Window], seen: Seen) -> dict[Statistic, Window]:
    """The windows with the images of one study more, whose references are whole."""
    found = dict(kept)
    for which, some in values(seen).items():
        window = kept.get(which, Window())
        found[which] = window.model_copy(
            update={
                "current": window.current + some,
                "since": window.since or seen.at,
                "studies": window.studies + 1,
            }
        )
    return found


def full(kept: Mapping[Statistic, Window]) -> bool:
    """Whether the current window has its images."""
    return any(len(kept[which].current) >= WINDOW for which in OF_IMAGES if which in kept)


def tested(kept: Mapping[Statistic, Window]) -> dict[Statistic, Tested]:
    """Each full window against its reference."""
    return {
        which: _tested(window.current, window.reference)
        for which, window in kept.items()
        if min(len(window.current), len(window.reference)) >= FEWEST
    }


def emptied(kept: Mapping[Statistic, Window]) -> dict[Statistic, Window]:
    """The windows for the next images."""
    return {which: Window(reference=window.reference) for which, window in kept.items()}


def moved(kept: Mapping[Statistic, Window], since: Sequence[Seen]) -> dict[Statistic, float]:
    """By how much the middle of these studies is away, in SD of the reference."""
    found: dict[Statistic, float] = {}
    for which, window in kept.items():
        some = [value for seen in since for value in values(seen).get(which, ())]
        if some and len(window.reference) >= FEWEST:
            found[which] = _away(some, window.reference)
    return found


def _tested(young: Sequence[float], old: Sequence[float]) -> Tested:
    return Tested(chance(distance(young, old), len(young), len(old)), _away(young, old))


def _away(young: Sequence[float], old: Sequence[float]) -> float:
    sd = statistics.stdev(old)
    return (statistics.fmean(young) - statistics.fmean(old)) / sd if sd > 0 else 0.0
