"""What was measured -> flags -> the verdict of the in-room check.

Rules.
1. One row a flag, the gravest first (`_ROWS`); each says its figure. Limits stand in the module
   that measures.
2. A series that was refused or broke the analysis is never usable: its reason is the flag. One that
   is rightly set aside (reasons.SET_ASIDE) is no exam of its own and has no check.
3. Images that are missing are a flag wherever the report says so.
4. What nothing was measured of, such as a radiograph, is not called usable: without a flag of the
   rules above it has no check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from appliance.quality import body, hounsfield, lungs, noise
from appliance.reasons import SET_ASIDE, Code
from appliance.records import Result
from appliance.report import Coverage, Reason, Status
from appliance.room.check import Flag, RoomCheck, RoomValues
from appliance.room.codes import FlagCode

MISSING: Final = frozenset(
    {Code.GAP_FILLED, Code.MISSING_PIXELS, Code.TRANSFER_ABORTED, Code.UNEXPECTED_COUNT}
)
"""Limitations that say that images are missing."""


def check(result: Result) -> RoomCheck | None:
    """The check of a series; None where there is nothing to check (rules 2 and 4)."""
    if result.status is not Status.ANALYSED:
        first = result.reasons[0]
        if first.code in SET_ASIDE:
            return None
        failed = result.status is Status.FAILED
        code = FlagCode.FAILED if failed else FlagCode.NOT_ANALYSED
        return RoomCheck(verdict="look", flags=(_of_reason(code, first),))
    flags = tuple(_flags(result))
    if result.room is None and not flags:
        return None
    return RoomCheck(verdict="look" if flags else "usable", flags=flags, values=result.room)


def _flags(result: Result) -> Iterator[Flag]:
    for reason in result.limitations:
        if reason.code in MISSING:
            yield _of_reason(FlagCode.IMAGES_MISSING, reason)
    hu = False
    if result.room is not None:
        for row in _ROWS:
            flag = row(result.room, result.facts.coverage)
            if flag is not None:
                hu = hu or flag.code in {FlagCode.AIR_HU, FlagCode.TISSUE_HU}
                yield flag
    for reason in result.limitations:
        if reason.code is Code.SUSPECT_HU and not hu:
            yield _of_reason(FlagCode.SUSPECT_HU, reason)


def _of_reason(code: FlagCode, reason: Reason) -> Flag:
    return Flag(code=code, text=reason.text, where=reason.where, reason=reason.code)


def _lungs_head(values: RoomValues, coverage: Coverage) -> Flag | None:
    if coverage.lungs not in {"cut_head", "cut_both"}:
        return None
    text = f"the lungs reach the uppermost image with {values.lungs_head_cm2} cm2"
    figure = values.lungs_head_cm2
    return Flag(code=FlagCode.LUNGS_CUT_HEAD, text=text, figure=figure, unit="cm2")


def _lungs_feet(values: RoomValues, coverage: Coverage) -> Flag | None:
    if coverage.lungs not in {"cut_feet", "cut_both"}:
        return None
    text = f"the lungs reach the lowest image with {values.lungs_feet_cm2} cm2"
    figure = values.lungs_feet_cm2
    return Flag(code=FlagCode.LUNGS_CUT_FEET, text=text, figure=figure, unit="cm2")


def _lungs_side(values: RoomValues, _: Coverage) -> Flag | None:
    cut = values.lungs_side_cm2
    if cut is None or cut <= lungs.SIDE_CM2:
        return None
    text = f"the lungs meet the edge of the field of view over {cut} cm2"
    return Flag(code=FlagCode.LUNGS_CUT_SIDE, text=text, figure=cut, unit="cm2")


def _body(values: RoomValues, _: Coverage) -> Flag | None:
    share = values.body_edge_percent
    if share is None or share <= body.MOST_PERCENT:
        return None
    text = f"{share:.0f} % of the edge of the field of view shows body"
    return Flag(code=FlagCode.BODY_CUT, text=text, figure=share, unit="%")


def _step(values: RoomValues, _: Coverage) -> Flag | None:
    step, most = values.step_mm, values.step_most_mm
    if step is None or most is None or step <= most:
        return None
    text = f"a step of {step} mm between two slices, where at most {most} is usual"
    where = f"z {values.step_z_mm} mm"
    return Flag(code=FlagCode.STEPS, text=text, figure=step, unit="mm", where=where)


def _noise(values: RoomValues, _: Coverage) -> Flag | None:
    thick, most = values.noise_thick_hu, noise.most_hu(values.lung_edge_hu_per_mm)
    if thick is None or thick <= most:
        return None
    text = f"noise of {values.noise_hu} HU; in slices of {noise.THICK_MM} mm {thick} HU, "
    text += f"where at most {most:.0f} is usual"
    return Flag(code=FlagCode.NOISE, text=text, figure=values.noise_hu, unit="HU")


def _air(values: RoomValues, _: Coverage) -> Flag | None:
    low, high = hounsfield.AIR_HU
    if values.air_hu is None or low <= values.air_hu <= high:
        return None
    text = f"air in front of the body is {values.air_hu:.0f} HU, expected {low:.0f} to {high:.0f}"
    return Flag(code=FlagCode.AIR_HU, text=text, figure=values.air_hu, unit="HU")


def _tissue(values: RoomValues, _: Coverage) -> Flag | None:
    low, high = hounsfield.MUSCLE_HU
    found = values.tissue_hu
    if values.air_hu is not None or found is None or low <= found <= high:
        return None
    text = f"soft tissue is {found:.0f} HU, expected {low:.0f} to {high:.0f}"
    return Flag(code=FlagCode.TISSUE_HU, text=text, figure=found, unit="HU")


_ROWS: Final[tuple[Callable[[RoomValues, Coverage], Flag | None], ...]] = (
    _lungs_head,
    _lungs_feet,
    _lungs_side,
    _body,
    _step,
    _noise,
    _air,
    _tissue,
)
