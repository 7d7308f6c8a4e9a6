"""Two measurements of one finding -> how much it changed, and whether beyond error. Numbers only.

Rules
1. Volume decides where it was measured twice, in slices of at most THIN_MM (spacing and thickness),
   and neither is a mass; else the mean axis. Of a nodule that became a mass, or a mass that became
   a nodule, no change is said: they are measured in different ways.
2. The limit is the larger of the repeatability, which is 1.96 SD of two measurements of one body
   that did not change (Bland and Altman 1986), and LEAST_PERCENT of the volume (BTS 2015, Thorax
   70:ii1) or LEAST_MM of the mean axis (Lung-RADS v2022). A change is `larger` or `smaller` beyond
   it, else `within_error`.
3. The repeatability is measured (`python -m training.judge.growth`) by size, density and whether
   both images have one kernel. Where no row speaks of a size, that of the nearest one holds, and
   not less than UNMEASURED; nor less where a body is LENGTHY in either exam: it runs along a vessel
   or a wall, as no body that was measured twice did, and where it ends is chance. The rows are of
   images that were blurred alike. Where they could not be, UNMEASURED holds too, and not less than
   what LEAST_MM of the mean axis make of the volume: so far a kernel alone moves the border
   (measured: 1.6 mm between SDs of 0.4 and 1.4 mm).
4. The rate is ln(V2 / V1) a year. Its error is the SD of its rows, and not less than UNMEASURED,
   nor than what a border that is BORDER_MM off makes of the volume, which is more the smaller a
   body is: no row has a body that changed, or lay in another breath between two exams. A doubling
   time,
   ln 2 / rate, is said only where the whole interval of the rate lies above 0, else the time that
   it is not under. Neither under LEAST_DAYS, nor without dates, nor where volume does not decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from appliance.comparison import Change, Interval, Sizes, Verdict
from appliance.records import Pair

THIN_MM: Final = 2.5
LEAST_PERCENT: Final = 25.0
LEAST_MM: Final = 1.5
LEAST_DAYS: Final = 30
YEAR_DAYS: Final = 365.25
BORDER_MM: Final = 0.5
"""SD of the mean axis between two exams in different breaths (`training.judge.followed`)."""
FAR: Final = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
LENGTHY: Final = 1.7
"""Times its short axis that the long axis of a body is."""
ANY: Final = "any"
"""Density of a row that holds for each."""


class Repeated(Protocol):
    """How far apart two measurements of one body that did not change lie: a row of a manifest."""

    @property
    def size_mm(self) -> Pair:
        """Mean axis, from and below."""
        ...

    @property
    def density(self) -> str:
        """heads.Density, or ANY."""
        ...

    @property
    def kernel(self) -> str:
        """`same` or `other`: of both images."""
        ...

    @property
    def volume_percent(self) -> float:
        """100 times the root mean square of ln(V2 / V1)."""
        ...

    @property
    def axis_mm(self) -> float:
        """Root mean square of the difference of the mean axes."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """A row that no manifest has."""

    size_mm: Pair
    density: str
    kernel: str
    volume_percent: float
    axis_mm: float
    n: int = 0
    """Bodies that were measured twice."""


UNMEASURED: Final = Row((0.0, math.inf), ANY, "other", 19.0, 1.1)
"""Nodules that do not change over years vary by +-34 to 38 % of volume; readers of sub-solid ones
differ by +-2.2 mm."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One finding in one exam, as it was measured for the comparison."""

    sizes: Sizes
    mass: bool
    slices_mm: float
    """The larger of the distance of slices and their thickness."""


def change(
    then: Seen,
    now: Seen,
    days: int | None,
    *,
    same_kernel: bool,
    blurred: bool = True,
    rows: Sequence[Repeated] = (),
) -> Change | None:
    """How much a finding changed in so many days (None: unknown); None where it was not measured
    in both exams. blurred: both were brought to one point spread before (rule 3)."""
    if then.sizes.mean_axis_mm is None or now.sizes.mean_axis_mm is None:
        return None
    densities = {then.sizes.density, now.sizes.density}
    unmeasured_part = "part_solid" in densities
    if then.mass != now.mass:
        return Change(verdict=None, solid_part_not_measured=unmeasured_part)
    sd, sd_mm = _errors(rows, then.sizes, now.sizes, same_kernel=same_kernel, blurred=blurred)
    difference_mm = round(now.sizes.mean_axis_mm - then.sizes.mean_axis_mm, 1)
    limit_mm = round(max(LEAST_MM, FAR * sd_mm), 1)
    percent = _percent(then, now)
    limit_percent = round(max(LEAST_PERCENT, 100 * math.expm1(FAR * sd)), 1)
    if percent is None:
        verdict = _verdict(difference_mm, limit_mm)
    else:
        verdict = _verdict(percent, limit_percent)
    larger = verdict == "larger"
    rate = None if percent is None else _rate(then.sizes, now.sizes, days, sd)
    return Change(
        verdict=verdict,
        decided_by="mean_axis" if percent is None else "volume",
        difference_percent=percent,
        limit_percent=None if percent is None else limit_percent,
        difference_mm=difference_mm,
        limit_mm=limit_mm,
        rate_per_year=rate,
        doubling_days=_doubling(rate),
        doubling_not_under_days=_not_under(rate),
        over_1_5_mm=difference_mm > LEAST_MM if larger else None,
        over_25_percent=percent > LEAST_PERCENT if larger and percent is not None else None,
        solid_part_not_measured=unmeasured_part,
    )


def _percent(then: Seen, now: Seen) -> float | None:
    """Rule 1: the difference of the volumes, None where volume does not decide."""
    before, after = then.sizes.volume_mm3, now.sizes.volume_mm3
    thin = max(then.slices_mm, now.slices_mm) <= THIN_MM
    if before is None or after is None or now.mass or not thin:
        return None
    return round(100 * (after / before - 1), 1)


def _verdict(difference: float, limit: float) -> Verdict:
    """Rule 2."""
    if abs(difference) <= limit:
        return "within_error"
    return "larger" if difference > 0 else "smaller"


def _errors(
    rows: Sequence[Repeated], then: Sizes, now: Sizes, *, same_kernel: bool, blurred: bool
) -> tuple[float, float]:
    """Rule 3: SD of ln(V2 / V1), SD of the mean axis in mm. Of the rows that speak of this pair the
    worst counts, because its density may be called differently in the two exams."""
    mean_mm = ((then.mean_axis_mm or 0.0) + (now.mean_axis_mm or 0.0)) / 2
    densities = {ANY, *(_as_measured(s.density) for s in (then, now))}
    fitting: list[tuple[float, Repeated]] = [
        (max(row.size_mm[0] - mean_mm, mean_mm - row.size_mm[1], 0.0), row)
        for row in rows
        if row.kernel == ("same" if same_kernel else "other") and row.density in densities
    ]
    nearest = min((away for away, _ in fitting), default=math.inf)
    chosen = [row for away, row in fitting if away == nearest]
    if nearest > 0 or not blurred or _is_lengthy(then) or _is_lengthy(now):
        chosen.append(UNMEASURED)
    volume = max(row.volume_percent for row in chosen) / 100
    if not blurred:
        smaller_mm = min(then.mean_axis_mm or mean_mm, now.mean_axis_mm or mean_mm)
        volume = max(volume, 3 * math.log1p(LEAST_MM / smaller_mm) / FAR)
    return volume, max(row.axis_mm for row in chosen)


def _is_lengthy(sizes: Sizes) -> bool:
    """LENGTHY, where both axes were measured."""
    long, short = sizes.long_axis_mm, sizes.short_axis_mm
    return long is not None and short is not None and long >= LENGTHY * short


def _as_measured(density: str | None) -> str | None:
    """A calcified body has edges as sharp as a solid one."""
    return "solid" if density == "calcified" else density


def _rate(then: Sizes, now: Sizes, days: int | None, sd: float) -> Interval | None:
    """Rule 4; the volumes are there."""
    if days is None or days < LEAST_DAYS or then.volume_mm3 is None or now.volume_mm3 is None:
        return None
    years = days / YEAR_DAYS
    value = math.log(now.volume_mm3 / then.volume_mm3) / years
    mean_mm = ((then.mean_axis_mm or 0.0) + (now.mean_axis_mm or 0.0)) / 2
    border = 3 * BORDER_MM / max(mean_mm, BORDER_MM)
    error = FAR * max(sd, UNMEASURED.volume_percent / 100, border) / years
    return Interval(
        value=round(value, 4), low=round(value - error, 4), high=round(value + error, 4)
    )


def _doubling(rate: Interval | None) -> Interval | None:
    """Days in which it doubles: the fastest growth gives the lowest figure."""
    if rate is None or rate.low <= 0:
        return None
    value, low, high = (
        round(math.log(2) / r * YEAR_DAYS, 1) for r in (rate.value, rate.high, rate.low)
    )
    return Interval(value=value, low=low, high=high)


def _not_under(rate: Interval | None) -> float | None:
    """The doubling time of the fastest growth within the interval; None where that is no growth, or
    where a doubling time is said."""
    if rate is None or rate.low > 0 or rate.high <= 0:
        return None
    return round(math.log(2) / rate.high * YEAR_DAYS, 1)
