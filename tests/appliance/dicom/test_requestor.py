"""An association that we open, against pynetdicom, dcmtk and peers that do wrong on purpose."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from appliance.demo.child import child, free_port
from appliance.dicom import part10, pdu, statuses
from appliance.dicom.part10 import EXPLICIT, IMPLICIT
from appliance.dicom.policy import Context, Proposed
from appliance.dicom.requestor import Limits, Peer, Requestor
from appliance.errors import PeerAway
from rigs.archive import ALL, ENHANCED, SR_3D, TITLE, Archive, serving, written
from rigs.peers import HANG_S, until
from rigs.programs import program

QUICK = Limits(answer_s=0.5)
PATIENT = Limits(connect_s=HANG_S, answer_s=HANG_S, send_s=HANG_S)


def peer(port: int, called: str = TITLE, calling: str = "SCANSIDE") -> Peer:
    return Peer("127.0.0.1", port, called, calling)


def stored(link: Requestor, path: Path) -> int:
    found = part10.read(path)
    syntax = link.takes(found.sop_class, found.transfer_syntax) or EXPLICIT
    data, length = found.data(syntax)
    with data:
        return link.store(found.sop_class, found.sop_instance, syntax, data, length)


def test_objects_go_over_one_association_bit_by_bit_and_it_is_released(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{n}.dcm", f"1.2.{n}", filler=300_000 * n) for n in range(3)]
    with serving() as archive:
        link = Requestor.open(peer(archive.port), ALL, PATIENT)
        assert [stored(link, path) for path in paths] == [0, 0, 0]
        assert link.echo() == 0
        assert not link.is_over()
        link.release()
        until(lambda: archive.released == 1)
    assert archive.uids == ["1.2.0", "1.2.1", "1.2.2"]
    assert archive.associations == 1
    for came, path in zip(archive.came, paths, strict=True):
        assert path.read_bytes().endswith(came.data)
        assert came.syntax == EXPLICIT


@pytest.mark.parametrize("status", [0x0000, 0x0111, 0x0122, 0x0124, 0xA700, 0xA900, 0xB000, 0xC001])
def test_each_status_comes_back_as_the_peer_said_it(tmp_path: Path, status: int) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3")
    with serving(Archive(answer=lambda _uid: status)) as archive:
        link = Requestor.open(peer(archive.port), ALL, PATIENT)
        assert stored(link, path) == status
        assert stored(link, path) == status, "the association goes on"
        link.release()


def test_a_class_that_is_not_accepted_is_not_sent(tmp_path: Path) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3")
    with serving(classes=[ENHANCED]) as archive:
        link = Requestor.open(peer(archive.port), ALL, PATIENT)
        assert link.takes(SR_3D, EXPLICIT) is None
        assert stored(link, path) == statuses.NO_CONTEXT
        link.release()
    assert archive.came == []


def test_a_peer_that_takes_implicit_vr_alone_gets_it(tmp_path: Path) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3")
    with serving(syntaxes=[IMPLICIT]) as archive:
        link = Requestor.open(peer(archive.port), ALL, PATIENT)
        assert (stored(link, path), link.echo()) == (0, 0)
        link.release()
    assert archive.came[0].syntax == IMPLICIT
    assert len(archive.came[0].data) < path.stat().st_size


def test_dcmtk_stores_what_we_send_and_reads_it_back(tmp_path: Path) -> None:
    port = free_port()
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    path = written(tmp_path / "one.dcm", "1.2.3.4", filler=300_000)
    command = [program("storescp"), "-aet", TITLE, "-od", str(inbox), "+xa", str(port)]
    with child(command):
        link = until(lambda: _opened(port))
        assert stored(link, path) == 0
        assert link.echo() == 0
        link.release()
        (kept,) = until(lambda: list(inbox.iterdir()))
        assert dcmread(kept) == dcmread(path)


def _opened(port: int) -> Requestor | None:
    try:
        return Requestor.open(peer(port), ALL, PATIENT)
    except PeerAway:
        return None


def test_an_ae_title_that_nobody_knows_is_rejected_with_the_reason() -> None:
    with serving(callers=["OTHER"]) as archive:
        for calling, called, said in (
            ("SCANSIDE", TITLE, "calling AE title not recognized"),
            ("OTHER", "NOBODY", "called AE title not recognized"),
        ):
            with pytest.raises(PeerAway, match=said) as refused:
                Requestor.open(peer(archive.port, called, calling), ALL, PATIENT)
            assert refused.value.code == "peer_rejects"
            assert "AE" in refused.value.text or calling in refused.value.remedy


def test_nobody_there_is_no_connection() -> None:
    with pytest.raises(PeerAway) as refused:
        Requestor.open(peer(free_port()), ALL, QUICK)
    assert refused.value.code == "peer_away"


def test_a_peer_that_never_answers_an_object_is_not_waited_for(tmp_path: Path) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3")
    with serving() as archive:
        archive.holds.clear()
        link = Requestor.open(peer(archive.port), ALL, PATIENT)
        link._limits = QUICK
        with pytest.raises(PeerAway) as refused:
            stored(link, path)
        assert refused.value.code == "peer_silent"
        link.abort()
    assert archive.uids == ["1.2.3"]


def test_another_thread_may_end_the_wait_for_an_answer(tmp_path: Path) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3")
    with serving() as archive:
        archive.holds.clear()
        link = Requestor.open(peer(archive.port), ALL, PATIENT)
        threading.Thread(target=lambda: (until(lambda: archive.came), link.cut())).start()
        with pytest.raises(PeerAway) as refused:
            stored(link, path)
        assert refused.value.code == "peer_left"
        link.abort()


def test_a_peer_that_aborts_in_place_of_an_answer_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3")
    with serving(Archive(abort=lambda _uid: True)) as archive:
        link = Requestor.open(peer(archive.port), ALL, PATIENT)
        with pytest.raises(PeerAway) as refused:
            stored(link, path)
        assert refused.value.code == "peer_left"
        until(link.is_over)
        link.abort()


# Peers that are no DICOM archives: a socket that says what a test wants.


@contextmanager
def speaking(*answers: bytes | None) -> Iterator[int]:
    """A port on which each connection is answered with these bytes, one after each thing that is
    heard; None: it closes."""
    ended = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                for answer in answers:
                    connection.recv(1 << 20)
                    if answer is None:
                        return
                    connection.sendall(answer)
                ended.wait(HANG_S)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        ended.set()
        thread.join(HANG_S)


def accepted() -> bytes:
    """An A-ASSOCIATE-AC that takes all that `Requestor` proposes for 3D SR."""
    asked = (Proposed(n, "x", (EXPLICIT,)) for n in range(1, 9, 2))
    body = pdu.request("A", TITLE, asked, 16384)
    request = pdu.parse_request(body[6:])
    return pdu.accept(request, [Context(n, "", EXPLICIT, 0) for n in range(1, 9, 2)], 16384)


def answer(message: int, status: int = 0, field: int = 0x8030) -> bytes:
    command = {
        pdu.SOP_CLASS: "1.2.840.10008.1.1", pdu.FIELD: field, pdu.RESPONDED_TO: message,
        pdu.DATA_SET_TYPE: pdu.NO_DATA_SET, pdu.STATUS: status,
    }  # fmt: skip
    return pdu.command_pdu(1, command)


WRONG: dict[str, tuple[Callable[[], tuple[bytes | None, ...]], str]] = {
    "closes at once": (lambda: (None,), "peer_left"),
    "web server": (lambda: (b"HTTP/1.1 400 Bad Request\r\n\r\n",), "peer_odd"),
    "endless PDU": (lambda: (struct.pack(">BxI", 2, 1 << 31),), "peer_odd"),
    "cut accept": (lambda: (struct.pack(">BxI", 2, 4) + b"abcd",), "peer_odd"),
    "aborts": (lambda: (pdu.abort(0),), "peer_odd"),
    "half a PDU": (lambda: (accepted()[:20],), "peer_silent"),
    "silent": (lambda: (b"",), "peer_silent"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_peer_that_does_not_associate_ends_in_a_clear_error(what: str) -> None:
    answers, code = WRONG[what]
    with speaking(*answers()) as port, pytest.raises(PeerAway) as refused:
        Requestor.open(peer(port), [SR_3D], QUICK if code == "peer_silent" else PATIENT)
    assert refused.value.code == code
    assert "127.0.0.1" in refused.value.text


ANSWERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "another message": (lambda: answer(7), "peer_odd"),
    "another command": (lambda: answer(1, field=0x8001), "peer_odd"),
    "a data set": (lambda: pdu.data_header(1, 4, last=True) + b"abcd", "peer_odd"),
    "no P-DATA": (accepted, "peer_odd"),
    "cut command": (lambda: struct.pack(">BxIIBB", 4, 9, 5, 1, 3) + b"abc", "peer_odd"),
    "cut value": (lambda: struct.pack(">BxI", 4, 3) + b"abc", "peer_odd"),
    "release": (pdu.release_request, "peer_left"),
    "abort": (lambda: pdu.abort(0), "peer_left"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_that_is_none_ends_in_a_clear_error(what: str) -> None:
    said, code = ANSWERS[what]
    with speaking(accepted(), said()) as port:
        link = Requestor.open(peer(port), [SR_3D], PATIENT)
        with pytest.raises(PeerAway) as refused:
            link.echo()
        assert refused.value.code == code
        link.abort()


def test_an_answer_in_pieces_is_put_together() -> None:
    whole = answer(1, status=0x0122)
    body = whole[6:][6:]
    pieces = b"".join(
        struct.pack(">BxIIBB", 4, 10 - 4 + len(body[at : at + 10]), len(body[at : at + 10]) + 2, 1,
                    3 if at + 10 >= len(body) else 1) + body[at : at + 10]
        for at in range(0, len(body), 10)
    )  # fmt: skip
    with speaking(accepted(), pieces) as port:
        link = Requestor.open(peer(port), [SR_3D], PATIENT)
        assert link.echo() == 0x0122
        link.abort()


@pytest.mark.parametrize("how", ["release", "abort", "close"])
def test_the_end_of_an_idle_association_is_seen(how: str) -> None:
    last = {"release": pdu.release_request(), "abort": pdu.abort(0), "close": None}[how]
    with speaking(accepted(), answer(1), last) as port:
        link = Requestor.open(peer(port), [SR_3D], PATIENT)
        assert link.echo() == 0
        assert not link.is_over()
        link._connection.sendall(b"\0")  # what the peer waits for before it goes
        until(link.is_over)
        link.abort()


def test_a_peer_that_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    path = written(tmp_path / "one.dcm", "1.2.3", filler=64 << 20)
    with speaking(accepted()) as port:
        link = Requestor.open(peer(port), [SR_3D], PATIENT)
        link._limits = Limits(send_s=0.5)
        with pytest.raises(PeerAway) as refused:
            stored(link, path)
        assert refused.value.code == "peer_silent"
        link.abort()
