"""Phases and acquisitions in one series: which of its images are one volume. Pure.

Rules.
1. Images are grouped by acquisition number; where different images share a position also by
   temporal position, by cardiac phase, and by all three. The first of these counts that tells the
   images apart: there are several groups, and none has two different images at one position. A
   value for each image or nearly so (fewer than two images a value) groups nothing.
2. Phases overlap: two groups whose shared range is over half of the shorter one show the same body
   twice. Acquisitions adjoin: all others show parts of it.
3. The largest group is analysed, the first of equals. Acquisitions that adjoin it are joined with
   it where matrix, pixel spacing, orientation and field of view are the same, and kernel and table
   height as far as both say them: JOINED_ACQUISITIONS, with the place of each seam. Groups that are
   left out, phases or of another kernel or field, are the limitation DYNAMIC.
4. Where joined acquisitions share a place (less than half a step apart), that one is kept which
   lies nearer, counted in places to one that only it has. Of two as near it is the one whose pixels
   differ less from the images below and above, then the one of the lower UID.
5. Equal images are copies, for `assemble` to say; and so is one UID with different images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from appliance.reasons import Code
from appliance.records import Plane
from appliance.report import Reason
from appliance.series import pose
from appliance.series.assemble import instances, positions
from appliance.series.extent import SAME_POSITION_MM
from appliance.series.pose import Points

SHARED = 0.5
"""Of the shorter range: groups that share more of it are phases."""
LEAST_IMAGES = 2
"""A value, on average: fewer are no groups."""
TABLE_MM = 1.0
STRIDE = 4
"""Every so many rows and columns are compared."""

Value = tuple[float, ...]
Key = Callable[[Plane], Value]


@dataclass(frozen=True, slots=True)
class Volume:
    """The images of a series that are one volume, in no order."""

    planes: tuple[Plane, ...]
    groups: int = 1
    """Phases or acquisitions in the series."""
    limitations: tuple[Reason, ...] = ()
    seams_mm: tuple[float, ...] = ()
    """Where two acquisitions adjoin: mm along the normal, from the origin of the patient."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The images of one phase or acquisition."""

    planes: tuple[Plane, ...]
    low: float
    high: float
    """Ends along the normal (mm)."""

    def is_phase_of(self, other: _Group) -> bool:
        shared = min(self.high, other.high) - max(self.low, other.low)
        return shared > SHARED * min(self.high - self.low, other.high - other.low)


def volume(planes: Sequence[Plane]) -> Volume:
    """The images of a series -> those that are analysed together, the same for every order."""
    once, _ = instances(sorted(planes, key=pose.identity))
    if not once:
        return Volume(())
    normal = pose.normal_of(once)
    groups = _groups(once, normal)
    if len(groups) < 2:
        return Volume(tuple(planes))
    chain = _joined(groups, normal)
    there = _places(chain, normal)
    names = {p.mark[0] for place in there for p in place.planes}
    seams = [pair for pair in pairwise(there) if pair[0].acquisition != pair[1].acquisition]
    used = len({place.acquisition for place in there})
    resolved = sum(place.resolved for place in there)
    return Volume(
        # one UID may have two images: `assemble` says so
        planes=tuple(p for p in planes if p.mark[0] in names),
        groups=len(groups),
        limitations=(*_left_out(len(groups), used), *_seams(seams, used, resolved)),
        seams_mm=tuple(
            float(pose.along([below.planes[-1], above.planes[0]], normal).mean())
            for below, above in seams
        ),
    )


def _groups(once: Sequence[Plane], normal: Points) -> list[_Group]:
    """Rule 1; one group where nothing tells the images apart."""
    for key in _keys(repeat=_repeat(once, normal)):
        of_value: dict[Value, list[Plane]] = {}
        for plane in once:
            of_value.setdefault(key(plane), []).append(plane)
        if len(of_value) < 2 or len(once) < LEAST_IMAGES * len(of_value):
            continue
        if not any(_repeat(group, normal) for group in of_value.values()):
            return [_group(of_value[value], normal) for value in sorted(of_value)]
    return [_group(once, normal)]


def _keys(*, repeat: bool) -> tuple[Key, ...]:
    def acquisition(plane: Plane) -> Value:
        return (_known(plane.header.acquisition_number),)

    def time(plane: Plane) -> Value:
        return (_known(plane.header.temporal_position),)

    def heart(plane: Plane) -> Value:
        return (_known(plane.header.cardiac_phase),)

    def every(plane: Plane) -> Value:
        return (*acquisition(plane), *time(plane), *heart(plane))

    return (acquisition, time, heart, every) if repeat else (acquisition,)


def _known(value: float | None) -> float:
    return -math.inf if value is None else float(value)


def _repeat(planes: Sequence[Plane], normal: Points) -> bool:
    """Whether two different images share a position."""
    return any(len({p.digest for p in group}) > 1 for group in positions(planes, normal))


def _group(planes: Sequence[Plane], normal: Points) -> _Group:
    z = pose.along(planes, normal)
    return _Group(tuple(planes), float(z.min()), float(z.max()))


def _joined(groups: Sequence[_Group], normal: Points) -> list[_Group]:
    """The largest group and those that adjoin it and each other (rule 3), the largest first."""
    by_size = sorted(groups, key=lambda group: -len(group.planes))
    chain = by_size[:1]
    for group in by_size[1:]:
        if not any(group.is_phase_of(one) for one in chain) and _agree(chain[0], group, normal):
            chain.append(group)
    return chain


def _agree(one: _Group, other: _Group, normal: Points) -> bool:
    """Whether two acquisitions were taken and reconstructed alike, by most images of each."""
    a, b = pose.usual(one.planes), pose.usual(other.planes)
    spacings = [pose.odd(g.planes, lambda p: p.geometry.spacing_mm)[0] for g in (one, other)]
    sizes = [pose.odd(g.planes, lambda p: p.native.shape)[0] for g in (one, other)]
    kernels = [pose.odd(g.planes, _kernel)[0] for g in (one, other)]
    tables = [pose.odd(g.planes, lambda p: p.header.table_height_mm)[0] for g in (one, other)]
    fields = [_field(g.planes, normal) for g in (one, other)]
    known = [mm for mm in tables if mm is not None]
    return (
        pose.turned_by(a, b) <= pose.ORIENTATION_RAD
        and pose.same_spacing(*spacings)
        and sizes[0] == sizes[1]
        and (None in kernels or kernels[0] == kernels[1])
        and (len(known) < 2 or abs(known[0] - known[1]) <= TABLE_MM)
        and float(np.linalg.norm(fields[0] - fields[1])) <= pose.BESIDE_MM
    )


def _kernel(plane: Plane) -> str | None:
    return plane.header.kernel and plane.header.kernel.casefold()


def _field(planes: Sequence[Plane], normal: Points) -> Points:
    """Where the line through the first pixels meets the plane through the origin (mm, LPS)."""
    points = np.array([p.geometry.position_lps_mm for p in planes], dtype=np.float64)
    middle: Points = np.median(points - np.outer(points @ normal, normal), axis=0)
    return middle


@dataclass(frozen=True, slots=True)
class _Place:
    """One place of joined acquisitions."""

    planes: tuple[Plane, ...]
    """Of the acquisition that is used here, and what is equal to them."""
    acquisition: int
    resolved: bool
    """Another acquisition has different images here."""


def _places(chain: Sequence[_Group], normal: Points) -> list[_Place]:
    """The places of these acquisitions in order of rising z (rule 4)."""
    number = {p.mark[0]: i for i, group in enumerate(chain) for p in group.planes}
    every = [p for group in chain for p in group.planes]
    there: list[dict[int, list[Plane]]] = []
    for planes in positions(every, normal, _half_a_step(chain, normal)):
        there.append({})
        for plane in planes:
            there[-1].setdefault(number[plane.mark[0]], []).append(plane)
    sure = [i for i, of in enumerate(there) if len(of) == 1]
    alone = {one: [i for i in sure if one in there[i]] for one in range(len(chain))}
    found = []
    for i, of in enumerate(there):
        away = {one: min((abs(i - j) for j in alone[one]), default=math.inf) for one in of}
        nearest = [one for one in of if away[one] == min(away.values())]
        if len(nearest) > 1:
            differs = _misfit(i, there, sure)
            nearest.sort(key=lambda one: (differs(of[one][0]), pose.identity(of[one][0])))
        best = nearest[0]
        equal = {p.digest for p in of[best]}
        planes = [p for some in of.values() for p in some]
        kept = tuple(p for p in planes if p.digest in equal)
        found.append(_Place(kept, best, len(kept) < len(planes)))
    return found


def _half_a_step(chain: Sequence[_Group], normal: Points) -> float:
    """Half of the usual distance between two images of one acquisition, of the finest (mm)."""
    steps = [np.diff(np.sort(pose.along(g.planes, normal))) for g in chain if len(g.planes) > 1]
    usual = min((float(np.median(one)) for one in steps), default=0.0)
    return max(SAME_POSITION_MM, usual / 2)


def _misfit(
    index: int, there: Sequence[Mapping[int, Sequence[Plane]]], sure: Sequence[int]
) -> Callable[[Plane], float]:
    """How much the pixels of a plane at this place differ from those below and above (HU)."""
    below = [i for i in sure if i < index][-1:]
    above = [i for i in sure if i > index][:1]
    planes = [next(iter(there[i].values()))[0] for i in (*below, *above)]
    around = [p.native[::STRIDE, ::STRIDE] for p in planes]

    def differs(plane: Plane) -> float:
        sample = plane.native[::STRIDE, ::STRIDE].astype(np.float64)
        return float(sum(np.abs(sample - other).mean() for other in around))

    return differs


def _left_out(groups: int, used: int) -> tuple[Reason, ...]:
    if groups == used:
        return ()
    those = "one of them was" if used == 1 else f"{used} of them, which adjoin, were"
    text = f"the series holds {groups} phases or acquisitions; {those} analysed"
    return (Reason(code=Code.DYNAMIC, text=text, where="series"),)


def _seams(
    seams: Sequence[tuple[_Place, _Place]], acquisitions: int, resolved: int
) -> tuple[Reason, ...]:
    if not seams:
        return ()
    ends = [(below.planes[-1], above.planes[0]) for below, above in seams]
    places = [f"z {sum(p.geometry.position_lps_mm[2] for p in pair) / 2:.1f} mm" for pair in ends]
    more = len(places) - pose.NAMED
    text = f"{acquisitions} acquisitions were joined at {', '.join(places[: pose.NAMED])}"
    text += f" and {more} more places" if more > 0 else ""
    if resolved:
        text += f"; at {resolved} places both have an image, and the one that fits is used"
    return (Reason(code=Code.JOINED_ACQUISITIONS, text=text, where=places[0]),)
