"""A study of a scanner -> its row in the library, and the alarms that it raises. Pure.

    empty(key, at) -> Row
    counted(row, measured, at, prior) -> Counted(row, alarms)
    accepted(row, alarm, at) -> (the new row, the old one)
    acknowledged(row, at) -> Row

The record is appliance.watching.row.Row (the store keeps rows, and lies below this folder).

Rules.
1. A row learns from its first LEARNING studies, one of radiographs until it has the first images of
   its detector (windows.FIRST), and is fixed then: what creeps is found because nothing follows it.
2. What is judged: the figures of a volume (drift.py), counts of what came out (counts.py), and
   windows of radiographs (windows.py). In the learning time the first two are judged as well, with
   the limits of few.
3. While an alarm is open the row is frozen: it learns nothing, but goes on judging. One alarm of a
   statistic and a test is open at a time, and counts the studies since.
4. A study that raises an alarm is not learnt from.
5. `acknowledged`: it was so once, or will be put right; the sums of what is open start from zero,
   and what goes on is told again. `accepted`: it stays so; a new row learns from what was seen
   since the change, as far as it is kept (RECENT), and the old row ends.
6. A learning time that was not of one kind, and a figure that was always had and no longer is, are
   alarms of their own: a row that cannot see says so. A mixed learning time that is acknowledged is
   taken as it is; one that is accepted is given up, and learning starts anew.
7. A study of which nothing was measured ends no learning time: it has its outputs alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.errors import ScansideError
from appliance.quality import counts, drift, windows
from appliance.quality.cause import cause
from appliance.quality.changed import changed, contrast
from appliance.quality.judged import judged, values
from appliance.watching.alarm import Alarm, Cause
from appliance.watching.quality import SeriesQuality
from appliance.watching.row import PAST, RECENT, Prior, Row, Seen, Side, Watched
from appliance.watching.scanner import Scanner

LEARNING: Final = 30


@dataclass(frozen=True, slots=True)
class Counted:
    """The row with one study more, and the alarms that this one raised (also in `row.alarms`)."""

    row: Row
    alarms: tuple[Alarm, ...]


def empty(key: Scanner, at: datetime) -> Row:
    """A row that has seen nothing yet."""
    return Row(key=key, since=at)


def counted(row: Row, measured: SeriesQuality, at: datetime, prior: Prior) -> Counted:
    """The row after one study. Whether the study counts is decided before (store/library)."""
    seen = Seen(at=at, measured=measured.measured, outputs=measured.outputs)
    open_ = tuple(one.model_copy(update={"studies": one.studies + 1}) for one in row.alarms)
    row = _with(row, seen).model_copy(update={"alarms": open_})
    row, raised = judged(row, seen, prior)
    if row.settled is None and not open_ and not raised:
        if not _enough(row):
            row = _learnt(row, seen)
        if _enough(row):
            row, raised = _settled(row, at, prior)
    named = tuple(_named(row, one, prior) for one in raised)
    return Counted(_in_its_state(row, open_ + named), named)


def require_open(row: Row, row_id: str) -> tuple[Alarm, ...]:
    """The alarms of which a person may decide, one at least; else ScansideError `no_alarm`."""
    if not row.alarms:
        raise ScansideError(
            f"no alarm of row {row_id} is open",
            code="no_alarm",
            remedy="`scanside drift` shows which are.",
        )
    return row.alarms


def accepted(row: Row, alarm: Alarm, at: datetime) -> tuple[Row, Row]:
    """A person says that it stays so: a row that starts with what was seen since the change, and
    the old one, ended. ValueError where the alarm is none of the row's open ones."""
    if alarm not in row.alarms:
        raise ValueError("this alarm is not open in this row")
    new = empty(row.key, alarm.since).model_copy(update={"changes": _since(row)})
    for seen in row.recent[-alarm.studies :] if alarm.studies else ():
        new = _with(new, seen)
        if not _enough(new):
            new = _learnt(new, seen)
    return new, acknowledged(row, at).model_copy(update={"until": at})


def acknowledged(row: Row, at: datetime) -> Row:
    """A person has looked: no alarm is open, its sums start from zero, and learning goes on."""
    seen = tuple(one.model_copy(update={"acknowledged": True}) for one in row.alarms)
    zero = {"up": Side(), "down": Side(), "missing": 0}
    told = {alarm.statistic for alarm in row.alarms}
    row = row.model_copy(
        update={
            "past": (row.past + seen)[-PAST:],
            "changes": _since(row) or row.changes,
            "acknowledged": at,
            "watched": {
                which: one.model_copy(update=zero) if which in told else one
                for which, one in row.watched.items()
            },
        }
    )
    return _in_its_state(row, ())


def _since(row: Row) -> tuple[datetime, ...]:
    """Of the alarms that are open."""
    return tuple(one.since for one in row.alarms)


def _named(row: Row, alarm: Alarm, prior: Prior) -> Alarm:
    if alarm.test == "learning":
        return alarm
    return alarm.model_copy(update={"cause": cause(changed(row, alarm, prior))})


def _with(row: Row, seen: Seen) -> Row:
    recent = (*row.recent, seen)[-RECENT:]
    return row.model_copy(update={"n": row.n + 1, "last": seen.at, "recent": recent})


def _in_its_state(row: Row, alarms: tuple[Alarm, ...]) -> Row:
    if alarms:
        state = "frozen"
    else:
        state = "learning" if row.settled is None else "fixed"
    return row.model_copy(update={"alarms": alarms, "state": state})


def _enough(row: Row) -> bool:
    """Whether the learning time is over (rule 1)."""
    return windows.settled(row.windows) if row.windows else row.learnt >= LEARNING


def _learnt(row: Row, seen: Seen) -> Row:
    watched = dict(row.watched)
    for which, value in values(seen).items():
        one = watched.get(which, Watched())
        first = (*one.first, value)
        watched[which] = one.model_copy(update={"n": len(first), "first": first})
    for which, count in counts.counts(seen.outputs).items():
        one = watched.get(which, Watched())
        mean, weight = counts.learnt(one.mean, one.weight, count)
        watched[which] = one.model_copy(update={"n": one.n + 1, "mean": mean, "weight": weight})
    with_it, known = contrast(seen)
    return row.model_copy(
        update={
            "learnt": row.learnt + bool(seen.measured),
            "watched": watched,
            "windows": windows.learnt(row.windows, seen),
            "contrast": (row.contrast[0] + with_it, row.contrast[1] + known),
        }
    )


def _settled(row: Row, at: datetime, prior: Prior) -> tuple[Row, tuple[Alarm, ...]]:
    """The row at the end of its learning time; an alarm of each statistic in which that was not of
    one kind (rule 6)."""
    watched, odd = dict(row.watched), {}
    for which, one in row.watched.items():
        if one.first:
            found = drift.usual(one.first, which, prior)
            if drift.mixed(found, which, prior):
                odd[which] = drift.own(found) / prior.spreads[which]
            settled = {"first": (), "n": found.n, "mean": found.mean, "m2": found.m2}
            watched[which] = one.model_copy(update=settled)
    halves = windows.halves(row.windows)
    odd |= {which: found.size for which, found in halves.items() if found.odd}
    alarms = tuple(
        Alarm(
            statistic=which,
            test="learning",
            size=float(f"{size:.3g}"),
            since=at,
            cause=Cause.UNCLEAR,
        )
        for which, size in odd.items()
    )
    return row.model_copy(update={"settled": at, "watched": watched}), alarms
