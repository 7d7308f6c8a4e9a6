"""The line of a comparison, from two entries to what is said of each finding. Pure.

    entry of then, entry of now -> same scan? -> dates -> whose exams? -> one laid over the other
        -> one person? -> each finding located -> matched, new, gone, changed -> Compared
                                                                              -> seal -> Comparison

Rules.
1. Nothing goes in but two entries and the bundles: a comparison that is made late, replayed or read
   from disk is equal.
2. Only exams that are sure to be of one person are compared; else the reason is said, and nothing
   of any finding. Hashes of birth date and sex speak against one person where both are known and
   differ. Then the images are not asked; else they decide.
3. Dates are those of the scanners, without zones. Less than a day apart, or the wrong way round, is
   no earlier exam. Without a date nothing is said of how fast anything changed.
4. A finding is followed under the tracking UID of its first sighting. Of what is ambiguous, and of
   what split off, none is passed on, and no UID is given to two findings.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliance.backend.protocol import Backend
from appliance.bundle.manifest import Manifest
from appliance.comparison import Comparison, Followed, Identity, Person, PriorRef, Registered, Which
from appliance.naming import Naming
from appliance.prior import entry, follow
from appliance.prior.change import Measuring
from appliance.prior.entry import Entry, Image
from appliance.prior.follow import Located
from appliance.prior.growth import Repeated
from appliance.prior.repeated import MEASURED
from appliance.prior.shown import Shown
from appliance.reasons import Code
from appliance.records import Vector
from appliance.report import BackendRef, BundleRef, Reason, Report

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Displace = Callable[[F32, F32], F32]
"""Two images [z, y, x] at 8 mm -> displacements [3, z, y, x] in mm (prior/register.py)."""
DATE: Final = 8
"""Characters of a date without a time."""


class Registration(Protocol):
    """One exam laid over the other (prior/register.py)."""

    @property
    def method(self) -> Literal["network", "demons"]: ...

    @property
    def weak(self) -> bool: ...

    @property
    def residual_mm(self) -> float | None: ...

    @property
    def share(self) -> float: ...

    @property
    def keypoints(self) -> int: ...

    @property
    def mirrored_share(self) -> float | None: ...

    def to_prior(self, points: ArrayLike) -> F64:
        """Points [n, 3] of today's exam -> of the earlier one, LPS mm."""
        ...

    def to_current(self, points: ArrayLike) -> F64:
        """The other way."""
        ...

    def jacobian(self, points: ArrayLike, /) -> F64:
        """[n, 3, 3]: d of the place in the earlier exam by d of that in today's."""
        ...

    def weak_at(self, points: ArrayLike, /) -> NDArray[np.bool_]:
        """[n]: whether the places of these points of today's exam cannot be relied on."""
        ...


class Locate(Protocol):
    """prior/locate.py: the place in the earlier exam, refined around a finding, LPS mm [3]."""

    def __call__(
        self,
        registration: Registration,
        prior: Image,
        current: Image,
        center_lps_mm: Vector,
        body: float,
        /,
    ) -> F64: ...


@dataclass(frozen=True, slots=True)
class Laying:
    """How exams are laid over each other and how it is judged whose they are (appliance/prior)."""

    register: Callable[[Image, Image, Displace | None], Registration]
    locate: Locate
    judged: Callable[[float, int, float | None], Identity]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle with its networks."""

    ref: BundleRef
    manifest: Manifest
    backend: Backend


@dataclass(frozen=True, slots=True)
class Bundles:
    """What compares."""

    nodules: Loaded
    """Measures both exams."""
    registers: BundleRef | None = None
    """The bundle of kind `compare`; None: demons are used."""
    displace: Displace | None = None
    repeated: tuple[Repeated, ...] = ()
    """Its rows of repeatability; empty: those that were measured with what ships."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison came to. With `reasons` nothing was compared."""

    prior: Entry | None
    reasons: tuple[Reason, ...] = ()
    days: int | None = None
    person: Person | None = None
    registration: Registration | None = None
    rows: tuple[follow.Row, ...] = ()
    """In the order of `Comparison.findings`."""
    entries: tuple[str, ...] = ()
    """Digests of what it was made of."""
    registered_by: BundleRef | None = None
    measured_by: BundleRef | None = None
    backend: BackendRef | None = None

    @property
    def findings(self) -> tuple[Followed, ...]:
        """Without tracking UIDs, which only `seal` knows."""
        return tuple(row.followed for row in self.rows)

    @property
    def cubes(self) -> tuple[tuple[Shown, Shown], ...]:
        """Of each finding: then, now."""
        return tuple((row.then, row.now) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Ids:
    """What only the outside knows, and a comparison needs."""

    naming: Naming
    report: Report
    """Of today, as it stands."""
    appliance: str | None = None
    which: tuple[Which, ...] = ()
    """Of the exams that are kept, the earlier one."""
    supersedes: uuid.UUID | None = None
    tracked: Mapping[int, str | None] = field(default_factory=dict)
    """Finding of the earlier report -> tracking UID of its first sighting, where that is older than
    the report; None: a reader called that pair wrong, and none is passed on."""


def compare(prior: Entry, current: Entry, bundles: Bundles, laying: Laying) -> Compared:
    """Two exams -> what is said of each finding, or why nothing is. Poisoned (`backend_failed`)
    where a network fails."""
    if prior.facts.pixel_digest == current.facts.pixel_digest:
        return refused(Code.SAME_SCAN, "both exams show the very same pixels", prior, current)
    days = days_between(prior.facts.taken, current.facts.taken)
    if days is not None and days < 1:
        text = "the other exam was not made a day or more before this one"
        return refused(Code.SAME_DAY, text, prior, current)
    if differ := _other_person(prior.facts.person, current.facts.person):
        made = refused(Code.IDENTITY_MISMATCH, f"{differ} differ", prior, current)
        return replace(made, person=Person(verdict="identity_mismatch"))
    registration = laying.register(prior.image, current.image, bundles.displace)
    by = bundles.registers if registration.method == "network" else None
    person = judged(registration, laying)
    if person.verdict != "same":
        made = refused(Code(person.verdict), _in_words(person), prior, current)
        return replace(made, person=person, registration=registration, registered_by=by)
    setting = follow.Setting(
        prior,
        current,
        Measuring(bundles.nodules.manifest, bundles.nodules.backend),
        days,
        bundles.repeated or MEASURED,
    )
    here = _located(current, prior, registration, laying.locate)
    there = _located(prior, current, _Back(registration), laying.locate)
    return Compared(
        prior=prior,
        entries=(prior.digest, current.digest),
        days=days,
        person=person,
        registration=registration,
        rows=follow.rows(here, there, setting),
        registered_by=by,
        measured_by=bundles.nodules.ref,
        backend=bundles.nodules.backend.ref,
    )


def refused(
    code: Code, text: str, prior: Entry | None = None, current: Entry | None = None
) -> Compared:
    """Nothing was compared, for this reason; also for who has no entry of one exam, or of both."""
    entries = tuple(one.digest for one in (prior, current) if one is not None)
    days = None
    if prior is not None and current is not None:
        days = days_between(prior.facts.taken, current.facts.taken)
    reason = Reason(code=code, text=text, where="series")
    return Compared(prior=prior, entries=entries, reasons=(reason,), days=days)


def judged(registration: Registration, laying: Laying) -> Person:
    """Whether both exams show the same person, as the images say it."""
    r = registration
    verdict = laying.judged(r.share, r.keypoints, r.mirrored_share)
    return Person(verdict=verdict, share=round(r.share, 3), keypoints=r.keypoints)


def days_between(prior: str | None, current: str | None) -> int | None:
    """Whole days from one date to the other (entry.Facts.taken), with their times where both have
    one; None where one is absent or none."""
    both = [_date(text) for text in (prior, current)]
    if any(text is not None and len(text) == DATE for text in (prior, current)):
        both = [None if at is None else at.replace(hour=0, minute=0, second=0) for at in both]
    before, after = both
    return None if before is None or after is None else (after - before).days


def seal(compared: Compared, ids: Ids, committed: datetime | None) -> Comparison:
    """The comparison as it is stored and published; `committed`: when, UTC."""
    prior, registration = compared.prior, compared.registration
    bundles = [ref.digest for ref in (compared.registered_by, compared.measured_by) if ref]
    earlier = None if prior is None else prior.report
    days = compared.days
    return Comparison(
        comparison_id=ids.naming.comparison(
            ids.report.report_id,
            None if earlier is None else earlier.report_id,
            compared.entries,
            tuple(bundles),
        ),
        supersedes=ids.supersedes,
        appliance=ids.appliance,
        report_id=ids.report.report_id,
        study=ids.report.study.pseudonym,
        status="not_compared" if compared.reasons else "compared",
        reasons=compared.reasons,
        prior=None
        if earlier is None
        else PriorRef(
            study=earlier.study.pseudonym,
            report_id=earlier.report_id,
            which=ids.which,
            interval_days=days if days is not None and days >= 1 else None,
        ),
        person=compared.person,
        registered=None
        if registration is None
        else Registered(
            method=registration.method,
            weak=registration.weak,
            residual_mm=_rounded(registration.residual_mm),
        ),
        bundle=compared.registered_by,
        measured_by=compared.measured_by,
        backend=compared.backend,
        findings=_tracked(compared.findings, earlier, ids),
        committed=committed,
    )


def _tracked(
    findings: Sequence[Followed], earlier: Report | None, ids: Ids
) -> tuple[Followed, ...]:
    """Rule 4; what no earlier report names keeps the UID of today's."""
    today = {f.id: f.tracking_uid for f in ids.report.findings}
    then = {} if earlier is None else {f.id: f.tracking_uid for f in earlier.findings}
    first = {number: ids.tracked.get(number, uid) for number, uid in then.items()}
    made, given = [], set[str]()
    for one in findings:
        uid = None
        if one.state != "not_comparable" and one.prior_finding is not None:
            uid = first.get(one.prior_finding)
        elif one.state != "not_comparable" and one.finding is not None:
            uid = today.get(one.finding)
        if not uid or uid in given or _split_off(one, findings):
            uid = None
        else:
            given.add(uid)
        made.append(one.model_copy(update={"tracking_uid": uid}))
    return tuple(made)


def _split_off(one: Followed, findings: Sequence[Followed]) -> bool:
    """Whether another part of the same finding is nearer to where it was."""
    if not one.split_into or one.distance_mm is None:
        return False
    parts = [f for f in findings if f.finding in one.split_into]
    return one is not min(parts, key=lambda f: (f.distance_mm or 0.0, f.finding or 0))


@dataclass(frozen=True, slots=True)
class _Back:
    """A registration the other way round."""

    forth: Registration

    @property
    def method(self) -> Literal["network", "demons"]:
        return self.forth.method

    @property
    def weak(self) -> bool:
        return self.forth.weak

    @property
    def residual_mm(self) -> float | None:
        return self.forth.residual_mm

    @property
    def share(self) -> float:
        return self.forth.share

    @property
    def keypoints(self) -> int:
        return self.forth.keypoints

    @property
    def mirrored_share(self) -> float | None:
        return self.forth.mirrored_share

    def to_prior(self, points: ArrayLike) -> F64:
        return self.forth.to_current(points)

    def to_current(self, points: ArrayLike) -> F64:
        return self.forth.to_prior(points)

    def jacobian(self, points: ArrayLike, /) -> F64:
        there = self.forth.jacobian(self.forth.to_current(points))
        return np.asarray(np.linalg.pinv(there), np.float64)  # at a fold there is no way back

    def weak_at(self, points: ArrayLike, /) -> NDArray[np.bool_]:
        return self.forth.weak_at(self.forth.to_current(points))


def _located(own: Entry, other: Entry, laid: Registration, locate: Locate) -> list[Located]:
    """What was found in one exam, with its place in the other one. Places of findings are refined;
    of candidates, which are many and never reported, the registration alone is asked."""
    found = []
    for finding, cube, center, diameter in follow.found_in(own):
        if finding is None:
            there = laid.to_prior([center])[0]
        else:
            there = locate(laid, other.image, own.image, center, diameter / 2)
        x, y, z = (round(float(v), 2) for v in there)
        weak = bool(laid.weak_at([center])[0])
        found.append(Located(finding, cube, center, (x, y, z), diameter, weak))
    return found


def _other_person(prior: entry.Person, current: entry.Person) -> str | None:
    """Which of what is hashed of a person differs, in words; None where nothing does."""
    checks = {
        "the birth dates": (prior.birth_date, current.birth_date),
        "the sexes": (prior.sex, current.sex),
    }
    differ = [what for what, both in checks.items() if None not in both and both[0] != both[1]]
    return " and ".join(differ) or None


def _in_words(person: Person) -> str:
    share = 100 * (person.share or 0.0)
    return f"{share:.0f} % of {person.keypoints} points in the lungs match and agree"


def _date(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y%m%d" if len(text) == DATE else "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
