"""All statistics since an alarm's start: the pattern of which its cause is read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from appliance.quality import drift, windows
from appliance.quality.cause import Change
from appliance.quality.judged import usual, values, volume_of
from appliance.watching.alarm import Alarm, Statistic
from appliance.watching.row import Prior, Row, Seen


def changed(row: Row, alarm: Alarm, prior: Prior) -> Change:
    """How each statistic lies in the studies since the alarm's start, the last ones that the row
    still holds."""
    since = row.recent[-alarm.studies :]
    together = _together(since)
    z, hu, missing = dict[Statistic, float](), dict[Statistic, float](), set[Statistic]()
    for which, one in row.watched.items():
        found, some = usual(one, which, prior) if which in prior.spreads else None, together[which]
        if found is None or drift.limits(found.n) is None:
            continue
        if not some:
            missing.add(which)
            continue
        z[which] = fsum(found.z(value) for value in some) / len(some)
        if which in {Statistic.TISSUE, Statistic.AIR}:
            hu[which] = fsum(some) / len(some) - found.mean
    if alarm.test == "window":
        z |= windows.moved(row.windows, since)
    return Change(
        z=z,
        studies=len(since),
        hu=hu,
        missing=frozenset(missing),
        contrast=_contrast(row, since),
    )


def _together(since: Sequence[Seen]) -> dict[Statistic, list[float]]:
    found: dict[Statistic, list[float]] = {which: [] for which in Statistic}
    for seen in since:
        for which, value in values(seen).items():
            found[which].append(value)
    return found


def contrast(seen: Seen) -> tuple[int, int]:
    """With contrast medium, and whether that is known: 0 or 1 each."""
    volume = volume_of(seen)
    said = volume.contrast if volume is not None else "unknown"
    return int(said == "yes"), int(said != "unknown")


def _contrast(row: Row, since: Sequence[Seen]) -> tuple[float, float] | None:
    with_it, known = (sum(some) for some in zip(*(contrast(seen) for seen in since), strict=True))
    before, of = row.contrast
    return (before / of, with_it / known) if of and known else None
