"""The planes of one series -> a Stack in order of rising z, or all reasons why not. Pure.

Rules. Order and distance come from Image Position and Orientation alone (PS3.3 C.7.6.2.1.1), never
from Slice Thickness, Slice Location or Instance Number. The answer does not depend on the order of
arrival. Every check runs; reasons come most fundamental first, each names image and figure:

- nothing there: NO_SLICES; more than `max_slices`: TOO_LARGE.
- one patient, study, series and frame of reference (positions of two frames cannot be compared,
  PS3.3 C.7.4.1): MIXED_SERIES. One SOP Instance UID with different pixels: DUPLICATE_UID.
- one orientation within 0.01 rad, one matrix, one pixel spacing within 0.5 %: MIXED_ORIENTATION,
  MIXED_SIZE, MIXED_SPACING. The odd ones against the majority are named.
- the normal within 20 degrees of the body axis: NOT_AXIAL.
- the line through the positions within 0.5 degrees of the normal: GANTRY_TILT; an image more than
  1 mm beside that line belongs to another field of view: MIXED_SERIES. Gantry/Detector Tilt
  (0018,1120) is "nominal ... not intended for mathematical computations" (PS3.3 C.8.2.1), so it
  never straightens anything; but it may not vary nor contradict: a tilt that the orientation does
  not show means that one of them is wrong: GANTRY_TILT.
- one image a position. Equal pixels under another SOP Instance UID lose nothing: one is kept (the
  lowest UID) and the limitation DUPLICATE_POSITION says so; the very same instance twice (a resend)
  is one instance. Different pixels: DUPLICATE_POSITION, or DYNAMIC where at least half of the
  positions repeat (`phases` makes single phases of those where a tag tells them apart).
- an image between others whose pixels are all equal shows nothing: it counts as missing, and the
  limitation MISSING_PIXELS names it. Blank images at the ends stay: air or padding.
- neighbours that show the very same tissue at two positions are a reconstruction that got stuck, or
  a gateway's mistake: noise never repeats. Which of the places is theirs cannot be known:
  REPEATED_PIXELS.
- images under a transfer syntax that may lose (PS3.5 A.4), or that say of themselves that they have
  lost (PS3.3 C.7.6.1.1.5), are the limitation LOSSY.
- steps, thickness, number of images, cover and field of view: extent.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from appliance.bundle.accepts import Accepts
from appliance.reasons import Code
from appliance.records import Header, Plane, Stack
from appliance.report import Reason
from appliance.series import decoders, pose, select
from appliance.series.content import hu_check, repeated
from appliance.series.extent import SAME_POSITION_MM, Points, extent, place, steps

__all__ = ["MAX_SLICES", "assemble", "hu_check", "instances", "may_have_lost", "positions"]

MAX_SLICES = 4000
TILT_DEG = 0.5
TILT_TAG_DEG = 1.0
ROUNDING_MM = 0.2  # of a whole series' positions; less is no tilt
LOSSY_SYNTAXES = frozenset(
    f"1.2.840.10008.1.2.4.{n}"
    for n in (50, 51, 81, 91, 203)  # JPEG, JPEG-LS, JPEG 2000, HTJ2K
)


def assemble(
    planes: Sequence[Plane], accepts: Accepts | None, max_slices: int = MAX_SLICES
) -> Stack | tuple[Reason, ...]:
    """Planes in any order -> Stack (with limitations), or every reason against it.

    `accepts` None: only what no bundle could take is refused.
    """
    if not planes:
        return (_reason(Code.NO_SLICES, "no image of the series can be used"),)
    if len(planes) > max_slices:
        text = f"{len(planes)} images; the limit is {max_slices}"
        return (_reason(Code.TOO_LARGE, text),)
    once, reasons = instances(sorted(planes, key=pose.identity))
    reasons += _one_series(once)
    reasons += _alike(once)
    normal = pose.normal_of(once)
    reasons += _axial(normal)
    reasons += _tilt(once, normal)
    kept, more, limitations = _positions(once, normal)
    reasons += more
    kept, blank = _shown(kept)
    reasons += _repeated(kept)
    z = pose.along(kept, normal)
    spacing, more, limits = steps(kept, z, accepts)
    reasons += more
    limitations = limits + blank + limitations + _lossy(kept)
    reasons += extent(kept, z, accepts)
    if reasons:
        return tuple(reasons)
    rows, columns = kept[0].geometry.spacing_mm
    return Stack(
        planes=tuple(kept),
        z_mm=z - z[0],
        normal_lps=pose.vector(normal),
        spacing_mm=(spacing, rows, columns),
        limitations=tuple(limitations),
    )


def _reason(code: Code, text: str, where: str = "series") -> Reason:
    return Reason(code=code, text=text, where=where)


def instances(planes: Sequence[Plane]) -> tuple[list[Plane], list[Reason]]:
    """Each instance and frame once; the same UID with other pixels is refused."""
    kept: dict[tuple[str, int], Plane] = {}
    reasons = []
    for plane in planes:
        key = plane.header.sop_instance_uid, plane.frame
        first = kept.setdefault(key, plane)
        if first is plane:
            continue
        if first.digest != plane.digest:
            text = f"{pose.name(first)} and {pose.name(plane)} carry one SOP Instance UID"
            reasons.append(_reason(Code.DUPLICATE_UID, text, pose.name(plane)))
        elif select.place(plane.header) < select.place(first.header):  # whichever came first
            kept[key] = plane
    return list(kept.values()), reasons


def _one_series(planes: Sequence[Plane]) -> list[Reason]:
    keys: tuple[tuple[str, Callable[[Plane], str | None]], ...] = (
        ("patients", _patient(planes)),
        ("studies", lambda p: p.header.study_uid),
        ("series", lambda p: p.header.series_uid),
        ("frames of reference", lambda p: p.header.frame_of_reference_uid),
    )
    reasons = []
    for what, key in keys:
        count = len({key(p) for p in planes})
        if count > 1:
            odd = pose.odd(planes, key)[1]
            text = f"{count} {what} in one series; {len(odd)} of {len(planes)} images differ: "
            reasons.append(_reason(Code.MIXED_SERIES, text + pose.names(odd), pose.name(odd[0])))
    return reasons


def _patient(planes: Sequence[Plane]) -> Callable[[Plane], str | None]:
    """Whose image it is; one that does not say so is of the patient of most."""
    said = [p for p in planes if p.header.patient is not None]
    usual = pose.odd(said, lambda p: p.header.patient)[0] if said else None
    return lambda p: p.header.patient or usual


def _alike(planes: Sequence[Plane]) -> list[Reason]:
    """Orientation, matrix and pixel spacing against the majority's."""
    reasons = []
    usual = pose.usual(planes)
    turned = [(p, pose.turned_by(p, usual)) for p in planes]
    odd = [p for p, angle in turned if angle > pose.ORIENTATION_RAD]
    if odd:
        most = math.degrees(max(angle for _, angle in turned))
        text = f"{len(odd)} of {len(planes)} images are turned by up to {most:.1f} degrees: "
        reasons.append(_reason(Code.MIXED_ORIENTATION, text + pose.names(odd), pose.name(odd[0])))
    size, odd = pose.odd(planes, lambda p: p.native.shape)
    if odd:
        text = f"{pose.names(odd)}: {odd[0].native.shape[1]} x {odd[0].native.shape[0]} pixels"
        text += f", the others {size[1]} x {size[0]}"
        reasons.append(_reason(Code.MIXED_SIZE, text, pose.name(odd[0])))
    spacing, _ = pose.odd(planes, lambda p: pose.rounded(p.geometry.spacing_mm, 3))
    odd = [p for p in planes if not pose.same_spacing(p.geometry.spacing_mm, spacing)]
    if odd:
        there = odd[0].geometry.spacing_mm
        text = f"{pose.names(odd)}: pixels of {there[0]:.4g} x {there[1]:.4g} mm"
        text += f", the others {spacing[0]:.4g} x {spacing[1]:.4g}"
        reasons.append(_reason(Code.MIXED_SPACING, text, pose.name(odd[0])))
    return reasons


def _axial(normal: Points) -> list[Reason]:
    angle = math.degrees(pose.angle(pose.vector(normal), (0.0, 0.0, 1.0)))
    if angle <= pose.AXIAL_DEG:
        return []
    text = f"the images stand {angle:.0f} degrees off the axial plane; "
    text += f"up to {pose.AXIAL_DEG:.0f} is axial"
    return [_reason(Code.NOT_AXIAL, text)]


def _tilt(planes: Sequence[Plane], normal: Points) -> list[Reason]:
    reasons = []
    order = np.argsort(pose.along(planes, normal), kind="stable")
    points = np.array([planes[i].geometry.position_lps_mm for i in order])
    along = points @ normal
    beside = points - np.outer(along, normal)
    # the median over pairs half a series apart: neither rounding nor one odd image can bend it
    half = (len(along) + 1) // 2
    rises = along[half:] - along[:-half]
    there = rises >= SAME_POSITION_MM
    slope = np.zeros(3)
    if there.any():
        slope = np.median((beside[half:] - beside[:-half])[there] / rises[there, None], axis=0)
    tilt = math.degrees(math.atan(float(np.linalg.norm(slope))))
    if tilt > TILT_DEG and float(np.linalg.norm(slope)) * (along[-1] - along[0]) > ROUNDING_MM:
        text = f"the line through the positions is {tilt:.1f} degrees off the normal of the images"
        reasons.append(_reason(Code.GANTRY_TILT, text))
    else:
        reasons += _tilt_tag(planes, normal)
    rest = beside - np.outer(along, slope)
    off = np.linalg.norm(rest - np.median(rest, axis=0), axis=1)
    if off.max() > pose.BESIDE_MM:
        odd = [planes[order[i]] for i in np.flatnonzero(off > pose.BESIDE_MM)]
        text = (
            f"{len(odd)} images lie up to {off.max():.1f} mm beside the others: {pose.names(odd)}"
        )
        reasons.append(_reason(Code.MIXED_SERIES, text, pose.name(odd[0])))
    return reasons


def _tilt_tag(planes: Sequence[Plane], normal: Points) -> list[Reason]:
    """Gantry/Detector Tilt (0018,1120) against the orientation and itself."""
    tags = [p.header.gantry_tilt_deg for p in planes if p.header.gantry_tilt_deg is not None]
    if not tags:
        return []
    low, high = min(tags), max(tags)
    if high - low > TILT_DEG:
        text = f"Gantry/Detector Tilt varies from {low:g} to {high:g} degrees"
        return [_reason(Code.GANTRY_TILT, text)]
    tag = max(abs(low), abs(high))
    shown = math.degrees(pose.angle(pose.vector(normal), (0.0, 0.0, 1.0)))
    if tag > TILT_DEG and abs(tag - shown) > TILT_TAG_DEG:
        text = f"Gantry/Detector Tilt is {tag:g} degrees, but the orientation shows {shown:.1f}"
        return [_reason(Code.GANTRY_TILT, text)]
    return []


def positions(
    planes: Sequence[Plane], normal: Points, apart_mm: float = SAME_POSITION_MM
) -> list[list[Plane]]:
    """The planes at each position, in order of rising z; positions are this far apart."""
    z = pose.along(planes, normal)
    groups: list[list[Plane]] = []
    last = -math.inf
    for i in np.argsort(z, kind="stable"):
        if z[i] - last >= apart_mm:
            groups.append([])
            last = z[i]
        groups[-1].append(planes[i])
    return groups


def _positions(
    planes: Sequence[Plane], normal: Points
) -> tuple[list[Plane], list[Reason], list[Reason]]:
    """One plane a position in order of rising z; reasons; limitations."""
    groups = positions(planes, normal)
    kept = [g[0] for g in groups]
    twice = [g for g in groups if len({p.digest for p in g}) > 1]
    if twice and 2 * len(twice) >= len(groups):
        most = max(len(g) for g in twice)
        text = f"{len(twice)} of {len(groups)} positions have up to {most} different images each"
        return kept, [_reason(Code.DYNAMIC, text)], []
    reasons = [
        _reason(
            Code.DUPLICATE_POSITION,
            f"{pose.names(g)} show different pixels at {place(g[0])}",
            place(g[0]),
        )
        for g in twice[: pose.NAMED]
    ]
    same = [g for g in groups if len(g) > 1 and len({p.digest for p in g}) == 1]
    limitations = []
    if same:
        extra = sum(len(g) - 1 for g in same)
        text = f"{extra} images are copies of others under other UIDs, first {pose.names(same[0])}"
        text += "; one of each is used"
        limitations.append(_reason(Code.DUPLICATE_POSITION, text, place(same[0][0])))
    return kept, reasons, limitations


def _shown(planes: Sequence[Plane]) -> tuple[list[Plane], list[Reason]]:
    """The planes, in order, without the blank ones between others; limitations."""
    there = [i for i, p in enumerate(planes) if not p.blank]
    blank = [p for p in planes[there[0] : there[-1]] if p.blank] if there else []
    if not blank:
        return list(planes), []
    text = f"{pose.names(blank)}: all pixels are equal; taken as missing"
    kept = [p for i, p in enumerate(planes) if not (p.blank and there[0] < i < there[-1])]
    return kept, [_reason(Code.MISSING_PIXELS, text, place(blank[0]))]


def _repeated(planes: Sequence[Plane]) -> list[Reason]:
    again = repeated(planes)
    if not again:
        return []
    text = f"{pose.names(again)}: the same pixels as the image below, at another position"
    return [_reason(Code.REPEATED_PIXELS, text, place(again[0]))]


def may_have_lost(header: Header) -> bool:
    """Whether an image may have lost detail by compression."""
    return header.lossy or header.transfer_syntax_uid in LOSSY_SYNTAXES


def _lossy(planes: Sequence[Plane]) -> list[Reason]:
    odd = [p for p in planes if may_have_lost(p.header)]
    if not odd:
        return []
    by = decoders.named(p.header.transfer_syntax_uid for p in odd)
    text = (
        f"{len(odd)} of {len(planes)} images may have lost detail by compression: {pose.names(odd)}"
    )
    text += f" (decoded by {by})" if by else ""
    return [_reason(Code.LOSSY, text)]
