"""Associations that are hostile or merely odd, each while a scanner of good faith sends."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts

from appliance.receive import connections
from rigs.receiver import MakeImage, RawScu, StartReceiver

Start = Callable[..., Any]
CT = CTImageStorage.encode()
EVERYWHERE = '[[dicom.allow]]\nae_title = "CT1"\nhost = "127.0.0.0/30"\n'
"""127.0.0.1 to .3 are named in the settings; the rest of 127/8 are strangers."""


@pytest.fixture
def send(dcmtk: Start, make_ct: MakeImage, save: Start, tmp_path: Path) -> Start:
    """send(port, count=5) -> dcmtk storescu has sent a new series; fails where it could not."""
    sent = 0

    def start(port: int, count: int = 5) -> Callable[[], None]:
        nonlocal sent
        sent += 1
        series = generate_uid()
        images = [
            make_ct(n, SeriesInstanceUID=series, SOPInstanceUID=generate_uid())
            for n in range(count)
        ]
        for image in images:
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        folder = save(images, f"sent{sent}")
        options = ("-aet", "CT1", "-aec", "SCANSIDE", "127.0.0.1", port, "+sd", folder)
        process = dcmtk("storescu", *options)

        def finished() -> None:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output

        return finished

    return start


def data_set(ds: Dataset) -> bytes:
    """Explicit VR little endian, without meta information."""
    out = io.BytesIO()
    Dataset(ds).save_as(out, implicit_vr=False, little_endian=True)
    return out.getvalue()


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    """From a loopback address of its own (Linux has all of 127/8)."""
    return socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(host, 0))


def is_closed(peer: socket.socket) -> bool:
    """Whether the other end closed it, at this moment."""
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for it; a hang ends the test."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reset(peer: socket.socket) -> None:
    """Close with RST instead of FIN (socket(7): SO_LINGER of 0)."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def abort(peer: socket.socket) -> None:
    """A-ABORT, and close once the other end has: what is unread would make it an RST."""
    with peer, contextlib.suppress(ConnectionResetError):
        peer.sendall(struct.pack(">BBIBBBB", 7, 0, 4, 0, 0, 0, 0))
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass


def children(pid: int) -> set[int]:
    """Process ids of its children."""
    return {int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@contextmanager
def many(port: int, count: int, *hosts: str) -> Iterator[list[socket.socket]]:
    """Connections that say nothing, in turn from each of the hosts."""
    with contextlib.ExitStack() as held:
        yield [held.enter_context(connect(port, hosts[n % len(hosts)])) for n in range(count)]


def test_two_hundred_idle_connections_keep_no_sender_out(
    receiver: StartReceiver, send: Start
) -> None:
    one = receiver(more=EVERYWHERE)
    with many(one.port, 200, "127.0.0.1", "127.0.0.2", "127.0.0.9") as idle:
        send(one.port)()
        assert len(one.stored()) == 5
        places = connections.WAITING + connections.STRANGERS
        until(lambda: sum(not is_closed(p) for p in idle) <= places)
        assert one.log.read_text().count("dropped: too many wait") >= 200 - places, "not expired"
        assert len(children(one.process.pid)) <= places
    until(lambda: not children(one.process.pid))
    assert one.outcomes(1) == ["released"]


def test_one_host_s_idle_connections_are_dropped_before_those_of_another(
    receiver: StartReceiver,
) -> None:
    one = receiver(more=EVERYWHERE)
    with many(one.port, 1, "127.0.0.2") as patient, many(one.port, 30, "127.0.0.1") as idle:
        until(lambda: sum(not is_closed(peer) for peer in idle) == connections.WAITING - 1)
        assert not is_closed(patient[0])


def test_an_association_that_was_accepted_is_never_dropped_for_others(
    receiver: StartReceiver, raw_scu: type[RawScu], make_ct: MakeImage
) -> None:
    one = receiver(more=EVERYWHERE)
    peer, ds = raw_scu(one.port), make_ct(0)
    with many(one.port, 30, "127.0.0.1") as idle:
        until(lambda: sum(not is_closed(other) for other in idle) == connections.WAITING)
        assert peer.store(ds.SOPInstanceUID.encode(), data_set(ds)) == 0
        peer.release()
    assert one.outcomes(1) == ["released"]


class Loris(threading.Thread):
    """A peer that sends a byte every 50 ms until it is hung up on."""

    def __init__(self, peer: socket.socket, data: bytes) -> None:
        super().__init__(daemon=True)
        self.peer, self.data = peer, data
        self.sent = 0
        self.start()

    def run(self) -> None:
        with self.peer, contextlib.suppress(OSError):
            while self.sent < len(self.data):
                self.peer.sendall(self.data[self.sent : self.sent + 1])
                self.sent += 1
                time.sleep(0.05)

    def hung_up_on(self) -> bool:
        self.join(60)
        return not self.is_alive() and self.sent < len(self.data)


def request(length: int) -> bytes:
    """The beginning of a valid A-ASSOCIATE-RQ that is `length` bytes long."""
    head = struct.pack(">BBIHH", 1, 0, length, 1, 0) + b"SCANSIDE".ljust(16) + b"CT1".ljust(16)
    return head.ljust(6 + length, b"\0")


def test_slow_requests_and_slow_data_are_ended_and_a_sender_goes_on(
    receiver: StartReceiver, raw_scu: type[RawScu], send: Start
) -> None:
    one = receiver(dicom="idle_s = 4.0", more=EVERYWHERE)
    slow = [Loris(connect(one.port, f"127.0.0.{n % 3 + 1}"), request(1000)) for n in range(10)]
    for _ in range(5):
        peer = raw_scu(one.port)
        peer.command(0x0001, CT, b"1.2.3")
        value = struct.pack(">IBB", 1002, 1, 0) + bytes(1000)
        slow.append(Loris(peer.socket, struct.pack(">BBI", 4, 0, len(value)) + value))
    peer = raw_scu(one.port)
    peer.send(5, bytes(4))
    slow.append(Loris(peer.socket, bytes(1000)))  # after the end, when it ought to close
    send(one.port, 20)()
    assert [peer.hung_up_on() for peer in slow] == [True] * len(slow)
    assert sorted(str(o) for o in one.outcomes(7)) == ["lost"] * 5 + ["released"] * 2
    assert len(one.stored()) == 20
    assert not list((one.state / "incoming").iterdir())


def test_a_pdu_of_four_gib_costs_no_memory_and_no_sender_anything(
    receiver: StartReceiver, raw_scu: type[RawScu], send: Start
) -> None:
    one = receiver()
    peer = raw_scu(one.port)
    (child,) = children(one.process.pid)
    before = memory_kb(child, "VmHWM")
    peer.command(0x0001, CT, b"1.2.3")
    peer.socket.sendall(struct.pack(">BBIIBB", 4, 0, 0xFFFFFFFF, 0xFFFFFFFB, 1, 0))
    for _ in range(64):
        peer.socket.sendall(bytes(1 << 20))
    send(one.port)()
    assert memory_kb(child, "VmHWM") - before < 16 << 10
    peer.socket.close()
    endless = raw_scu(one.port)
    endless.socket.sendall(struct.pack(">BBIIBB", 4, 0, 0xFFFFFFFF, 0xFFFFFFFB, 1, 1))
    assert endless.pdu()[0] == 7
    with connect(one.port) as stranger:
        stranger.sendall(struct.pack(">BBI", 1, 0, 0xFFFFFFFF))
        assert stranger.recv(10)[:1] == b"\x07"
    assert sorted(str(o) for o in one.outcomes(3)) == ["aborted", "lost", "released"]
    until(lambda: not list((one.state / "incoming").iterdir()))
    assert len(one.stored()) == 5


def memory_kb(pid: int, name: str) -> int:
    """Of proc(5): VmRSS, what is resident, or VmHWM, the most that ever was."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0])


def test_128_presentation_contexts_are_answered_each(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    ae = AE(ae_title="CT1")
    others = {str(c.abstract_syntax) for c in AllStoragePresentationContexts} - {CTImageStorage}
    for uid in [CTImageStorage, *sorted(others)[:127]]:
        ae.add_requested_context(uid, ExplicitVRLittleEndian)
    accepted = ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE")
    assert accepted.is_established
    assert len(accepted.accepted_contexts) == 128
    assert accepted.send_c_store(make_ct(0)).Status == 0
    accepted.release()


# PS3.7 D.3.3: asynchronous operations, roles, extended negotiation, user identity with a response
PROPOSALS = b"".join(
    (
        b"\x53\0\0\4\0\5\0\5",
        b"\x54\0" + struct.pack(">HH", len(CT) + 4, len(CT)) + CT + b"\1\1",
        b"\x56\0" + struct.pack(">HH", len(CT) + 5, len(CT)) + CT + b"\2\0\0",
        b"\x58\0\0\x0e\2\1\0\4user\0\4pass",
    )
)


def test_the_peer_s_longest_pdu_is_kept_to_and_its_proposals_are_tolerated(
    receiver: StartReceiver, raw_scu: type[RawScu], make_ct: MakeImage
) -> None:
    one = receiver()
    for most in (0, 128, 4096):
        talk(raw_scu(one.port, max_length=most, user=PROPOSALS), make_ct(0), most)


def talk(peer: Any, ds: Dataset, most: int) -> None:
    """One C-STORE that is taken and one that is not, with answers of at most `most` bytes."""
    assert peer.answer[0] == 2
    said = dict(items(peer.answer[1][68:]))
    assert not {0x53, 0x54, 0x56, 0x59} & set(dict(items(said[0x50])))  # nothing is agreed to
    for status in (0, 0xC000):
        data = data_set(ds) if status == 0 else b"garbage"
        peer.command(0x0001, CT, ds.SOPInstanceUID.encode())
        peer.value(data, control=2)
        command, lengths = b"", []
        while True:
            kind, body = peer.pdu()
            assert kind == 4
            lengths.append(len(body))
            command += body[6:]
            if body[5] & 2:
                break
        assert max(lengths) <= (most or 1 << 32)
        assert (len(lengths) > 1) == (most == 128)
        assert struct.pack("<HHIH", 0, 0x0900, 2, status) in command
    peer.release()


def items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Items of a PDU: type and value (PS3.8 9.3.2)."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BxH", data, at)
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


STEPS = {
    "half of a request": (None, None),
    "accepted": ("aborted", "lost"),
    "half of a command": ("aborted", "lost"),
    "a command": ("aborted", "lost"),
    "half of a data set": ("aborted", "lost"),
    "half of a PDU": ("lost", "lost"),  # an A-ABORT is then ten bytes of the value
    "a response that is not read": ("aborted", "lost"),
    "release": ("released", "released"),
}
"""Where the peer breaks off -> how the association ends after A-ABORT and after RST."""


def gone_as_far_as(step: str, port: int, scu: Any, data: bytes) -> socket.socket:
    if step == "half of a request":
        early = connect(port)
        early.sendall(request(1000)[:500])
        return early
    peer = scu(port)
    if step == "half of a command":
        peer.value(b"\0\0\0\0\4\0\0\0", control=1)
    elif step == "release":
        peer.send(5, bytes(4))
    elif step != "accepted":
        peer.command(0x0001, CT, b"1.2.3")
    if step == "half of a data set":
        peer.value(data[: len(data) // 2], control=0)
    elif step == "half of a PDU":
        peer.socket.sendall(struct.pack(">BBIIBB", 4, 0, 5000, 4996, 1, 0) + data[:100])
    elif step == "a response that is not read":
        peer.value(b"garbage", control=2)
    if step in ("release", "a response that is not read"):
        peer.socket.recv(1, socket.MSG_PEEK)
    return peer.socket  # type: ignore[no-any-return]


def test_an_abort_or_reset_at_any_step_ends_one_association_and_no_other(
    receiver: StartReceiver,
    raw_scu: type[RawScu],
    make_ct: MakeImage,
    send: Start,
) -> None:
    one = receiver()
    good = raw_scu(one.port)
    stored = 0
    expected = []
    finished = send(one.port, 20)
    data = data_set(make_ct(99))
    for step, (aborted, lost) in STEPS.items():
        for outcome, how in ((aborted, "abort"), (lost, "reset")):
            peer = gone_as_far_as(step, one.port, raw_scu, data)
            if how == "abort":
                abort(peer)
            else:
                reset(peer)
            expected += [outcome] if outcome else []
            ds = make_ct(stored)
            assert good.store(ds.SOPInstanceUID.encode(), data_set(ds)) == 0, (step, how)
            stored += 1
    finished()
    good.release()
    expected += ["released"] * 2
    assert sorted(str(o) for o in one.outcomes(len(expected))) == sorted(expected)
    until(lambda: not children(one.process.pid))
    assert not list((one.state / "incoming").iterdir())
    assert len(one.stored()) == stored + 20
    assert "Traceback" not in one.log.read_text()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_under_a_minute_of_floods_three_scanners_lose_nothing(
    receiver: StartReceiver, send: Start
) -> None:
    """Connections without end: idle ones, garbage, slow ones, resets, from three hosts at once."""
    one = receiver(dicom="idle_s = 5.0", more=EVERYWHERE)
    over = threading.Event()
    made = [0, 0, 0]

    def flood(number: int) -> None:
        held: list[socket.socket] = []
        while not over.wait(0.02):
            with contextlib.suppress(OSError):
                peer = connect(one.port, ("127.0.0.2", "127.0.0.3", "127.0.0.9")[number])
                held.append(peer)
                made[number] += 1
                if made[number] % 4 == 3:
                    reset(peer)
                else:
                    peer.sendall((b"", os.urandom(300), request(1000)[:80])[made[number] % 4])
            if len(held) > 100:
                held.pop(0).close()
        for peer in held:
            peer.close()

    floods = [threading.Thread(target=flood, args=(n,)) for n in range(3)]
    for thread in floods:
        thread.start()
    sent, began, resident = 0, time.monotonic(), []
    while time.monotonic() - began < 60:
        for finished in [send(one.port, 30) for _ in range(3)]:
            finished()
            sent += 30
        resident.append(memory_kb(one.process.pid, "VmRSS"))
        assert (
            len(children(one.process.pid)) <= connections.WAITING + connections.STRANGERS + 3 + 20
        )
    over.set()
    for thread in floods:
        thread.join()
    until(lambda: not children(one.process.pid))
    assert len(one.stored()) == sent
    assert resident[-1] - resident[0] < 8 << 10
    assert set(one.outcomes(sent // 30)) == {"released"}
    counts = f"{sum(made)} hostile connections, {sent} slices in {sent // 30} associations"
    sys.stdout.write(f"{counts}, resident {resident[0]} to {resident[-1]} KiB\n")
