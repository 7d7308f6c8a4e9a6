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
- What is asked of a broker is in `terms`: v5, a retained status and QoS 1 where it has them. One
  without retained messages is spoken to without. One that takes QoS 0 only confirms nothing: what
  is owed counts as delivered once the broker has read it, marked UNCONFIRMED, and the status says
  `broker_unconfirmed`.
- A broker that is away costs nothing but time: 1 to 30 s of growing, jittered pauses. Only progress
  of what is owed ends their growth, or a connection that stood while nothing was owed. One that is
  there but does not acknowledge is hung up on, and nothing counts as delivered. One that refuses a
  message (a PUBACK of 0x80 and above, 3.4.2.1) is asked again; where the message itself is the
  fault (0x90, 0x95, 0x99, too large, or ten times 0x87), it is dead and the rest goes on. One that
  has no word for it and hangs up on the message, or acknowledges all but it: `suspicion`.
- A broker keeps one connection a client id (3.1.4). A second client of our id is named in the log,
  the journal, the status (`client_id_taken`) and by the doctor.
- What is owed goes before commands, and commands before replies: no flood of them delays a finding.
- One thread. It sleeps in `select` until the broker speaks, a datagram on run/publish.sock says
  that something is owed, or the 5 s tick is due, which also covers a lost datagram.
- The status is said again every 10 minutes: what anybody else wrote there does not stay.
- No pixels: this stage reads the journal and the settings, nothing else of the state folder but
  run/, where the stages say how they do, and the pause marker.
"""

from __future__ import annotations

import logging
import random
import select
import socket
import time
from collections.abc import Callable

from pydantic import ValidationError

from appliance.errors import BrokerAway
from appliance.host import notify
from appliance.publish import desired, pause, terms
from appliance.publish.announce import Announcer, State
from appliance.publish.answering import Answering
from appliance.publish.link import Direct, Link, Pace
from appliance.publish.presence import Presence, utc_now
from appliance.publish.suspicion import Suspicion
from appliance.results import message
from appliance.results.mqtt import MQTT, Envelope
from appliance.runtime import serving
from appliance.settings import Settings, Site
from appliance.store import bell
from appliance.store.delivery import Event
from appliance.store.events import BrokerAway as BrokerAwayEvent
from appliance.store.events import BrokerConnected
from appliance.store.files import DISK
from appliance.store.heartbeat import Heart
from appliance.store.journal import Journal
from appliance.store.patience import Fault

log = logging.getLogger(__name__)

STAGE = "publish"
CLIENT_ID_TAKEN = "client_id_taken"
SHORT = 3
"""So many connections in a row that ended soon are not the network's whim."""
UNCONFIRMED_BROKER = "broker_unconfirmed"
"""Reasons of the status `degraded`."""
UNCONFIRMED = "unconfirmed"
"""The mark of what was delivered to a broker that confirms nothing; `resend` sends it again."""
SUCCESS = (0x00, 0x10)  # Success, No matching subscribers (3.4.2.1)
FAULTS = {  # (3.4.2.1)
    0x87: Fault.FORBIDDEN,  # Not authorized, for this topic
    0x90: Fault.OWN,  # Topic Name invalid
    0x95: Fault.OWN,  # Packet too large; the library may take it for a broken protocol
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
        heart: Heart,
        *,
        pace: Pace | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._pace = pace or Pace()
        self._heart = heart
        self._presence = Presence(settings, journal, heart)
        self._announcer = Announcer(
            self._presence,
            message.root(settings.site.name, settings.site.device),
            status_s=self._pace.status_s,
            health_s=settings.mqtt.health_s,
        )
        self._draw = draw
        self._answering = Answering(settings, journal, self._pause_changed)
        self._suspicion = Suspicion(self._pace.patience)
        self._root = message.root(settings.site.name, settings.site.device)
        self._heard = heard
        self._stopping = False
        self._paused = pause.paused(settings.state)
        self._terms = self._best = terms.best(settings.mqtt.protocol)
        self._attempt = 0
        self._short = 0
        self._last_away: str | None = None
        self._next_tick = 0.0

    def stop(self) -> None:
        """End at the next turn of the loop. May be called from a signal handler or a thread."""
        self._stopping = True
        bell.ring(self._settings.state, STAGE)

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping:
            tried = self._terms
            link = self._connect()
            if link is not None:
                self._serve(link)
            asks_less = tried.protocol == "5" and self._terms not in (tried, self._best)
            if not self._stopping and not asks_less:
                self._attempt += 1
                self._pause(self._pace.patience.pause_s(self._attempt, self._draw))

    # The connection.

    def _connect(self) -> Link | None:
        client_id = client_id_of(self._settings.site)
        will = self._announcer.will()
        link = Link(self._settings.mqtt, self._terms, client_id, will, self._pace)
        try:
            link.open()
        except BrokerAway as e:
            self._short = 0
            self._away(e.text)
            return None
        return link

    def _serve(self, link: Link) -> None:
        """From CONNACK to the end of the connection."""
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
                link.silent = True
                break
            self._heart.beat()
            link.wait(self._heard, 0.0 if link.heard else self._sleep_s(link, now))
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
        self._count_short(link)
        if self._id_taken:
            why = (
                f"another client seems to connect as {client_id_of(self._settings.site)!r}, which "
                "is our client id: give each device a name of its own in [site] device "
                f"({link.lost})"
            )
            self._away(f"{mqtt.host}:{mqtt.port}: {why}", code=CLIENT_ID_TAKEN)
        else:
            self._away(f"{mqtt.host}:{mqtt.port}: {link.lost}")
        self._suspect(link)
        owed = not self._paused and bool(self._journal.owed.waiting(MQTT, 1))
        if (link.delivered or (not owed and self._stood(link))) and not link.refused:
            self._attempt = 0
        self._terms = terms.following(mqtt.protocol, self._terms, link.outcome())

    @property
    def _id_taken(self) -> bool:
        """Whether another client seems to have our id (see `_count_short`)."""
        return self._short >= SHORT

    def _count_short(self, link: Link) -> None:
        """Connections in a row that the broker ended soon, and not for what was sent on them.

        A broker that gives our id to another client says so in v5 (DISCONNECT 0x8E), if it is kind;
        mosquitto 2.0.11 and every 3.1.1 broker just end the connection.
        """
        if link.taken_over:
            self._short = SHORT
        elif self._stood(link) or link.connack != 0 or link.hung_up or link.owed_under_way():
            self._short = 0
        else:
            self._short += 1

    def _stood(self, link: Link) -> bool:
        """Whether the connection lasted: two devices of one id never let each other's."""
        longest = 2 * self._pace.patience.longest_s
        return link.connack == 0 and time.monotonic() - link.opened > longest

    def _suspect(self, link: Link) -> None:
        """Whether the broker hung up on a message, or acknowledged all but that one."""
        unanswered = link.owed_under_way()
        if not unanswered or link.refused or link.taken_over:
            return
        if link.silent and not link.overtaken:
            return
        key, why, alone = unanswered[0], str(link.lost), self._suspicion.alone
        if self._suspicion.lost(key):
            times = self._pace.patience.losses
            log.warning("message %s cost connection after connection: %s", key, why)
            self._bury(key, f"sent alone, it cost {times} connections, the last one by: {why}")
        elif alone:  # before that it is not known to be its fault
            self._journal.owed.later(MQTT, key, why)

    def _away(self, why: str, code: str = "") -> None:
        """Once for each time that the broker goes away or gives another reason."""
        if why != self._last_away:
            self._last_away = why
            log.warning("broker away: %s", why)
            self._journal.events.add(BrokerAwayEvent(text=why, code=code))

    def _mute(self, link: Link, now: float) -> str | None:
        """Why the broker's silence is no longer waited for."""
        limit = self._pace.ack_s
        if link.connack is None or link.subscribed is None:
            return "no CONNACK or SUBACK in time" if now - link.opened > limit else None
        oldest = min((sent.at for sent in link.unacked.values()), default=now)
        return "no PUBACK in time" if now - oldest > limit else None

    def _sleep_s(self, link: Link, now: float) -> float:
        """Seconds until something is due without anybody's asking."""
        due = [now + self._pace.tick_s, now + self._settings.mqtt.keepalive_s / 4]
        due += [sent.at + self._pace.ack_s for sent in link.unacked.values()][:1]
        if link.connack == 0:
            due.append(self._announcer.health_due)
        if link.subscribed is None:
            due.append(link.opened + self._pace.ack_s)
        else:
            due.append(self._next_tick)
        return max(0.0, min(due) - now) + 0.001

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; only `stop` cuts it short."""
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._heart.beat()
            select.select([self._heard], [], [], min(left, self._pace.tick_s))
            bell.take(self._heard)

    # What is said.

    def _greet(self, link: Link) -> None:
        self._last_away = None
        self._journal.events.add(
            BrokerConnected(protocol=link.protocol, retain=link.retain, qos=link.qos)
        )
        lacks = [
            text
            for text, there in (
                ("keeps no retained messages", link.retain),
                ("confirms nothing (QoS 0 only)", link.qos > 0),
            )
            if not there
        ]
        if lacks:
            log.warning("the broker %s", " and ".join(lacks))
        self._announcer.greet(link)
        wished = (f"{self._root}/{desired.TOPIC}",) if self._settings.update.desired else ()
        link.subscribe(f"{self._root}/cmd/+", kept=wished)
        self._look_again()

    def _serve_once(self, link: Link, now: float) -> None:
        """One look at everything that may have changed; what is owed first, replies last."""
        self._settle(link)
        if now >= self._next_tick and link.subscribed is not None:
            self._next_tick = now + self._pace.tick_s
            self._look_at_pause()
            self._announcer.status(link, self._state(link))
            self._announcer.introduce(link)
        if link.lost is not None:
            return
        self._announcer.health(link, now, paused=self._paused)
        link.flush_direct()
        self._pump(link)
        self._answering.turn(link)
        link.flush_replies()

    def _pump(self, link: Link) -> None:
        """The oldest that are owed and not on their way, as many as there is room for."""
        alone = self._suspicion.alone
        under_way = set(link.owed_under_way())
        if self._paused or link.refused or link.window_left <= 0 or (alone and under_way):
            return
        for row in self._journal.owed.waiting(MQTT, link.window):
            if link.lost is not None or link.window_left <= 0:
                return
            if row.key in under_way:
                continue
            try:
                envelope = Envelope.stored(row.body or b"")
            except ValidationError:
                self._bury(row.key, "its envelope cannot be read")
                continue
            topic = f"{self._root}/{envelope.topic}"
            if link.too_large(topic, envelope.payload):
                self._bury(row.key, f"larger than the broker's {link.largest} bytes")
                continue
            if alone and not (link.answered if link.qos else link.subscribed is not None):
                return  # first something else must show that the connection works
            link.send(Direct(topic, envelope.payload, 1, envelope.retain), row.key)
            if alone:
                # the broker answers in order, so what follows shows whether it passed this one over
                self._announcer.repeat(link)
                link.flush_direct()
                return

    def _settle(self, link: Link) -> None:
        """PUBACKs into the journal (3.4.2.1): those that came together cost one sync together."""
        acked, link.acked = link.acked, []
        taken = [sent.key for sent, reason in acked if reason in SUCCESS]
        if owed := [key for key in taken if key is not None]:
            link.delivered = True
            self._suspicion.taken(owed)
            self._journal.owed.ack(MQTT, owed, mark=None if link.qos else UNCONFIRMED)
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

    # The pause.

    def _pause_changed(self) -> None:
        """A command held the outbox or let it go."""
        self._paused = pause.paused(self._settings.state)
        self._look_again()

    def _look_at_pause(self) -> None:
        """Whether the outbox is held; a pause that lasted too long ends here."""
        state = self._settings.state
        if pause.is_over(state, self._settings.mqtt.pause_s, utc_now()):
            pause.set_paused(state, False)
            log.warning("the pause has ended by itself")
            self._journal.audit.add("publish", "pause_expired")
        self._paused = pause.paused(state)

    # Messages that do not pass the outbox.

    def _look_again(self) -> None:
        """Something that the status shows may have changed."""
        self._next_tick = 0.0

    def _state(self, link: Link) -> State:
        """What the status is now."""
        taken = self._id_taken and not self._stood(link)
        broker = {UNCONFIRMED_BROKER: link.qos == 0, CLIENT_ID_TAKEN: taken}
        refused = link.subscribed is None or link.subscribed >= 0x80
        return self._presence.state(
            self._paused,
            commands_refused=refused,
            broker=tuple(reason for reason, holds in broker.items() if holds),
        )

    def _farewell(self, link: Link) -> None:
        """What is still owed, as far as it goes quickly; `stopped`; then DISCONNECT."""
        if link.connack == 0:
            self._drain(link)
            self._announcer.status(link, ("stopped", ()))
            self._drain(link)
        link.goodbye()

    def _drain(self, link: Link) -> None:
        end = time.monotonic() + self._pace.farewell_s
        while link.lost is None and (left := end - time.monotonic()) > 0:
            link.flush_direct()
            self._pump(link)
            link.flush_replies()
            if not link.direct and not link.replies and not link.unacked:
                return
            link.wait(None, left)
            self._settle(link)


def client_id_of(site: Site) -> str:
    """Under which id this device connects: its own only while no two devices have one name."""
    return f"scanside-{site.name}-{site.device}"


def main(settings: Settings, ready: Callable[[], object] = notify.ready) -> int:
    """`scanside publish`: serve until SIGTERM or SIGINT; 0 after a clean stop."""
    DISK.make_folder(settings.state)
    return serving.serve(settings, STAGE, Publisher, ready)
