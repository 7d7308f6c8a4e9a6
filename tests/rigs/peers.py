"""A real mosquitto, a broker that does wrong on purpose, a consumer, and the stage in a thread."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance.publish.link import Pace
from appliance.publish.stage import Publisher
from appliance.report import (
    BackendRef,
    BundleRef,
    Finding,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)
from appliance.results import destinations, message, mqtt
from appliance.results.owed import Owed
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.patience import Patience
from rigs.programs import program
from rigs.reports import NAMING

ROOT = "scanside/v1/ward/box1"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
QUICK = Pace(patience=Patience(0.1, 0.3, 10), ack_s=5.0, tick_s=0.5)
HANG_S = 180.0
"""A hang ends a test after so long; nothing takes a tenth of it, whatever else the machine does."""


def free_port() -> int:
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def until(what: Callable[[], Any], seconds: float = HANG_S, *, every_s: float = 0.01) -> Any:
    """The first true answer; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := what():
            return answer
        time.sleep(every_s)
    raise AssertionError(f"not within {seconds} s")


class Broker:
    """mosquitto as a child process."""

    def __init__(self, folder: Path, extra: str = "allow_anonymous true") -> None:
        self.program = program("mosquitto")
        self.port = free_port()
        self.conf = folder / f"mosquitto-{self.port}.conf"
        self.conf.write_text(
            f"user root\nlistener {self.port} 127.0.0.1\n"
            f"persistence true\npersistence_location {folder}/\n"
            f"max_queued_messages 0\n{extra}\n"
        )
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        self.child = subprocess.Popen(
            [self.program, "-c", str(self.conf)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._answers)
        return self

    def _answers(self) -> bool:
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port), 1)):
            return True
        return False

    def stop(self) -> None:
        if self.child is not None:
            self.child.terminate()
            self.child.wait(HANG_S)
            self.child = None


class Subscriber:
    """A consumer with a lasting session: everything below scanside/, in order of arrival."""

    def __init__(self, port: int, username: str | None = None, secret: str | None = None) -> None:
        self.got: list[paho.MQTTMessage] = []
        self.subscribed = threading.Event()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"consumer-{uuid.uuid4().hex[:8]}",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda c, *_: c.subscribe("scanside/#", qos=1)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _c, _u, m: self.got.append(m)
        if username is not None:
            self.client.username_pw_set(username, secret)
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 60
        self.client.connect("127.0.0.1", port, 30, clean_start=False, properties=lasting)
        self.client.loop_start()
        assert self.subscribed.wait(HANG_S)

    def payloads(self, ending: str) -> list[dict[str, Any]]:
        return [json.loads(m.payload) for m in list(self.got) if m.topic.endswith(ending)]

    def states(self) -> list[str]:
        return [p["state"] for p in self.payloads("/status")]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@dataclass
class Served:
    """The publish stage in a thread, and the journal as another process would hold it."""

    settings: Settings
    journal: Journal
    publisher: Publisher
    thread: threading.Thread
    opened: ExitStack

    def stop(self) -> None:
        self.publisher.stop()
        self.thread.join(HANG_S)
        assert not self.thread.is_alive()
        self.journal.close()
        self.opened.close()


def a_report(name: str = "1", findings: int = 2) -> Report:
    """An analysed report; `name` makes another one."""
    bundle = BundleRef(name="lung-nodule", version="1.0.0", digest="b" * 64)
    digest = name.encode().hex().rjust(64, "0")
    key = SeriesKey("1.2", f"1.2.{digest}")
    rid = NAMING.report(key, bundle.digest, digest)
    return Report(
        report_id=rid,
        input_digest=digest,
        revision=1,
        status=Status.ANALYSED,
        stage=Stage.FINAL,
        study=StudyRef(pseudonym=NAMING.study(key.study)),
        series=SeriesRef(slices=100, modality="CT"),
        bundle=bundle,
        backend=BackendRef(name="openvino", precision="fp32"),
        findings=tuple(
            Finding(
                id=i,
                tracking_uid=NAMING.tracking(rid, i),
                kind="nodule",
                score=0.9,
                threshold=0.5,
                center_lps_mm=(1.0, 2.0, 3.0),
                box_lps_mm=(0.0, 0.0, 0.0, 4.0, 4.0, 4.0),
                key_image=3,
            )
            for i in range(1, findings + 1)
        ),
    )


def commit(journal: Journal, report: Report) -> list[message.Outgoing]:
    """As `work` does it."""
    key = SeriesKey("1.2", f"1.2.{report.input_digest}")
    owed = destinations.of_report(report, key, naming=NAMING, at=AT)
    journal.commit_report(report, key, owed=owed, series_state="analysed")
    return list(message.of_report(report, key, naming=NAMING, at=AT))


def a_message(n: int) -> message.Outgoing:
    """A message; `n` makes another one."""
    key = SeriesKey("1.2", f"1.2.3.{n}")
    return message.of_series("received", key, naming=NAMING, slices=n, at=AT)


def an_event(n: int) -> Owed:
    """The same, as it is owed to the broker; of no series."""
    return mqtt.enveloped(a_message(n))


def ask(subscriber: Subscriber, verb: str, payload: dict[str, Any]) -> None:
    """A command from the consumer's side."""
    subscriber.client.publish(f"{ROOT}/cmd/{verb}", json.dumps(payload), qos=1)


def event_of(body: bytes) -> str:
    """The event_id in the body of a PUBLISH packet."""
    return str(json.loads(body[body.index(b"{") :])["event_id"])


@dataclass
class Misbehaving:
    """A TCP server that speaks just enough MQTT to do wrong; `answers` decides on each PUBLISH.

    `answers(n)`: None swallows the n-th PUBLISH (from 0), a number is the reason of its PUBACK.
    `unwanted(body)`: whether a PUBLISH is one that it will not have; then it does what `way` says.
    """

    answers: Callable[[int], int | None] = lambda _n: None
    unwanted: Callable[[bytes], bool] = lambda _body: False
    way: str = "hang_up"
    """hang_up | pass_over (everything after it is acknowledged)"""
    v5: str = "accept"
    """accept | refuse (3.1.1 CONNACK 0x01, as a 3.1.1 broker would) | hang_up"""
    connack_properties: bytes = b""
    levels: list[int] = field(default_factory=list)
    published: list[tuple[int, bytes]] = field(default_factory=list)
    """Connection number, packet body."""
    most_open: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        number = 0
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(peer, number), daemon=True).start()
                number += 1

    def _talk(self, peer: socket.socket, number: int) -> None:
        with suppress(OSError, EOFError), peer, peer.makefile("rb") as stream:
            level = 0
            while True:
                head, body = _packet(stream)
                kind = head >> 4
                if kind == 1:
                    level = body[6]
                    self.levels.append(level)
                    if level == 5 and self.v5 == "hang_up":
                        return
                    if level == 5 and self.v5 == "refuse":
                        peer.sendall(bytes((0x20, 2, 0, 1)))
                        return
                    extra = self.connack_properties
                    tail = bytes((len(extra),)) + extra if level == 5 else b""
                    peer.sendall(bytes((0x20, 2 + len(tail), 0, 0)) + tail)
                elif kind == 8:
                    tail = b"\0\1" if level == 5 else b"\1"
                    peer.sendall(bytes((0x90, 2 + len(tail))) + body[:2] + tail)
                elif kind == 12:
                    peer.sendall(bytes((0xD0, 0)))
                elif kind == 3 and head & 0x06:
                    self._take(peer, number, body, level)

    def _take(self, peer: socket.socket, number: int, body: bytes, level: int) -> None:
        end = 2 + int.from_bytes(body[:2], "big")
        mid = body[end : end + 2]
        if not any(part in body[:end] for part in (b"/study/", b"/finding/")):
            peer.sendall(bytes((0x40, 2)) + mid)
            return
        n = len(self.published)
        self.published.append((number, body))
        if self.unwanted(body):
            if self.way == "hang_up":
                raise EOFError
            return
        reason = self.answers(n)
        if reason is not None:
            peer.sendall(
                bytes((0x40, 4)) + mid + bytes((reason, 0))
                if level == 5 and reason
                else bytes((0x40, 2)) + mid
            )

    def close(self) -> None:
        self._listener.close()


def _packet(stream: Any) -> tuple[int, bytes]:
    head = stream.read(1)
    if not head:
        raise EOFError
    length, shift = 0, 0
    while True:
        byte = stream.read(1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return head[0], stream.read(length)
