"""Which earlier exams of a person one exam is compared with. Pure.

Rules
1. The newest and the oldest that were made a day or more before it, a comparison each; one alone is
   both.
2. Dates are those of the scanners, never those of a clock of ours. An exam without a date is
   compared only where none has one that is earlier. Where today's has none, the others are put in
   order by theirs, and nothing is said of how fast anything changed.
3. A series of the same study is no earlier exam, nor is one that shows the very same pixels, as
   long as there is another. Where there is none, it is what is said: `same_scan`, or `same_day` of
   what is less than a day apart.
4. What was made later is no earlier exam. It is compared itself, with this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.compare.ports import Listed
from appliance.comparison import Which
from appliance.lines.compare import days_between
from appliance.prior.entry import Facts


@dataclass(frozen=True, slots=True)
class Chosen:
    """An earlier exam, and which of those that are kept it is."""

    exam: Listed
    which: tuple[Which, ...]


def chosen(current: Listed, kept: Sequence[Listed]) -> tuple[Chosen, ...]:
    """Of all that is kept of a person, what today's exam is compared with: none, one or two."""
    others = [one for one in kept if one.facts.pseudonym != current.facts.pseudonym]
    same = [one for one in others if one.facts.pixel_digest == current.facts.pixel_digest]
    earlier = [one for one in others if one not in same and _is_earlier(one, current)]
    dated = [one for one in earlier if one.facts.taken is not None]
    found = sorted(dated or earlier, key=lambda one: (one.facts.taken or "", one.digest))
    if found:
        newest, oldest = found[-1], found[0]
        if newest is oldest:
            return (Chosen(newest, ("newest", "oldest")),)
        return (Chosen(newest, ("newest",)), Chosen(oldest, ("oldest",)))
    beside = same or [one for one in others if days(one.facts, current.facts) == 0]
    if not beside:
        return ()
    nearest = max(beside, key=lambda one: (one.facts.taken or "", one.digest))
    return (Chosen(nearest, ("newest", "oldest")),)


def later(exam: Listed, kept: Sequence[Listed]) -> list[Listed]:
    """The exams of the same person that this one may be an earlier exam of: what is compared anew
    where it came late."""
    others = [one for one in kept if one.facts.pseudonym != exam.facts.pseudonym]
    return [one for one in others if _is_earlier(exam, one)]


def days(prior: Facts, current: Facts) -> int | None:
    """Whole days from one exam to the other, by their times where both have one; negative where it
    was made later; None where a date is missing or none."""
    return days_between(prior.taken, current.taken)


def _is_earlier(one: Listed, current: Listed) -> bool:
    apart = days(one.facts, current.facts)
    return apart is None or apart >= 1
