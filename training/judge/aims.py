"""What is counted of pairs whose truth is known, beside the aims that comparisons have.

    pairs with what was said of each lesion -> Share of each Measure -> table

Rules. What counts for an aim stands in MEASURES, and what was said of a lesion in its record: one
JSON line a pair. What no report lists counts for none: that a nodule is missed is the affair of the
bundle's card. A figure goes with its number of lesions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.comparison import State, Verdict, Why
from appliance.report import Millimetres3, Record
from training.judge.twice import Fate

LISTED_MM, SAID_MM, DOUBLED_MM = 4.0, 6.0, 8.0


class Lesion(Record):
    """One lesion, and what was said of it."""

    own: bool = False
    """Something of the chest's own (followed.py, rule 2); sizes are then those of the reports."""
    fate: Fate = "stays"
    kind: str | None = None
    then_mm: float | None = None
    now_mm: float | None = None
    then_lps_mm: Millimetres3
    now_lps_mm: Millimetres3
    prior_finding: int | None = None
    """Of the earlier report; None: it does not list it."""
    finding: int | None = None
    states: tuple[State, ...] = ()
    """Of each row that speaks of it."""
    why: tuple[Why, ...] = ()
    right: bool = False
    wrong: bool = False
    verdict: Verdict | None = None
    percent: float | None = None
    rate: tuple[float, float] | None = None
    """The 95 % interval of ln(V2 / V1) a year."""
    true_rate: float | None = None


class Judged(Record):
    """One pair."""

    ct: str
    seed: int
    said: str
    """`compared`, or the code of the reason why not."""
    slices_mm: tuple[float, float]
    kernels: tuple[str, str]
    share: float | None = None
    lesions: tuple[Lesion, ...] = ()


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    hits: int
    of: int

    def __str__(self) -> str:
        return f"{100 * self.hits / self.of:.1f} % of {self.of}" if self.of else "-"


@dataclass(frozen=True)
class Measure:
    """A row of the table: of the lesions that count, those that hit."""

    name: str
    aim: str
    counts: Callable[[Lesion], bool]
    hits: Callable[[Lesion], bool]


def _twice(one: Lesion) -> bool:
    return one.then_mm is not None and one.now_mm is not None


def _both_lists(one: Lesion) -> bool:
    sizes = [mm for mm in (one.then_mm, one.now_mm) if mm is not None]
    listed = one.finding is not None and one.prior_finding is not None
    return listed and not one.own and min(sizes) >= LISTED_MM


def _appeared(one: Lesion) -> bool:
    return one.fate == "appears" and one.finding is not None and (one.now_mm or 0) >= SAID_MM


def _vanished(one: Lesion) -> bool:
    return (
        one.fate == "vanishes" and one.prior_finding is not None and (one.then_mm or 0) >= SAID_MM
    )


def _doubled(one: Lesion, mm: float | None) -> bool:
    return one.fate == "doubles" and "matched" in one.states and (mm or 0) >= DOUBLED_MM


def _listed(one: Lesion) -> bool:
    return one.finding is not None or one.prior_finding is not None


def _new_or_gone(one: Lesion) -> bool:
    return bool({"new", "gone"} & set(one.states))


def _holds(one: Lesion) -> bool:
    if one.rate is None or one.true_rate is None:
        return False
    return one.rate[0] <= one.true_rate <= one.rate[1]


MEASURES: Final = (
    Measure("in both lists, >= 4 mm: right", ">= 98 %, n >= 300", _both_lists, lambda o: o.right),
    Measure("in both lists, >= 4 mm: wrong match", "0", _both_lists, lambda o: o.wrong),
    Measure("any finding: wrong match", "0", _listed, lambda o: o.wrong),
    Measure("appeared, >= 6 mm: `new`", ">= 80 %", _appeared, lambda o: o.states == ("new",)),
    Measure("vanished, >= 6 mm: `gone`", ">= 80 %", _vanished, lambda o: o.states == ("gone",)),
    Measure(
        "there twice: called new or gone",
        "<= 1 %",
        lambda o: not o.own and _twice(o) and _listed(o),
        _new_or_gone,
    ),
    Measure("the chest's own: called new or gone", "<= 1 %", lambda o: o.own, _new_or_gone),
    Measure(
        "unchanged: called changed",
        "< 5 %",
        lambda o: not o.own and o.fate == "stays" and o.verdict is not None,
        lambda o: o.verdict != "within_error",
    ),
    Measure(
        "doubled, >= 8 mm then: `larger`",
        ">= 90 %",
        lambda o: _doubled(o, o.then_mm),
        lambda o: o.verdict == "larger",
    ),
    Measure(
        "doubled, >= 8 mm now: `larger`",
        ">= 90 %",
        lambda o: _doubled(o, o.now_mm),
        lambda o: o.verdict == "larger",
    ),
    Measure(
        "rate's interval holds the truth",
        "92-98 %",
        lambda o: o.rate is not None and o.true_rate is not None and not o.own,
        _holds,
    ),
)


def share(measure: Measure, pairs: Iterable[Judged]) -> Share:
    """Of all lesions of these pairs."""
    counted = [one for pair in pairs for one in pair.lesions if measure.counts(one)]
    return Share(sum(map(measure.hits, counted)), len(counted))


def table(pairs: Sequence[Judged]) -> str:
    """Markdown: a row a measure, a column a CT, and all of them."""
    names = list(dict.fromkeys(pair.ct for pair in pairs))
    columns = [*([pair for pair in pairs if pair.ct == name] for name in names), list(pairs)]
    lines = [
        f"| what | aim | {' | '.join(names)} | all |",
        "|---|---|" + "---|" * len(columns),
        "| pairs compared | >= 95 % | "
        + " | ".join(
            str(Share(sum(p.said == "compared" for p in column), len(column))) for column in columns
        )
        + " |",
    ]
    for measure in MEASURES:
        cells = " | ".join(str(share(measure, column)) for column in columns)
        lines.append(f"| {measure.name} | {measure.aim} | {cells} |")
    return "\n".join(lines)
