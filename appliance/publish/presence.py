"""What the device says of itself: `status`, `info`, `update`, `health`; not through the outbox.

Rules
- Each takes a number of the journal's `seq`, so that the whole device counts in one row.
- `online` means that every stage serves, results leave and commands are heard. Whatever stands
  against that is named: paused, outbox_dead, commands_refused, disk_full, no_bundle (`work` has
  none, and was not recalled), broker_unconfirmed (the broker acknowledges nothing),
  client_id_taken (another client has our id), deliveries_dropped (objects that an archive did not
  take in time were given up, within the last week), how a stage does (work_down, work_stuck,
  receive_down ...: store/conditions.py) and what it suffers from (clock_wrong ...:
  store/heartbeat.py). Then the state is `degraded`.
- Where nothing stands against it but that stages have not begun to serve yet (work_starting ...),
  the state is `init`.
- While stages are switched to another slot, or back, the state is `updating`, whatever stands
  against `online`; so it is on a trial against which nothing stands.
- `health` names every stage, with the word that `status` and the doctor have for it.
- An alarm of a scanner stands in `health` alone, as `work` left it for us (store/library.py): it is
  none of the reasons, so no status, no trial of an update and no analysis heeds it.
- Which bundles and which backend are in use is what `work` wrote last: its event Loaded, else the
  newest report. Why a GPU does not serve, or how far its engine is built, is its event Engine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone

from appliance.host import clock, facts
from appliance.report import BundleRef
from appliance.results import device, message
from appliance.settings import Settings
from appliance.store import conditions, library, updating
from appliance.store.conditions import Condition, State
from appliance.store.events import DeliveriesDropped, Engine, Loaded
from appliance.store.heartbeat import Heart, TroubleCode
from appliance.store.journal import Journal

DROPPED_S = 7 * 86400.0
"""So long the status says that deliveries were given up."""
LATEST_STATES, MOST_TEXT = 20, 500
"""Events looked through, characters of health's `engine`."""

Numbered = tuple[message.Outgoing, int]


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class Known:
    """What `info` says that may change while the device runs."""

    bundles: tuple[BundleRef, ...]
    backend: str | None


class Presence:
    """Composes the four messages from settings, journal and machine."""

    def __init__(self, settings: Settings, journal: Journal, heart: Heart) -> None:
        self._settings = settings
        self._journal = journal
        self._heart = heart
        self._clock = clock.Watch(journal.events.latest_at())
        self._device = message.root(settings.site.name, settings.site.device)

    def state(
        self, paused: bool, *, commands_refused: bool, broker: tuple[str, ...] = ()
    ) -> tuple[message.DeviceState, tuple[str, ...]]:
        """`online`, or `degraded` or `init` with every reason. broker: those that the connection
        shows."""
        self._look_at_clock()
        free = facts.disk_free_mb(self._settings.state)
        opened = self._journal.events.of(Loaded, 1)
        reasons = {
            "paused": paused,
            "outbox_dead": self._journal.owed.counts().dead > 0,
            "commands_refused": commands_refused,
            "disk_full": free is not None and free < self._settings.retain.reserve_mb,
            "no_bundle": any(not one.event.bundles for one in opened),
            "deliveries_dropped": any(
                utc_now().timestamp() - one.at < DROPPED_S
                for one in self._journal.events.of(DeliveriesDropped, 1)
            ),
        }
        of_stages = conditions.reasons(self._conditions())
        reasons["no_bundle"] &= TroubleCode.RECALLED.value not in of_stages
        ours = (*(reason for reason, holds in reasons.items() if holds), *broker)
        found = (*ours, *of_stages)
        under_way = self.updates()
        if under_way is not None and (under_way.switches or (under_way.on_trial and not found)):
            return "updating", found
        if found and all(map(conditions.is_starting, found)):
            return "init", found
        return ("degraded" if found else "online"), found

    def _conditions(self) -> dict[str, Condition]:
        return conditions.look(self._settings)

    def _look_at_clock(self) -> None:
        """Whether the clock of this machine can be right; said with the next beat."""
        wrong = self._clock.wrong(utc_now().timestamp(), time.monotonic())
        if wrong is None:
            self._heart.recover(TroubleCode.CLOCK_WRONG)
        else:
            self._heart.suffer(TroubleCode.CLOCK_WRONG, wrong)
        self._heart.go_on()

    def status(self, state: message.DeviceState, reasons: tuple[str, ...]) -> Numbered:
        number = self._journal.owed.next_seq()
        made = device.of_status(state, reasons, device=self._device, number=number, at=utc_now())
        return made, number

    def known(self) -> Known:
        """Bundles and backend in use, as far as the journal tells."""
        for loaded in self._journal.events.of(Loaded, 1):
            return Known(loaded.event.bundles, loaded.event.backend)
        for report in self._journal.reports.recent(1):
            used = report.backend
            return Known(
                (report.bundle,) if report.bundle else (),
                f"{used.name} {used.precision}" if used else None,
            )
        return Known((), None)

    def info(self, known: Known) -> Numbered:
        number = self._journal.owed.next_seq()
        seen = facts.read(self._settings.state)
        machine = {
            "model": seen.model or "",
            "system": seen.system,
            "python": seen.python,
            "cores": str(seen.cores),
        }
        made = device.of_info(
            device=self._device,
            number=number,
            at=utc_now(),
            version=facts.version(),
            ae_title=self._settings.dicom.ae_title,
            port=self._settings.dicom.port,
            bundles=known.bundles,
            backend=known.backend,
            machine=machine,
        )
        return made, number

    def updates(self) -> updating.Updating | None:
        """How updates stand; None where there are no slots."""
        return updating.read(self._settings)

    def update(self, said: updating.Updating) -> Numbered:
        number = self._journal.owed.next_seq()
        made = device.of_update(
            device=self._device,
            number=number,
            at=utc_now(),
            version=said.version,
            slot=said.slot,
            release=said.release,
            state=said.state,
            why=said.why,
            hold=said.hold,
            recalled=said.recalled,
        )
        return made, number

    def health(self, *, paused: bool) -> Numbered:
        number = self._journal.owed.next_seq()
        seen = facts.read(self._settings.state)
        owed = self._journal.owed.counts()
        oldest = owed.oldest_waiting
        at = utc_now()
        stages = {name: one.state.value for name, one in self._conditions().items()}
        if paused and stages.get("publish") == State.RUNNING:
            stages["publish"] = "paused"
        made = device.of_health(
            device=self._device,
            number=number,
            at=at,
            uptime_s=seen.uptime_s,
            load=seen.load,
            memory_available_mb=seen.memory_available_mb,
            disk_free_mb=seen.disk_free_mb,
            spool_series=len(self._journal.series.all("open", "complete")),
            outbox_waiting=owed.waiting,
            outbox_dead=owed.dead,
            oldest_waiting_s=None if oldest is None else max(0.0, at.timestamp() - oldest),
            stages=stages,
            engine=self._engine(),
            audit_head=self._journal.audit.head(),
            person_doubts=self._journal.comparisons.alarms(),
            watch=library.told(self._settings.state).rows,
        )
        return made, number

    def _engine(self) -> str | None:
        """What `work` said last of each bundle and the GPU (its event `engine`)."""
        states: dict[str, str] = {}
        for event in (one.event for one in self._journal.events.of(Engine, LATEST_STATES)):
            code = f" [{event.code}]" if event.code else ""
            where = event.state if event.state != "ready" else "gpu"
            states.setdefault(event.bundle, f"{event.bundle}: {where}: {event.text}{code}")
        return "; ".join(states[name] for name in sorted(states))[:MOST_TEXT] or None
