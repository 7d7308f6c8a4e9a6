"""A connection to a web service: real servers, proxies and TLS, and peers that do wrong."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.demo.child import free_port
from appliance.dicom import tls
from appliance.dicom.exchange import Exchange, Place, Said
from appliance.dicom.requestor import ANSWER_MOST, Limits
from appliance.errors import PeerAway
from appliance.settings import TLS, Stow
from rigs.authority import DAY, Authority
from rigs.peers import HANG_S, until
from rigs.web_archive import WebArchive, heard, saying, serving_web

PATIENT = Limits(connect_s=HANG_S, answer_s=HANG_S, send_s=HANG_S, release_s=HANG_S)
QUICK = Limits(connect_s=HANG_S, answer_s=0.3, send_s=HANG_S, release_s=0.3)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


def place(port: int, **more: Any) -> Place:
    return Place("127.0.0.1", port, "/dicom-web", **more)


def options(port: int, limits: Limits = PATIENT, **more: Any) -> Said:
    """One question over a connection of its own."""
    link = Exchange.open(place(port, **more), limits)
    try:
        return link.ask("OPTIONS", "/studies", {})
    finally:
        link.close()


def refused(port: int, limits: Limits = PATIENT, **more: Any) -> PeerAway:
    with pytest.raises(PeerAway) as caught:
        options(port, limits, **more)
    assert caught.value.remedy.endswith(".")
    return caught.value


def test_the_place_is_what_the_settings_say() -> None:
    to = Stow(
        name="a", url="https://Pacs.Example/x/y/", tls=TLS(ca=Path("/ca")), proxy="http://p",
        certificate="pacs.ward",
    )  # fmt: skip
    found = Place.of(to)
    assert found.certificate == "pacs.ward"
    assert (found.host, found.port, found.path) == ("pacs.example", 443, "/x/y")
    assert (found.proxy, str(found)) == (("p", 80), "https://pacs.example:443/x/y")
    local = Place.of(Stow(name="a", url="http://[::1]:8042"))
    assert (local.host, local.port, local.path, local.proxy) == ("::1", 8042, "", None)
    assert str(local) == "http://[::1]:8042"


def test_questions_go_over_one_connection_that_is_kept() -> None:
    with serving_web(WebArchive(options=204)) as archive:
        link = Exchange.open(place(archive.port), PATIENT)
        assert [link.ask("OPTIONS", "/studies", {"A": "b"}).status for _ in range(3)] == [204] * 3
        assert not link.is_over()
        link.close()
    assert archive.connections == 1
    assert {one["A"] for one in archive.asked} == {"b"}
    assert {one["Host"] for one in archive.asked} == {f"127.0.0.1:{archive.port}"}


@pytest.mark.parametrize(
    ("answer", "hangs_up", "over"),
    [
        (OK, False, False),
        (OK, True, True),
        (OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), False, True),
        (OK.replace(b"1.1", b"1.0"), False, True),
    ],
)
def test_a_connection_is_over_where_the_peer_has_hung_up_or_says_that_it_will(
    answer: bytes, hangs_up: bool, over: bool
) -> None:
    said = threading.Event()

    def speak(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(answer)
        said.set()
        if not hangs_up:
            connection.recv(1)  # until we hang up

    with saying(speak) as port:
        link = Exchange.open(place(port), PATIENT)
        assert link.ask("OPTIONS", "/studies", {}).body == b"OK"
        assert said.wait(HANG_S)
        if hangs_up:
            until(link.is_over)
        assert link.is_over() is over
        link.close()


def test_an_answer_is_read_whole_in_chunks_too() -> None:
    def speak(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(
            b"HTTP/1.1 409 Conflict\r\nContent-Type: Application/DICOM+json; charset=utf-8\r\n"
            b"Retry-After: 7\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )

    with saying(speak) as port:
        found = options(port)
    assert found == Said(409, "application/dicom+json", b"abcde", "7", "/x")


def test_a_redirect_is_an_answer_and_nobody_else_is_asked() -> None:
    with serving_web() as elsewhere:

        def speak(connection: socket.socket) -> None:
            heard(connection)
            there = f"http://127.0.0.1:{elsewhere.port}/dicom-web/studies".encode()
            connection.sendall(
                b"HTTP/1.1 307 Moved\r\nLocation: " + there + b"\r\nContent-Length: 0\r\n\r\n"
            )

        with saying(speak) as port:
            assert options(port).status == 307
    assert elsewhere.connections == 0


def test_nobody_there_is_no_connection() -> None:
    assert refused(free_port()).code == "peer_away"


def silent(connection: socket.socket) -> None:
    heard(connection)
    connection.recv(1)  # until we hang up


def dripping(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Says a piece once, then the last one again and again."""

    def speak(connection: socket.socket) -> None:
        heard(connection)
        for piece in pieces:
            connection.sendall(piece)
        while True:
            connection.sendall(pieces[-1])
            time.sleep(0.02)

    return speak


@pytest.mark.parametrize(
    "speak",
    [
        silent,
        dripping(b"H"),
        dripping(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"."),
        dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n.\r\n"),
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silent", "status", "headers", "body", "chunks", "interim"],
)
def test_a_peer_that_never_comes_to_an_end_is_hung_up_on(
    speak: Callable[[socket.socket], None],
) -> None:
    """`headers` may come to the bound of how many there may be before that of time."""
    with saying(speak) as port:
        found = refused(port, QUICK)
    assert found.code in {"peer_silent", "peer_odd"}


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example ESMTP\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x02\x00\x00\x00\x00\x04",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 " + b"O" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"." * (ANSWER_MOST + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"." * (ANSWER_MOST + 1),
    ],
    ids=[
        "mail", "ssh", "dicom", "status", "version", "short", "chunk", "headers", "line", "endless",
        "long",
    ],
)  # fmt: skip
def test_what_is_no_http_or_too_long_is_named(answer: bytes) -> None:
    def speak(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(answer)

    with saying(speak) as port:
        assert refused(port).code == "peer_odd"


def test_a_peer_that_hangs_up_in_place_of_an_answer_is_named() -> None:
    with saying(lambda connection: heard(connection) and None) as port:
        assert refused(port).code == "peer_left"


def test_a_peer_that_does_not_read_is_not_waited_for() -> None:
    with saying(_until_gone) as port:
        link = Exchange.open(place(port), Limits(HANG_S, HANG_S, send_s=0.3))
        with pytest.raises(PeerAway) as caught:
            link.ask("POST", "/studies", {}, [bytes(64 << 20)])
        assert caught.value.code == "peer_silent"
        assert link.is_over()
        link.close()


def _until_gone(connection: socket.socket) -> None:
    """Reads a little, and waits until the client has hung up."""
    connection.recv(100)
    until(lambda: _hung_up(connection))


def _hung_up(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return not connection.recv(1 << 20)
    except TimeoutError:
        return False


def test_a_peer_that_answers_before_it_has_read_all_and_hangs_up_is_heard() -> None:
    def speak(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    with saying(speak) as port:
        link = Exchange.open(place(port), PATIENT)
        assert link.ask("POST", "/studies", {}, [bytes(64 << 20)]).status == 413
        assert link.is_over()
        link.close()


def test_another_thread_may_end_the_wait_for_an_answer() -> None:
    asked = threading.Event()

    def speak(connection: socket.socket) -> None:
        heard(connection)
        asked.set()
        connection.recv(1)

    with saying(speak) as port:
        link = Exchange.open(place(port), PATIENT)
        threading.Thread(target=lambda: (asked.wait(HANG_S), link.cut())).start()
        with pytest.raises(PeerAway) as caught:
            link.ask("OPTIONS", "/studies", {})
        assert caught.value.code == "peer_left"
        link.close()


# TLS and proxies.


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "hospital")


def context(pair: tuple[Path, Path]) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*pair)
    return made


def test_over_tls_the_certificate_is_checked_and_its_days_are_known(authority: Authority) -> None:
    pair = authority.issue("pacs", "127.0.0.1", ends=10 * DAY + timedelta(hours=1))
    with serving_web(WebArchive(options=200), tls=context(pair)) as archive:
        link = Exchange.open(place(archive.port, tls=TLS(ca=authority.ca)), PATIENT)
        assert link.ask("OPTIONS", "/studies", {}).status == 200
        assert not link.is_over(), "a session ticket of TLS 1.3 is no end"
        assert link.ask("OPTIONS", "/studies", {}).status == 200
        assert round(link.certificate_days() or 0.0) == 10
        link.close()
    assert archive.connections == 1


@pytest.mark.parametrize("what", ["another authority", "another host", "expired", "no TLS"])
def test_a_certificate_that_is_not_right_is_named_and_nothing_is_asked(
    authority: Authority, tmp_path: Path, what: str
) -> None:
    ends = -timedelta(hours=1) if what == "expired" else DAY
    address = "127.0.0.2" if what == "another host" else "127.0.0.1"
    ca = Authority(tmp_path, "stranger").ca if what == "another authority" else authority.ca
    pair = context(authority.issue("pacs", address, ends=ends))
    with serving_web(tls=None if what == "no TLS" else pair) as archive:
        assert refused(archive.port, tls=TLS(ca=ca)).code == tls.FAILED
    assert archive.asked == []


def test_where_a_certificate_is_named_another_one_is_asked_nothing(authority: Authority) -> None:
    pair = authority.issue("pacs.ward", "127.0.0.2")
    with serving_web(WebArchive(options=200), tls=context(pair)) as archive:
        where = place(archive.port, tls=TLS(ca=authority.ca), certificate="pacs.ward")
        link = Exchange.open(where, PATIENT)
        assert link.ask("OPTIONS", "/studies", {}).status == 200
        link.close()
        found = refused(archive.port, tls=TLS(ca=authority.ca), certificate="pacs2.ward")
        assert (found.code, "another certificate" in found.text) == (tls.FAILED, True)
    assert len(archive.asked) == 1


def test_a_handshake_that_never_ends_is_hung_up_on(authority: Authority) -> None:
    def speak(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"\x16\x03\x03\x40\x00")
        while True:
            connection.sendall(b"\x00")
            time.sleep(0.02)

    with saying(speak) as port:
        found = refused(port, Limits(connect_s=0.3), tls=TLS(ca=authority.ca))
    assert found.code == tls.FAILED


@contextmanager
def proxy(answer: bytes | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """The port of a proxy that connects, or says `answer`; and what it was asked."""
    asked: list[bytes] = []

    def speak(connection: socket.socket) -> None:
        request = heard(connection)
        asked.append(request)
        if answer is not None:
            connection.sendall(answer)
            return
        host, _, port = request.split(b" ")[1].decode().rpartition(":")
        with closing(socket.create_connection((host, int(port)), HANG_S)) as there:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pour, args=(there, connection), daemon=True)
            back.start()
            _pour(connection, there)
            back.join(HANG_S)

    with saying(speak) as port:
        yield port, asked


def _pour(source: socket.socket, into: socket.socket) -> None:
    with closing(source.makefile("rb", 0)) as stream:
        while data := stream.read(65536):
            into.sendall(data)
    with suppress(OSError):  # the client is gone already
        into.shutdown(socket.SHUT_WR)


def test_through_a_proxy_tls_is_with_the_archive_itself(authority: Authority) -> None:
    pair = context(authority.issue("pacs", "127.0.0.1"))
    with serving_web(WebArchive(options=200), tls=pair) as archive, proxy() as (port, asked):
        link = Exchange.open(
            place(archive.port, tls=TLS(ca=authority.ca), proxy=("127.0.0.1", port)), PATIENT
        )
        assert link.ask("OPTIONS", "/studies", {"Authorization": "Bearer abc"}).status == 200
        link.close()
    (request,) = asked
    assert request.startswith(f"CONNECT 127.0.0.1:{archive.port} HTTP/1.1\r\n".encode())
    assert b"Bearer" not in request, "the proxy gets no secret"
    assert archive.asked[0]["Authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n", "peer_rejects"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "peer_rejects"),
        (b"HTTP/1.1 302 Portal\r\nLocation: http://portal/\r\n\r\n", "peer_rejects"),
        (b"garbage\r\n", "peer_odd"),
        (b"", "peer_left"),
    ],
)
def test_a_proxy_that_does_not_connect_us_is_named(
    authority: Authority, answer: bytes, code: str
) -> None:
    with proxy(answer) as (port, _):
        found = refused(1, tls=TLS(ca=authority.ca), proxy=("127.0.0.1", port))
    assert found.code == code
    assert f"the proxy 127.0.0.1:{port}" in found.text


def test_a_proxy_that_is_away_or_silent_is_named(authority: Authority) -> None:
    gone = refused(1, tls=TLS(ca=authority.ca), proxy=("127.0.0.1", free_port()))
    assert gone.code == "peer_away"
    with saying(silent) as port:
        found = refused(1, QUICK, tls=TLS(ca=authority.ca), proxy=("127.0.0.1", port))
    assert found.code == "peer_silent"


def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{free_port()}")
    with serving_web(WebArchive(options=200)) as archive:
        assert options(archive.port).status == 200


def test_what_is_sent_in_pieces_comes_whole() -> None:
    got: list[bytes] = []

    def speak(connection: socket.socket) -> None:
        got.append(heard(connection))
        connection.sendall(OK)

    body = [b"a" * 3, bytes(range(256)) * 2000, b"", b"z"]
    with saying(speak) as port:
        link = Exchange.open(place(port), PATIENT)
        assert link.ask("POST", "/studies", {"X": "y"}, body).body == b"OK"
        link.close()
    head, _, rest = got[0].partition(b"\r\n\r\n")
    assert rest == b"".join(body)
    assert head.startswith(b"POST /dicom-web/studies HTTP/1.1\r\n")
    assert f"Content-Length: {len(rest)}".encode() in head
