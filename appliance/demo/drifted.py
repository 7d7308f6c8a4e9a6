"""What the demo's terminal shows of a scanner that changes, and whether it was said as it is.

Rules
- What is judged is what `scanside drift --json` prints after so many series, what may leave the box
  (watch.json), and what a separate subscriber received.
- Before the pixels change nothing may be said. Within WITHIN series of the change an alarm has to
  come, and every cause that is said has to be the true one.
- Whatever is not so, is said in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from appliance.verbs.drift import SaidRow
from appliance.watching.alarm import Alarm, Cause
from appliance.watching.told import ToldRow
from appliance.web.text import say

USUAL: Final = 30
"""Series before the pixels change: so many a row learns from."""
WITHIN: Final = 4
TRUTH: Final = Cause.SHARPER_KERNEL
NUMBERS: Final = frozenset({"n", "spreads", "since"})
"""Columns of the table."""


@dataclass(frozen=True, slots=True)
class Course:
    """All that was said of one scanner."""

    usual: SaidRow | None
    """After the series of before the change; None: no row of the scanner."""
    since: tuple[SaidRow, ...]
    """After each series of the changed kernel."""
    told: ToldRow | None
    """What may leave the box, after the last one."""
    acknowledged: SaidRow | None
    """After a person has acknowledged; None: nobody could."""
    others: int = 0
    """Rows of other scanners; there are none."""


def first(course: Course) -> SaidRow | None:
    """The row when the first alarm was open; None where none came after the change."""
    return next((row for row in course.since if row.alarms), None)


def since(row: SaidRow, alarm: Alarm) -> int:
    """The number of the series, from 1, at which an open alarm began."""
    return row.n - alarm.studies + 1


def lacking(course: Course) -> list[str]:
    """All that is not as it has to be, in a sentence each."""
    out = _before(course)
    row = first(course)
    if row is None:
        return [*out, f"no alarm came in {len(course.since)} series after the change"]
    took = row.n - USUAL
    if took > WITHIN:
        out.append(f"the alarm came after {took} series, and not within {WITHIN}")
    causes = {alarm.cause for one in course.since for alarm in one.alarms}
    out += [
        f"the cause is said to be: {_cause(cause)}; it is: {_cause(TRUTH)}"
        for cause in sorted(causes - {TRUTH})
    ]
    last = course.since[-1]
    leaves = set() if course.told is None else {(a.statistic, a.cause) for a in course.told.alarms}
    if leaves != {(alarm.statistic, alarm.cause) for alarm in last.alarms}:
        out.append("watch.json does not say what the library says")
    return out + _acknowledged(course, last)


def _before(course: Course) -> list[str]:
    row = course.usual
    if row is None:
        return ["the library has no row of the scanner"]
    out = []
    if row.n != USUAL:
        out.append(f"{row.n} of {USUAL} series were counted before the change")
    if row.alarms or row.past:
        out.append("an alarm came before the change")
    if row.state != "fixed":
        out.append(f"after {row.n} series the row is {row.state}, and not fixed")
    if course.others:
        out.append(f"there are {course.others} rows of scanners that nobody has")
    return out


def _acknowledged(course: Course, last: SaidRow) -> list[str]:
    row = course.acknowledged
    if row is None or row.alarms:
        return ["the alarm is open after it was acknowledged"]
    kept = {alarm.statistic for alarm in row.past if alarm.acknowledged}
    if not {alarm.statistic for alarm in last.alarms} <= kept:
        return ["the row does not know that its alarm was acknowledged"]
    return []


def unanswered(endings: Mapping[str, str], sent: int) -> list[str]:
    """What is wrong with how studies ended, in a sentence each. endings: by pseudonym."""
    out = [] if len(endings) == sent else [f"{len(endings)} of {sent} studies have a report"]
    other = sorted(ending for ending in endings.values() if ending != "analysed")
    return out + ([f"{len(other)} studies were not analysed: {other[0]}"] if other else [])


def not_online(states: Sequence[str]) -> list[str]:
    """What is wrong with what the box said of itself since it first was online, which it has to
    have been, in a sentence each. Before that it starts (`init`)."""
    if "online" not in states:
        return ["the box was never online"]
    since = states[states.index("online") :]
    return [f"the box said that it is {one}" for one in sorted(set(since) - {"online"})]


def show(course: Course, console: Console) -> None:
    """A table: what was usual, what each series since has raised, and what came of `ack`."""
    table = Table(
        title="What the box says of the scanner", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in ("pixels", "n", "state", "what changed", "spreads", "since", "cause"):
        side: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        wide = name in ("what changed", "cause")
        table.add_column(name, no_wrap=not wide, overflow="fold", justify=side)
    rows = [("as usual", course.usual), *(("sharper", row) for row in course.since)]
    known: tuple[Alarm, ...] = ()
    for pixels, row in (*rows, ("acknowledged", course.acknowledged)):
        if row is None:
            table.add_row(pixels, "-", "no row")
            continue
        state = _words()(f"drift.state.{row.state}")
        state = f"[red]{state}[/red]" if row.alarms else state
        open_ = {(alarm.statistic, alarm.test) for alarm in known}
        raised = [one for one in row.alarms if (one.statistic, one.test) not in open_]
        known = row.alarms
        table.add_row(pixels, str(row.n), state, *_said(row, raised[0] if raised else None))
        for alarm in raised[1:]:
            table.add_row("", "", "", *_said(row, alarm))
    console.print(table)
    if (row := first(course)) is not None:
        took = row.n - USUAL
        named = ", ".join(sorted({_cause(alarm.cause) for alarm in row.alarms}))
        console.print(
            f"said at series {row.n}, the {_th(took)} since the change: [bold]{named}[/bold]"
        )
        for cause in sorted({alarm.cause for alarm in row.alarms}):
            console.print(f"  {_words()(f'drift.do.{cause.value}')}")


def _said(row: SaidRow, alarm: Alarm | None) -> tuple[str, ...]:
    """What changed, by how many spreads, since which series, and why."""
    if alarm is None:
        return ("-",) if not row.alarms else ("goes on",)
    name = f"{_words()(f'drift.statistic.{alarm.statistic.value}')} ({alarm.test})"
    return name, f"{alarm.size:+.1f}", str(since(row, alarm)), _cause(alarm.cause)


@cache
def _words() -> say.Say:
    """Those of the page and of `scanside drift`."""
    return say.speaker(say.texts("en"))


def _cause(cause: Cause) -> str:
    return _words()(f"drift.cause.{cause.value}")


def _th(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"
