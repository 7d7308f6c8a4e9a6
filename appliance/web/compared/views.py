"""What a page shows of the comparisons of one report. Pure.

Rules
- Every finding has its row: state, then, now, change with its limit, or why it is not comparable.
  What is gone is a row too. An exam that was not compared says why, with what to do.
- A pair that can be right or wrong can be judged: not what is not comparable. The last act counts.
- A form carries a name for the act that it would make. It is made of the pair, the acts so far and
  the login, so that the part stays the same until something happened; sent twice, it is one act.
- Nothing is shown of a comparison that counts no more.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.comparison import Comparison, Followed
from appliance.report import NAMESPACE, Report
from appliance.store.journal.pairs import Judged, Pair, PairVerdict
from appliance.web.site import Visitor

SIGNS: Final = {"new": "look", "gone": "look", "not_comparable": "look"}
"""State -> its shape and colour. What is matched has none: green would say that all is well."""


@dataclass(frozen=True, slots=True)
class JudgedShown:
    """The act on a pair that counts."""

    verdict: PairVerdict
    role: str
    mine: bool
    at: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class PairShown:
    """One finding of today, or one of then that is gone."""

    place: int
    """In `Comparison.findings`: so its cubes and its form are named."""
    followed: Followed
    sign: str | None
    judged: JudgedShown | None
    may_judge: bool
    form: uuid.UUID


@dataclass(frozen=True, slots=True)
class ComparisonShown:
    """One comparison that counts."""

    comparison: Comparison
    pairs: tuple[PairShown, ...]
    drawn: bool
    """Whether the cubes of its pairs are kept."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The part of a page about one report."""

    report: Report
    waiting: bool
    """Whether a comparison is still to come."""
    comparisons: tuple[ComparisonShown, ...]


def of_report(
    report: Report,
    standing: Sequence[Comparison],
    acts: Sequence[Judged],
    counting: Mapping[Pair, Judged],
    *,
    who: Visitor,
    waiting: bool,
    drawn: Collection[uuid.UUID],
) -> Shown | None:
    """standing: the comparisons that count. acts, counting: all that was said of their pairs, and
    what of it counts. drawn: comparisons whose cubes are kept. None where there is nothing to
    show."""
    if not standing and not waiting:
        return None
    return Shown(
        report=report,
        waiting=waiting,
        comparisons=tuple(
            ComparisonShown(
                comparison=one,
                pairs=tuple(
                    _pair(one, place, acts, counting, who) for place in range(len(one.findings))
                ),
                drawn=one.comparison_id in drawn,
            )
            for one in standing
        ),
    )


def pair_of(comparison: Comparison, place: int) -> Pair | None:
    """The pair at this place in `Comparison.findings`; None where there is none to be judged."""
    if comparison.prior is None or not 0 <= place < len(comparison.findings):
        return None
    followed = comparison.findings[place]
    if followed.state == "not_comparable":
        return None
    return Pair(comparison.prior.report_id, followed.finding, followed.prior_finding)


def _pair(
    comparison: Comparison,
    place: int,
    acts: Sequence[Judged],
    counting: Mapping[Pair, Judged],
    who: Visitor,
) -> PairShown:
    followed, pair = comparison.findings[place], pair_of(comparison, place)
    act = None if pair is None else counting.get(pair)
    so_far = sum(one.pair == pair for one in acts)
    named = f"{comparison.comparison_id} {place} {so_far} {who.session}"
    return PairShown(
        place=place,
        followed=followed,
        sign=SIGNS.get(followed.state),
        judged=None
        if act is None
        else JudgedShown(act.verdict, act.role, act.reader == who.reader, act.at),
        may_judge=pair is not None,
        form=uuid.uuid5(NAMESPACE, named),
    )
