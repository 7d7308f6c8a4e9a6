"""Which finding of today is which of the earlier exam: one to one, or it is said that nobody knows.

    places of today, laid into the earlier exam + places of then -> Matching

Rules
1. A place is a finding, or a candidate below the threshold. Candidates take part, so that one that
   lay under the threshold then is not called new, and so that what they are is not taken by others.
2. Two findings may be one where they lie no further apart than the larger of GATE_MM and GATE_RADII
   of the larger radius. Where one of them is a candidate the gate is the larger of CANDIDATE_MM and
   that radius: candidates are many, and one stands near most places by chance.
3. Of all ways to pair them one to one, the one that gains most is taken: a pair gains its gate less
   its distance. So one near pair counts for more than two that are far.
4. Where another way gains less by under NEARLY_MM, the places that it would pair otherwise are
   ambiguous: which is which cannot be said.
5. Two findings of then whose places lie both inside the body of one of today have merged; two of
   today inside one of then, it has split. That is said, and is not ambiguous.
6. All places are LPS millimetres of the earlier exam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.records import Vector

F64 = NDArray[np.float64]

GATE_MM: Final = 10.0
GATE_RADII: Final = 1.5
CANDIDATE_MM: Final = 6.0
NEARLY_MM: Final = 3.0


@dataclass(frozen=True, slots=True)
class Place:
    """A finding or a candidate, where it lies or would lie in the earlier exam."""

    finding: int | None
    """Of its report; None: a candidate below the threshold."""
    lps_mm: Vector
    radius_mm: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two places that are one, by their indices."""

    current: int
    prior: int
    distance_mm: float


@dataclass(frozen=True, slots=True)
class Matching:
    """What belongs together; all numbers are indices of the places that were given."""

    pairs: tuple[Pair, ...]
    """In the order of today's places."""
    ambiguous_current: frozenset[int]
    ambiguous_prior: frozenset[int]
    merged: Mapping[int, tuple[int, ...]]
    """Of today -> those of then that are it now, besides the one that it is paired with."""
    split: Mapping[int, tuple[int, ...]]
    """Of then -> those of today that it is now, besides the one that it is paired with."""


def match(current: Sequence[Place], prior: Sequence[Place]) -> Matching:
    """Places of today and of then -> what belongs together (rules 2 to 5)."""
    away = distances(current, prior)
    gains = np.maximum(gates(current, prior) - away, 0.0)
    pairs: dict[int, int] = {}
    doubts: list[tuple[int, int]] = []
    for rows, columns in _groups(gains > 0):
        part = gains[np.ix_(rows, columns)]
        best = assigned(part)
        pairs.update((rows[i], columns[j]) for i, j in best.items())
        doubts += [(rows[i], columns[j]) for i, j in _nearly_as_good(part, best)]
    back = {j: i for i, j in pairs.items()}
    merged: dict[int, tuple[int, ...]] = {}
    split: dict[int, tuple[int, ...]] = {}
    for i, j in sorted(pairs.items()):
        if (now := current[i]).finding is None or (then := prior[j]).finding is None:
            continue
        inside = _inside(away[i], now.radius_mm, prior, back)
        if inside and away[i, j] <= now.radius_mm:
            merged[i] = inside
        inside = _inside(away[:, j], then.radius_mm, current, pairs)
        if inside and away[i, j] <= then.radius_mm:
            split[j] = inside
    doubts = [(i, j) for i, j in doubts if j not in merged.get(i, ()) and i not in split.get(j, ())]
    return Matching(
        tuple(Pair(i, j, float(away[i, j])) for i, j in sorted(pairs.items())),
        frozenset(i for i, _ in doubts),
        frozenset(j for _, j in doubts),
        merged,
        split,
    )


def gates(current: Sequence[Place], prior: Sequence[Place]) -> F64:
    """How far apart two places may lie [current, prior], in mm (rule 2)."""
    radius = np.maximum.outer(_radii(current), _radii(prior))
    least = np.where(
        np.logical_or.outer(_candidates(current), _candidates(prior)),
        np.maximum(CANDIDATE_MM, radius),
        np.maximum(GATE_MM, GATE_RADII * radius),
    )
    return np.asarray(least, np.float64)


def distances(current: Sequence[Place], prior: Sequence[Place]) -> F64:
    """How far apart they are [current, prior], in mm."""
    here, there = (
        np.array([p.lps_mm for p in places], np.float64).reshape(-1, 3)
        for places in (current, prior)
    )
    return np.asarray(np.linalg.norm(here[:, None] - there[None], axis=2))


def assigned(gains: F64) -> dict[int, int]:
    """Gains [n, m] -> row -> column of the pairs that together gain most, each of more than 0.

    Exact: the shortest augmenting paths of the assignment problem (Kuhn 1955; in the form of Jonker
    and Volgenant 1987), of which the costs are what is not gained. Of equals the first in order."""
    if gains.shape[0] > gains.shape[1]:
        return {i: j for j, i in sorted(assigned(gains.T).items(), key=lambda pair: pair[1])}
    rows, columns = gains.shape
    cost = gains.max(initial=0.0) - gains
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    owner = np.full(columns + 1, -1)  # the last column stands for the row that looks for one
    for row in range(rows):
        owner[columns] = row
        shortest, before = np.full(columns, np.inf), np.full(columns, columns)
        done = np.zeros(columns + 1, np.bool_)
        at = columns
        while owner[at] >= 0:
            done[at] = True
            i = owner[at]
            reach = cost[i] - row_price[i] - column_price[:columns]
            nearer = ~done[:columns] & (reach < shortest)
            shortest[nearer], before[nearer] = reach[nearer], at
            free = np.where(done[:columns], np.inf, shortest)
            following = int(np.argmin(free))
            step = free[following]
            row_price[owner[done]] += step
            column_price[done] -= step
            shortest[~done[:columns]] -= step
            at = following
        while at != columns:
            owner[at] = owner[before[at]]
            at = int(before[at])
    found = {int(owner[j]): j for j in range(columns) if owner[j] >= 0}
    return {i: j for i, j in sorted(found.items()) if gains[i, j] > 0}


def _nearly_as_good(gains: F64, best: Mapping[int, int]) -> list[tuple[int, int]]:
    """Rule 4: the pairs that are not taken, but could be at a loss of under NEARLY_MM."""
    most = sum(gains[i, j] for i, j in best.items())
    found = []
    for i, j in np.argwhere(gains > 0).tolist():
        if best.get(i) == j:
            continue
        others = np.delete(np.delete(gains, i, axis=0), j, axis=1)
        forced = gains[i, j] + sum(others[a, b] for a, b in assigned(others).items())
        if most - forced < NEARLY_MM:
            found.append((i, j))
    return found


def _groups(allowed: NDArray[np.bool_]) -> list[tuple[list[int], list[int]]]:
    """Rows and columns that are joined by pairs which may be: each group is solved by itself."""
    found, seen = [], np.zeros(allowed.shape[0], np.bool_)
    for first in range(allowed.shape[0]):
        if seen[first] or not allowed[first].any():
            continue
        rows: NDArray[np.bool_] = np.zeros(allowed.shape[0], np.bool_)
        rows[first] = True
        while True:
            columns = allowed[rows].any(axis=0)
            grown = allowed[:, columns].any(axis=1)
            if (grown == rows).all():
                break
            rows = np.asarray(grown, np.bool_)
        seen |= rows
        found.append((np.flatnonzero(rows).tolist(), np.flatnonzero(columns).tolist()))
    return found


def _inside(
    away: F64, radius_mm: float, places: Sequence[Place], taken: Mapping[int, int]
) -> tuple[int, ...]:
    """Rule 5: the findings that are left over, and whose places a body holds."""
    near = np.flatnonzero(away <= radius_mm).tolist()
    return tuple(k for k in near if k not in taken and places[k].finding is not None)


def _radii(places: Sequence[Place]) -> F64:
    return np.array([p.radius_mm for p in places], np.float64)


def _candidates(places: Sequence[Place]) -> NDArray[np.bool_]:
    return np.array([p.finding is None for p in places], np.bool_)
