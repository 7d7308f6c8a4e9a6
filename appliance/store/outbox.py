"""Reports, and the outbox: the messages that are owed. Part of the journal."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from typing import Final, Literal

from appliance.report import Report
from appliance.results.message import Outgoing
from appliance.store.arrivals import Arrivals
from appliance.store.audit import Audit
from appliance.store.part import next_value
from appliance.store.rows import OutboxCounts, QueuedMessage, SeriesState

ANY: Final = "any"
"""In place of a bundle digest: whichever bundle. None means: the report that has no bundle."""

_MESSAGE = """seq, event_id, topic, qos, retain, payload, created, state, delivered_at, attempts,
  last_error"""


class Outbox(Arrivals, Audit):
    """Reports and messages. A report also sets its series' state, a person's hand is audited."""

    # Reports and the outbox.

    def commit_report(
        self,
        report: Report,
        *,
        series_uid: str,
        study_uid: str,
        messages: Sequence[Outgoing],
        series_state: SeriesState,
        instances: int | None = None,
    ) -> None:
        """The report, all its messages and the state of its series: one transaction.

        A report that is there already (same report_id and stage) stays as it was first written.
        """
        with self._db.write() as db:
            db.execute(
                """INSERT INTO reports
                (report_id, series_uid, study_uid, bundle_digest, revision, supersedes, status,
                 stage, input_digest, json, created)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (report_id, stage) DO NOTHING""",
                (
                    str(report.report_id),
                    series_uid,
                    study_uid,
                    report.bundle.digest if report.bundle else "",
                    report.revision,
                    str(report.supersedes) if report.supersedes else None,
                    report.status.value,
                    report.stage.value,
                    report.input_digest,
                    report.to_json(),
                    self._clock(),
                ),
            )
            self._post(db, messages, series_uid)
            self._set_series(db, series_uid, study_uid, series_state, instances=instances, at=None)

    def post(self, messages: Sequence[Outgoing], *, series_uid: str | None = None) -> None:
        """Messages without a report, such as `received`. series_uid: whose deletion waits."""
        with self._db.write() as db:
            self._post(db, messages, series_uid)

    def _post(
        self, db: sqlite3.Connection, messages: Sequence[Outgoing], series_uid: str | None
    ) -> None:
        for outgoing in messages:
            event = str(outgoing.message.event_id)
            if db.execute("SELECT 1 FROM messages WHERE event_id = ?", (event,)).fetchone():
                continue
            seq = next_value(db, "seq")
            db.execute(
                """INSERT INTO messages
                (seq, event_id, series_uid, topic, qos, retain, payload, created)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                (
                    seq,
                    event,
                    series_uid,
                    outgoing.topic,
                    outgoing.qos,
                    int(outgoing.retain),
                    outgoing.message.to_json(seq),
                    self._clock(),
                ),
            )

    def next_seq(self) -> int:
        """A number for a message that is not kept in the outbox (status, health)."""
        with self._db.write() as db:
            return next_value(db, "seq")

    def report(self, report_id: uuid.UUID | str) -> Report | None:
        """The report as committed; the final one where both stages are there."""
        return self._one_report("report_id = ?", (str(report_id),))

    def series_of_report(self, report_id: uuid.UUID | str) -> tuple[str, str] | None:
        """(StudyInstanceUID, SeriesInstanceUID) that a report is about."""
        with self._db.read() as db:
            row = db.execute(
                "SELECT study_uid, series_uid FROM reports WHERE report_id = ?", (str(report_id),)
            ).fetchone()
        return (row["study_uid"], row["series_uid"]) if row else None

    def latest_report(self, series_uid: str, bundle_digest: str | None = ANY) -> Report | None:
        """The latest revision, final before preliminary; of one bundle, of none (None), or ANY."""
        if bundle_digest == ANY:
            return self._one_report("series_uid = ?", (series_uid,))
        return self._one_report(
            "series_uid = ? AND bundle_digest = ?", (series_uid, bundle_digest or "")
        )

    def reports_of_study(self, study_uid: str) -> list[Report]:
        """All reports of a study, oldest first, both stages."""
        with self._db.read() as db:
            rows = db.execute(
                "SELECT json FROM reports WHERE study_uid = ? ORDER BY created, rowid", (study_uid,)
            )
            return [Report.model_validate_json(r[0]) for r in rows]

    def recent_reports(self, limit: int) -> list[Report]:
        """The newest reports first, both stages."""
        with self._db.read() as db:
            rows = db.execute(
                "SELECT json FROM reports ORDER BY created DESC, rowid DESC LIMIT ?", (limit,)
            )
            return [Report.model_validate_json(r[0]) for r in rows]

    def _one_report(self, where: str, values: tuple[str, ...]) -> Report | None:
        with self._db.read() as db:
            row = db.execute(
                f"""SELECT json FROM reports WHERE {where}
                ORDER BY revision DESC, stage = 'final' DESC, created DESC, rowid DESC LIMIT 1""",  # noqa: S608 - the two texts above
                values,
            ).fetchone()
        return Report.model_validate_json(row[0]) if row else None

    def next_revision(
        self, series_uid: str, bundle_digest: str | None, input_digest: str | None = None
    ) -> int:
        """The number for the next report of series and bundle, from 1.

        With `input_digest`: the number that this very input already has, if it has one.
        """
        with self._db.read() as db:
            known = db.execute(
                """SELECT revision FROM reports
                WHERE series_uid = ? AND bundle_digest = ? AND input_digest = ?""",
                (series_uid, bundle_digest or "", input_digest),
            ).fetchone()
            last = db.execute(
                "SELECT max(revision) FROM reports WHERE series_uid = ? AND bundle_digest = ?",
                (series_uid, bundle_digest or ""),
            ).fetchone()
        return int(known[0]) if known else int(last[0] or 0) + 1

    def waiting(self, limit: int) -> list[QueuedMessage]:
        """What is owed, in order of seq."""
        with self._db.read() as db:
            rows = db.execute(
                f"""SELECT {_MESSAGE} FROM messages
                WHERE state = 'waiting' ORDER BY seq LIMIT ?""",  # noqa: S608 - a constant
                (limit,),
            )
            return [_message(r) for r in rows]

    def told_on(self, topic: str) -> list[str]:
        """The series that messages on this topic are about."""
        with self._db.read() as db:
            rows = db.execute(
                """SELECT DISTINCT series_uid FROM messages
                WHERE topic = ? AND series_uid IS NOT NULL""",
                (topic,),
            )
            return [str(row["series_uid"]) for row in rows]

    def delivered(self, *seqs: int) -> None:
        """PUBACK received (MQTT 4.3.2), whatever the message was before; all in one transaction."""
        at = self._clock()
        with self._db.write() as db:
            db.executemany(
                """UPDATE messages SET state = 'delivered', delivered_at = ?, last_error = NULL
                WHERE seq = ?""",
                [(at, seq) for seq in seqs],
            )

    def delivered_at(self, event_id: uuid.UUID | str) -> float | None:
        """When the message with this event_id was delivered; None: not yet, or unknown."""
        with self._db.read() as db:
            row = db.execute(
                "SELECT delivered_at FROM messages WHERE event_id = ?", (str(event_id),)
            ).fetchone()
        return row[0] if row else None

    def failed(self, seq: int, error: str) -> int:
        """One attempt failed; the message goes on waiting. Returns how many failed so far."""
        with self._db.write() as db:
            db.execute(
                "UPDATE messages SET attempts = attempts + 1, last_error = ? WHERE seq = ?",
                (error, seq),
            )
            row = db.execute("SELECT attempts FROM messages WHERE seq = ?", (seq,)).fetchone()
        return int(row[0]) if row else 0

    def bury(self, seq: int, error: str) -> None:
        """A waiting message that can never be delivered is dead: kept, shown, not sent."""
        with self._db.write() as db:
            db.execute(
                """UPDATE messages SET state = 'dead', attempts = attempts + 1, last_error = ?
                WHERE seq = ? AND state = 'waiting'""",
                (error, seq),
            )

    def dead(self) -> list[QueuedMessage]:
        with self._db.read() as db:
            rows = db.execute(
                f"SELECT {_MESSAGE} FROM messages WHERE state = 'dead' ORDER BY seq"  # noqa: S608 - a constant
            )
            return [_message(r) for r in rows]

    def retry(self, actor: str, seq: int | None = None) -> int:
        """Dead messages (None: all) wait again; how many. Audited."""
        return self._settle_dead(actor, "outbox_retry", seq, "waiting")

    def drop(self, actor: str, seq: int | None = None) -> int:
        """A person gives up dead messages (None: all dead; a seq: also if waiting). Audited."""
        return self._settle_dead(actor, "outbox_drop", seq, "dropped")

    def _settle_dead(
        self, actor: str, action: str, seq: int | None, state: Literal["waiting", "dropped"]
    ) -> int:
        from_states = (
            "('dead', 'waiting')" if state == "dropped" and seq is not None else "('dead')"
        )
        with self._db.write() as db:
            count = db.execute(
                f"""UPDATE messages SET state = ?, attempts = 0
                WHERE state IN {from_states} AND (? IS NULL OR seq = ?)""",  # noqa: S608 - a constant
                (state, seq, seq),
            ).rowcount
            if count:
                self._audit(db, actor, action, {"seq": seq, "count": count})
        return count

    def outbox_counts(self) -> OutboxCounts:
        with self._db.read() as db:
            counts = dict(
                db.execute("SELECT state, count(*) FROM messages GROUP BY state").fetchall()
            )
            oldest = db.execute(
                "SELECT created FROM messages WHERE state = 'waiting' ORDER BY seq LIMIT 1"
            ).fetchone()
        return OutboxCounts(
            counts.get("waiting", 0),
            counts.get("delivered", 0),
            counts.get("dead", 0),
            counts.get("dropped", 0),
            oldest[0] if oldest else None,
        )


def _message(row: sqlite3.Row) -> QueuedMessage:
    return QueuedMessage(**{**dict(row), "retain": bool(row["retain"])})
