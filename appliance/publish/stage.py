"""The publish stage: what the outbox owes goes to the broker, in order, until it is acknowledged.

Rules (clauses: MQTT 5.0, and 3.1.1 where it says so)
- Delivered means PUBACK received (4.3.2). Until then a message stays in the journal, and every new
  connection begins again with the oldest one owed. Doubles carry the same event_id.
- Messages leave in seq order, at most `window` (and the broker's Receive Maximum, 4.9)
  unacknowledged at a time. TCP keeps the order up to the broker, 4.6 from there to subscribers.
- The journal is the session state: nothing waits in the client library. So packet identifiers and
  DUP do not survive a connection as 4.4 would have it; a receiver of QoS 1 keeps neither, and the
  event_id tells a double.
- Birth and will are on one retained topic (3.1.2.5): `init`, then `online` or `degraded` once
  commands are heard; `stopped` on purpose; `offline` from the broker. A session expiry above 0 and
  Clean Start 0 (3.1.2.4, 3.1.2.11.2) keep commands that come while the device is away.
- v5 first; 3.1.1 where the broker refuses v5 or hangs up on it (4.13, 3.1.1: 3.1.4).
- A broker that is away costs nothing but time: 1 to 30 s of growing, jittered pauses. One that is
  there but does not acknowledge is hung up on, and nothing counts as delivered. One that refuses a
  message (a PUBACK of 0x80 and above, 3.4.2.1) is asked again; where the message itself is the
  fault (0x90, 0x99, too large, or ten times 0x87), it is dead and the rest goes on.
- One thread. It sleeps in `select` until the broker speaks, a datagram on run/publish.sock says
  that something is owed, or the 5 s tick is due, which also covers a lost datagram.
- No pixels: this stage reads the journal and the settings, nothing else of the state folder but
  its own socket and the pause marker.
"""

from __future__ import annotations

import logging
import random
import select
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from types import FrameType

import paho.mqtt.client as paho
from pydantic import ValidationError

from appliance.errors import BrokerAway
from appliance.host import notify
from appliance.publish import commands, pause
from appliance.publish.link import Direct, Link, Pace, Protocol, next_protocol
from appliance.publish.presence import Known, Presence, utc_now
from appliance.results import message
from appliance.results.mqtt import MQTT, Envelope, keys_of
from appliance.settings import Settings
from appliance.store import bell
from appliance.store.delivery import Event
from appliance.store.events import BrokerAway as BrokerAwayEvent
from appliance.store.events import BrokerConnected, CommandRefused
from appliance.store.files import DISK
from appliance.store.journal import Journal
from appliance.store.lock import alone
from appliance.store.patience import Fault

log = logging.getLogger(__name__)

STAGE = "publish"
SUCCESS = (0x00, 0x10)  # Success, No matching subscribers (3.4.2.1)
FAULTS = {  # (3.4.2.1)
    0x87: Fault.FORBIDDEN,  # Not authorized, for this topic
    0x90: Fault.OWN,  # Topic Name invalid
    0x99: Fault.OWN,  # Payload format invalid
}
"""Whose fault a reason of PUBACK is; of all others it is a broker's that is busy or broken."""


class Publisher:
    """The stage: keeps a Link alive, empties the outbox through it, hears commands."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        heard: socket.socket,
        *,
        pace: Pace | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._pace = pace or Pace()
        self._presence = Presence(settings, journal)
        self._draw = draw
        self._ration = commands.Ration()
        self._root = message.root(settings.site.name, settings.site.device)
        self._heard = heard
        self._stopping = False
        self._paused = pause.paused(settings.state)
        self._protocol: Protocol = "3.1.1" if settings.mqtt.protocol == "3.1.1" else "5"
        self._attempt = 0
        self._known: Known | None = None
        self._last_status: tuple[message.DeviceState, tuple[str, ...]] | None = None
        self._last_away: str | None = None
        self._next_health = 0.0
        self._next_tick = 0.0
        self._next_sign = 0.0

    def stop(self) -> None:
        """End at the next turn of the loop. May be called from a signal handler or a thread."""
        self._stopping = True
        bell.ring(self._settings.state, STAGE)

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping:
            tried = self._protocol
            link = self._connect()
            if link is not None:
                self._serve(link)
            fell_back = tried == "5" and self._protocol == "3.1.1"
            if not self._stopping and not fell_back:
                self._attempt += 1
                self._pause(self._pace.patience.pause_s(self._attempt, self._draw))

    # The connection.

    def _connect(self) -> Link | None:
        will = self._letter(self._presence.status("offline", ()))
        mqtt = self._settings.mqtt
        site = self._settings.site  # a broker keeps one connection a client id (3.1.4)
        client_id = f"scanside-{site.name}-{site.device}"
        link = Link(mqtt, self._protocol, client_id, will, self._pace)
        try:
            link.open()
        except BrokerAway as e:
            self._away(e.text)
            return None
        return link

    def _serve(self, link: Link) -> None:
        """From CONNACK to the end of the connection."""
        self._last_status = None
        greeted = False
        while not self._stopping and link.lost is None:
            now = time.monotonic()
            if link.connack == 0:
                if not greeted:
                    greeted = True
                    self._greet(link)
                self._serve_once(link, now)
            if why := self._mute(link, now):
                link.hang_up(why)
                break
            self._sign_of_life(now)
            link.wait(self._heard, self._sleep_s(link, now))
            bell.take(self._heard)
        if link.connack == 0:
            self._settle(link)
        if self._stopping and link.lost is None:
            self._farewell(link)
            return
        self._after(link)

    def _after(self, link: Link) -> None:
        """What the connection that ended says about the next one."""
        mqtt = self._settings.mqtt
        self._away(f"{mqtt.host}:{mqtt.port}: {link.lost}")
        if link.proved and not link.refused:
            self._attempt = 0
        self._protocol = next_protocol(mqtt.protocol, self._protocol, link.outcome())

    def _away(self, why: str) -> None:
        """Once for each time that the broker goes away or gives another reason."""
        if why != self._last_away:
            self._last_away = why
            log.warning("broker away: %s", why)
            self._journal.events.add(BrokerAwayEvent(text=why))

    def _mute(self, link: Link, now: float) -> str | None:
        """Why the broker's silence is no longer waited for."""
        limit = self._pace.ack_s
        if link.connack is None or link.subscribed is None:
            return "no CONNACK or SUBACK in time" if now - link.opened > limit else None
        oldest = min((sent.at for sent in link.unacked.values()), default=now)
        return "no PUBACK in time" if now - oldest > limit else None

    def _sleep_s(self, link: Link, now: float) -> float:
        """Seconds until something is due without anybody's asking."""
        due = [now + self._pace.tick_s, now + self._settings.mqtt.keepalive_s / 4, self._next_sign]
        due += [sent.at + self._pace.ack_s for sent in link.unacked.values()][:1]
        if link.connack == 0:
            due.append(self._next_health)
        if link.subscribed is None:
            due.append(link.opened + self._pace.ack_s)
        else:
            due.append(self._next_tick)
        return max(0.0, min(due) - now) + 0.001

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; only `stop` cuts it short."""
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._sign_of_life(time.monotonic())
            select.select([self._heard], [], [], min(left, self._pace.tick_s))
            bell.take(self._heard)

    # What is said.

    def _greet(self, link: Link) -> None:
        self._last_away = None
        self._journal.events.add(BrokerConnected(protocol=link.protocol))
        self._send_status(link, "init", ())
        self._known = None
        link.subscribe(f"{self._root}/cmd/+")
        self._next_health = 0.0
        self._look_again()

    def _serve_once(self, link: Link, now: float) -> None:
        """One look at everything that may have changed."""
        self._settle(link)
        self._obey_commands(link)
        if now >= self._next_tick and link.subscribed is not None:
            self._next_tick = now + self._pace.tick_s
            self._paused = pause.paused(self._settings.state)
            refused = link.subscribed >= 0x80
            self._send_status(link, *self._presence.state(self._paused, commands_refused=refused))
            self._introduce(link)
        if link.lost is not None:
            return
        if now >= self._next_health:
            self._next_health = now + self._settings.mqtt.health_s
            health = self._presence.health(paused=self._paused)
            expiry_s = max(1, round(3 * self._settings.mqtt.health_s))
            link.send(self._letter(health, expiry_s=expiry_s))
        link.flush_direct()
        self._pump(link)

    def _pump(self, link: Link) -> None:
        """The oldest that are owed and not on their way, as many as there is room for."""
        if self._paused or link.refused or link.window_left <= 0:
            return
        under_way = {sent.key for sent in link.unacked.values()}
        for row in self._journal.owed.waiting(MQTT, link.window):
            if link.lost is not None or link.window_left <= 0:
                return
            if row.key in under_way:
                continue
            try:
                envelope = Envelope.model_validate_json(row.body or b"")
            except ValidationError:
                self._bury(row.key, "its envelope cannot be read")
                continue
            topic = f"{self._root}/{envelope.topic}"
            if link.too_large(topic, envelope.payload):
                self._bury(row.key, f"larger than the broker's {link.largest} bytes")
                continue
            link.send(Direct(topic, envelope.payload, 1, envelope.retain), row.key)

    def _settle(self, link: Link) -> None:
        """PUBACKs into the journal (3.4.2.1): those that came together cost one sync together."""
        acked, link.acked = link.acked, []
        taken = [sent.key for sent, reason in acked if reason in SUCCESS]
        link.proved = link.proved or bool(taken)
        if owed := [key for key in taken if key is not None]:
            self._journal.owed.ack(MQTT, owed)
        for sent, reason in acked:
            if reason not in SUCCESS and sent.key is not None:
                self._refused(link, sent.key, reason)

    def _refused(self, link: Link, key: str, reason: int) -> None:
        """The broker refused a message: bury it where it is at fault, else ask again later."""
        name = f"PUBACK 0x{reason:02x}"
        log.warning("message %s refused: %s", key, name)
        fault = FAULTS.get(reason, Fault.PASSING)
        # what is its own fault is dead at once; all else is counted first
        refused = 0 if fault is Fault.OWN else self._journal.owed.later(MQTT, key, name)
        if self._pace.patience.verdict(fault, refused) is Event.NEVER:
            self._bury(key, name)
        else:
            link.refused = True
            link.hang_up(name)

    def _bury(self, key: str, why: str) -> None:
        self._journal.owed.never(MQTT, key, why)
        self._look_again()

    def _obey_commands(self, link: Link) -> None:
        """Commands: obeyed, written down, answered, and only then acknowledged."""
        while link.heard and link.lost is None:
            letter = link.heard.popleft()
            self._answer(link, letter)
            link.acknowledge(letter)

    def _answer(self, link: Link, letter: paho.MQTTMessage) -> None:
        asked = commands.parse(
            self._root, letter.topic, bytes(letter.payload), retained=letter.retain
        )
        known = asked.command.id if isinstance(asked, commands.Asked) else asked.id
        if isinstance(asked, commands.Refused):
            answer = commands.Answer(False, asked.text)
        elif asked.verb == "ping" or self._ration.take(time.monotonic()):
            answer = commands.obey(asked, self)
        else:
            answer = commands.Answer(False, "too many commands, ask again in an hour")
        if not answer.ok:
            refused = CommandRefused(verb=asked.verb, id=known, text=answer.text)
            self._journal.events.add(refused)
        elif asked.verb != "ping":  # it changes nothing and comes all day long
            self._journal.audit.add("mqtt", "command", verb=asked.verb, id=known, text=answer.text)
        if asked.reply_to is None:
            return
        number = self._journal.owed.next_seq()
        reply = message.of_reply(
            asked.reply_to,
            verb=asked.verb,
            id=known,
            ok=answer.ok,
            text=answer.text,
            device=self._root,
            number=number,
            at=utc_now(),
        )
        given = getattr(letter.properties, "CorrelationData", None)
        link.direct.append(self._letter((reply, number), correlation=given))

    # The commands' desk.

    def resend(self, report_id: uuid.UUID) -> int:
        report = self._journal.reports.get(report_id)
        return 0 if report is None else self._journal.owed.again(MQTT, keys_of(report))

    def set_stat(self, study: str) -> int:
        return self._journal.series.set_stat_of_study(study)

    def set_paused(self, paused: bool) -> bool:
        self._paused = paused
        self._look_again()
        return pause.set_paused(self._settings.state, paused)

    # Messages that do not pass the outbox.

    def _look_again(self) -> None:
        """Something that the status shows may have changed."""
        self._next_tick = 0.0

    def _send_status(
        self, link: Link, state: message.DeviceState, reasons: tuple[str, ...]
    ) -> None:
        """Status, where it changed."""
        if self._last_status != (state, reasons):
            self._last_status = (state, reasons)
            link.direct.append(self._letter(self._presence.status(state, reasons)))

    def _introduce(self, link: Link) -> None:
        """Info, where it changed."""
        known = self._presence.known()
        if self._known != known:
            self._known = known
            link.direct.append(self._letter(self._presence.info(known)))

    def _letter(
        self,
        numbered: tuple[message.Outgoing, int],
        *,
        expiry_s: int | None = None,
        correlation: bytes | None = None,
    ) -> Direct:
        outgoing, number = numbered
        return Direct(
            f"{self._root}/{outgoing.topic}",
            outgoing.message.to_json(number),
            outgoing.qos,
            outgoing.retain,
            expiry_s,
            correlation,
        )

    def _farewell(self, link: Link) -> None:
        """What is still owed, as far as it goes quickly; `stopped`; then DISCONNECT."""
        if link.connack == 0:
            self._drain(link)
            self._send_status(link, "stopped", ())
            self._drain(link)
        link.goodbye()

    def _drain(self, link: Link) -> None:
        end = time.monotonic() + self._pace.farewell_s
        while link.lost is None and (left := end - time.monotonic()) > 0:
            link.flush_direct()
            self._pump(link)
            if not link.direct and not link.unacked:
                return
            link.wait(None, left)
            self._settle(link)

    def _sign_of_life(self, now: float) -> None:
        if now >= self._next_sign:
            self._next_sign = now + (notify.watchdog_s() or self._pace.tick_s)
            notify.watchdog()


def main(settings: Settings, ready: Callable[[], object] = notify.ready) -> int:
    """`scanside publish`: serve until SIGTERM or SIGINT; 0 after a clean stop."""
    DISK.make_folder(settings.state)
    with (
        alone(settings.state, STAGE),
        Journal.open(settings.state) as journal,
        bell.hearing(settings.state, STAGE) as heard,
    ):
        publisher = Publisher(settings, journal, heard)

        def end(_number: int, _frame: FrameType | None) -> None:
            notify.stopping()
            publisher.stop()

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, end)
            signal.signal(signal.SIGINT, end)
        ready()
        publisher.run()
    return 0
