"""Attacks on the page over TLS, at the real stage: each is turned away, and the page serves on."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from appliance.demo.child import free_port
from appliance.web import accepting
from rigs import web
from rigs.authority import DAY, Authority
from rigs.peers import HANG_S, until
from rigs.programs import program

NAME = "localhost"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ward")


@pytest.fixture(scope="module")
def page(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[web.Page]:
    """The page over TLS."""
    certificate, key = authority.issue(NAME, "127.0.0.1")
    files = {"certificate": str(certificate), "key": str(key)}
    with web.running(tmp_path_factory.mktemp("secured") / "state", tls=files) as serving:
        yield serving


def serves(port: int, authority: Authority) -> bool:
    """Whether somebody who is trusted gets the page."""
    trusted = ssl.create_default_context(cafile=str(authority.ca))
    answer = httpx.get(f"https://{NAME}:{port}/login", verify=trusted, timeout=HANG_S)
    return answer.status_code == 200


def hello() -> bytes:
    """What a client sends first (RFC 8446 4.1.2)."""
    said = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname=NAME)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read()


def rest_of(peer: socket.socket) -> bytes:
    """What comes until the connection is ended; waits for it."""
    found = b""
    with suppress(ConnectionResetError):
        while part := peer.recv(65536):
            found += part
    return found


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x00" * 4096,
        b"\x16\x03\x01\xff\xff" + b"\xff" * 200,
    ],
    ids=["http", "zeros", "a record that lies about its length"],
)
def test_what_is_no_handshake_gets_no_page_and_no_line_of_the_log(
    page: web.Page, authority: Authority, sent: bytes
) -> None:
    port, before = page.settings.web.port, page.log.read_text()
    with socket.create_connection(("127.0.0.1", port), HANG_S) as peer:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        answer = rest_of(peer)
    assert b"HTTP/" not in answer
    assert b"Scanside" not in answer
    assert serves(port, authority)
    assert page.log.read_text() == before


@contextmanager
def showing(folder: Path, authority: Authority, **validity: timedelta) -> Iterator[int]:
    """The port of a page whose certificate is of this authority, valid as is said."""
    certificate, key = authority.issue(NAME, **validity)
    files = {"certificate": str(certificate), "key": str(key)}
    with web.running(folder / "state", tls=files) as serving:
        yield serving.settings.web.port


def test_a_browser_that_checks_refuses_a_certificate_of_somebody_else_or_for_another_name(
    page: web.Page, authority: Authority, tmp_path: Path
) -> None:
    port, before = page.settings.web.port, page.log.read_text()
    stranger = Authority(tmp_path, "stranger")
    for ca, name in ((stranger.ca, NAME), (authority.ca, "ct1.ward.example")):
        context = ssl.create_default_context(cafile=str(ca))
        with (
            socket.create_connection(("127.0.0.1", port), HANG_S) as raw,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            context.wrap_socket(raw, server_hostname=name)
    assert serves(port, authority)
    assert page.log.read_text() == before


def test_a_certificate_that_ended_is_refused_by_who_checks(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ward")
    with showing(tmp_path, authority, begins=-2 * DAY, ends=-DAY) as port:
        context = ssl.create_default_context(cafile=str(authority.ca))
        with (
            socket.create_connection(("127.0.0.1", port), HANG_S) as raw,
            pytest.raises(ssl.SSLCertVerificationError, match="expired"),
        ):
            context.wrap_socket(raw, server_hostname=NAME)


def s_client(port: int, *options: str, typed: bytes = b"") -> str:
    """What `openssl s_client` says of a connection on which this is typed."""
    command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *options]
    done = subprocess.run(command, input=typed, capture_output=True, timeout=HANG_S, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def test_nobody_negotiates_anew_on_a_connection_of_tls_1_2(
    page: web.Page, authority: Authority
) -> None:
    port, before = page.settings.web.port, page.log.read_text()
    said = s_client(port, "-tls1_2", typed=b"R\n")
    assert "RENEGOTIATING" in said, "the client did ask for it"
    assert "no renegotiation" in said
    assert serves(port, authority)
    assert page.log.read_text() == before


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_before_tls_1_2_are_refused(
    page: web.Page, authority: Authority, version: str
) -> None:
    port = page.settings.web.port
    said = s_client(port, version, "-cipher", "DEFAULT@SECLEVEL=0")
    assert "Cipher is (NONE)" in said
    assert "Cipher is (NONE)" not in s_client(port, "-tls1_2")
    assert serves(port, authority)


@contextmanager
def bounded(folder: Path, authority: Authority, **bounds: float) -> Iterator[int]:
    """The port of a stage in which names of its module have other values."""
    certificate, key = authority.issue(NAME, "127.0.0.1")
    port = free_port()
    config = folder / "scanside.toml"
    config.write_text(
        f'state = "{folder}/state"\n[web]\nenabled = true\nport = {port}\n'
        f'[web.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    )
    code = (
        "import sys; from pathlib import Path; from appliance.settings import load; "
        f"from appliance.web import stage; vars(stage).update({bounds!r}); "
        "sys.exit(stage.main(load(Path(sys.argv[1]))))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(config)])
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield port
    finally:
        process.terminate()
        process.wait(HANG_S)


@pytest.mark.parametrize("sent", [b"", hello()[:40]], ids=["nothing", "half of a hello"])
def test_a_handshake_that_does_not_come_to_its_end_is_hung_up_on(
    tmp_path: Path, authority: Authority, sent: bytes
) -> None:
    with (
        bounded(tmp_path, authority, HANDSHAKE_S=0.3) as port,
        socket.create_connection(("127.0.0.1", port), HANG_S) as mute,
    ):
        mute.sendall(sent)
        assert b"HTTP/" not in rest_of(mute)


def test_handshakes_that_hang_give_way_to_who_comes_and_are_never_many(
    tmp_path: Path, authority: Authority
) -> None:
    with bounded(tmp_path, authority, HANDSHAKE_S=3600.0, SHAKING=3) as port, ExitStack() as stack:
        mute = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), HANG_S))
            for _ in range(12)
        ]
        for one in mute:
            with suppress(OSError):
                one.sendall(hello()[:40])
        for one in mute[:8]:
            assert rest_of(one) == b""
        assert serves(port, authority)
        assert rest_of(mute[8]) == b"", "it gave way to who was served"


def test_a_stage_that_ends_waits_for_no_handshake(tmp_path: Path, authority: Authority) -> None:
    with (
        bounded(tmp_path, authority, HANDSHAKE_S=3600.0) as port,
        socket.create_connection(("127.0.0.1", port), HANG_S) as mute,
    ):
        assert serves(port, authority)
        mute.sendall(hello()[:40])
    # the stage has ended, or the fixture would have waited HANG_S and raised


def test_the_bounds_leave_room_for_a_ward_and_none_for_a_flood() -> None:
    assert 5 <= accepting.HANDSHAKE_S <= 20
    assert 20 <= accepting.SHAKING <= 100
