"""Which of a patient's earlier exams are worth having: pure, answers of an archive in, series out.

Rules
- The two newest before today's, and the oldest: a finding is compared with the last exam and with
  the first, and the second newest stands in where the newest cannot be compared.
- Today's date is the one that the archive has for today's exam. Where it has none, no date is too
  late: the clock of this machine decides nothing, and comparing looks at the images' own dates.
- Of a study the CT series with the most images, up to IMAGES_MOST; one with more is left out, and
  another of its study may stand in. How thick slices are few archives say.
- A study without such a series is passed over for the next one. LOOKED_INTO studies are looked
  into, and no more.
- A study without a date is asked for last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

NEWEST: Final = 2
OLDEST: Final = 1
IMAGES_MOST: Final = 1500
LOOKED_INTO: Final = 24


@dataclass(frozen=True, slots=True)
class Study:
    """What an archive says of a study."""

    uid: str
    date: str = ""
    """YYYYMMDD; empty where it says none."""


@dataclass(frozen=True, slots=True)
class Series:
    """A CT series, and how many images it has."""

    study: str
    uid: str
    images: int


def best(series: Iterable[Series]) -> Series | None:
    """The one with the most images that is not too long."""
    fitting = (one for one in series if 0 < one.images <= IMAGES_MOST)
    return max(fitting, key=lambda one: (one.images, one.uid), default=None)


def earlier(studies: Iterable[Study], today: str) -> list[Study]:
    """Without the study of the UID `today` and what is not before it; the newest first, those
    without a date last."""
    known = {one.uid: one for one in studies}
    ours = known.pop(today, None)
    limit = ours.date if ours is not None else ""
    before = [one for one in known.values() if not (limit and one.date >= limit)]
    return sorted(before, key=lambda one: (one.date, one.uid), reverse=True)


def chosen(studies: list[Study], of_study: Callable[[Study], Series | None]) -> list[Series]:
    """One series each of the exams that are wanted, in the order in which they are.

    studies: as `earlier` gives them. of_study: asks the archive for the best series of a study.
    """
    left = LOOKED_INTO

    def first(some: Iterator[Study], count: int) -> list[Series]:
        nonlocal left
        found: list[Series] = []
        while len(found) < count and left and (study := next(some, None)) is not None:
            left -= 1
            if (series := of_study(study)) is not None:
                found.append(series)
        return found

    dated = [one for one in studies if one.date]
    downwards = iter(dated)
    newest = first(downwards, NEWEST)
    rest = list(downwards)
    oldest = first(reversed(rest), OLDEST)
    wanted = NEWEST + OLDEST - len(newest) - len(oldest)
    undated = first(iter([one for one in studies if not one.date]), wanted)
    return [*newest, *oldest, *undated]
