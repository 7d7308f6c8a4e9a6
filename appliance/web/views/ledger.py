"""The ledger of times as a page, a file and metrics show it: by scanner, with the waiting apart.
Pure.

Rules
- Quantiles are those of the values that are there (nearest rank): the p95 of three reports is the
  slowest one, and how many reports it is of is said with it. None are of a time that is not known.
- "Own" time is what the appliance needed: the final form without the waiting whether more slices
  come.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from appliance.store.rows import Timing

HEADER: Final = (
    "at_utc",
    "scanner",
    "status",
    "last_slice_to_first_result_s",
    "last_slice_to_first_puback_s",
    "waiting_for_more_s",
    "last_slice_to_final_s",
    "last_slice_to_final_puback_s",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula when a cell begins with it (OWASP, CSV injection)."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds."""

    p50: float
    p95: float
    number: int


@dataclass(frozen=True, slots=True)
class OfScanner:
    """The times of one scanner; None where none is known."""

    scanner: str
    first: Spread | None
    first_told: Spread | None
    quiet: Spread | None
    own: Spread | None
    final: Spread | None


def by_scanner(timings: Iterable[Timing]) -> tuple[OfScanner, ...]:
    """One row a scanner, by AE title."""
    found: defaultdict[str, list[Timing]] = defaultdict(list)
    for timing in timings:
        found[timing.scanner].append(timing)
    return tuple(_of(scanner, found[scanner]) for scanner in sorted(found))


def _of(scanner: str, timings: Sequence[Timing]) -> OfScanner:
    return OfScanner(
        scanner=scanner,
        first=spread([t.first_s for t in timings]),
        first_told=spread([t.first_told_s for t in timings]),
        quiet=spread([t.quiet_s for t in timings]),
        own=spread([None if t.quiet_s is None else t.final_s - t.quiet_s for t in timings]),
        final=spread([t.final_s for t in timings]),
    )


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the values that are known; None where none is."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return Spread(_rank(known, 0.50), _rank(known, 0.95), len(known))


def _rank(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def to_csv(timings: Iterable[Timing]) -> str:
    """Every report on a line (RFC 4180), an unknown time as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEADER)
    for timing in sorted(timings, key=lambda one: one.at):
        at = datetime.fromtimestamp(timing.at, timezone.utc).isoformat(timespec="seconds")
        figures = (
            timing.first_s,
            timing.first_told_s,
            timing.quiet_s,
            timing.final_s,
            timing.final_told_s,
        )
        cells = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        writer.writerow([at, _cell(timing.scanner), timing.status, *cells])
    return text.getvalue()


def _cell(text: str) -> str:
    """A sender chose it: it must not become a formula where the file is opened."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
