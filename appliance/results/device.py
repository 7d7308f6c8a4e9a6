"""What the device says of itself: messages (`message.py`) of no series. Pure.

Rules. None of them goes through the outbox, but `new_protocol`, which happens once. Their ids are
no secret, because no patient is concerned (`naming`). A figure the machine does not give is null,
never 0. Of the library of scanners `health` has ROWS_MOST rows (appliance/watching/told.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

from appliance.report import NAMESPACE, BundleRef, Verb
from appliance.results import message
from appliance.results.message import DeviceState, Outgoing
from appliance.results.mqtt import enveloped
from appliance.results.owed import Owed
from appliance.results.scanners import ScannerMessage
from appliance.watching.told import RowId, ToldRow

ROWS_MOST: Final = 20
"""Of the library of scanners, in one message."""


def _own_event(device: str, what: str, number: int) -> uuid.UUID:
    """UUIDv5 for what the device says of itself; no patient is concerned (`naming`)."""
    return uuid.uuid5(NAMESPACE, f"event {device} {what} {number}")


def of_status(
    state: DeviceState, reasons: tuple[str, ...], *, device: str, number: int, at: datetime
) -> Outgoing:
    """Birth, will and every change between; `number` tells two of one state apart."""
    return Outgoing(
        topic="status",
        qos=1,
        retain=True,
        message=message.StatusMessage(
            event_id=_own_event(device, f"status {state}", number),
            at=at,
            state=state,
            reasons=reasons,
        ),
    )


def of_info(
    *,
    device: str,
    number: int,
    at: datetime,
    version: str,
    ae_title: str,
    port: int,
    bundles: tuple[BundleRef, ...],
    backend: str | None,
    machine: Mapping[str, str],
) -> Outgoing:
    """What this device is; retained."""
    return Outgoing(
        topic="info",
        qos=1,
        retain=True,
        message=message.InfoMessage(
            event_id=_own_event(device, "info", number),
            at=at,
            version=version,
            ae_title=ae_title,
            port=port,
            bundles=bundles,
            backend=backend,
            machine=dict(machine),
        ),
    )


def of_update(
    *,
    device: str,
    number: int,
    at: datetime,
    version: str,
    slot: int,
    release: str | None,
    state: str | None,
    why: tuple[str, ...],
    hold: bool,
    recalled: bool,
) -> Outgoing:
    """How updates stand; retained."""
    return Outgoing(
        topic="update/reported",
        qos=1,
        retain=True,
        message=message.UpdateMessage(
            event_id=_own_event(device, "update", number),
            at=at,
            version=version,
            slot=slot,
            release=release,
            state=state,
            why=why,
            hold=hold,
            recalled=recalled,
        ),
    )


def of_health(
    *,
    device: str,
    number: int,
    at: datetime,
    uptime_s: float | None,
    load: float | None,
    memory_available_mb: float | None,
    disk_free_mb: float | None,
    spool_series: int | None,
    outbox_waiting: int,
    outbox_dead: int,
    oldest_waiting_s: float | None,
    stages: Mapping[str, str],
    engine: str | None = None,
    audit_head: tuple[int, str] | None = None,
    person_doubts: Mapping[str, int] = MappingProxyType({}),
    watch: Sequence[ToldRow] = (),
) -> Outgoing:
    """How the device does; not kept, and it expires."""
    head = None if audit_head is None else message.AuditHead(row=audit_head[0], hash=audit_head[1])
    return Outgoing(
        topic="health",
        qos=0,
        message=message.HealthMessage(
            event_id=_own_event(device, "health", number),
            at=at,
            uptime_s=uptime_s,
            load=load,
            memory_available_mb=memory_available_mb,
            disk_free_mb=disk_free_mb,
            spool_series=spool_series,
            outbox_waiting=outbox_waiting,
            outbox_dead=outbox_dead,
            oldest_waiting_s=oldest_waiting_s,
            stages=dict(stages),
            engine=engine,
            audit_head=head,
            person_doubts=dict(person_doubts) or None,
            watch=tuple(watch[:ROWS_MOST]) or None,
        ),
    )


def of_new_protocol(row: RowId, scanner: RowId, *, device: str, at: datetime) -> Owed:
    """A new row of a known scanner, as it is owed: once, however often it is said."""
    said = ScannerMessage(
        event_id=uuid.uuid5(NAMESPACE, f"event {device} new_protocol {row}"),
        at=at,
        row=row,
        scanner=scanner,
    )
    return enveloped(Outgoing(topic="scanner/event", qos=1, message=said))


def of_reply(
    topic: str,
    *,
    verb: Verb | Literal["unknown"],
    id: str,  # noqa: A002 - the field's name
    ok: bool,
    text: str,
    device: str,
    number: int,
    at: datetime,
) -> Outgoing:
    """The answer to one command; `topic` is relative to the device's root."""
    return Outgoing(
        topic=topic,
        qos=1,
        message=message.ReplyMessage(
            event_id=_own_event(device, "reply", number),
            at=at,
            verb=verb,
            id=id,
            ok=ok,
            text=text,
        ),
    )


def of_check(topic: str, *, retain: bool, at: datetime, filler: str) -> Outgoing:
    """What the doctor sends on one branch. Its event_id is random: each time is a new question."""
    check = message.CheckMessage(event_id=uuid.uuid4(), at=at, filler=filler)
    return Outgoing(topic=topic, qos=1, retain=retain, message=check)
