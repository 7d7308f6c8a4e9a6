"""Which bundles analyse a series, and which series of a study stands. Pure.

`work` and `analyze` both ask here, so that there is one rule whichever way a study came.

Rules.
1. Bundles are chosen by one header of the series, the first that any bundle accepts. A header that
   cannot be read, or of what is set aside by name, is for no bundle; its own reasons say why.
2. Of the series that show the same anatomy at the same time (select.groups) the best for a bundle
   stands (select.best). Only a volume that could be put in order has rivals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from appliance.bundle import match
from appliance.bundle.accepts import Accepts
from appliance.lines.kind import Extent, Outline
from appliance.records import Header
from appliance.report import Reason
from appliance.series import select
from appliance.series.select import SeriesSummary

B = TypeVar("B", bound=match.HasManifest)


@dataclass(frozen=True, slots=True)
class Chosen(Generic[B]):
    """The bundles that analyse a series; where there is none, why not."""

    bundles: tuple[B, ...] = ()
    reasons: tuple[Reason, ...] = ()


def bundles_for(header: Header | None, among: Sequence[B]) -> Chosen[B]:
    """Those of the bundles that accept a series with this header (rule 1), in their order."""
    if header is None or select.by_name(header) is not None:
        return Chosen()
    accepting = match.choose(among, header)
    return Chosen(accepting, () if accepting else match.none_accepts(among, header))


def bundles_for_any(headers: Iterable[Header], among: Sequence[B]) -> Chosen[B]:
    """Those that accept the first of these headers that any accepts, by the numbers of the images;
    else what is said of the first. A localizer may come first, and is for none."""
    in_order = sorted(headers, key=select.place)
    chosen = (bundles_for(header, among) for header in in_order)
    return next(
        (one for one in chosen if one.bundles), bundles_for(next(iter(in_order), None), among)
    )


def summary(header: Header | None, outline: Outline[Any]) -> SeriesSummary | None:
    """What the choice between series needs of one; None where it has no rivals."""
    if header is None or outline.extent is None:
        return None
    extent: Extent = outline.extent
    return select.summary(
        header,
        axial=True,  # put in order, hence axial (NOT_AXIAL is refused)
        spacing_mm=extent.spacing_mm[0],
        cover_mm=extent.cover_mm,
        slices=extent.slices,
    )


def beaten(series: Sequence[SeriesSummary], accepts: Accepts) -> dict[SeriesSummary, SeriesSummary]:
    """Series that do not stand -> the one that stands in place of each (rule 2)."""
    found = {}
    for group in select.groups(series):
        best = select.best(group, accepts)
        found.update({one: best for one in group if one != best})
    return found
