"""One connection to the broker, over paho-mqtt, without its threads and without its queue.

Rules (clauses: MQTT 5.0)
- A Link lives from CONNECT to the end of its connection and is never used again. Its callbacks only
  take down what came; `stage.Publisher` acts on it.
- It keeps the broker's limits: Receive Maximum (4.9), Maximum QoS, Retain Available and Maximum
  Packet Size (3.2.2.3). A broker that overruns ours, or says what is no MQTT, is hung up on before
  it costs memory.
- A command is acknowledged by `acknowledge`, after it was obeyed, not when it was read. Of those
  that come faster than they can be obeyed COMMANDS_KEPT wait, of `resume` twice as many; the others
  are acknowledged and dropped.
- Where the broker takes QoS 0 only, nothing acknowledges a message. What is owed is then followed
  by an UNSUBSCRIBE of a topic that nobody subscribed to: its UNSUBACK says that the broker has read
  as far as that, though not what it did with the message.
- It ends with DISCONNECT (3.14, the will is deleted) or by hanging up (the will is published).
- Foreign exceptions end here: BrokerAway for the network, SettingsInvalid for files it names.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from socket import socket as Socket  # noqa: N812 - Link has a method of that name

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.errors import BrokerAway, SettingsInvalid
from appliance.publish.terms import OUTCOMES, Outcome, Terms
from appliance.publish.tls import NotAtThisTime, holds_more, tls_context
from appliance.results.message import Outgoing
from appliance.settings import Mqtt
from appliance.store.patience import Patience

SESSION_TAKEN_OVER = 0x8E  # DISCONNECT (3.14.2.1)
SESSION_EXPIRY_S = 86400
COMMAND_BYTES = 65536  # what the broker may send us (3.1.2.11.4); a command has at most 4 KiB
COMMANDS_KEPT = 100  # inbound commands at once: our Receive Maximum (3.1.2.11.3)
PACKETS_A_TURN = 32  # read before anything else is looked at
REPLIES_KEPT = 16
REPLIES_UNDER_WAY = 4  # of the window, at most
BARRIER = "scanside/nobody"  # a topic that is never subscribed to
CLOCK = "broker_certificate_time"
"""Code of BrokerAway where the broker's certificate is not valid at the time of our clock."""


PATIENCE = Patience(shortest_s=1.0, longest_s=30.0, refusals=10)


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the stage is."""

    window: int = 20
    connect_s: float = 5.0
    ack_s: float = 15.0
    """CONNACK, SUBACK or the oldest PUBACK outstanding for longer: the connection is given up."""
    tick_s: float = 5.0
    status_s: float = 600.0
    """The status is said again after so long: a retained one that somebody else wrote goes."""
    patience: Patience = PATIENCE
    """Pauses between connections, and how often what is refused is tried."""
    farewell_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A QoS 1 message on its way; `key` only where the outbox owes it."""

    key: str | None
    at: float
    reply: bool = False


@dataclass(frozen=True, slots=True)
class Direct:
    """A message that does not pass the outbox. `seq` is in the payload already."""

    topic: str
    payload: str
    qos: int
    retain: bool
    expiry_s: int | None = None
    correlation: bytes | None = None

    @classmethod
    def of(
        cls,
        numbered: tuple[Outgoing, int],
        root: str,
        *,
        expiry_s: int | None = None,
        correlation: bytes | None = None,
    ) -> Direct:
        """A message with its number, below the device's root."""
        outgoing, number = numbered
        payload = outgoing.message.to_json(number)
        topic = f"{root}/{outgoing.topic}"
        return cls(topic, payload, outgoing.qos, outgoing.retain, expiry_s, correlation)


class Link:
    """One connection to the broker. Callbacks only take down what came; `Publisher` acts on it."""

    def __init__(
        self,
        mqtt: Mqtt,
        terms: Terms,
        client_id: str,
        will: Direct | None,
        pace: Pace,
        *,
        session_s: int = SESSION_EXPIRY_S,
    ) -> None:
        """`session_s`: how long the broker keeps the session (3.1.2.11.2); 0 leaves none behind."""
        self._mqtt = mqtt
        self._session_s = session_s
        self.protocol = terms.protocol
        self.retain, self.qos = terms.retain, int(terms.qos)
        self.opened = time.monotonic()
        self.connack: int | None = None
        self.subscribed: int | None = None
        self.lost: str | None = None
        self.taken_over = False
        self._error: str | None = None
        self.window = pace.window
        self.largest: int | None = None
        self.delivered = False
        """Whether it took anything that is owed."""
        self.answered = False
        """Whether it acknowledged anything that is not owed, so that it works as such."""
        self.overtaken = False
        """Whether it acknowledged something later than what it did not (against 4.6)."""
        self.refused = False
        self.hung_up = False
        """Whether we ended it,"""
        self.silent = False
        """because the broker did not answer."""
        self.unacked: dict[int, Sent] = {}
        """In the order in which they were sent."""
        self.acked: list[tuple[Sent, int]] = []
        self.heard: deque[paho.MQTTMessage] = deque()
        self.direct: deque[Direct] = deque()
        self.replies: deque[Direct] = deque()
        v5 = terms.protocol == "5"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if v5 else session_s == 0,
            protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client = self._client
        client.connect_timeout = pace.connect_s
        client.max_inflight_messages_set(0)  # unlimited: the window is kept here
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_log = self._on_log
        if mqtt.username is not None:
            client.username_pw_set(mqtt.username, password(mqtt))
        if mqtt.tls is not None:
            client.tls_set_context(tls_context(mqtt))
        if will is not None:
            described = self._described(will, PacketTypes.WILLMESSAGE)
            qos, retain = min(will.qos, self.qos), will.retain and self.retain
            client.will_set(will.topic, will.payload, qos, retain, properties=described)

    def open(self) -> None:
        """TCP, TLS, CONNECT. BrokerAway says what went wrong."""
        mqtt = self._mqtt
        try:
            if self.protocol == "5":
                asked = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                asked.SessionExpiryInterval = self._session_s
                asked.ReceiveMaximum = COMMANDS_KEPT
                asked.MaximumPacketSize = COMMAND_BYTES
                self._client.connect(
                    mqtt.host,
                    mqtt.port,
                    mqtt.keepalive_s,
                    clean_start=self._session_s == 0,
                    properties=asked,
                )
            else:
                self._client.connect(mqtt.host, mqtt.port, mqtt.keepalive_s)
            if (sock := self.socket()) is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, COMMAND_BYTES)  # see _read
        except NotAtThisTime as e:
            raise BrokerAway(f"{mqtt.host}:{mqtt.port}: {e}", code=CLOCK) from e
        except OSError as e:
            raise BrokerAway(f"{mqtt.host}:{mqtt.port}: {e.strerror or e}") from e

    def socket(self) -> Socket | None:
        found = self._client.socket()
        return found if isinstance(found, Socket) else None

    def outcome(self) -> Outcome:
        """How the attempt to connect ended, for `terms.following`."""
        return "closed" if self.connack is None else OUTCOMES.get(self.connack, "other")

    def subscribe(self, *topics: str, kept: tuple[str, ...] = ()) -> None:
        """QoS 1 and, on v5, no retained messages but of `kept` (3.8.3.1). One SUBACK answers for
        all."""
        if self.protocol == "5":
            never = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            always = SubscribeOptions(qos=1)
            asked = [*((topic, never) for topic in topics), *((topic, always) for topic in kept)]
            self._client.subscribe(asked)
        else:
            self._client.subscribe([(topic, 1) for topic in (*topics, *kept)])

    @property
    def window_left(self) -> int:
        """How many QoS 1 messages may still leave (4.9)."""
        return self.window - len(self.unacked)

    def too_large(self, topic: str, payload: str) -> bool:
        """Whether the broker's Maximum Packet Size forbids it (3.2.2.3.6); 64 bytes of headers."""
        size = len(topic.encode()) + len(payload.encode()) + 64
        return self.largest is not None and size > self.largest

    def send(self, letter: Direct, key: str | None = None, *, reply: bool = False) -> None:
        """Hand one message to the socket. A connection that is lost by it says so in `lost`."""
        qos = min(letter.qos, self.qos)
        sent: int | None = self._client.publish(
            letter.topic,
            letter.payload,
            qos,
            letter.retain and self.retain,
            properties=self._described(letter, PacketTypes.PUBLISH),
        ).mid
        if key is not None and not qos:
            _, sent = self._client.unsubscribe(BARRIER)
        if sent is not None and (qos or key is not None):
            self.unacked[sent] = Sent(key, time.monotonic(), reply)

    def flush_direct(self) -> None:
        while (
            self.direct and self.lost is None and (self.window_left > 0 or not self.direct[0].qos)
        ):
            self.send(self.direct.popleft())

    @property
    def has_place_for_a_reply(self) -> bool:
        return len(self.replies) < REPLIES_KEPT

    def flush_replies(self) -> None:
        """What the window has left, and never more than a part of it."""
        under_way = sum(sent.reply for sent in self.unacked.values())
        while (
            self.replies
            and self.lost is None
            and self.window_left > 0
            and under_way < REPLIES_UNDER_WAY
        ):
            self.send(self.replies.popleft(), reply=True)
            under_way += 1

    def owed_under_way(self) -> list[str]:
        """The keys of what is owed and was not answered, in the order in which it was sent."""
        return [sent.key for sent in self.unacked.values() if sent.key is not None]

    def acknowledge(self, letter: paho.MQTTMessage) -> None:
        self._client.ack(letter.mid, letter.qos)

    def wait(self, other: Socket | None, timeout: float) -> None:
        """Sleep until the broker or `other` has something to read; then let the library work."""
        sock = self.socket()
        if sock is None:
            self.lost = self.lost or "connection closed"
            return
        pending = holds_more(sock)
        writing = [sock] if self._client.want_write() else []
        readable, writable, _ = select.select(
            [sock, other] if other is not None else [sock],
            writing,
            [],
            0 if pending else max(0.0, timeout),
        )
        if sock in readable or pending:
            self._read()
        if sock in writable and self.lost is None:
            self._client.loop_write()
        if self.lost is None:
            self._client.loop_misc()

    def _read(self) -> None:
        """Let the library read what came; whatever it stumbles over ends this connection."""
        for _ in range(PACKETS_A_TURN):
            try:
                self._client.loop_read()
            except Exception as e:  # noqa: BLE001 - its parser lets errors of any kind through
                self.hang_up(f"the broker breaks the protocol: {e!r}")
            # The library holds whatever comes: what was agreed is checked on what it holds. One
            # call makes up to 100 reads, none larger than the receive buffer.
            if self._client._in_packet["remaining_length"] > COMMAND_BYTES:
                self.hang_up(f"the broker sends a packet of more than {COMMAND_BYTES} bytes")
            elif self._client._in_messages:
                self.hang_up("the broker sends QoS 2, which was not asked for")
            sock = self.socket()
            if self.lost is not None or sock is None:
                return
            if not holds_more(sock) and not select.select([sock], [], [], 0)[0]:
                return

    def hang_up(self, why: str) -> None:
        """Close without DISCONNECT, so that the broker publishes the will (3.1.2.5)."""
        self.hung_up = True
        self.lost = self.lost or why
        if (sock := self.socket()) is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(Exception):
                self._client.loop_read()  # it finds the end of the stream, and closes
            sock.close()

    def goodbye(self) -> None:
        """DISCONNECT 0x00: the broker deletes the will (3.14.4)."""
        self._client.disconnect()

    def _described(self, letter: Direct, packet: int) -> Properties | None:
        """Payload Format Indicator, Content Type, expiry, correlation (3.3.2.3)."""
        if self.protocol != "5":
            return None
        described = Properties(packet)  # type: ignore[no-untyped-call]
        described.PayloadFormatIndicator = 1
        described.ContentType = "application/json"
        if letter.expiry_s is not None:
            described.MessageExpiryInterval = letter.expiry_s
        if letter.correlation is not None:
            described.CorrelationData = letter.correlation
        return described

    def _on_connect(
        self, _c: paho.Client, _u: object, _f: object, reason: ReasonCode, given: Properties | None
    ) -> None:
        self.connack = reason.value
        if self.connack:
            self.lost = f"CONNACK: {reason}"
        self.window = min(self.window, getattr(given, "ReceiveMaximum", self.window))
        self.largest = getattr(given, "MaximumPacketSize", None)
        self.retain = self.retain and bool(getattr(given, "RetainAvailable", 1))
        self.qos = min(self.qos, getattr(given, "MaximumQoS", 1))

    def _on_subscribe(
        self, _c: paho.Client, _u: object, _m: int, reasons: list[ReasonCode], _p: object
    ) -> None:
        self.subscribed = max((r.value for r in reasons), default=0x80)

    def _on_publish(
        self, _c: paho.Client, _u: object, mid: int, reason: ReasonCode, _p: object
    ) -> None:
        self._acked(mid, reason.value)

    def _on_unsubscribe(
        self, _c: paho.Client, _u: object, mid: int, _r: list[ReasonCode], _p: object
    ) -> None:
        self._acked(mid, 0)

    def _acked(self, mid: int, reason: int) -> None:
        if mid not in self.unacked:
            return
        self.overtaken = self.overtaken or next(iter(self.unacked)) != mid
        sent = self.unacked.pop(mid)
        self.answered = self.answered or sent.key is None
        self.acked.append((sent, reason))

    def _on_message(self, _c: paho.Client, _u: object, letter: paho.MQTTMessage) -> None:
        topic = letter.topic  # decoded by the library only now: what is not UTF-8 (1.5.4) raises
        kept = 2 * COMMANDS_KEPT if topic.endswith("/cmd/resume") else COMMANDS_KEPT
        if len(self.heard) < kept:
            self.heard.append(letter)
        else:
            self.acknowledge(letter)

    def _on_disconnect(
        self, _c: paho.Client, _u: object, _f: object, reason: ReasonCode, _p: object
    ) -> None:
        self.taken_over = reason.value == SESSION_TAKEN_OVER
        self.lost = self.lost or self._error or str(reason)

    def _on_log(self, _c: paho.Client, _u: object, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR:  # what the socket or TLS said; `reason` does not know it
            self._error = text


def password(mqtt: Mqtt) -> str | None:
    """The first line of the password file."""
    if mqtt.password_file is None:
        return None
    try:
        return mqtt.password_file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as e:
        raise SettingsInvalid(
            f"[mqtt] password_file {mqtt.password_file}: {e}",
            remedy="Correct [mqtt] password_file; it must be readable by the appliance's user.",
        ) from e
