"""How the device does, as lines of a page: each with a sign, and what to do where it is not well.
Pure.

Rules
- How a stage does is said by `store/conditions.py`, in the words of `status` and the doctor.
- A figure that the machine does not give is said to be unknown, and is no alarm.
- A scanner is silent too long when its pause is SILENT_TIMES as long as the longest it has made
  between two studies that are still here, and longer than SILENT_LEAST_S. Before SILENT_STUDIES
  studies nobody knows what is usual for it.
- What the doctor said is shown as it said it, with the time: it is asked by a person, not by a
  page that is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.host.facts import Facts
from appliance.report import BundleRef
from appliance.store.conditions import Condition, State
from appliance.store.events import ArchiveAway, ArchiveReached, BrokerAway, Engine, Happened
from appliance.store.rows import Queue, Sender
from appliance.watching.qa import QaRecord
from appliance.watching.scanner import UNKNOWN
from appliance.web.views.light import Sign
from appliance.web.views.phrase import Phrase

LATE_S: Final = 300.0
"""What waits for longer is looked at: a broker that restarts takes less."""
HOT_C: Final = 90.0
"""Boards of this kind slow down a little above."""
EXPIRES_DAYS: Final = 30.0
SHOWN_PHANTOMS: Final = 7
SILENT_TIMES, SILENT_LEAST_S, SILENT_STUDIES = 2.0, 86400.0, 5


@dataclass(frozen=True, slots=True)
class Line:
    """One thing of the device."""

    sign: Sign
    name: Phrase
    text: Phrase
    detail: str = ""
    """In the words of the part that says it, which are English."""
    remedy: str = ""
    why: tuple[Phrase, ...] = ()
    """Codes of closed lists, in words."""


@dataclass(frozen=True, slots=True)
class Section:
    """Lines that belong together."""

    title: Phrase
    lines: tuple[Line, ...]

    @property
    def sign(self) -> Sign:
        """The worst of its lines."""
        return worst(line.sign for line in self.lines)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that the settings name."""

    used_for: str
    """The setting."""
    ends: datetime | None
    """None where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look at the device found."""

    now: float
    facts: Facts
    temperature_c: float | None
    release: str
    reserve_mb: int
    target_free_mb: int
    stages: Mapping[str, Condition]
    destinations: Sequence[str]
    queues: Sequence[Queue]
    last_told: float | None
    broker_away: Happened[BrokerAway] | None
    """None where it was reached since."""
    archives: Mapping[str, Happened[ArchiveAway] | Happened[ArchiveReached]]
    """What was noted last of each archive."""
    bundles: Sequence[BundleRef] | None
    """None where `work` has not said yet which it has open."""
    refused: str
    """What is wrong with a bundle; empty: nothing."""
    backend: str | None
    engines: Sequence[Engine]
    """What was said last of each bundle and the GPU."""
    certificates: Sequence[Certificate]
    senders: Sequence[Sender]
    phantoms: Sequence[QaRecord] = ()
    """Water phantoms that were measured, the oldest first."""
    phantom_days: float | None = None
    """How often one is asked for; None: not at all."""
    updates: Sequence[Line] = ()
    """How the box stands to its releases; none where it has no state of updates."""


_ORDER: Final[tuple[Sign, ...]] = ("stop", "look", "wait", "ok", "quiet")
_STAGE: Final[Mapping[State, Sign]] = {
    State.ABSENT: "stop",
    State.DOWN: "stop",
    State.STUCK: "stop",
    State.STARTING: "wait",
    State.RUNNING: "ok",
}


_ENGINE: Final[Mapping[str, Sign]] = {"ready": "ok", "building": "wait", "fallback": "look"}


def worst(signs: Iterable[Sign]) -> Sign:
    """Of several signs the one that a person must see first; none: quiet."""
    found = set(signs)
    return next((sign for sign in _ORDER if sign in found), "quiet")


def sections(seen: Looked) -> tuple[Section, ...]:
    """The page, from what needs a person soonest; a section without a line is not there."""
    found = (
        Section(Phrase("health.stages"), tuple(_stages(seen))),
        Section(Phrase("health.queues"), tuple(_queues(seen))),
        Section(Phrase("health.analysis"), tuple(_analysis(seen))),
        Section(Phrase("health.updates"), tuple(seen.updates)),
        Section(Phrase("health.machine"), tuple(_machine(seen))),
        Section(Phrase("health.scanners"), tuple(_scanners(seen))),
        Section(Phrase("health.phantoms"), tuple(_phantoms(seen))),
        Section(Phrase("health.certificates"), tuple(_certificates(seen))),
    )
    return tuple(section for section in found if section.lines)


def _stages(seen: Looked) -> list[Line]:
    found = []
    for name, one in seen.stages.items():
        state = Phrase(f"health.state.{one.state.value}")
        found.append(Line(_STAGE[one.state], Phrase(f"health.stage.{name}"), state, one.text))
        found += [
            Line("look", Phrase(f"health.stage.{name}"), Phrase("health.trouble"), t.text, t.remedy)
            for t in one.troubles
        ]
    return found


def _queues(seen: Looked) -> list[Line]:
    queues = {queue.destination: queue for queue in seen.queues}
    names = dict.fromkeys([*seen.destinations, *queues])
    found = [_queue(queues.get(name, Queue(name, 0, 0, None)), seen.now) for name in names]
    last, name = seen.last_told, Phrase("health.last_message")
    if seen.broker_away is not None:
        away = seen.broker_away
        text = Phrase("health.broker_away", {"at": away.at})
        found.append(Line("stop", name, text, away.event.text))
    if last is None:
        found.append(Line("quiet", name, Phrase("health.no_message")))
    else:
        found.append(Line("ok", name, Phrase("health.message", {"at": last})))
    for archive, noted in seen.archives.items():
        if isinstance(noted.event, ArchiveAway):
            values = {"archive": archive, "at": noted.at}
            found.append(
                Line(
                    "stop",
                    Phrase("health.archive", {"archive": archive}),
                    Phrase("health.archive_away", values),
                    noted.event.text,
                )
            )
    return found


def _queue(queue: Queue, now: float) -> Line:
    name = Phrase("health.queue", {"destination": queue.destination})
    age = None if queue.oldest_waiting is None else max(0.0, now - queue.oldest_waiting)
    if queue.dead:
        counts = {"dead": queue.dead, "waiting": queue.waiting}
        return Line("stop", name, Phrase("health.dead", counts), remedy="scanside outbox list")
    if not queue.waiting:
        return Line("ok", name, Phrase("health.empty"))
    values = {"waiting": queue.waiting, "age": age or 0.0}
    late = age is not None and age > LATE_S
    return Line("look" if late else "wait", name, Phrase("health.waiting", values))


def _analysis(seen: Looked) -> list[Line]:
    found = []
    if seen.bundles is None:
        found.append(Line("wait", Phrase("health.bundle"), Phrase("health.unknown")))
    elif not seen.bundles:
        remedy = "scanside bundle list"
        found.append(Line("stop", Phrase("health.bundle"), Phrase("health.no_bundle"), "", remedy))
    for bundle in seen.bundles or ():
        values = {"name": bundle.name, "version": bundle.version}
        found.append(Line("ok", Phrase("health.bundle"), Phrase("health.bundle_open", values)))
    if seen.refused:
        refused = Phrase("health.bundle_refused")
        found.append(
            Line("look", Phrase("health.bundle"), refused, seen.refused, "scanside doctor")
        )
    if seen.backend:
        text = Phrase("health.backend_is", {"backend": seen.backend})
        found.append(Line("ok", Phrase("health.backend"), text))
    for engine in seen.engines:
        text = Phrase(f"health.engine_{engine.state}", {"bundle": engine.bundle})
        sign = _ENGINE[engine.state]
        found.append(Line(sign, Phrase("health.gpu"), text, engine.text, engine.remedy))
    release = Phrase("health.release_is", {"release": seen.release})
    found.append(Line("ok", Phrase("health.release"), release))
    return found


def _machine(seen: Looked) -> list[Line]:
    hot, memory = seen.temperature_c, seen.facts.memory_available_mb
    return [
        _disk(seen),
        _figure("temperature", None if hot is None else {"celsius": hot}, (hot or 0.0) >= HOT_C),
        _figure("memory", None if memory is None else {"gb": memory / 1000}),
    ]


def _disk(seen: Looked) -> Line:
    free, name = seen.facts.disk_free_mb, Phrase("health.disk")
    if free is None:
        return Line("quiet", name, Phrase("health.unknown"))
    values = {"gb": free / 1000}
    if free < seen.reserve_mb:
        return Line("stop", name, Phrase("health.disk_full", values))
    if free < seen.target_free_mb:
        return Line("look", name, Phrase("health.disk_short", values))
    return Line("ok", name, Phrase("health.disk_free", values))


def _figure(name: str, values: Mapping[str, object] | None, too_high: bool = False) -> Line:
    if values is None:
        return Line("quiet", Phrase(f"health.{name}"), Phrase("health.unknown"))
    sign: Sign = "look" if too_high else "ok"
    return Line(sign, Phrase(f"health.{name}"), Phrase(f"health.{name}_is", values))


def _scanners(seen: Looked) -> list[Line]:
    found = []
    for one in seen.senders:
        pause = seen.now - one.last_at
        values = {"pause": max(0.0, pause), "studies": one.studies}
        name = Phrase("health.scanner", {"scanner": one.calling_ae})
        if is_silent(one, seen.now):
            found.append(Line("look", name, Phrase("health.silent", values)))
        else:
            found.append(Line("ok", name, Phrase("health.sent", values)))
    return found or [Line("quiet", Phrase("health.scanners"), Phrase("health.no_scanner"))]


def _phantoms(seen: Looked) -> Iterator[Line]:
    """The newest water phantoms, the last first, and whether the next one is overdue."""
    last = seen.phantoms[-1].at.timestamp() if seen.phantoms else None
    if seen.phantom_days is not None:
        late = None if last is None else max(0.0, seen.now - last)
        name, remedy = Phrase("health.phantom_next"), "scanside qa --trend"
        if late is None:
            yield Line("look", name, Phrase("health.phantom_never"), "", remedy)
        elif late > seen.phantom_days * 86400:
            text = Phrase("health.phantom_overdue", {"age": late, "days": seen.phantom_days})
            yield Line("look", name, text, "", remedy)
    for one in reversed(seen.phantoms[-SHOWN_PHANTOMS:]):
        sign: Sign = "ok" if one.verdict == "passed" else "look"
        values: dict[str, object] = {"at": one.at.timestamp()}
        figures = one.figures
        if figures is not None:
            values |= {
                "water": f"{figures.water_hu:.1f}",
                "noise": f"{figures.noise_hu:.1f}",
                "response": "-"
                if figures.response_50_per_mm is None
                else f"{figures.response_50_per_mm:.2f}",
            }
        known = [part for part in (one.scanner.model, one.scanner.kernel) if part != UNKNOWN]
        name = Phrase("health.phantom_unknown")
        if known:
            name = Phrase("health.phantom", {"scanner": " ".join(known)})
        why = (
            *(Phrase(f"room.phantom.{code.value}") for code in one.codes),
            *(Phrase(f"reasons.what.{reason.value}") for reason in one.reasons),
        )
        yield Line(sign, name, Phrase(f"health.phantom_{one.verdict}", values), why=why)


def is_silent(one: Sender, now: float) -> bool:
    """Whether a scanner has not sent for longer than is usual for it."""
    if one.studies < SILENT_STUDIES or one.longest_pause_s is None:
        return False
    return now - one.last_at > max(SILENT_LEAST_S, SILENT_TIMES * one.longest_pause_s)


def _certificates(seen: Looked) -> list[Line]:
    found = []
    for one in seen.certificates:
        name = Phrase("health.certificate", {"used_for": one.used_for})
        if one.ends is None:
            found.append(Line("look", name, Phrase("health.unreadable")))
            continue
        days = (one.ends.timestamp() - seen.now) / 86400
        key = "ended" if days < 0 else "ends"
        sign: Sign = "stop" if days < 0 else "look" if days < EXPIRES_DAYS else "ok"
        found.append(Line(sign, name, Phrase(f"health.{key}", {"days": abs(days)})))
    return found or [Line("quiet", Phrase("health.certificates"), Phrase("health.no_certificate"))]
