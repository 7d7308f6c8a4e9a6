"""The ledger: what no spool can give back, written once more beside the journal.

    journal-5.ledger    a line a transaction: CRC-32, then what it added, as JSON

A journal that is damaged loses what is owed, what was reported, what archives were told of it and
what readers said of it. Slices
lie in the spool, so all else can be made again; these cannot. So they are appended here, durable
before the transaction of the journal that adds them is committed.

Rules
- A transaction is one line: after a power cut all of it counts, or nothing. A line that its CRC
  does not fit is left out, wherever it stands.
- What is owed is here until it is settled. That it was delivered is noted without a sync: at worst
  it is owed twice, under the same key.
- A report, and what archives were told of it, is here until it is filed beside its masks, feedback
  until it is filed (`filing`).
- Whoever writes holds the journal's lock for writing, so one process writes at a time. A
  transaction that fails takes its line back.
- A later release may add entries and fields: what this one does not know it leaves out, and keeps
  when it writes the ledger anew (`foreign`).
- The ledger is never asked while the journal is whole, but to find out whether it is.
"""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from appliance.report import Record, SeriesKey
from appliance.results.feedback import Feedback
from appliance.store.files import DISK, Disk
from appliance.store.rows import SeriesState

LEDGER_NAME = "journal-5.ledger"
"""Its file in the state folder."""


class OwedEntry(Record):
    """Something is owed, as its row in the journal has it."""

    kind: Literal["owed"] = "owed"
    destination: str
    key: str
    seq: int | None
    study: str | None
    series: str | None
    content: str | None
    """Its body in base64; None where it is a file alone."""
    file: str | None
    created: float

    @property
    def body(self) -> bytes | None:
        return None if self.content is None else base64.b64decode(self.content)


class ReportEntry(Record):
    """A report was committed, and with it the state of its series."""

    kind: Literal["report"] = "report"
    study: str
    series: str
    report_id: str
    stage: str
    state: SeriesState
    instances: int | None
    """How many the state is about, as `rows.Series` has it."""
    created: float
    report: str
    """JSON of the Report."""

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.study, self.series)

    @property
    def edition(self) -> int:
        """Of the report; those of earlier releases have none."""
        return int(json.loads(self.report).get("edition", 1))


class SettledEntry(Record):
    """These are not owed any more."""

    kind: Literal["settled"] = "settled"
    destination: str
    keys: tuple[str, ...]


class ForgottenEntry(Record):
    """A series was deleted, with its reports and all that was owed of it."""

    kind: Literal["forgotten"] = "forgotten"
    study: str
    series: str


class FeedbackEntry(Record):
    """A reader said something of a report."""

    kind: Literal["feedback"] = "feedback"
    said: Feedback


class DrawnEntry(Record):
    """The highest `seq` that was drawn when this was written."""

    kind: Literal["drawn"] = "drawn"
    seq: int


class ToldEntry(Record):
    """What was told of a report, as its row in the journal has it (`told`)."""

    kind: Literal["told"] = "told"
    report_id: str
    stage: str
    edition: int
    told: str
    at: float


Entry = (
    OwedEntry | ReportEntry | SettledEntry | ForgottenEntry | FeedbackEntry | DrawnEntry | ToldEntry
)
_ENTRIES: TypeAdapter[list[Entry]] = TypeAdapter(
    list[Annotated[OwedEntry | ReportEntry | SettledEntry | ForgottenEntry | FeedbackEntry
                   | DrawnEntry | ToldEntry, Field(discriminator="kind")]]
)  # fmt: skip


def encoded(entries: Sequence[Entry]) -> bytes:
    """They as one line, which begins anew behind whatever was cut short before it."""
    return _line(_ENTRIES.dump_json(list(entries)))


def _line(text: bytes) -> bytes:
    return b"\n%08x %s\n" % (zlib.crc32(text), text)


def decoded(data: bytes) -> Iterator[Entry]:
    """The entries of every line that is whole."""
    for line in data.split(b"\n"):
        crc, _, text = line.partition(b" ")
        if crc == b"%08x" % zlib.crc32(text):
            yield from _read(text)[0]


def foreign(data: bytes) -> bytes:
    """What a later release has entered and this one does not understand, as lines of their own: who
    writes a ledger anew keeps them."""
    lines = []
    for line in data.split(b"\n"):
        crc, _, text = line.partition(b" ")
        if crc == b"%08x" % zlib.crc32(text) and (unknown := _read(text)[1]):
            lines.append(_line(json.dumps(unknown).encode()))
    return b"".join(lines)


def _read(text: bytes) -> tuple[list[Entry], list[object]]:
    """The entries of a line, and what is none that this release knows."""
    with suppress(ValidationError):
        return _ENTRIES.validate_json(text, extra="ignore"), []
    known: list[Entry] = []
    unknown: list[object] = []
    with suppress(ValueError, TypeError):
        for one in json.loads(text):
            try:
                known += _ENTRIES.validate_json(json.dumps([one]), extra="ignore")
            except ValidationError:
                unknown.append(one)
    return known, unknown


@dataclass
class Contents:
    """What a ledger says."""

    owed: dict[tuple[str, str], OwedEntry] = field(default_factory=dict)
    """(destination, key) -> what is not settled, in order."""
    reports: dict[tuple[str, str], ReportEntry] = field(default_factory=dict)
    """(report id, stage) -> the report, but of series that were deleted."""
    told: dict[tuple[str, str, int], ToldEntry] = field(default_factory=dict)
    """(report id, stage, edition) -> what was told."""
    forgotten: set[SeriesKey] = field(default_factory=set)
    """Series that were deleted; what is said here of one that came again is of later."""
    feedback: dict[uuid.UUID, Feedback] = field(default_factory=dict)
    """uid -> what was said, in order; no deletion takes it away."""
    seq: int = 0
    """The highest number that it knows of."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Contents:
        found = cls()
        for entry in entries:
            found._add(entry)
        return found

    def _add(self, entry: Entry) -> None:
        if isinstance(entry, OwedEntry):
            self.owed[entry.destination, entry.key] = entry
            self.seq = max(self.seq, entry.seq or 0)
        elif isinstance(entry, ReportEntry):
            self.reports[entry.report_id, entry.stage] = entry
        elif isinstance(entry, ToldEntry):
            self.told[entry.report_id, entry.stage, entry.edition] = entry
        elif isinstance(entry, SettledEntry):
            for key in entry.keys:
                self.owed.pop((entry.destination, key), None)
        elif isinstance(entry, FeedbackEntry):
            self.feedback.setdefault(entry.said.uid, entry.said)
        elif isinstance(entry, DrawnEntry):
            self.seq = max(self.seq, entry.seq)
        else:
            gone = entry.study, entry.series
            self.forgotten.add(SeriesKey(*gone))
            self.owed = {k: o for k, o in self.owed.items() if (o.study, o.series) != gone}
            self.reports = {k: r for k, r in self.reports.items() if (r.study, r.series) != gone}


def read(path: Path) -> Contents:
    """The contents of a ledger; nothing where there is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    return Contents.of(decoded(data))


class Ledger:
    """The ledger of one open journal. Entries are noted within a transaction, and written by it."""

    def __init__(self, path: Path | None, disk: Disk = DISK) -> None:
        """path: None for a journal that keeps none, because nobody relies on it yet."""
        self._path = path
        self._disk = disk
        self._noted: list[Entry] = []
        self._lasting = False
        self._before: int | None = None

    def size(self) -> int:
        """Bytes of its file; 0 where there is none."""
        with suppress(FileNotFoundError):
            return self._path.stat().st_size if self._path is not None else 0
        return 0

    def note(self, entry: Entry, *, lasting: bool = True) -> None:
        """Part of the transaction that is under way. lasting: durable before it is committed."""
        self._noted.append(entry)
        self._lasting |= lasting

    def write(self) -> None:
        """What was noted, just before the commit. StateUnusable where the disk takes it not."""
        if self._noted and self._path is not None:
            line = encoded(self._noted)
            self._before = self._disk.append(self._path, line, lasting=self._lasting)
        self._noted, self._lasting = [], False

    def committed(self) -> None:
        """The transaction counts: its line stays."""
        self._before = None

    def take_back(self) -> None:
        """The transaction does not count."""
        self._noted, self._lasting = [], False
        before, self._before = self._before, None
        if before is not None and self._path is not None:
            self._disk.cut(self._path, before)
