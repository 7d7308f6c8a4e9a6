"""Which of the series of a study stand, and which of them stands in the place of another. Pure.

Series of one study, frame of reference, acquisition and temporal position are a group: they show
the same anatomy at the same time. All of them are analysed. Then, of a group:

1. One series replaces another where it ranks better, shows at least as much of the organ, and every
   finding of the other lies in the volume that it shows. The other is then `better_series`.
2. At least as much: the lungs end within ENDS_MM, or one slice where that is more, of where the
   other sees them end, or beyond; both lungs are there where the other shows both; and they are no
   more cut at the rim. A series that shows one lung alone, or whose lungs meet the edge of the
   field of view, shows as much only of another with the same fault, whose field of view it holds.
   What is not known, as in reports of before, is never enough: both stand.
3. The best by rank stands. Each further one, in order of rank, stands unless one that stands
   replaces it: what does not stand takes the place of nothing. The order of arrival is not asked.
4. Series that stand and whose volumes meet name each other, so that a nodule is not counted twice.

The rank, each row only where those before it are equal:

- original and primary, or unlabelled;
- within the intended use: in full, limited, masses alone, not;
- thinnest: the larger of spacing and thickness, then the spacing;
- the kernel the bundle prefers, in the bundle's order;
- more slices; then the lowest UID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.bundle.accepts import Accepts
from appliance.preprocess import plan
from appliance.reasons import Code
from appliance.records import Grid
from appliance.report import Coverage, Millimetres3, Reason, Record, SeriesKey

ENDS_MM = 5.0
"""How far the ends of lungs, and the edges of two fields of view, may lie apart and be the same."""


class Volume(Record):
    """What the images of a series show: a grid of voxels in the patient."""

    shape: tuple[int, int, int]
    """z, y, x."""
    spacing_mm: Millimetres3
    to_lps: tuple[float, ...]
    """The 16 figures of Grid.to_lps, row by row."""

    def holds(self, lps: Millimetres3) -> bool:
        """Whether a point (LPS, mm) lies in it, the edges of its voxels included."""
        matrix = np.asarray(self.to_lps).reshape(4, 4)
        at = plan.to_index(Grid(self.shape, self.spacing_mm, matrix), lps)
        reach = 0.5 + plan.WHOLE
        return bool(np.all(at >= -reach) and np.all(at <= np.asarray(self.shape) - 1 + reach))


class SeriesSummary(Record):
    """What the choice between the series of a study needs of one of them."""

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str | None
    acquisition_number: int | None
    temporal_position: int | None
    original: bool
    """Image Type names it neither DERIVED nor SECONDARY."""
    spacing_mm: float | None
    thickness_mm: float | None
    kernel: str | None
    """As it is published."""
    slices: int
    coverage: Coverage = Coverage()
    truncated: bool = False
    """The lungs meet the edge of the field of view."""
    places: tuple[Millimetres3, ...] = ()
    """The centres of its findings."""
    volume: Volume | None = None

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.study_uid, self.series_uid)


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of one series."""

    by: SeriesSummary | None = None
    """Which stands in its place; None: it stands."""
    beside: tuple[SeriesSummary, ...] = ()
    """Which stand as well and show some of the same."""


def standing(series: Sequence[SeriesSummary], accepts: Accepts) -> dict[SeriesKey, Standing]:
    """What becomes of each of these series, which were all analysed for one bundle."""
    found: dict[SeriesKey, Standing] = {}
    for group in groups(series):
        stands: list[SeriesSummary] = []
        for one in sorted(group, key=lambda s: rank(s, accepts)):
            by = next((other for other in stands if replaces(other, one)), None)
            if by is None:
                stands.append(one)
            else:
                found[one.key] = Standing(by=by)
        for one in stands:
            beside = tuple(other for other in stands if other != one and _meet(one, other))
            found[one.key] = Standing(beside=beside)
    return found


def groups(series: Sequence[SeriesSummary]) -> tuple[tuple[SeriesSummary, ...], ...]:
    """Series that show the same anatomy at the same time, together; in a fixed order."""
    found: dict[tuple[str, ...], list[SeriesSummary]] = {}
    for one in sorted(series, key=lambda s: s.key):
        found.setdefault(_group(one), []).append(one)
    return tuple(tuple(found[key]) for key in sorted(found))


def outranked(one: SeriesSummary, others: Sequence[SeriesSummary], accepts: Accepts) -> bool:
    """Whether one of the others is of its group and ranks better, whatever it shows."""
    return any(
        _group(other) == _group(one) and rank(other, accepts) < rank(one, accepts)
        for other in others
    )


def replaces(better: SeriesSummary, other: SeriesSummary) -> bool:
    """Rule 1, for two series of a group of which the first ranks better."""
    volume = better.volume
    if volume is None or not _shows_as_much(better, other):
        return False
    return all(volume.holds(place) for place in other.places)


def better(chosen: SeriesSummary) -> Reason:
    """What the report of a series says in whose place another one stands."""
    spacing = "unknown" if chosen.spacing_mm is None else f"{chosen.spacing_mm:.2f} mm"
    text = f"another series of this acquisition is analysed: spacing {spacing}, "
    text += f"{chosen.slices} images"
    return Reason(code=Code.BETTER_SERIES, text=text, where="series")


def also_shown_in(named: str) -> Reason:
    """What the report of a series says beside which another one stands; its published name."""
    text = f"Series {named} of this study shows some of the same and has a report of its own"
    return Reason(code=Code.ALSO_SHOWN_IN, text=text, where="series")


Rank = tuple[bool, int, float, float, int, int, str]


def rank(one: SeriesSummary, accepts: Accepts) -> Rank:
    """Smaller is better; see the rules above."""
    spacing = float("inf") if one.spacing_mm is None else round(one.spacing_mm, 2)
    effective = max(spacing, round(one.thickness_mm or 0.0, 2))
    limits = accepts.spacing_mm
    use = sum(effective > most for most in (limits.full, limits.limited, limits.most))
    return (
        not one.original,
        use,
        effective,
        spacing,
        _kernel_rank(one.kernel, accepts.kernels_preferred),
        -one.slices,
        one.series_uid,
    )


def _kernel_rank(kernel: str | None, preferred: Sequence[str]) -> int:
    name = (kernel or "").casefold()
    return next((i for i, k in enumerate(preferred) if k.casefold() == name), len(preferred))


def _group(one: SeriesSummary) -> tuple[str, ...]:
    key = (one.study_uid, one.frame_of_reference_uid, one.acquisition_number,
           one.temporal_position)  # fmt: skip
    return tuple(str(k) for k in key)


def _shows_as_much(one: SeriesSummary, other: SeriesSummary) -> bool:
    """Rule 2."""
    here, there = one.coverage, other.coverage
    if here.lungs_z_mm is None or there.lungs_z_mm is None:
        return False
    if here.sides is None or there.sides is None:
        return False
    slack = max(ENDS_MM, one.spacing_mm or 0.0, other.spacing_mm or 0.0)
    if here.lungs_z_mm[0] > there.lungs_z_mm[0] + slack:
        return False
    if here.lungs_z_mm[1] < there.lungs_z_mm[1] - slack:
        return False
    if (here.sides == "one" and there.sides == "both") or (one.truncated and not other.truncated):
        return False
    whole = here.sides == "both" and not one.truncated
    return whole or _holds(here.fov_mm, there.fov_mm)


def _holds(
    field: tuple[float, float, float, float] | None,
    other: tuple[float, float, float, float] | None,
) -> bool:
    """Whether a field of view holds another one, up to ENDS_MM at each edge; None: not known."""
    if field is None or other is None:
        return False
    low = all(field[i] <= other[i] + ENDS_MM for i in (0, 1))
    return low and all(field[i] >= other[i] - ENDS_MM for i in (2, 3))


def _meet(one: SeriesSummary, other: SeriesSummary) -> bool:
    """Whether two series show some of the same; what is not known may be."""
    spans: list[tuple[float, float, float, float]] = []
    if one.coverage.z_mm and other.coverage.z_mm:
        spans.append((*one.coverage.z_mm, *other.coverage.z_mm))
    if one.coverage.fov_mm and other.coverage.fov_mm:
        a, b = one.coverage.fov_mm, other.coverage.fov_mm
        spans += [(a[i], a[i + 2], b[i], b[i + 2]) for i in (0, 1)]
    return all(low <= high2 and low2 <= high for low, high, low2, high2 in spans)
