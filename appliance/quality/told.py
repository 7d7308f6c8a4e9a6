"""A row of the library -> what may leave the device of it. Pure.

Rules.
1. The 10th, 50th and 90th percentile of the studies that the row still holds (row.RECENT), each a
   value that was measured: the ceil(share * n)-th smallest. Of fewer than LEAST values none: the
   figures of few studies are those of their patients.
2. A study of radiographs gives the median of its images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from types import MappingProxyType
from typing import Final

from appliance.watching.alarm import Statistic
from appliance.watching.quality import RadiographQuality, VolumeQuality
from appliance.watching.row import Row, Seen
from appliance.watching.told import Spread, ToldAlarm, ToldRow

LEAST: Final = 20
"""Studies."""
DIGITS: Final = 6
"""Significant ones: a mean that was reckoned in another order is told in the same bytes."""

_VOLUME: Final[Mapping[Statistic, Callable[[VolumeQuality], float | None]]] = MappingProxyType(
    {
        Statistic.NOISE: lambda of: of.noise_hu,
        Statistic.TEXTURE: lambda of: of.texture_per_mm,
        Statistic.SKIN: lambda of: of.skin_hu_per_mm,
        Statistic.LUNG_EDGE: lambda of: of.lung_edge_hu_per_mm,
        Statistic.TISSUE: lambda of: of.tissue_hu,
        Statistic.AIR: lambda of: of.air_hu,
        Statistic.LUNG_SHARE: lambda of: of.lung_share,
    }
)
_RADIOGRAPH: Final[Mapping[Statistic, Callable[[RadiographQuality], float | None]]] = (
    MappingProxyType(
        {
            Statistic.MEAN: lambda of: of.mean,
            Statistic.CONTRAST: lambda of: of.contrast,
            Statistic.LAPLACIAN: lambda of: of.laplacian,
            Statistic.HALVES: lambda of: of.halves,
        }
    )
)
_OUTPUTS: Final[Mapping[Statistic, Callable[[Seen], float | None]]] = MappingProxyType(
    {
        Statistic.FINDINGS: lambda of: float(of.outputs.findings),
        Statistic.ABOVE: lambda of: (
            of.outputs.above / of.outputs.scored if of.outputs.scored else None
        ),
        Statistic.SCORES: lambda of: of.outputs.median_score,
        Statistic.ABSTAINED: lambda of: float(of.outputs.unsure),
    }
)


def of_row(row_id: str, row: Row) -> ToldRow:
    """What a message says of it."""
    alarms = tuple(ToldAlarm(statistic=a.statistic, cause=a.cause) for a in row.alarms)
    return ToldRow(row=row_id, n=row.n, spread=spreads(row.recent), alarms=alarms)


def spreads(recent: Iterable[Seen]) -> dict[Statistic, Spread]:
    """Rule 1, of each statistic that has enough values."""
    studies = [values(seen) for seen in recent]
    found = {}
    for one in Statistic:
        of = sorted(study[one] for study in studies if one in study)
        if len(of) >= LEAST:
            found[one] = Spread(p10=_share(of, 0.1), p50=_share(of, 0.5), p90=_share(of, 0.9))
    return found


def values(seen: Seen) -> dict[Statistic, float]:
    """Statistic -> its value in one study; what was not measured is not there."""
    found: dict[Statistic, list[float | None]] = {}
    for image in seen.measured:
        if isinstance(image, VolumeQuality):
            for one, volume in _VOLUME.items():
                found.setdefault(one, []).append(volume(image))
        else:
            for one, radiograph in _RADIOGRAPH.items():
                found.setdefault(one, []).append(radiograph(image))
    if seen.outputs.analysed:
        found |= {one: [output(seen)] for one, output in _OUTPUTS.items()}
    known = {one: [v for v in several if v is not None] for one, several in found.items()}
    return {one: float(median(several)) for one, several in known.items() if several}


def _share(ordered: list[float], share: float) -> float:
    value = ordered[max(0, math.ceil(share * len(ordered)) - 1)]
    return float(f"{value:.{DIGITS}g}")
