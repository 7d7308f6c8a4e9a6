"""Which images do not belong to the series that they came with. Pure.

Rules.
1. An image is foreign where somebody gave it the Series UID of others: it is named as what is never
   analysed (`select.by_name`: localizers, captures, dose screens ...), is of another modality, has
   no pixels that can be read or no place (`UNUSABLE`), or is turned by more than 0.01 rad against
   most of the others. It is set aside, and the rest is judged as if it had not come. One
   limitation, SET_ASIDE_IMAGES, names what was set aside.
2. At most a tenth of the images are foreign. Of more nobody knows which of them are the series: it
   is refused for all their reasons.
3. Not foreign is what makes the others doubtful too, and refuses the series: another patient, study
   or frame of reference (MIXED_SERIES; what an image does not say differs from nothing), a patient
   whom the bundle is not meant for, and a value that is missing or impossible.
4. An image that was to be a slice and cannot be used leaves a hole (`LEAVES_A_HOLE`), and is its
   cause. A hole is told with it, once; where the rest is refused, it leads the reasons.
5. The order of arrival changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from appliance.reasons import Code
from appliance.records import Header, Plane
from appliance.report import Reason
from appliance.series import pose, select

Mark = tuple[str, str]
"""Name of an image (or its SOP Instance UID), digest of what it shows (or of its header)."""

LEAVES_A_HOLE = frozenset(
    (Code.UNREADABLE, Code.MISSING_PIXELS, Code.UNDECODABLE_PIXELS, Code.MIXED_ORIENTATION)
)
UNUSABLE = LEAVES_A_HOLE | {Code.UNSUPPORTED_PIXELS, Code.MISSING_GEOMETRY, Code.NOT_AXIAL}
FOREIGN = UNUSABLE | select.BY_NAME | {Code.MODALITY}
MOST = 10
"""One of so many images may be foreign."""
NAMED = 5
"""Images that are named for each cause."""


@dataclass(frozen=True, slots=True)
class Unread:
    """An instance that became no image."""

    mark: Mark
    """Of its header, or of its bytes where it has none that can be read."""
    reasons: tuple[Reason, ...] = ()
    """Why not; none where there is nothing to see and no reason to say so."""
    header: Header | None = None

    @property
    def named(self) -> Reason | None:
        """Why it is set aside by name."""
        return next((r for r in self.reasons if r.code in select.BY_NAME), None)

    @property
    def foreign(self) -> bool:
        """Whether nothing speaks against it that would refuse the others too."""
        return bool(self.reasons) and all(r.code in FOREIGN for r in self.reasons)


@dataclass(frozen=True, slots=True)
class Sorted:
    """A series without what does not belong to it."""

    planes: tuple[Plane, ...]
    """Those to go on with."""
    refusals: tuple[Reason, ...] = ()
    """Against the series."""
    aside: tuple[Reason, ...] = ()
    """One an image that is set aside; none where the series is refused."""
    marks: frozenset[Mark] = frozenset()
    """Of these images."""
    every: int = 0
    """How many images there are with them."""


def sort_out(planes: Sequence[Plane], unread: Sequence[Unread]) -> Sorted:
    """What became a plane and what did not -> what the series is made of, and why not."""
    turned = _turned(planes)
    foreign = [u for u in unread if u.foreign]
    marks = {u.mark for u in foreign} | {p.mark for p, _ in turned}
    every = {u.mark for u in unread} | {p.mark for p in planes}
    few = bool(planes) and MOST * len(marks) <= len(every)
    out = {p.mark for p, _ in turned}
    left = tuple(p for p in planes if p.mark not in out)
    strangers = mixed(
        [p.header for p in left],
        [*(p.header for p, _ in turned), *(u.header for u in unread if u.header is not None)],
    )
    refused = strangers or any(u.reasons and not u.foreign for u in unread) or not few
    if not refused:
        aside = (*_reasons(foreign), *(reason for _, reason in turned))
        return Sorted(left, (), aside, frozenset(marks), len(every))
    named = None if few else select.of_series(_names(planes, unread))
    if named is not None and named.code is not Code.MIXED_SERIES:
        return Sorted(tuple(planes), (named,))
    own = [r for u in unread for r in u.reasons if r.code not in select.BY_NAME]
    refusals = select.summed_up((*strangers, *own, *((named,) if named else ())))
    return Sorted(left if few and not strangers else tuple(planes), refusals)


def named_aside(images: Sequence[object], unread: Sequence[Unread]) -> Reason | None:
    """Why all of these are set aside by name, or that only some are; None where none is."""
    return select.of_series(_names(images, unread))


def mixed(
    headers: Sequence[Header], others: Iterable[Header], *, frames: bool = True
) -> tuple[Reason, ...]:
    """MIXED_SERIES for each of the others that is of another patient, study or (where these are
    asked for) frame of reference than most of the images with these headers."""
    sayings: tuple[tuple[str, Callable[[Header], str | None]], ...] = (
        ("patient", lambda h: h.patient),
        ("study", lambda h: h.study_uid),
        ("frame of reference", lambda h: h.frame_of_reference_uid if frames else None),
    )
    found = []
    held = tuple(others)
    for what, saying in sayings:
        said = [value for h in headers if (value := saying(h)) is not None]
        if not said or not held:
            continue
        usual, _ = pose.odd(said, str)
        for header in held:
            if saying(header) not in (None, usual):
                where = pose.image(header)
                text = f"{where} is of another {what} than the others"
                found.append(Reason(code=Code.MIXED_SERIES, text=text, where=where))
    return tuple(found)


def causes(aside: Sequence[Reason]) -> tuple[Reason, ...]:
    """Of what is set aside the reasons why there are holes (rule 4), summed up."""
    return select.summed_up([reason for reason in aside if reason.code in LEAVES_A_HOLE])


def limitation(aside: Sequence[Reason], every: int, hole: Reason | None) -> tuple[Reason, ...]:
    """SET_ASIDE_IMAGES: the true causes, each with its images; of every so many images; and the
    hole that they leave."""
    if not aside:
        return ()
    by_cause = [select.in_order([r for r in aside if r.code is code]) for code in Code]
    told = [same for same in by_cause if same]
    text = "; ".join(_cause(same) for same in told)
    text += f"; {len(aside)} of {every} images {'is' if len(aside) == 1 else 'are'} set aside"
    if hole is not None:
        text += f"; {hole.text}"
    return (Reason(code=Code.SET_ASIDE_IMAGES, text=text, where=told[0][0].where),)


def _cause(same: Sequence[Reason]) -> str:
    """One cause, with the images that have it."""
    first, *rest = same
    text = first.text.rstrip(".")
    if first.where and first.where not in text:
        text = f"{first.where}: {text}"
    if rest:
        shown = [str(reason.where) for reason in rest[: NAMED - 1]]
        more = len(rest) - len(shown)
        text += f" (and {', '.join(shown)}{f' and {more} more' if more else ''})"
    return text


def _reasons(foreign: Sequence[Unread]) -> list[Reason]:
    """The first reason of each; one that came twice is one."""
    once = {u.mark: u.reasons[0] for u in sorted(foreign, key=lambda u: (u.mark, repr(u.reasons)))}
    return list(once.values())


def _names(images: Sequence[object], unread: Sequence[Unread]) -> list[Reason | None]:
    """Of each instance that has a header: why it is set aside by name, or None."""
    return [*(u.named for u in unread if u.header is not None), *([None] if images else [])]


def _turned(planes: Sequence[Plane]) -> list[tuple[Plane, Reason]]:
    """Planes that are turned against most of the others, with the angle."""
    if not planes:
        return []
    usual = pose.usual(sorted(planes, key=pose.identity))
    found: dict[Mark, tuple[Plane, Reason]] = {}
    for plane in planes:
        angle = pose.turned_by(plane, usual)
        if angle > pose.ORIENTATION_RAD:
            degrees = math.degrees(angle)
            across = degrees > pose.AXIAL_DEG  # it was never meant to be one of these slices
            code = Code.NOT_AXIAL if across else Code.MIXED_ORIENTATION
            where = pose.name(plane)
            text = f"{where}: turned by {degrees:.1f} degrees against the others"
            found[plane.mark] = plane, Reason(code=code, text=text, where=where)
    return list(found.values())
