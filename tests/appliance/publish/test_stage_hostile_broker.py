"""A broker that breaks the protocol, then a good one: nothing is lost and the stage lives.

`Meddler` is a door before a real mosquitto: it does wrong on the first connections and then only
passes bytes, so the stage that met the misdeed delivers everything to a real consumer.
"""

from __future__ import annotations

import gc
import json
import random
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from appliance.publish.link import Pace
from appliance.store import bell
from appliance.store.events import BrokerAway
from appliance.store.journal import Journal
from appliance.store.patience import Patience
from rigs.peers import ROOT, Broker, Served, Subscriber, an_event, until

OWED = 30
PACE = Pace(ack_s=0.5, patience=Patience(0.01, 0.02, 10), tick_s=0.5, farewell_s=0.1, connect_s=1.0)
HANG_S = 60.0
FLOOD = 64 * 2**20  # bytes; the stage takes less than 20 MB of it before it hangs up
Misdeed = Callable[["Talk"], None]


class Talk:
    """One connection of the stage to a hostile broker."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self._stream = peer.makefile("rb")
        self.sent = 0
        self.level = 0

    def connect(self) -> None:
        """Read CONNECT; its protocol level is what an answer must be written in (3.1.2.2)."""
        while self._packet()[0] >> 4 != 1:
            pass

    def _packet(self) -> tuple[int, bytes]:
        head = self._stream.read(1)
        if not head:
            raise EOFError
        length = shift = 0
        while True:
            byte = self._stream.read(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        body = self._stream.read(length)
        if head[0] >> 4 == 1:
            self.level = body[6]
        return head[0], body

    def accept(self) -> None:
        """CONNECT, CONNACK, and SUBACK once SUBSCRIBE has come."""
        self.connect()
        self.say(connack(self.level))
        while (said := self._packet())[0] >> 4 != 8:
            pass
        tail = b"\0\1" if self.level == 5 else b"\1"
        self.say(bytes((0x90, 2 + len(tail))) + said[1][:2] + tail)

    def results(self) -> Iterator[bytes]:
        """The body of each PUBLISH that comes out of the outbox."""
        while True:
            head, body = self._packet()
            name = body[2 : 2 + int.from_bytes(body[:2], "big")]
            if head >> 4 == 3 and b"/study/" in name:
                yield body

    def say(self, data: bytes) -> None:
        self.peer.sendall(data)
        self.sent += len(data)

    def listen(self) -> None:
        """Read until the stage hangs up."""
        while self._stream.read(1):
            pass


def connack(level: int) -> bytes:
    return b"\x20\x03\0\0\0" if level == 5 else b"\x20\x02\0\0"


def a_publish(topic: str, payload: bytes, level: int, *, qos: int = 1, mid: int = 7) -> bytes:
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (mid.to_bytes(2, "big") if qos else b"")
    body += (b"\0" if level == 5 else b"") + payload
    return bytes((0x30 | qos << 1,)) + _length(len(body)) + body


def _length(value: int) -> bytes:
    """Variable Byte Integer (1.5.5)."""
    out = bytearray()
    while True:
        value, byte = divmod(value, 128)
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


# What a broker may do wrong.


def accepts_and_says_nothing(talk: Talk) -> None:
    talk.listen()


def says_garbage(talk: Talk) -> None:
    talk.connect()
    talk.say(random.Random(3).randbytes(4096))
    talk.listen()


def says_half_a_connack(talk: Talk) -> None:
    talk.connect()
    talk.say(connack(talk.level)[:3])
    talk.listen()


def hangs_up_after_connack(talk: Talk) -> None:
    talk.connect()
    talk.say(connack(talk.level))


def says_half_a_puback(talk: Talk) -> None:
    talk.accept()
    talk.say(b"\x40\x02\x00")
    talk.listen()


def acknowledges_what_was_never_sent(talk: Talk) -> None:
    talk.accept()
    for mid in range(60000, 60200):
        talk.say(b"\x40\x02" + mid.to_bytes(2, "big"))
    talk.listen()


def says_a_reason_that_does_not_exist(talk: Talk) -> None:
    talk.accept()
    talk.say(b"\x40\x04\x00\x01\xff\x00" if talk.level == 5 else b"\x40\x03\x00\x01\xff")
    talk.listen()


def says_a_topic_that_is_not_utf_8(talk: Talk) -> None:
    talk.accept()
    talk.say(b"\x32\x08\x00\x02\xff\xfe\x00\x07\x00\x00")
    talk.listen()


def says_a_property_that_does_not_exist(talk: Talk) -> None:
    talk.connect()
    talk.say(b"\x20\x05\0\0\x02\x7f\x00")
    talk.listen()


def drips(talk: Talk) -> None:
    """A CONNACK of 120 bytes, one byte at a time: it is never whole, nor ever silent."""
    talk.connect()
    for byte in b"\x20\x78\0\0\x75" + bytes(115):
        talk.say(bytes((byte,)))
        time.sleep(0.05)


def drips_after_connack(talk: Talk) -> None:
    talk.accept()
    for byte in b"\x32\xff\x7f" + bytes(2000):
        talk.say(bytes((byte,)))
        time.sleep(0.02)


def floods_with_one_endless_packet(talk: Talk) -> None:
    """Remaining Length 268,435,455, the most there is (1.5.5)."""
    talk.accept()
    talk.say(b"\x32\xff\xff\xff\x7f")
    while talk.sent < FLOOD:
        talk.say(bytes(65536))
    raise AssertionError("a packet larger than was agreed was read on")


def floods_with_qos_2(talk: Talk) -> None:
    """We subscribe with QoS 1; a receiver has to keep QoS 2 until PUBREL (4.3.3)."""
    talk.accept()
    for mid in range(1, 65536):
        talk.say(a_publish(f"{ROOT}/cmd/ping", bytes(1024), talk.level, qos=2, mid=mid))
    raise AssertionError("QoS 2, which was not asked for, was kept")


SILENCE = "in time"
MISDEEDS: dict[Misdeed, str] = {  # and what is written down of it, where it is always the same
    accepts_and_says_nothing: SILENCE,
    says_garbage: "",
    says_half_a_connack: SILENCE,
    hangs_up_after_connack: "",
    says_half_a_puback: SILENCE,
    acknowledges_what_was_never_sent: SILENCE,
    says_a_reason_that_does_not_exist: "",
    says_a_topic_that_is_not_utf_8: "breaks the protocol",
    says_a_property_that_does_not_exist: "",
    drips: SILENCE,
    drips_after_connack: SILENCE,
    floods_with_one_endless_packet: "a packet of more than",
    floods_with_qos_2: "QoS 2",
}


class Meddler:
    """The first `bad` connections suffer `misdeed`; the others are passed on to `port`."""

    def __init__(self, port: int, misdeed: Misdeed, bad: int) -> None:
        self._to, self._misdeed, self._bad = port, misdeed, bad
        self.connections = 0
        self.failures: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.connections += 1
                wrong = self.connections <= self._bad
                act = self._do_wrong if wrong else self._pass_on
                threading.Thread(target=act, args=(peer,), daemon=True).start()

    def _do_wrong(self, peer: socket.socket) -> None:
        with suppress(OSError, EOFError), peer:
            try:
                self._misdeed(Talk(peer))
            except AssertionError as e:
                self.failures.append(e)

    def _pass_on(self, peer: socket.socket) -> None:
        with suppress(OSError):
            behind = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=_pump, args=(behind, peer), daemon=True).start()
            _pump(peer, behind)

    def close(self) -> None:
        self._listener.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def meddler(broker: Broker) -> Iterator[Callable[[Misdeed, int], Meddler]]:
    made: list[Meddler] = []

    def make(misdeed: Misdeed, bad: int) -> Meddler:
        made.append(Meddler(broker.port, misdeed, bad))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _delivers_all(stage: Served, subscriber: Subscriber, owed: list[str]) -> None:
    """Everything, in order, to the real consumer; nothing was given up."""
    _until(stage, lambda: stage.journal.owed.counts().waiting == 0)
    assert stage.journal.owed.counts().dead == 0
    until(lambda: len({p["event_id"] for p in subscriber.payloads("/event")}) == len(owed), HANG_S)
    assert list(dict.fromkeys(p["event_id"] for p in subscriber.payloads("/event"))) == owed


def _until(stage: Served, what: Callable[[], bool]) -> None:
    until(lambda: what() or not stage.thread.is_alive(), HANG_S)
    assert stage.thread.is_alive(), "the stage ended"


def _owes(stage: Served) -> list[str]:
    stage.journal.owed.add([an_event(n) for n in range(OWED)])
    bell.ring(stage.settings.state, "publish")
    return [row.key for row in stage.journal.owed.waiting("mqtt", OWED)]


@pytest.mark.parametrize(("misdeed", "why"), MISDEEDS.items(), ids=[m.__name__ for m in MISDEEDS])
def test_the_stage_outlives_a_broker_that(
    misdeed, why, meddler, subscriber, settings_for, serve
) -> None:
    door = meddler(misdeed, 2)
    stage = serve(settings_for(door.port), PACE)
    owed = _owes(stage)
    _until(stage, lambda: door.connections > 2)
    _delivers_all(stage, subscriber, owed)
    assert not door.failures
    assert any(why in one.event.text for one in stage.journal.events.of(BrokerAway))


def test_a_broker_that_says_that_another_client_took_our_place_is_believed_at_once(
    meddler, settings_for, serve
) -> None:
    def misdeed(talk: Talk) -> None:
        talk.accept()
        talk.say(b"\xe0\x02\x8e\0")  # DISCONNECT: Session taken over (3.14.2.1)
        talk.listen()

    door = meddler(misdeed, 1)
    stage = serve(settings_for(door.port, protocol="5"), PACE)
    away = until(lambda: stage.journal.events.of(BrokerAway), HANG_S)[-1].event
    assert away.code == "client_id_taken"
    assert "[site] device" in away.text


def test_with_1_000_owed_a_broker_that_acknowledges_nothing_costs_no_memory(
    meddler, subscriber, settings_for, serve
) -> None:
    took: list[int] = []
    held: list[int] = []

    def swallows(talk: Talk) -> None:
        talk.accept()
        took.append(0)
        for _ in talk.results():
            took[-1] += 1
            if took[-1] == PACE.window - 1:  # the last place is taken by `status`
                held.append(_held_bytes())

    door = meddler(swallows, 8)
    settings = settings_for(door.port)
    with Journal.open(settings.state) as journal:
        journal.owed.add([an_event(n) for n in range(1000)])
        owed = [row.key for row in journal.owed.waiting("mqtt", 1000)]
    tracemalloc.start()
    stage = serve(settings, replace(PACE, ack_s=2.0))
    _until(stage, lambda: door.connections > 8)
    tracemalloc.stop()
    # a window cut short by a slow machine is no fault: the next connection sends it again
    assert max(took) == PACE.window - 1, "each connection begins again with the oldest window"
    assert max(held[3:]) - held[2] < 64 * 1024, held
    _delivers_all(stage, subscriber, owed)


def _held_bytes() -> int:
    """What the stage and the MQTT library hold."""
    gc.collect()
    ours = [tracemalloc.Filter(True, pattern) for pattern in ("*/appliance/*", "*/paho/*")]
    traces = tracemalloc.take_snapshot().filter_traces(ours)
    return sum(one.size for one in traces.statistics("filename"))


def mutant(rng: random.Random, level: int) -> bytes:
    """What a broker may say after CONNECT, with one to four changes; no PUBACK among it.

    A PUBACK is a promise of the broker; one that was made up would be believed.
    """
    said = [
        connack(level),
        b"\x90\x04\0\x01\0\x01" if level == 5 else b"\x90\x03\0\x01\x01",
        a_publish(f"{ROOT}/cmd/ping", b'{"id": "x"}', level),
        a_publish(f"{ROOT}/cmd/resend", json.dumps({"id": "y"}).encode(), level, qos=0),
        a_publish(f"{ROOT}/cmd/ping", b"{}", level, qos=2),
        b"\x62\x02\0\x07",
        b"\x50\x02\0\x09",
        b"\xd0\0",
        b"\xe0\x02\x8b\0",
    ]
    first, rest = said[:2], said[2:]
    rng.shuffle(rest)
    data = bytearray(b"".join((*first, *rest)))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case _:
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        data = data or bytearray(1)
    return bytes(data[: rng.randint(1, len(data))] if rng.random() < 0.2 else data)


def _mutants(count: int, meddler, subscriber, settings_for, serve) -> None:
    rng = random.Random(20261120)

    def misdeed(talk: Talk) -> None:
        talk.connect()
        talk.say(mutant(rng, talk.level))

    door = meddler(misdeed, count)
    stage = serve(
        settings_for(door.port), replace(PACE, patience=Patience(0.0, 0.001, 10), window=1)
    )
    owed = _owes(stage)
    until(lambda: door.connections > count or not stage.thread.is_alive(), 1200)
    _delivers_all(stage, subscriber, owed)


def test_the_stage_outlives_100_mutated_answers(meddler, subscriber, settings_for, serve) -> None:
    _mutants(100, meddler, subscriber, settings_for, serve)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_stage_outlives_5_000_mutated_answers(meddler, subscriber, settings_for, serve) -> None:
    _mutants(5_000, meddler, subscriber, settings_for, serve)
