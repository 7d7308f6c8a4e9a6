"""Is a series complete? A verdict over facts, not a blind timer. Pure: the clock comes in.

Rules. `RULES` is tried in order; the first row that applies says how long it must have been quiet:

| row               | applies                                                       | quiet      |
|-------------------|---------------------------------------------------------------|------------|
| expected_reached  | the announced count is known and met, with the minimum cover  | at once    |
| aborted           | the last association broke off, or one did and a hole is left | 30 s       |
| one_per_slice     | every association brought one image                           | setting    |
| open              | an association that brings this series is still open          | 30 s       |
| released_uniform  | released; positions uniform; at least the bundle's cover      | 2 s        |
| no_expectation    | anything else                                                 | setting    |

- A count that is exceeded was no count of this series: some scanners write that of one rotation
  or of one of several acquisitions into (0020,1002). It ends nothing then, nor where it is met by
  fewer images than the bundle's cover needs: each image that follows would be one more revision.
- The setting is 5 s for each AE title unless the site or `learned_quiet` says otherwise.
- Senders may hold an association open for hours: after 30 s of quiet the series is judged. An open
  association that has moved on to another series counts as released.
- A lung mask that touches the first or last slice (`covered` False) is no end: the row
  released_uniform does not apply, and nothing is preliminary.
- A series that goes on for more than an hour is judged on what is there (`give_up`).
- Fewer images than announced is the limitation UNEXPECTED_COUNT, a broken transfer
  TRANSFER_ABORTED. Gaps are judged by position (assemble); Instance Numbers may skip.
- `preliminary`: a plausible end (uniform, enough cover, not known to lack images while still open)
  that was quiet for 0.3 s or whose associations are released, before the quiet time is over.

An image that comes after the verdict makes a new revision; so a row may be brave but not blind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.reasons import Code
from appliance.report import Reason

_CLOCK_S = 1e-3  # a waker may come this much early, and sums of floats are not exact
State = Literal["wait", "preliminary", "complete", "give_up"]


@dataclass(frozen=True, slots=True)
class Quiet:
    """Seconds without an image of the series before each kind of end is believed."""

    released_s: float = 2.0
    setting_s: float = 5.0
    """Per AE title: from the site's settings, or learned."""
    aborted_s: float = 30.0
    open_s: float = 30.0
    plausible_s: float = 0.3
    longest_s: float = 3600.0
    """Since the first image."""


@dataclass(frozen=True, slots=True)
class AssociationFact:
    """One association that brought images of this series."""

    state: Literal["open", "released", "aborted"]
    instances: int
    """Of this series."""
    moved_on: bool = False
    """Its latest image belongs to another series."""

    @property
    def ended(self) -> bool:
        return self.state != "open" or self.moved_on


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What is known of a series at `now`; all times are seconds of one monotonic clock."""

    now: float
    first: float
    last: float
    """Arrival of the first and the latest image."""
    count: int
    expected: int | None
    """Header.expected_images."""
    associations: tuple[AssociationFact, ...]
    """In order of their beginning; empty for files from a disk."""
    uniform: bool
    """Positions are evenly spaced without a hole."""
    cover_mm: float
    min_cover_mm: float
    covered: bool | None = None
    """Whether the organ ends inside the series; None while nobody has looked."""

    @property
    def quiet_s(self) -> float:
        return max(0.0, self.now - self.last)

    @property
    def ended(self) -> bool:
        return all(a.ended for a in self.associations)

    @property
    def whole(self) -> bool:
        """Nothing about the positions says that images are missing."""
        return self.uniform and self.cover_mm >= self.min_cover_mm and self.covered is not False

    @property
    def lacking(self) -> bool:
        return self.expected is not None and self.count < self.expected


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    rule: str
    """The row of RULES that decided, or decides next."""
    wait_s: float | None
    """When to ask again if nothing comes; None after the end."""
    limitations: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: where it applies, and how long it must have been quiet (seconds)."""

    name: str
    applies: Callable[[SeriesFacts], bool]
    quiet_s: Callable[[Quiet], float]


def _reached(f: SeriesFacts) -> bool:
    return f.count == f.expected and f.cover_mm >= f.min_cover_mm


def _aborted(f: SeriesFacts) -> bool:
    """Broken off and not made good: a later release that leaves no hole was the sender's retry."""
    if not f.associations:
        return False
    any_aborted = any(a.state == "aborted" for a in f.associations)
    return f.associations[-1].state == "aborted" or (any_aborted and not f.whole)


def _one_per_slice(f: SeriesFacts) -> bool:
    """How many an open association has brought is known only at its end: the count tells."""
    several = len(f.associations) > 1 and f.count <= len(f.associations)
    return several and all(a.instances <= 1 for a in f.associations)


def _open(f: SeriesFacts) -> bool:
    return not f.ended


def _released_uniform(f: SeriesFacts) -> bool:
    return f.ended and f.whole


def _anything(f: SeriesFacts) -> bool:
    return True


RULES = (
    Rule("expected_reached", _reached, lambda q: 0.0),
    Rule("aborted", _aborted, lambda q: q.aborted_s),
    Rule("one_per_slice", _one_per_slice, lambda q: q.setting_s),
    Rule("open", _open, lambda q: q.open_s),
    Rule("released_uniform", _released_uniform, lambda q: q.released_s),
    Rule("no_expectation", _anything, lambda q: q.setting_s),
)


def verdict(facts: SeriesFacts, quiet: Quiet = Quiet()) -> Verdict:
    """The facts at one moment -> what to do. The same facts give the same verdict."""
    rule = next(r for r in RULES if r.applies(facts))
    remaining = rule.quiet_s(quiet) - facts.quiet_s
    if remaining < _CLOCK_S:
        return Verdict("complete", rule.name, None, _limitations(facts, rule))
    too_long = quiet.longest_s - (facts.now - facts.first)
    if too_long < _CLOCK_S:
        return Verdict("give_up", "too_long", None, _limitations(facts, rule))
    remaining = min(remaining, too_long)
    if facts.whole and not (facts.lacking and not facts.ended):
        soon = quiet.plausible_s - facts.quiet_s
        if soon < _CLOCK_S or (facts.associations and facts.ended and not _one_per_slice(facts)):
            return Verdict("preliminary", rule.name, remaining)
        remaining = min(remaining, soon)
    return Verdict("wait", rule.name, remaining)


def _limitations(facts: SeriesFacts, rule: Rule) -> tuple[Reason, ...]:
    found = []
    if rule.name == "aborted":
        text = f"the transfer broke off after {facts.count} images"
        found.append(Reason(code=Code.TRANSFER_ABORTED, text=text, where="series"))
    if facts.lacking:
        text = f"{facts.count} images came of {facts.expected} that the scanner announced"
        found.append(Reason(code=Code.UNEXPECTED_COUNT, text=text, where="series"))
    return tuple(found)


LEARN_FROM = 50


def learned_quiet(
    gaps_s: Sequence[float], *, setting_s: float = 5.0, least_s: float = 1.0
) -> float:
    """Seconds between images of complete series from one AE title -> its quiet time, in seconds.

    Three times the 99th percentile, at least half above the longest gap seen; between `least_s` and
    the site's setting, which a history shorter than 50 gaps (or with nonsense in it) cannot change.
    """
    known = sorted(g for g in gaps_s if math.isfinite(g) and g >= 0)
    if len(known) < LEARN_FROM:
        return setting_s
    usual = known[math.ceil(0.99 * len(known)) - 1]
    return min(setting_s, max(least_s, 3 * usual, 1.5 * known[-1]))
