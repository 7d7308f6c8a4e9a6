"""One study against its row: the sums moved on, and what is an alarm. Pure; nothing is learnt here.

Rules.
1. An alarm that is open (its statistic and its test) is not raised again, and its sums rest at
   zero.
2. A sum that raised an alarm starts again from zero.
3. The cause is not named here: that takes the pattern of all statistics (changed.py).
4. A figure that USUALLY was had, and that MISSED volumes without a break do not have, is an alarm:
   a fault may make it impossible to measure what would show it.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

from appliance.quality import counts, drift, windows
from appliance.quality.prior import spread
from appliance.watching.alarm import Alarm, Cause, Statistic, Test
from appliance.watching.quality import VolumeQuality
from appliance.watching.row import Prior, Row, Seen, Side, Watched

USUALLY: Final = 0.9
"""In such a share of the studies learnt from."""
MISSED: Final = 5
SCORE: Final = 1e-4
"""Scores nearer to 0 or 1 are taken as this far from it: their log odds have no bound."""
OF_VOLUMES: Final = (
    Statistic.NOISE,
    Statistic.TEXTURE,
    Statistic.SKIN,
    Statistic.LUNG_EDGE,
    Statistic.TISSUE,
    Statistic.AIR,
    Statistic.LUNG_SHARE,
)


NOTHING: Final = Watched()


def judged(row: Row, seen: Seen, prior: Prior) -> tuple[Row, tuple[Alarm, ...]]:
    """The row with the sums after this study, and the alarms that it raises."""
    raised: list[Alarm] = []
    watched = dict(row.watched)
    measured, counted = values(seen), counts.counts(seen.outputs)
    for which in Statistic:
        one, opened = watched.get(which, NOTHING), _open(row, which)
        if which in measured and (found := usual(one, which, prior)) is not None:
            watched[which], alarms = _of_value(one, which, measured[which], found, seen, opened)
        elif which in counted and one.n >= counts.FEWEST:
            watched[which], alarms = _of_count(one, which, counted[which], seen, opened)
        elif which in OF_VOLUMES and volume_of(seen) is not None and which not in measured:
            watched[which], alarms = _missing(one, which, row.learnt, seen, opened)
        else:
            continue
        raised += alarms
    row = row.model_copy(update={"watched": watched})
    row, odd = _of_window(row, seen)
    return row, (*raised, *odd)


def volume_of(seen: Seen) -> VolumeQuality | None:
    """The volume of a study; None of radiographs, and where nothing was measured."""
    return next((one for one in seen.measured if isinstance(one, VolumeQuality)), None)


def values(seen: Seen) -> dict[Statistic, float]:
    """What is judged as about Gaussian: the figures of a volume, and how sure its findings are."""
    volume = volume_of(seen)
    if volume is None:
        return {}
    found = drift.values(volume)
    if (score := seen.outputs.median_score) is not None:
        cut = min(1 - SCORE, max(SCORE, score))
        found[Statistic.SCORES] = math.log(cut / (1 - cut))
    return found


def usual(one: Watched, which: Statistic, prior: Prior) -> drift.Usual | None:
    """What is usual of a statistic, in and after the learning time; None where nothing was
    learnt."""
    if one.first:
        return drift.usual(one.first, which, prior)
    if one.n == 0:
        return None
    return drift.Usual(one.n, one.mean, one.m2, spread(one.n, one.m2, which, prior))


def _open(row: Row, which: Statistic) -> frozenset[Test]:
    return frozenset(alarm.test for alarm in row.alarms if alarm.statistic is which)


def _of_value(
    one: Watched,
    which: Statistic,
    value: float,
    found: drift.Usual,
    seen: Seen,
    opened: frozenset[Test],
) -> tuple[Watched, list[Alarm]]:
    if one.missing:
        one = one.model_copy(update={"missing": 0})
    limits, z, alarms = drift.limits(found.n), found.z(value), list[Alarm]()
    if limits is None:
        return one, []
    alone, total = limits
    if abs(z) > alone and "series" not in opened:
        alarms.append(_alarm(which, "series", z, seen.at, 1))
    if "cusum" in opened:
        return one, alarms
    up, down = drift.summed(one.up, one.down, z, seen.at)
    one, summed = _summed(one, which, up, down, total)
    return one, alarms + summed


def _of_count(
    one: Watched, which: Statistic, count: counts.Count, seen: Seen, opened: frozenset[Test]
) -> tuple[Watched, list[Alarm]]:
    if "cusum" in opened:
        return one, []
    steps = counts.steps(which, count, one.n, one.mean, one.weight)
    up = drift.added(one.up, steps.up, steps.away, seen.at)
    down = drift.added(one.down, steps.down, steps.away, seen.at)
    return _summed(one, which, up, down, counts.LIMIT)


def _summed(
    one: Watched, which: Statistic, up: Side, down: Side, most: float
) -> tuple[Watched, list[Alarm]]:
    """The statistic with its sums, and the alarm of one that is above its limit (rule 2)."""
    alarms = []
    for side in (up, down):
        if side.sum > most and side.since is not None:
            size = side.away / side.studies
            alarms.append(_alarm(which, "cusum", size, side.since, side.studies))
    if alarms:
        up = down = drift.ZERO
    if up is one.up and down is one.down:  # both rest at zero, as mostly
        return one, alarms
    return one.model_copy(update={"up": up, "down": down}), alarms


def _missing(
    one: Watched, which: Statistic, learnt: int, seen: Seen, opened: frozenset[Test]
) -> tuple[Watched, list[Alarm]]:
    """Rule 4."""
    one = one.model_copy(update={"missing": one.missing + 1})
    had = one.n >= drift.LIMITS[0][0] and one.n >= USUALLY * learnt
    if one.missing != MISSED or not had or "missing" in opened:
        return one, []
    return one, [_alarm(which, "missing", 0.0, seen.at, MISSED)]


def _of_window(row: Row, seen: Seen) -> tuple[Row, list[Alarm]]:
    """The row whose window has the images of this study; once it is full, what is odd in it."""
    if row.settled is None:
        return row, []
    kept, alarms = windows.added(row.windows, seen), []
    if windows.full(kept):
        for which, found in windows.tested(kept).items():
            if found.odd and "window" not in _open(row, which):
                window = kept[which]
                since = window.since or seen.at
                alarms.append(_alarm(which, "window", found.size, since, window.studies))
        kept = windows.emptied(kept)
    return row.model_copy(update={"windows": kept}), alarms


def _alarm(which: Statistic, test: Test, size: float, since: datetime, studies: int) -> Alarm:
    size = float(f"{size:.3g}")
    return Alarm(
        statistic=which, test=test, size=size, since=since, cause=Cause.UNCLEAR, studies=studies
    )
