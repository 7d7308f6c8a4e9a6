"""What the journal returns: frozen rows. Times are seconds since 1970, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.report import Priority, SeriesKey
from appliance.store.commitment import Failed, Reference
from appliance.store.delivery import State

Outcome = Literal["released", "aborted", "lost", "refused"]
SeriesState = Literal["open", "complete", "analysed", "set_aside", "refused", "failed"]
ComparisonState = Literal["waiting", "done", "dead", "withdrawn"]
"""`withdrawn`: its report stands no more, and what is kept of it for later exams is to go."""


Which = int | str
"""What a person names of the outbox: a `seq`, or the key of what has none."""


@dataclass(frozen=True, slots=True)
class Association:
    """One DICOM association. `ended` and `outcome` are None while it is open."""

    id: str
    calling_ae: str
    called_ae: str
    host: str
    pid: int
    pid_started: int
    """Clock ticks since boot at which the process started: tells a reused pid apart."""
    boot: str
    """In which boot it was opened (`host.boot`); empty where nobody noted it."""
    opened: float
    ended: float | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one association brought of one series. Facts for the verdict of completeness."""

    association: Association
    first_at: float
    last_at: float
    instances: int
    """Newly stored. Exact once the association has ended; before that at least this many."""


@dataclass(frozen=True, slots=True)
class Series:
    study_uid: str
    series_uid: str
    state: SeriesState
    calling_ae: str
    """AE title of the latest sender; empty where the series came without an association."""
    first_at: float
    last_at: float
    instances: int | None
    """How many instances the state is about, as `work` said; None before any judgement."""
    attempts: int
    """How often a step of it ended `work`, or raised, since something new came."""
    updated: float
    priority: Priority = "routine"
    """What an image or a command said; the sender's own is in the settings."""
    suspected: int = 0
    """How often the machine died while it was in hand, at one step, nothing finished between."""

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.study_uid, self.series_uid)


@dataclass(frozen=True, slots=True)
class Kept:
    """A series with what its deletion depends on."""

    series: Series
    owed: int
    """How much, over all destinations, is not delivered and not dropped by a person."""
    final: bool
    """Whether it has reports and the latest of each bundle is final."""
    reports: tuple[str, ...]
    """Ids of all its reports: their masks go with the series."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of the list of studies ends: the next one begins behind it."""

    at: float
    """When the first image of the study came."""
    id: int
    """Tells studies of one time apart."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study in the list of studies."""

    study_uid: str
    pseudonym: str | None
    """None where nothing was said of it yet."""
    place: Place
    last_at: float
    """When its latest image came."""


@dataclass(frozen=True, slots=True)
class Received:
    """A series, and how many of its images have come: exact once its associations have ended,
    before that at least so many."""

    series: Series
    images: int


@dataclass(frozen=True, slots=True)
class Queue:
    """What one destination is owed."""

    destination: str
    waiting: int
    dead: int
    oldest_waiting: float | None


@dataclass(frozen=True, slots=True)
class Sender:
    """What is known of a scanner by the studies that are here."""

    calling_ae: str
    studies: int
    last_at: float
    """When its latest image came."""
    longest_pause_s: float | None
    """Between two of its studies that came one after the other; None where there is only one."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one report took, in seconds after the last slice; without a word of whose it is."""

    at: float
    """When it was first committed, in whatever form."""
    scanner: str
    """AE title of the sender; empty where none is known."""
    status: str
    first_s: float
    """To the first form that was committed, preliminary or final."""
    first_told_s: float | None
    """To the broker's PUBACK for that one."""
    quiet_s: float | None
    """Of the way to the final form: waiting whether more slices come."""
    final_s: float
    final_told_s: float | None


@dataclass(frozen=True, slots=True)
class OwedRow:
    """One thing that is owed to a destination: bytes, or a file with them. What was ordered has its
    order as bytes, and a file once it is composed."""

    id: int
    """In order: a destination gets the lowest first."""
    destination: str
    key: str
    """Unique within its destination."""
    seq: int | None
    """The number in its body; None where the destination draws none."""
    body: bytes | None
    file: str | None
    """Relative to the state folder."""
    created: float
    state: State
    delivered_at: float | None
    attempts: int
    """How often it was refused."""
    last_error: str | None


@dataclass(frozen=True, slots=True)
class OwedCounts:
    waiting: int = 0
    delivered: int = 0
    committed: int = 0
    dead: int = 0
    dropped: int = 0
    oldest_waiting: float | None = None
    """When the oldest that waits was owed first."""


@dataclass(frozen=True, slots=True)
class ToCompare:
    """A standing final report that is to be compared with earlier exams."""

    report_id: str
    study_uid: str
    series_uid: str
    bundle_digest: str
    prior_only: bool
    """It came from senders of earlier exams alone: its entry is kept, and nothing is said of it."""
    state: ComparisonState = "waiting"
    attempts: int = 0
    """How many failed."""
    since: float = 0.0
    """When it came to wait."""

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.study_uid, self.series_uid)


@dataclass(frozen=True, slots=True)
class FinalReport:
    """A final report, as far as the library of scanners needs it (work/watching.py)."""

    report_id: str
    study_uid: str
    input_digest: str
    status: str
    """As Report has it."""
    code: str | None
    """Of its first reason."""
    created: float
    silent: bool
    """Whether its study came from senders of earlier exams alone."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """A request of storage commitment that a sender made of us, for the archive to answer."""

    id: int
    transaction_uid: str
    """The sender's."""
    calling_ae: str
    answer_to: str
    """AE@HOST:PORT."""
    references: tuple[Reference, ...]
    came: float
    failed: tuple[Failed, ...] | None
    """What is not kept; None: not known yet."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    id: int
    at: float
    actor: str
    action: str
    detail: dict[str, object]
    previous: str
    hash: str
