"""Two exams of one made-up person, and a stranger: what comparing exams is tried on.

    follow_up(seed) -> prior, current, which nodule is which, and where each point of one lies in
                       the other
    stranger(seed)  -> another body with other vessels and other nodules

Rules of this module:

1. Pure; the same arguments give the same bytes. The first exam is drawn as `chest` draws one.
2. Between the exams the person breathes (`field`), lies elsewhere on the table, and is scanned by
   another kernel with other noise. Vessels, bronchi, fissures, heart and nodules follow one smooth
   field, which is known exactly; ribs go a little of the way.
3. A nodule has one centre in the person and one shape. It has the size that its course says,
   whatever the breath does to the lung around it.
4. Sizes are diameters of the sphere of the same volume (`nodules`), in millimetres. Positions are
   LPS millimetres, each in the frame of its own exam.
5. A stranger differs by what a registration cannot take away: the way in which the vessels branch.
   Body, heart and ribs differ besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from appliance.phantom import field as fields
from appliance.phantom import nodules as lesions
from appliance.phantom.chest import Drawn, Phantom, Scan, plan, scanned
from appliance.phantom.field import Field, Points
from appliance.phantom.kernel import SOFT, STANDARD
from appliance.phantom.nodules import Nodule
from appliance.phantom.raster import Point

SPACING_MM: Final = (1.5, 0.7, 0.7)
ELSEWHERE_MM: Final = (6.0, -5.0, 31.0)
"""Where the person lies in the second exam, beside the first."""
# Of the default set, by index: volume now over volume then; 0 gone, None new.
_FATES: Final[dict[int, float | None]] = {
    4: None,  # 7.5 mm at the pleura
    5: 2.0,  # 8 mm
    7: 0.0,  # 10 mm
    9: 2.2,  # 12 mm beside a vessel
    11: None,  # 16 mm
    12: 0.0,  # 19 mm at the pleura
}

State = Literal["matched", "new", "gone"]
Change = Literal["larger", "smaller", "equal"]


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of a nodule: its centre in the first exam, its looks, and its diameter then and
    now (None: it is not there). Its shape comes from its index in the list of courses."""

    nodule: Nodule
    then_mm: float | None
    now_mm: float | None


@dataclass(frozen=True, slots=True)
class Followed:
    """The truth of one nodule. The places are where it lies, or would lie, in each exam."""

    then: Nodule | None
    now: Nodule | None
    place_then_lps_mm: Point
    place_now_lps_mm: Point

    @property
    def state(self) -> State:
        """What a comparison should say of it."""
        if self.then is None:
            return "new"
        return "gone" if self.now is None else "matched"

    @property
    def volume_ratio(self) -> float | None:
        """Volume now over volume then; None unless it is in both exams."""
        if self.then is None or self.now is None:
            return None
        return (self.now.diameter_mm / self.then.diameter_mm) ** 3

    @property
    def change(self) -> Change | None:
        """How it has changed; None unless it is in both exams."""
        ratio = self.volume_ratio
        if ratio is None:
            return None
        return "equal" if abs(ratio - 1) < 1e-6 else "larger" if ratio > 1 else "smaller"


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Two exams of one person with the whole truth of them."""

    prior: Phantom
    current: Phantom
    followed: tuple[Followed, ...]
    field: Field
    elsewhere_mm: Point

    def to_prior(self, points: Points) -> Points:
        """Points [n, 3] of the lungs in CURRENT -> in PRIOR."""
        return self.field.to_person(np.asarray(points, np.float64) - self.elsewhere_mm)

    def to_current(self, points: Points) -> Points:
        """Points [n, 3] of the lungs in PRIOR -> in CURRENT."""
        return self.field.to_image(points) + self.elsewhere_mm


def follow_up(
    seed: int = 1,
    *,
    breath_mm: float = 15.0,
    prior: Scan | None = None,
    current: Scan | None = None,
    courses: Sequence[Course] | None = None,
) -> FollowUp:
    """The exams of one person (`seed` as of `chest`), a year apart or any other time.

    `breath_mm`: how much higher the domes of the diaphragm stand in the second exam, of -25..25.
    `prior`, `current`: how each is scanned; by default STANDARD at 25 HU of noise, then SOFT at 20
    HU, in slices of 1.5 mm. `courses` replaces the default nodules, which are those of `chest`: two
    have twice their volume, two are new, two are gone, seven are equal.
    """
    prior = prior or Scan(SPACING_MM, kernel=STANDARD)
    current = current or Scan(SPACING_MM, noise_hu=20.0, kernel=SOFT)
    person = plan(seed)
    if courses is None:
        chosen = lesions.default_set(*person, np.random.default_rng((seed, 76)))
        courses = [_course(index, nodule) for index, nodule in enumerate(chosen)]
    field = fields.breath(np.random.default_rng((seed, 80)), breath_mm)
    followed = tuple(_followed(course, field) for course in courses)
    first = scanned(
        seed,
        person,
        [Drawn(i, one.then) for i, one in enumerate(followed) if one.then is not None],
        prior,
        texture=np.random.default_rng((seed, 79)),
        noise=np.random.default_rng((seed, 81)),
    )
    second = scanned(
        seed,
        person,
        [Drawn(i, one.now) for i, one in enumerate(followed) if one.now is not None],
        current,
        texture=np.random.default_rng((seed, 79)),
        noise=np.random.default_rng((seed, 82)),
        field=field,
    )
    return FollowUp(
        first,
        _elsewhere(second),
        tuple(_elsewhere_of(one) for one in followed),
        field,
        ELSEWHERE_MM,
    )


def stranger(
    seed: int = 2, *, scan: Scan | None = None, nodules: Sequence[Nodule] | None = None
) -> Phantom:
    """Another person. `nodules`: in the frame of the exam; by default a set of their own."""
    person = plan(seed, varied=True)
    field = fields.build(np.random.default_rng((seed, 83)))
    if nodules is None:
        chosen = lesions.default_set(*person, np.random.default_rng((seed, 85)))
        nodules = [_at(one, _moved(one.center_lps_mm, field)) for one in chosen]
    rng = np.random.default_rng((seed, 86))
    return scanned(
        seed,
        person,
        [Drawn(index, one) for index, one in enumerate(nodules)],
        scan or Scan(SPACING_MM, noise_hu=20.0),
        texture=rng,
        noise=rng,
        field=field,
    )


def _course(index: int, nodule: Nodule) -> Course:
    """What becomes of a nodule of the default set."""
    ratio = _FATES.get(index, 1.0)
    if ratio is None:
        return Course(nodule, None, nodule.diameter_mm)
    if ratio == 0:
        return Course(nodule, nodule.diameter_mm, None)
    return Course(nodule, nodule.diameter_mm, nodule.diameter_mm * ratio ** (1 / 3))


def _followed(course: Course, field: Field) -> Followed:
    """Both exams in the frame of the person's own carina."""
    nodule, there = course.nodule, _moved(course.nodule.center_lps_mm, field)
    then = None if course.then_mm is None else replace(nodule, diameter_mm=course.then_mm)
    now = None if course.now_mm is None else replace(nodule, diameter_mm=course.now_mm)
    return Followed(then, None if now is None else _at(now, there), nodule.center_lps_mm, there)


def _elsewhere(phantom: Phantom) -> Phantom:
    return replace(
        phantom,
        origin_lps_mm=_shifted(phantom.origin_lps_mm),
        nodules=tuple(_at(one, _shifted(one.center_lps_mm)) for one in phantom.nodules),
    )


def _elsewhere_of(one: Followed) -> Followed:
    now = None if one.now is None else _at(one.now, _shifted(one.now.center_lps_mm))
    return replace(one, now=now, place_now_lps_mm=_shifted(one.place_now_lps_mm))


def _at(nodule: Nodule, center: Point) -> Nodule:
    return replace(nodule, center_lps_mm=center)


def _shifted(point: Point) -> Point:
    x, y, z = (a + b for a, b in zip(point, ELSEWHERE_MM, strict=True))
    return (x, y, z)


def _moved(point: Point, field: Field) -> Point:
    x, y, z = (float(v) for v in field.to_image(np.array([point]))[0])
    return (x, y, z)
