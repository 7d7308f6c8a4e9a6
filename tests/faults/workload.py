"""A child that does every durable operation of the line and announces what it was told is done.

    workload.py STATE ACKNOWLEDGED EARLY LATE OTHER

receives EARLY, reports it, receives LATE (of the same series: the report is superseded) and OTHER,
reports, publishes, and deletes what may go. Each line of ACKNOWLEDGED is a promise from then on:
what is on disk must survive a power cut. No line of it is written before the call that returned.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom

from appliance.dicom import pdu
from appliance.dicom.association import SUCCESS, Announced
from appliance.dicom.policy import APPLICATION_CONTEXT
from appliance.publish import pause
from appliance.receive.intake import Intake
from appliance.retain import age
from appliance.retain import stage as retain
from appliance.runtime.bundles import OpenBundles
from appliance.settings import Allow, Dicom, Retain, Settings
from appliance.settings import Work as WorkSettings
from appliance.store.delivery import State
from appliance.store.files import DISK, Disk
from appliance.store.journal import Journal, Manner, journal
from appliance.store.journal.connect import BUSY_MS
from appliance.store.journal.database import Database
from appliance.store.spool import CANNOT_UNDERSTAND, Spool
from appliance.work.stage import Work

TABLES = (
    "associations", "series", "arrivals", "reports", "owed", "counters", "events", "audit",
)  # fmt: skip


def contents(db: sqlite3.Connection) -> str:
    """A digest of every row of every table."""
    digest = hashlib.sha256()
    for table in TABLES:
        for row in db.execute(f"SELECT * FROM {table} ORDER BY rowid"):  # noqa: S608 - TABLES
            digest.update(repr(tuple(row)).encode())
    return digest.hexdigest()


class Told:
    """Where acknowledgements go."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, **promise: object) -> None:
        os.write(self._handle, json.dumps(promise, default=_rows).encode() + b"\n")


class Announcing(Database):
    """Says after each transaction what the journal holds now. Checkpoints often."""

    told: Told

    @classmethod
    def open(
        cls,
        state: Path,
        disk: Disk = DISK,
        manner: Manner = Manner.LOOK,
        busy_ms: int = BUSY_MS,
    ) -> Announcing:
        made = super().open(state, disk, manner, busy_ms)
        made._db.execute("PRAGMA wal_autocheckpoint = 24")
        with made.look() as db:
            cls.told(journal=contents(db))
        return made

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        with super().write() as db:
            yield db
        with self.look() as db:
            type(self).told(journal=contents(db))


class Line:
    def __init__(self, state: Path, told: Told) -> None:
        self.told = told
        self.settings = Settings(
            state=state,
            dicom=Dicom(allow=(Allow(ae_title="*", host="127.0.0.1"),)),
            work=WorkSettings(backend="onnxruntime", threads=1, quiet_s=0.2, released_quiet_s=0.1),
            retain=Retain(reserve_mb=0, target_free_mb=0, days=1),
        )
        self.spool = Spool(state)

    def journal(self) -> Journal:
        return Journal.open(self.settings.state)

    def receive(self, files: Sequence[Path]) -> None:
        with self.journal() as opened:
            intake = Intake(self.settings, opened, self.spool, host="127.0.0.1")
            request = pdu.Request(1, "SCANSIDE", "CT1", APPLICATION_CONTEXT, (), 0, "")
            assert intake.requested(request) is None
            for path in files:
                data = path.read_bytes()
                image = pydicom.dcmread(path, stop_before_pixels=True)
                meta = image.file_meta
                at = 132 + 12 + int(meta.FileMetaInformationGroupLength)
                sink = intake.begin(
                    Announced(
                        meta.MediaStorageSOPClassUID,
                        meta.MediaStorageSOPInstanceUID,
                        meta.TransferSyntaxUID,
                    )
                )
                for start in range(at, len(data), 4096):
                    sink.write(memoryview(data)[start : start + 4096])
                assert sink.finish().status == SUCCESS
                key = str(image.StudyInstanceUID), str(image.SeriesInstanceUID)
                stored = f"spool/{key[0]}/{key[1]}/{image.SOPInstanceUID}.dcm"
                self.told(slice=stored, sha256=sha256(self.settings.state / stored))
                intake.answered()
            junk = intake.begin(
                Announced("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1")
            )
            junk.write(memoryview(b"no data set" * 500))
            assert junk.finish().status == CANNOT_UNDERSTAND
            for path in sorted((self.settings.state / "quarantine").iterdir()):
                name = str(path.relative_to(self.settings.state))
                self.told(quarantined=name, sha256=sha256(path))
            intake.ended("released")

    def analyse(self) -> None:
        bundles = OpenBundles(self.settings)
        with self.journal() as opened:
            work = Work(self.settings, opened, self.spool, bundles)
            work.look_everywhere()
            while work.following or not work.wait_s():
                time.sleep(work.wait_s())
                work.take_turn()
            with opened._db.look() as db:
                self.told(
                    reports=db.execute("SELECT report_id, stage, input_digest FROM reports"),
                    messages=db.execute("SELECT seq, key FROM owed"),
                )
        bundles.close()
        for path in sorted((self.settings.state / "reports").rglob("*.*")):
            if path.suffix == ".entry":  # made of the journal, later
                continue
            self.told(kept=str(path.relative_to(self.settings.state)), sha256=sha256(path))

    def publish(self) -> None:
        with self.journal() as opened:
            opened.audit.add("test", "publish", again=False)
            for row in opened.owed.waiting("mqtt", 100)[:-2]:
                self.told(left=row.key, seq=row.seq)
                opened.owed.later("mqtt", row.key, "for now")
                opened.owed.ack("mqtt", [row.key])
            self.told(number=opened.owed.next_seq())
            one, other = opened.owed.waiting("mqtt", 100)
            opened.owed.never("mqtt", one.key, "too large")
            opened.owed.never("mqtt", other.key, "too large")
            opened.owed.retry("test", one.seq)
            opened.owed.ack("mqtt", [one.key])
        pause.set_paused(self.settings.state, True)
        self.told(file="publish.paused", there=True)
        self.told(file="publish.paused", there=None)
        pause.set_paused(self.settings.state, False)
        self.told(file="publish.paused", there=False)
        with self.journal() as opened:
            (dead,) = opened.owed.listed(State.DEAD)
            opened.owed.drop("test", dead.key)

    def delete(self) -> None:
        """In two months everything is old; what a message is owed of stays."""
        with self.journal() as opened:
            rows = {k.series.series_uid: k for k in opened.kept()}
        self.told(deleting=sorted(uid for uid, kept in rows.items() if not kept.owed))
        seen = age.look()
        later = dataclasses.replace(seen, uptime=seen.uptime + 60 * age.DAY_S)
        for look in (seen, later):  # what was never seen before is not old yet
            retain.run_once(self.settings, look=functools.partial(lambda one: one, look))
        self.told(deleted=True)


def _rows(found: sqlite3.Cursor) -> list[list[object]]:
    return [list(row) for row in found]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(state: str, acknowledged: str, early: str, late: str, other: str) -> None:
    told = Told(Path(acknowledged))
    Announcing.told = told
    journal.Database = Announcing  # type: ignore[misc]
    line = Line(Path(state), told)
    line.receive(sorted(Path(early).iterdir()))
    line.analyse()
    line.receive(sorted(Path(late).iterdir()))
    line.analyse()
    line.publish()
    line.receive(sorted(Path(other).iterdir()))
    line.analyse()
    line.delete()


if __name__ == "__main__":
    main(*sys.argv[1:])
