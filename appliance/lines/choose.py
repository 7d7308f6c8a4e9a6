"""Which bundles analyse a series, and which series of a study stands. Pure.

`work` and `analyze` both ask here, so that there is one rule whichever way a study came.

Rules.
1. Bundles are chosen by one header of the series, the first that any bundle accepts. A header that
   cannot be read, or of what is set aside by name, is for no bundle; its own reasons say why.
2. Which series of a group stand is judged over what was analysed of them (series/standing.py).
   Only a volume that could be put in order has rivals.
3. The report of a series in whose place another stands is `not_analysed`, `better_series`. Of its
   limitations those of its images stay. One that stands names those that stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from appliance.bundle import match
from appliance.lines.kind import Outline
from appliance.preprocess import plan
from appliance.reasons import Code
from appliance.records import Header, Result, Stack
from appliance.report import Coverage, Reason, Report, SeriesKey, Status
from appliance.series import kernel, select, standing
from appliance.series.standing import SeriesSummary, Standing, Volume

B = TypeVar("B", bound=match.HasManifest)

OF_THE_IMAGES = frozenset({Code.MADE_UIDS, Code.SERIES_UID_REUSED})
"""Limitations that hold whether or not the series is analysed."""


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


def summary(outline: Outline[Any], result: Result | None = None) -> SeriesSummary | None:
    """What the choice between series needs of one; None where it has no rivals. The first of the
    images that are analysed says to which group it belongs. Without a result it is enough to rank
    the series, not to let it stand in the place of another."""
    if outline.extent is None or not isinstance(outline.subject, Stack):
        return None
    if result is not None and result.status is not Status.ANALYSED:
        return None
    header = min((plane.header for plane in outline.subject.planes), key=select.place)
    grid = plan.grid_of(outline.subject)
    limitations = result.limitations if result else ()
    return SeriesSummary(
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        frame_of_reference_uid=header.frame_of_reference_uid,
        acquisition_number=header.acquisition_number,
        temporal_position=header.temporal_position,
        original=select.original(header),
        spacing_mm=outline.extent.spacing_mm[0],
        thickness_mm=header.thickness_mm,
        kernel=kernel.published(header.kernel),
        slices=outline.extent.slices,
        coverage=result.facts.coverage if result else Coverage(),
        truncated=any(reason.code is Code.TRUNCATED_FOV for reason in limitations),
        places=tuple(f.place_lps_mm for f in result.findings) if result else (),
        volume=Volume(
            shape=grid.shape, spacing_mm=grid.spacing_mm, to_lps=tuple(grid.to_lps.ravel().tolist())
        ),
    )


def own_words(report: Report) -> Report:
    """An analysed report without what it says of other series."""
    own = (r for r in report.limitations if r.code is not Code.ALSO_SHOWN_IN)
    return report.model_copy(update={"limitations": tuple(own)})


def restated(report: Report, what: Standing, named: Callable[[SeriesKey], str]) -> Report:
    """An analysed report as it is said, given what became of its series (rule 3).

    named: how a series is called outside the device.
    """
    own = own_words(report)
    if what.by is None:
        names = sorted(named(other.key) for other in what.beside)
        beside = tuple(standing.also_shown_in(name) for name in names)
        return own.model_copy(update={"limitations": (*beside, *own.limitations)})
    return own.model_copy(
        update={
            "status": Status.NOT_ANALYSED,
            "reasons": (standing.better(what.by),),
            "limitations": tuple(r for r in own.limitations if r.code in OF_THE_IMAGES),
            "backend": None,
            "findings": (),
        }
    )
