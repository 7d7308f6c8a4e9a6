"""Every finding of two exams -> one row of the comparison: matched, new, gone or not comparable.

    findings and candidates of both, each with its place in the other one -> match -> unseen, change
                                                                           -> Row

Rules
1. Every finding of today has one row, in their order; then every finding of then that is in none. A
   finding of then that merged into one of today is named in that one's row.
2. What is ambiguous is not comparable, whether or not it has a partner. Of what merged or split no
   change is said: two bodies are not one.
3. A finding that was matched with a candidate says so (`seen_below_threshold`): of then, or of
   today, in which case its row has no finding of today.
4. A row shows both exams: the cube that was kept, else the 2 mm image at the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from appliance.comparison import Followed, Why
from appliance.prior import change, match, shown, unseen
from appliance.prior.entry import Cube, Entry
from appliance.prior.growth import Repeated
from appliance.prior.shown import Shown
from appliance.records import Vector
from appliance.report import Finding

SMALLEST_MM: Final = 3.0
"""Diameter of what has none: the report gives none under it."""
SAME_MM: Final = 1.0
"""A scored place so near to a finding is the finding."""


@dataclass(frozen=True, slots=True)
class Located:
    """A finding or a candidate of one exam, and where it would lie in the other one."""

    finding: Finding | None
    """None: a candidate below the threshold."""
    cube: Cube | None
    """None where none was kept of it."""
    own_lps_mm: Vector
    there_lps_mm: Vector
    diameter_mm: float
    weak: bool = False
    """The registration is, there."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds of a whole pair of exams."""

    prior: Entry
    current: Entry
    measuring: change.Measuring
    days: int | None
    """Between them; None: unknown."""
    rows: tuple[Repeated, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of one finding, and what both exams show there."""

    followed: Followed
    """Without a tracking UID, which `compare.seal` gives."""
    then: Shown
    now: Shown


def found_in(entry: Entry) -> Iterator[tuple[Finding | None, Cube | None, Vector, float]]:
    """The findings of an exam with their cubes, then the candidates that a cube was kept of: each
    with its place and its diameter in mm."""
    cubes = {cube.finding: cube for cube in entry.cubes if cube.finding is not None}
    for finding in entry.report.findings:
        if finding.center_lps_mm is not None:
            diameter = finding.diameter_mm or SMALLEST_MM
            yield finding, cubes.get(finding.id), finding.center_lps_mm, diameter
    for cube in entry.cubes:
        if cube.finding is None:
            yield None, cube, cube.center_lps_mm, cube.diameter_mm or SMALLEST_MM


def rows(current: Sequence[Located], prior: Sequence[Located], of: Setting) -> tuple[Row, ...]:
    """What is said of each finding of both exams (rules 1 to 3). Poisoned (`backend_failed`) where
    the network fails."""
    here = [match.Place(_id(one), one.there_lps_mm, one.diameter_mm / 2) for one in current]
    there = [match.Place(_id(one), one.own_lps_mm, one.diameter_mm / 2) for one in prior]
    matching = match.match(here, there)
    both = [_paired(pair, current, prior, matching) for pair in matching.pairs]
    both += [
        _part(i, j, current, prior, matching) for j, all_ in matching.split.items() for i in all_
    ]
    mine = {pair.current for pair in matching.pairs}
    mine |= {i for others in matching.split.values() for i in others}
    theirs = {pair.prior for pair in matching.pairs}
    theirs |= {j for others in matching.merged.values() for j in others}
    drafts = _measured([one for one in both if one is not None], of)
    listed = _listed(of.prior, prior, theirs)
    drafts += [
        _today_alone(one, of, listed, ambiguous=i in matching.ambiguous_current)
        for i, one in enumerate(current)
        if one.finding is not None and i not in mine
    ]
    listed = _listed(of.current, current, mine)
    drafts += [
        _then_alone(one, of, listed, ambiguous=j in matching.ambiguous_prior)
        for j, one in enumerate(prior)
        if one.finding is not None and j not in theirs
    ]
    return tuple(_row(one, of) for one in sorted(drafts, key=_order))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row, before what it shows."""

    followed: Followed
    then: Located | None
    now: Located | None


def _paired(
    pair: match.Pair, current: Sequence[Located], prior: Sequence[Located], by: match.Matching
) -> _Draft | None:
    """Two that are one, as far as that is sure; None of two candidates."""
    now, then = current[pair.current], prior[pair.prior]
    if now.finding is None and then.finding is None:
        return None
    doubt = pair.current in by.ambiguous_current or pair.prior in by.ambiguous_prior
    merged = by.merged.get(pair.current, ())
    split = by.split.get(pair.prior, ())
    followed = Followed(
        finding=_id(now),
        prior_finding=_id(then),
        state="not_comparable" if doubt else "matched",
        why=("ambiguous",) if doubt else (),
        seen_below_threshold=not doubt and None in (now.finding, then.finding),
        center_lps_mm=now.own_lps_mm,
        prior_center_lps_mm=then.own_lps_mm,
        distance_mm=round(pair.distance_mm, 1),
        merged_from=_ids(prior, (pair.prior, *merged)) if merged else (),
        split_into=_ids(current, (pair.current, *split)) if split else (),
    )
    return _Draft(followed, then, now)


def _part(
    i: int, j: int, current: Sequence[Located], prior: Sequence[Located], by: match.Matching
) -> _Draft:
    """One of today that is a part of what was one, besides the part that it is paired with."""
    now, then = current[i], prior[j]
    (first,) = (pair.current for pair in by.pairs if pair.prior == j)
    away = float(np.linalg.norm(np.subtract(now.there_lps_mm, then.own_lps_mm)))
    followed = Followed(
        finding=_id(now),
        prior_finding=_id(then),
        state="matched",
        center_lps_mm=now.own_lps_mm,
        prior_center_lps_mm=then.own_lps_mm,
        distance_mm=round(away, 1),
        split_into=_ids(current, (first, *by.split[j])),
    )
    return _Draft(followed, then, now)


def _measured(drafts: Sequence[_Draft], of: Setting) -> list[_Draft]:
    """What was matched with its sizes and its change, where a cube of both was kept (rule 2)."""
    whole = [
        (draft, (draft.then.cube, draft.now.cube))
        for draft in drafts
        if draft.followed.state == "matched"
        and not draft.followed.merged_from
        and not draft.followed.split_into
        and draft.then is not None
        and draft.now is not None
    ]
    cubes = [(d, (then, now)) for d, (then, now) in whole if then is not None and now is not None]
    found = change.changes(
        [pair for _, pair in cubes],
        of.prior,
        of.current,
        of.measuring,
        days=of.days,
        rows=of.rows,
    )
    figures = {id(d): one for (d, _), one in zip(cubes, found, strict=True)}
    return [
        replace(
            d,
            followed=d.followed.model_copy(
                update={
                    "then": figures[id(d)].then,
                    "now": figures[id(d)].now,
                    "change": figures[id(d)].change,
                }
            ),
        )
        if id(d) in figures
        else d
        for d in drafts
    ]


def _today_alone(one: Located, of: Setting, listed: unseen.Listed, *, ambiguous: bool) -> _Draft:
    """A finding of today without a partner."""
    why = _why(one, of.current, of.prior, listed, of, ambiguous=ambiguous)
    followed = Followed(
        finding=_id(one),
        state="not_comparable" if why else "new",
        why=why,
        center_lps_mm=one.own_lps_mm,
        prior_center_lps_mm=None if "outside_cover" in why else one.there_lps_mm,
    )
    return _Draft(followed, None, one)


def _then_alone(one: Located, of: Setting, listed: unseen.Listed, *, ambiguous: bool) -> _Draft:
    """A finding of then without a partner."""
    why = _why(one, of.prior, of.current, listed, of, ambiguous=ambiguous)
    followed = Followed(
        prior_finding=_id(one),
        state="not_comparable" if why else "gone",
        why=why,
        center_lps_mm=None if "outside_cover" in why else one.there_lps_mm,
        prior_center_lps_mm=one.own_lps_mm,
    )
    return _Draft(followed, one, None)


def _why(
    one: Located,
    own: Entry,
    other: Entry,
    listed: unseen.Listed,
    of: Setting,
    *,
    ambiguous: bool,
) -> tuple[Why, ...]:
    """Why its absence in the other exam cannot be said."""
    if ambiguous:
        return ("ambiguous",)
    missing = unseen.Missing(one.own_lps_mm, one.there_lps_mm, one.diameter_mm)
    return unseen.why_not(missing, own, other, listed, weak=one.weak)


def _listed(entry: Entry, found: Sequence[Located], taken: Set[int]) -> unseen.Listed:
    """What an exam lists, by whether it belongs to something of the other one."""
    away = [found[k].own_lps_mm for k in sorted(taken)]
    every = [c.center_lps_mm for c in entry.facts.candidates if c.center_lps_mm is not None]
    every += [one.own_lps_mm for k, one in enumerate(found) if k not in taken]
    return unseen.Listed(
        tuple(at for at in every if not any(_near(at, other) for other in away)),
        tuple((found[k].own_lps_mm, found[k].diameter_mm / 2) for k in sorted(taken)),
    )


def _near(one: Vector, other: Vector) -> bool:
    return float(np.linalg.norm(np.subtract(one, other))) <= SAME_MM


def _row(draft: _Draft, of: Setting) -> Row:
    """Rule 4."""
    then, now = draft.then, draft.now
    before = now.there_lps_mm if then is None and now is not None else None
    after = then.there_lps_mm if now is None and then is not None else None
    return Row(draft.followed, _shown(then, of.prior, before), _shown(now, of.current, after))


def _shown(one: Located | None, entry: Entry, expected: Vector | None) -> Shown:
    if one is not None and one.cube is not None:
        return shown.of_cube(one.cube)
    place = expected if one is None else one.own_lps_mm
    if place is None:
        raise ValueError("a row belongs to a finding of one of the exams")
    return shown.of_image(entry.image, place)


def _order(draft: _Draft) -> tuple[bool, int]:
    """Findings of today first, in their order; then those of then."""
    number = draft.followed.finding
    return number is None, number or draft.followed.prior_finding or 0


def _id(one: Located) -> int | None:
    return None if one.finding is None else one.finding.id


def _ids(found: Sequence[Located], which: Sequence[int]) -> tuple[int, ...]:
    """Numbers of findings, in their order."""
    return tuple(sorted(f.id for f in (found[k].finding for k in which) if f is not None))
