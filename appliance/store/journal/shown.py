"""What a page shows of the journal: lists of studies in pages, and what was said of them.

Rules
- Nothing here writes. Each method is one consistent view.
- A page of the list goes on behind the last study of the page before, by (time of the first image,
  rowid): never by a count of rows, so that a study that comes meanwhile neither repeats nor hides
  one. A study of which an earlier image turns up keeps its rowid, and moves.
- A study is in every group that one of its series is in (`GROUPS`): who asks for what was not
  analysed gets the study of which another series was.
- What leaves the device under a name of its own is found by that name in what was said: the site
  key is not needed, and the stage `web` does not have it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from appliance.report import Report, SeriesKey
from appliance.results import mqtt
from appliance.store.delivery import State
from appliance.store.journal.part import Part, as_row, columns
from appliance.store.journal.reports import read
from appliance.store.rows import OwedRow, Place, Queue, Received, Sender, Series, Study

Group = Literal["arriving", "analysed", "not_analysed", "set_aside"]
GROUPS: Final = MappingProxyType[Group, str](
    {
        "arriving": "max(state IN ('open', 'complete'))",
        "analysed": "max(state = 'analysed')",
        "not_analysed": "max(state IN ('refused', 'failed'))",
        "set_aside": "min(state = 'set_aside')",
    }
)
"""Group -> whether a study is in it, over the rows of its series."""
SHORT_BYTES: Final = 4096
"""A message that carries no report is shorter."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which studies a list shows; None: whatever it is."""

    group: Group | None = None
    scanner: str | None = None
    """AE title of the sender of one of its series."""
    since: float | None = None
    """Its first image came at this time or later."""
    pseudonym: str | None = None
    """How its pseudonym begins."""


@dataclass(frozen=True, slots=True)
class Told:
    """A message to the broker, with what it says."""

    row: OwedRow
    said: mqtt.Said


class Shown(Part):
    """`journal.shown`."""

    def studies(self, wanted: Wanted, behind: Place | None, limit: int) -> list[Study]:
        """At most `limit` studies, the newest first; behind: the last one of the page before."""
        inner, outer = ["1"], ["1"]
        values: dict[str, object] = {"limit": limit}
        if wanted.pseudonym is not None:
            inner.append(
                "study_uid IN (SELECT study_uid FROM series"
                " WHERE pseudonym >= :begins AND pseudonym < :ends)"
            )
            values |= {"begins": wanted.pseudonym, "ends": f"{wanted.pseudonym}~"}
        if wanted.scanner is not None:
            outer.append("sent")
            values["scanner"] = wanted.scanner
        if wanted.since is not None:
            outer.append("first_at >= :since")
            values["since"] = wanted.since
        if wanted.group is not None:
            outer.append("grouped")
        if behind is not None:
            outer.append("(first_at, id) < (:at, :id)")
            values |= {"at": behind.at, "id": behind.id}
        sent = "max(calling_ae = :scanner)" if wanted.scanner is not None else "1"
        grouped = GROUPS[wanted.group] if wanted.group is not None else "1"
        with self._db.look() as db:
            rows = db.execute(
                f"""SELECT study_uid, pseudonym, first_at, last_at, id FROM
                  (SELECT study_uid, max(pseudonym) AS pseudonym, min(first_at) AS first_at,
                     max(last_at) AS last_at, min(rowid) AS id,
                     {sent} AS sent, {grouped} AS grouped
                   FROM series WHERE {" AND ".join(inner)} GROUP BY study_uid)
                WHERE {" AND ".join(outer)} ORDER BY first_at DESC, id DESC LIMIT :limit""",
                values,
            ).fetchall()
        return [
            Study(r["study_uid"], r["pseudonym"], Place(r["first_at"], r["id"]), r["last_at"])
            for r in rows
        ]

    def any(self) -> bool:
        """Whether any study is here."""
        with self._db.look() as db:
            return db.execute("SELECT 1 FROM series LIMIT 1").fetchone() is not None

    def scanners(self) -> list[str]:
        """AE titles of those that sent what is here."""
        with self._db.look() as db:
            rows = db.execute("SELECT DISTINCT calling_ae FROM series WHERE calling_ae != ''")
            return sorted(row[0] for row in rows)

    def study(self, pseudonym: str) -> str | None:
        """Study Instance UID of the study of which something was said under this pseudonym."""
        with self._db.look() as db:
            row = db.execute(
                "SELECT study_uid FROM series WHERE pseudonym = ? LIMIT 1", (pseudonym,)
            ).fetchone()
        return None if row is None else str(row[0])

    def series(self, studies: Sequence[str]) -> list[Received]:
        """All series of these studies, in order of their first image."""
        with self._db.look() as db:
            rows = db.execute(
                f"""SELECT {columns(Series, "series")},
                  coalesce((SELECT sum(arrivals.instances) FROM arrivals
                   WHERE arrivals.study_uid = series.study_uid
                   AND arrivals.series_uid = series.series_uid), 0) AS images
                FROM series WHERE study_uid IN ({_marks(studies)}) ORDER BY first_at, rowid""",
                studies,
            ).fetchall()
        return [Received(as_row(Series, r), max(r["images"], r["instances"] or 0)) for r in rows]

    def latest(self, studies: Sequence[str]) -> list[tuple[SeriesKey, Report]]:
        """Of each series of these studies and each bundle the report that counts: of the latest
        revision, final before preliminary."""
        with self._db.look() as db:
            rows = db.execute(
                f"""SELECT study_uid, series_uid, json FROM
                  (SELECT study_uid, series_uid, json, row_number() OVER
                     (PARTITION BY study_uid, series_uid, bundle_digest
                      ORDER BY revision DESC, stage = 'final' DESC, created DESC, rowid DESC) AS nth
                   FROM reports WHERE study_uid IN ({_marks(studies)}))
                WHERE nth = 1""",
                studies,
            ).fetchall()
        return [
            (SeriesKey(r["study_uid"], r["series_uid"]), report)
            for r in rows
            if (report := read(r["json"])) is not None
        ]

    def judged(self, studies: Sequence[str]) -> dict[SeriesKey, float]:
        """When it was last said of each series of these studies that it is complete."""
        found: dict[SeriesKey, float] = {}
        with self._db.look() as db:
            rows = db.execute(
                f"""SELECT study_uid, series_uid, created, body FROM owed
                WHERE study_uid IN ({_marks(studies)}) AND destination = ?
                AND length(body) < ? ORDER BY id""",
                (*studies, mqtt.MQTT, SHORT_BYTES),
            ).fetchall()
        for row in rows:
            said = mqtt.said(row["body"])
            if said is not None and said.event == "complete":
                found[SeriesKey(row["study_uid"], row["series_uid"])] = row["created"]
        return found

    def told(self, key: SeriesKey) -> list[Told]:
        """What the broker was owed of a series, in order."""
        with self._db.look() as db:
            rows = [
                as_row(OwedRow, row)
                for row in db.execute(
                    f"""SELECT {columns(OwedRow)} FROM owed WHERE study_uid = ? AND series_uid = ?
                    AND destination = ? ORDER BY id""",
                    (key.study, key.series, mqtt.MQTT),
                )
            ]
        return [Told(row, said) for row in rows if (said := mqtt.said(row.body)) is not None]

    def name(self, key: SeriesKey) -> uuid.UUID | None:
        """The published name of a series, as the first event that was said of it has it."""
        with self._db.look() as db:
            rows = db.execute(
                """SELECT body FROM owed WHERE study_uid = ? AND series_uid = ?
                AND destination = ? ORDER BY id""",
                (key.study, key.series, mqtt.MQTT),
            )
            for row in rows:
                said = mqtt.said(row["body"])
                if said is not None and said.series is not None:
                    return said.series
        return None

    def sent(self, report_id: uuid.UUID, destinations: Iterable[str]) -> list[OwedRow]:
        """What these archives were owed of a report, whatever became of it, in order."""
        begins, found = f"{report_id} ", []
        with self._db.look() as db:
            for destination in destinations:
                rows = db.execute(
                    f"""SELECT {columns(OwedRow)} FROM owed
                    WHERE destination = ? AND key >= ? AND key < ? ORDER BY id""",
                    (destination, begins, f"{begins}~"),
                )
                found += [as_row(OwedRow, row) for row in rows]
        return found

    def queues(self) -> list[Queue]:
        """What waits and what is dead, of every destination that is owed something."""
        with self._db.look() as db:
            rows = db.execute(
                """SELECT destination, sum(state = ?) AS waiting, sum(state = ?) AS dead,
                  min(CASE WHEN state = ? THEN created END) AS oldest
                FROM owed WHERE state IN (?, ?) GROUP BY destination ORDER BY destination""",
                (State.WAITING, State.DEAD, State.WAITING, State.WAITING, State.DEAD),
            ).fetchall()
        return [Queue(r["destination"], r["waiting"], r["dead"], r["oldest"]) for r in rows]

    def last_told(self) -> float | None:
        """When the broker took the newest message that it has taken; None: it has none."""
        with self._db.look() as db:
            row = db.execute(
                """SELECT delivered_at FROM owed WHERE destination = ? AND state = ?
                ORDER BY id DESC LIMIT 1""",
                (mqtt.MQTT, State.DELIVERED),
            ).fetchone()
        return None if row is None else row[0]

    # Marks: what is another when a page would show something else.

    def mark(self) -> str:
        """Of the list of all studies."""
        with self._db.look() as db:
            row = db.execute("SELECT count(*), max(updated), max(rowid) FROM series").fetchone()
        return repr(tuple(row))

    def mark_of(self, study_uid: str) -> str:
        """Of one study, and of what was said of it."""
        with self._db.look() as db:
            series = db.execute(
                "SELECT count(*), max(updated) FROM series WHERE study_uid = ?", (study_uid,)
            ).fetchone()
            owed = db.execute(
                """SELECT count(*), max(id), count(delivered_at), max(delivered_at), sum(attempts),
                  count(nullif(state, ?)) FROM owed WHERE study_uid = ?""",
                (State.WAITING, study_uid),
            ).fetchone()
        return repr((*series, *owed))

    def mark_of_device(self) -> str:
        """Of what waits, and of what was noted last."""
        queues = [(queue.destination, queue.waiting, queue.dead) for queue in self.queues()]
        with self._db.look() as db:
            noted = db.execute("SELECT max(id) FROM events").fetchone()[0]
        return repr((queues, noted))

    def senders(self) -> list[Sender]:
        """Every scanner whose studies are here, by AE title."""
        with self._db.look() as db:
            rows = db.execute(
                """SELECT calling_ae, count(*) AS studies, max(last_at) AS last_at,
                  max(first_at - before) AS longest FROM
                  (SELECT calling_ae, first_at, last_at,
                     lag(last_at) OVER (PARTITION BY calling_ae ORDER BY first_at) AS before
                   FROM (SELECT calling_ae, min(first_at) AS first_at, max(last_at) AS last_at
                         FROM series WHERE calling_ae != '' GROUP BY study_uid, calling_ae))
                GROUP BY calling_ae ORDER BY calling_ae"""
            ).fetchall()
        return [Sender(r["calling_ae"], r["studies"], r["last_at"], r["longest"]) for r in rows]


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))
