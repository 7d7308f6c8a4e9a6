"""A stand-in with the signatures of the rows of the library, until the statistics are here. Pure.

It learns noise, tissue and air alone, and alarms where one series is far away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from appliance.watching.alarm import Alarm, Cause, Statistic
from appliance.watching.quality import SeriesQuality, VolumeQuality
from appliance.watching.row import PAST, RECENT, Prior, Row, Seen, Watched
from appliance.watching.scanner import Scanner

_LEARNT, _LIMIT = 30, 4.2


@dataclass(frozen=True, slots=True)
class Counted:
    """The row with one study more, and the alarms that this one raised (also in `row.alarms`)."""

    row: Row
    alarms: tuple[Alarm, ...]


def empty(key: Scanner, prior: Prior, at: datetime) -> Row:
    """A row that has seen nothing yet."""
    return Row(key=key, since=at, watched={one: Watched() for one in prior.spreads})


def counted(row: Row, measured: SeriesQuality, at: datetime, prior: Prior) -> Counted:
    """The row after one study. Whether the study counts is decided before (store/library)."""
    seen = Seen(at=at, measured=measured.measured, outputs=measured.outputs)
    values = _values(measured)
    recent = (*row.recent, seen)[-RECENT:]
    if row.state == "learning":
        watched = {one: _learnt(w, values.get(one)) for one, w in row.watched.items()}
        learnt = row.learnt + 1
        state = "fixed" if learnt >= _LEARNT else "learning"
        more = {"watched": watched, "learnt": learnt, "state": state}
        return Counted(_with(row, at, recent, more), ())
    raised = []
    for one, w in row.watched.items():
        value = values.get(one)
        if value is None or not w.n:
            continue
        spread = math.sqrt((w.m2 + 12 * prior.spreads[one] ** 2) / (w.n + 11))
        away = (value - w.mean) / spread
        known = any(a.statistic is one for a in row.alarms)
        if abs(away) > _LIMIT and not known:
            raised.append(
                Alarm(statistic=one, test="series", size=round(away, 2), since=at,
                      cause=Cause.UNCLEAR, studies=1)
            )  # fmt: skip
    alarms = (*row.alarms, *raised)
    more = {"alarms": alarms, "state": "frozen" if alarms else row.state}
    return Counted(_with(row, at, recent, more), tuple(raised))


def accepted(row: Row, alarm: Alarm, at: datetime) -> tuple[Row, Row]:
    """A person says that it stays so: a row that starts with what was seen since the change, and
    the old one, ended. ValueError where the alarm is none of the row's open ones."""
    if alarm not in row.alarms:
        raise ValueError("no such alarm is open")
    past = (*row.past, *row.alarms)[-PAST:]
    old = row.model_copy(update={"until": at, "alarms": (), "past": past})
    new = Row(key=row.key, since=alarm.since, watched={one: Watched() for one in row.watched})
    for seen in row.recent:
        if seen.at >= alarm.since:
            made = SeriesQuality(scanner=row.key, measured=seen.measured, outputs=seen.outputs)
            new = counted(new, made, seen.at, Prior(spreads={})).row
    return new, old


def acknowledged(row: Row, at: datetime) -> Row:
    """A person has looked: no alarm is open, the sums start from zero, and learning goes on."""
    past = (*row.past, *(a.model_copy(update={"acknowledged": True}) for a in row.alarms))[-PAST:]
    more = {"alarms": (), "past": past, "acknowledged": at, "state": "fixed"}
    return row.model_copy(update=more)


def _with(row: Row, at: datetime, recent: tuple[Seen, ...], more: dict[str, object]) -> Row:
    return row.model_copy(update={"n": row.n + 1, "last": at, "recent": recent, **more})


def _values(measured: SeriesQuality) -> dict[Statistic, float]:
    for one in measured.measured:
        if isinstance(one, VolumeQuality):
            found = {
                Statistic.NOISE: None if not one.noise_hu else math.log(one.noise_hu),
                Statistic.TISSUE: one.tissue_hu,
                Statistic.AIR: one.air_hu,
            }
            return {name: value for name, value in found.items() if value is not None}
    return {}


def _learnt(w: Watched, value: float | None) -> Watched:
    if value is None:
        return w
    n, away = w.n + 1, value - w.mean
    mean = w.mean + away / n
    return w.model_copy(update={"n": n, "mean": mean, "m2": w.m2 + away * (value - mean)})
