"""One connection to the broker, over paho-mqtt, without its threads and without its queue.

Rules (clauses: MQTT 5.0)
- A Link lives from CONNECT to the end of its connection and is never used again. Its callbacks only
  take down what came; `mqtt.Publisher` acts on it.
- It keeps the broker's limits: Receive Maximum (4.9) and Maximum Packet Size (3.2.2.3.6). A broker
  that overruns ours, or says what is no MQTT, is hung up on before it costs memory.
- A command is acknowledged by `acknowledge`, after it was obeyed, not when it was read.
- It ends with DISCONNECT (3.14, the will is deleted) or by hanging up (the will is published).
- Foreign exceptions end here: BrokerAway for the network, SettingsInvalid for files it names.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass
from socket import socket as Socket  # noqa: N812 - Link has a method of that name
from typing import Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.errors import BrokerAway, SettingsInvalid
from appliance.settings import Mqtt
from appliance.store.patience import Patience

Protocol = Literal["5", "3.1.1"]
Outcome = Literal["accepted", "unsupported", "closed", "other"]

UNSUPPORTED_VERSION = 0x84  # CONNACK (3.2.2.2)
SESSION_EXPIRY_S = 86400
COMMAND_BYTES = 65536  # what the broker may send us (3.1.2.11.4); a command has at most 4 KiB
COMMANDS_KEPT = 100  # inbound commands at once: our Receive Maximum (3.1.2.11.3)


PATIENCE = Patience(shortest_s=1.0, longest_s=30.0, refusals=10)


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the stage is."""

    window: int = 20
    connect_s: float = 5.0
    ack_s: float = 15.0
    """CONNACK, SUBACK or the oldest PUBACK outstanding for longer: the connection is given up."""
    tick_s: float = 5.0
    patience: Patience = PATIENCE
    """Pauses between connections, and how often what is refused is tried."""
    farewell_s: float = 2.0


def next_protocol(
    setting: Literal["5", "3.1.1", "auto"],
    tried: Protocol,
    outcome: Outcome,
) -> Protocol:
    """What to speak next. `closed`: there was no CONNACK, as with old brokers that are sent v5.

    After a 3.1.1 connection that worked v5 is tried again: the broker may only have been starting.
    """
    if setting != "auto":
        return setting
    if outcome in ("unsupported", "closed"):
        return "3.1.1" if tried == "5" else "5"
    return "5" if outcome == "accepted" else tried


@dataclass(frozen=True, slots=True)
class Sent:
    """A QoS 1 message on its way; `key` only where the outbox owes it."""

    key: str | None
    at: float


@dataclass(frozen=True, slots=True)
class Direct:
    """A message that does not pass the outbox. `seq` is in the payload already."""

    topic: str
    payload: str
    qos: int
    retain: bool
    expiry_s: int | None = None
    correlation: bytes | None = None


class Link:
    """One connection to the broker. Callbacks only take down what came; `Publisher` acts on it."""

    def __init__(
        self,
        mqtt: Mqtt,
        protocol: Protocol,
        client_id: str,
        will: Direct | None,
        pace: Pace,
        *,
        session_s: int = SESSION_EXPIRY_S,
    ) -> None:
        """`session_s`: how long the broker keeps the session (3.1.2.11.2); 0 leaves none behind."""
        self._mqtt = mqtt
        self._session_s = session_s
        self.protocol: Protocol = protocol
        self.opened = time.monotonic()
        self.connack: int | None = None
        self.subscribed: int | None = None
        self.lost: str | None = None
        self._error: str | None = None
        self.window = pace.window
        self.largest: int | None = None
        self.proved = False
        self.refused = False
        self.unacked: dict[int, Sent] = {}
        self.acked: list[tuple[Sent, int]] = []
        self.heard: deque[paho.MQTTMessage] = deque()
        self.direct: deque[Direct] = deque()
        v5 = protocol == "5"
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
            client.will_set(will.topic, will.payload, will.qos, will.retain, properties=described)

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
        except OSError as e:
            raise BrokerAway(f"{mqtt.host}:{mqtt.port}: {e.strerror or e}") from e

    def socket(self) -> Socket | None:
        found = self._client.socket()
        return found if isinstance(found, Socket) else None

    def outcome(self) -> Outcome:
        """How the attempt to connect ended, for `next_protocol`."""
        if self.connack == 0:
            return "accepted"
        if self.connack == UNSUPPORTED_VERSION:
            return "unsupported"
        return "closed" if self.connack is None else "other"

    def subscribe(self, topic: str) -> None:
        """QoS 1 and, on v5, no retained messages (3.8.3.1)."""
        if self.protocol == "5":
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            self._client.subscribe(topic, options=options)
        else:
            self._client.subscribe(topic, qos=1)

    @property
    def window_left(self) -> int:
        """How many QoS 1 messages may still leave (4.9)."""
        return self.window - len(self.unacked)

    def too_large(self, topic: str, payload: str) -> bool:
        """Whether the broker's Maximum Packet Size forbids it (3.2.2.3.6); 64 bytes of headers."""
        size = len(topic.encode()) + len(payload.encode()) + 64
        return self.largest is not None and size > self.largest

    def send(self, letter: Direct, key: str | None = None) -> None:
        """Hand one message to the socket. A connection that is lost by it says so in `lost`."""
        sent = self._client.publish(
            letter.topic,
            letter.payload,
            letter.qos,
            letter.retain,
            properties=self._described(letter, PacketTypes.PUBLISH),
        )
        if letter.qos:
            self.unacked[sent.mid] = Sent(key, time.monotonic())

    def flush_direct(self) -> None:
        while (
            self.direct and self.lost is None and (self.window_left > 0 or not self.direct[0].qos)
        ):
            self.send(self.direct.popleft())

    def acknowledge(self, letter: paho.MQTTMessage) -> None:
        self._client.ack(letter.mid, letter.qos)

    def wait(self, other: Socket | None, timeout: float) -> None:
        """Sleep until the broker or `other` has something to read; then let the library work."""
        sock = self.socket()
        if sock is None:
            self.lost = self.lost or "connection closed"
            return
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
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
        try:
            self._client.loop_read()
        except Exception as e:  # noqa: BLE001 - its parser lets errors of any kind through
            self.hang_up(f"the broker breaks the protocol: {e!r}")
        # The library holds whatever comes: what was agreed is checked on what it holds. One call
        # makes up to 100 reads, none larger than the receive buffer.
        if self._client._in_packet["remaining_length"] > COMMAND_BYTES:
            self.hang_up(f"the broker sends a packet of more than {COMMAND_BYTES} bytes")
        elif self._client._in_messages:
            self.hang_up("the broker sends QoS 2, which was not asked for")

    def hang_up(self, why: str) -> None:
        """Close without DISCONNECT, so that the broker publishes the will (3.1.2.5)."""
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

    def _on_subscribe(
        self, _c: paho.Client, _u: object, _m: int, reasons: list[ReasonCode], _p: object
    ) -> None:
        self.subscribed = max((r.value for r in reasons), default=0x80)

    def _on_publish(
        self, _c: paho.Client, _u: object, mid: int, reason: ReasonCode, _p: object
    ) -> None:
        if (sent := self.unacked.pop(mid, None)) is not None:
            self.acked.append((sent, reason.value))

    def _on_message(self, _c: paho.Client, _u: object, letter: paho.MQTTMessage) -> None:
        _ = letter.topic  # decoded by the library only now: what is not UTF-8 (1.5.4) raises here
        self.heard.append(letter)

    def _on_disconnect(
        self, _c: paho.Client, _u: object, _f: object, reason: ReasonCode, _p: object
    ) -> None:
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


class _Tls(ssl.SSLSocket):
    """Closed where its handshake fails, which the library forgets, and says whose fault it is."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLCertVerificationError as e:
            self.close()
            raise ConnectionError(
                f"its certificate is not accepted ([mqtt.tls] ca): {e.verify_message}"
            ) from e
        except OSError as e:
            self.close()
            raise ConnectionError(f"no TLS with it: {e.strerror or e}") from e


def tls_context(mqtt: Mqtt) -> ssl.SSLContext:
    """TLS 1.2 or later, the broker's certificate checked against [mqtt.tls] ca (BCP 195)."""
    if mqtt.tls is None:
        raise SettingsInvalid("[mqtt.tls] is missing")
    try:
        context = ssl.create_default_context(cafile=str(mqtt.tls.ca))
        context.sslsocket_class = _Tls
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if mqtt.tls.cert is not None:
            context.load_cert_chain(mqtt.tls.cert, mqtt.tls.key)
    except OSError as e:
        raise SettingsInvalid(f"[mqtt.tls] ca, cert or key: {e}") from e
    return context
