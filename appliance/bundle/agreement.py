"""Whether two lists of findings in one series are the same, within tolerances. Pure.

Rules
- Each finding of the first list has its partner of the same kind in the second: the nearest one
  that is not taken, the surest first, at most `center_mm` away. Findings without a place (in a
  radiograph) are partners by their kind.
- Partners differ by at most `score` in their score, and in their diameter by at most the larger of
  `diameter_mm` and `diameter_share` of the first.
- Only a finding whose score is within `score` of its threshold may lack a partner, on either side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from appliance.report import Record


class Tolerances(Record):
    """How far two findings may be apart and still be one."""

    center_mm: float = Field(default=1.5, gt=0)
    score: float = Field(default=0.05, gt=0, le=1)
    diameter_mm: float = Field(default=1.0, gt=0)
    diameter_share: float = Field(default=0.1, ge=0, le=1)


TOLERANCES = Tolerances()
"""What INT8 and float16 networks of ours stay within on every backend (docs/compile.md)."""


class Found(Protocol):
    """What of a finding is compared."""

    @property
    def kind(self) -> str: ...

    @property
    def score(self) -> float:
        """0 to 1."""
        ...

    @property
    def threshold(self) -> float: ...

    @property
    def center_lps_mm(self) -> tuple[float, float, float] | None: ...

    @property
    def diameter_mm(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """A finding and its partner; one of both is None where there is none."""

    first: Found | None
    second: Found | None
    passed: bool
    why: str = ""
    """What differs too much."""

    @property
    def apart_mm(self) -> float:
        """Between the centres; 0 without a partner or without a place."""
        if self.first is None or self.second is None:
            return 0.0
        return distance(self.first, self.second)

    @property
    def score_apart(self) -> float:
        """Difference of the scores; 0 without a partner."""
        if self.first is None or self.second is None:
            return 0.0
        return abs(self.first.score - self.second.score)

    @property
    def diameter_apart_mm(self) -> float:
        """Difference of the diameters; 0 where one of both has none."""
        one = None if self.first is None else self.first.diameter_mm
        other = None if self.second is None else self.second.diameter_mm
        return 0.0 if one is None or other is None else abs(one - other)


def paired(
    first: Sequence[Found], second: Sequence[Found], within: Tolerances = TOLERANCES
) -> tuple[Pair, ...]:
    """Every finding of the first with its partner, then those of the second that have none."""
    left, found = list(second), []
    for one in sorted(first, key=lambda f: -f.score):
        partner = min(left, key=lambda f: distance(one, f), default=None)
        if partner is None or distance(one, partner) > within.center_mm:
            found.append(Pair(one, None, passed=_doubtful(one, within)))
            continue
        left.remove(partner)
        why = _differs(one, partner, within)
        found.append(Pair(one, partner, passed=not why, why=why))
    return (*found, *(Pair(None, one, passed=_doubtful(one, within)) for one in left))


def distance(one: Found, other: Found) -> float:
    """Millimetres between centres; 0 between two of one kind that have none; else infinite."""
    if one.kind != other.kind:
        return math.inf
    if one.center_lps_mm is None or other.center_lps_mm is None:
        return 0.0 if one.center_lps_mm is other.center_lps_mm else math.inf
    return math.dist(one.center_lps_mm, other.center_lps_mm)


def _differs(one: Found, other: Found, within: Tolerances) -> str:
    if abs(one.score - other.score) > within.score:
        return f"score differs by {abs(one.score - other.score):.3f}"
    if (one.diameter_mm is None) != (other.diameter_mm is None):
        return "one has no diameter"
    if one.diameter_mm is not None and other.diameter_mm is not None:
        apart = abs(one.diameter_mm - other.diameter_mm)
        if apart > max(within.diameter_mm, within.diameter_share * one.diameter_mm):
            return f"diameter differs by {apart:.1f} mm"
    return ""


def _doubtful(one: Found, within: Tolerances) -> bool:
    return abs(one.score - one.threshold) <= within.score
