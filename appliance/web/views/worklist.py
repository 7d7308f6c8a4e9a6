"""The list of studies: rows, filters, and where a page ends. Pure.

Rules
- What a person typed or an address says is taken only in its form, and else as if it were not
  there: a list always shows something.
- A row has the name of a patient only where the caller gives one: who may see it is not decided
  here.
- A page has ROWS rows. It knows whether another follows because one study more was asked for.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from appliance.report import Report, SeriesKey
from appliance.room.check import RoomCheck, Verdict
from appliance.store.identities import Person
from appliance.store.journal.shown import GROUPS, Wanted
from appliance.store.rows import Place, Received, Study
from appliance.web.views import latency, light
from appliance.web.views.latency import Latency
from appliance.web.views.light import Light
from appliance.web.views.phrase import Phrase

ROWS: Final = 25
"""Of one page: four screens of the attached display."""
_PLACE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)-([0-9]{1,18})")
_HEX: Final = re.compile(r"[0-9a-f]{1,32}")
_AE: Final = re.compile(r"[ -~]{1,16}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks of the list."""

    group: str = ""
    """One of GROUPS; empty: all."""
    scanner: str = ""
    today: bool = False
    search: str = ""
    """How the pseudonym begins, as it was typed; at most 64 characters of it."""
    behind: Place | None = None

    def wanted(self, midnight: float) -> Wanted | None:
        """For the journal; None where nothing can be found. midnight: when today began, seconds
        since 1970."""
        typed = self.search.strip().lower()
        if typed and not _HEX.fullmatch(typed):
            return None
        return Wanted(
            group=next((group for group in GROUPS if group == self.group), None),
            scanner=self.scanner or None,
            since=midnight if self.today else None,
            pseudonym=typed or None,
        )

    def address(self, **changed: object) -> str:
        """The list with another filter, from its first page on."""
        values = {
            "status": self.group,
            "scanner": self.scanner,
            "day": "today" if self.today else "",
            "q": self.search,
            **changed,
        }
        query = urlencode({key: value for key, value in values.items() if value})
        return f"/?{query}" if query else "/"

    def further(self, behind: Place) -> str:
        """The next page."""
        return self.address(behind=f"{behind.at:.9f}-{behind.id}")


def asked(query: Mapping[str, str]) -> Asked:
    """What the query of an address asks for."""
    place = None
    if found := _PLACE.fullmatch(query.get("behind", "")):
        place = Place(float(found[1]), int(found[2]))
    group, scanner = query.get("status", ""), query.get("scanner", "")
    return Asked(
        group=group if group in GROUPS else "",
        scanner=scanner if _AE.fullmatch(scanner) else "",
        today=query.get("day") == "today",
        search=query.get("q", "")[:64],
        behind=place,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One study."""

    study: str | None
    """Its pseudonym, which is its address; None where nothing was said of it yet."""
    at: float
    """When its first image came, seconds since 1970."""
    person: Person | None
    scanners: tuple[str, ...]
    light: Light
    to_do: tuple[Phrase, ...]
    latency: Latency | None
    look: bool
    """Whether an in-room check says to look before the patient leaves."""
    verdict: Verdict | None
    """Of all its series that arrived and were checked, the gravest one; None: of none."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal has of the studies of one page."""

    received: Sequence[Received]
    latest: Sequence[tuple[SeriesKey, Report]]
    judged: Mapping[SeriesKey, float]
    persons: Mapping[str, Person]
    """By Study Instance UID: only those that may be shown."""
    checks: Mapping[SeriesKey, RoomCheck] = field(default_factory=dict)


def rows(studies: Sequence[Study], known: Known) -> tuple[Row, ...]:
    """In the order of the studies."""
    series: defaultdict[str, list[Received]] = defaultdict(list)
    for one in known.received:
        series[one.series.study_uid].append(one)
    reports: defaultdict[SeriesKey, list[Report]] = defaultdict(list)
    for key, report in known.latest:
        reports[key].append(report)
    return tuple(
        _row(study, [(one, reports[one.series.key]) for one in series[study.study_uid]], known)
        for study in studies
        if series[study.study_uid]  # else it was deleted between two looks
    )


def _row(study: Study, series: Sequence[tuple[Received, Sequence[Report]]], known: Known) -> Row:
    took = [
        latency.of_report(report, known.judged.get(one.series.key))
        for one, reports in series
        for report in reports
        if one.series.state == "analysed"
    ]
    return Row(
        study=study.pseudonym,
        at=study.place.at,
        person=known.persons.get(study.study_uid),
        scanners=tuple(
            dict.fromkeys(o.series.calling_ae for o, _ in series if o.series.calling_ae)
        ),
        light=light.of_study(series),
        to_do=light.to_do([report for _, reports in series for report in reports]),
        latency=latency.slowest(took),
        look=any(
            check.verdict == "look"
            for one, _ in series
            if one.series.state == "analysed"  # else its status says so itself
            and (check := known.checks.get(one.series.key)) is not None
        ),
        verdict=_verdict([one for one, _ in series], known.checks),
    )


def _verdict(series: Sequence[Received], checks: Mapping[SeriesKey, RoomCheck]) -> Verdict | None:
    said = {
        check.verdict
        for one in series
        if one.series.state != "open" and (check := checks.get(one.series.key)) is not None
    }
    return "look" if "look" in said else next(iter(said), None)


def midnight_before(now: float, offset_s: float) -> float:
    """When the day of `now` began, where local time is UTC + offset_s."""
    return math.floor((now + offset_s) / 86400.0) * 86400.0 - offset_s
