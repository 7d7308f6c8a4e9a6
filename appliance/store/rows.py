"""What the journal returns: frozen rows. Times are seconds since 1970, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.report import Priority

Outcome = Literal["released", "aborted", "lost", "refused"]
SeriesState = Literal["open", "complete", "analysed", "set_aside", "refused", "failed"]
MessageState = Literal["waiting", "delivered", "dead", "dropped"]


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
    opened: float
    ended: float | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one association brought of one series. Facts for the verdict of completeness."""

    association: Association
    series_uid: str
    study_uid: str
    first_at: float
    last_at: float
    instances: int
    """Newly stored. Exact once the association has ended; before that at least this many."""


@dataclass(frozen=True, slots=True)
class Series:
    series_uid: str
    study_uid: str
    state: SeriesState
    calling_ae: str
    """AE title of the latest sender; empty where the series came without an association."""
    first_at: float
    last_at: float
    instances: int | None
    """How many instances the state is about, as `work` said; None before any judgement."""
    attempts: int
    """How often `work` began with it since something new came: a poisoned series counts up."""
    updated: float
    priority: Priority = "routine"
    """What an image or a command said; the sender's own is in the settings."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A series with what its deletion depends on."""

    series: Series
    owed: int
    """Messages that are not delivered and not dropped by a person."""
    final: bool
    """Whether it has reports and the latest of each bundle is final."""
    reports: tuple[str, ...]
    """Ids of all its reports: their masks go with the series."""


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """One row of the outbox. `topic` is relative to the device's root."""

    seq: int
    event_id: str
    topic: str
    qos: Literal[0, 1]
    retain: bool
    payload: str
    created: float
    state: MessageState
    delivered_at: float | None
    attempts: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    waiting: int
    delivered: int
    dead: int
    dropped: int
    oldest_waiting: float | None
    """When the oldest waiting message was created."""


@dataclass(frozen=True, slots=True)
class Event:
    """A fact that a person may ask for. `detail` is a JSON object without PHI."""

    id: int
    at: float
    kind: str
    subject: str
    detail: dict[str, object]


@dataclass(frozen=True, slots=True)
class AuditRow:
    id: int
    at: float
    actor: str
    action: str
    detail: dict[str, object]
    previous: str
    hash: str
