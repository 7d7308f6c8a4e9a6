"""The stage: it serves, ends on SIGTERM, says one line when it cannot, speaks TLS off loopback."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from appliance.demo.child import free_port
from appliance.store import conditions
from appliance.store.journal import Journal
from appliance.web import serving as serving_files
from appliance.web import stage
from appliance.web.access.accounts import Accounts
from rigs import web
from rigs.authority import Authority
from rigs.peers import HANG_S, until

ANY = "0.0.0.0"  # noqa: S104 - under TLS, with a login, for the time of a test


def test_it_serves_says_so_and_ends_when_it_is_told(tmp_path: Path) -> None:
    with web.running(tmp_path / "state") as page:
        with page.browser() as browser:
            assert browser.get("/login").status_code == 200
        assert conditions.look(page.settings, ["web"])["web"].state is conditions.State.RUNNING
        page.process.send_signal(signal.SIGTERM)
        assert page.process.wait(HANG_S) == 0
    said = page.log.read_text()
    assert "Traceback" not in said
    assert "/login" not in said, "no request is logged"


def test_what_analyses_goes_first_without_systemd_too(tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with web.running(tmp_path / "state") as page:
        assert os.getpriority(os.PRIO_PROCESS, page.process.pid) == min(19, own + stage.NICE)


def test_open_streams_keep_nobody_from_stopping_it(tmp_path: Path) -> None:
    with (
        web.running(tmp_path / "state") as page,
        page.logged_in() as browser,
        browser.stream("GET", "/events", params={"of": "list"}) as stream,
    ):
        heard = stream.iter_lines()
        next(heard)
        page.process.send_signal(signal.SIGTERM)
        assert not [line for line in heard if line.startswith("event: news")]  # it comes to its end
        assert page.process.wait(HANG_S) == 0
        assert "Traceback" not in page.log.read_text()


def test_the_stream_of_an_account_that_is_removed_ends(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "state")
    accounts.add("anna", "service")
    accounts.change("anna", web.PASSWORD)
    with (
        serving(tmp_path, beat_s=0.2) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=HANG_S) as browser,
    ):
        web.log_in(browser, "anna")
        with browser.stream("GET", "/events", params={"of": "list"}) as stream:
            heard = stream.iter_lines()
            assert "event: alive" in {next(heard), next(heard)}
            accounts.remove("anna")
            assert [line for line in heard if line.startswith("event")][-1] == "event: out"
        assert browser.get("/").status_code == 401


def test_a_page_is_shown_before_there_is_a_journal_and_after(tmp_path: Path) -> None:
    with web.running(tmp_path / "state") as page, page.browser() as browser:
        assert not list(page.settings.state.glob("journal-*"))
        assert browser.get("/login").status_code == 200
        with Journal.open(page.settings.state), page.logged_in() as reader:
            assert reader.get("/").status_code == 200


def test_a_port_that_is_taken_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "scanside.toml"
        config.write_text(f'state = "{tmp_path}/state"\n[web]\nenabled = true\nport = {port}\n')
        done = subprocess.run(
            [sys.executable, "-m", "appliance", "web", "--config", str(config)],
            capture_output=True, text=True, timeout=HANG_S, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("scanside: ")]
    assert len(lines) == 1
    assert f"port {port}" in lines[0]
    assert "Traceback" not in done.stderr


@contextmanager
def serving(folder: Path, *, beat_s: float = 15.0, **bounds: float) -> Iterator[int]:
    """The port of a stage in which names of its module have other values; beat_s: of streams."""
    code = (
        "import sys; from pathlib import Path; from appliance.settings import load; "
        f"from appliance.web import live, stage; vars(stage).update({bounds!r}); "
        f"live.BEAT_S = {beat_s}; "
        "sys.exit(stage.main(load(Path(sys.argv[1]))))"
    )
    port = free_port()
    config = folder / "scanside.toml"
    config.write_text(f'state = "{folder}/state"\n[web]\nenabled = true\nport = {port}\n')
    process = subprocess.Popen([sys.executable, "-c", code, str(config)])
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield port
    finally:
        process.terminate()
        process.wait(HANG_S)


def is_hung_up_on(peer: socket.socket) -> bool:
    """Whether the stage ends the connection; waits for it."""
    with suppress(ConnectionResetError):
        while peer.recv(65536):
            pass
    return True


def established(port: int) -> int:
    """How many connections of this port go on, at its side of the stage (proc_net(5))."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(f":{port:04X}") and line[3] == "01" for line in lines)


ASKS = b"GET /login HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        ASKS[:30],
        ASKS + b"\r\n" + ASKS[:30],
        ASKS + b"Content-Length: 9999\r\n\r\n12",
        ASKS.replace(b"GET", b"POST") + b"Content-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 9999\r\n\r\nname=",
    ],
    ids=["first head", "second head", "body that nobody reads", "form"],
)
def test_who_connects_and_does_not_come_to_an_end_is_hung_up_on(
    tmp_path: Path, sent: bytes
) -> None:
    with (
        serving(tmp_path, HEAD_S=0.2, LOOK_S=0.05) as port,
        socket.create_connection(("127.0.0.1", port), HANG_S) as mute,
    ):
        mute.sendall(sent)
        assert is_hung_up_on(mute)


@contextmanager
def taking_nothing(port: int) -> Iterator[None]:
    """A peer that asks for more than the system holds of its answers, and reads none."""
    large = serving_files.read().address("viewer.js")
    asked = f"GET {large} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(HANG_S)
        peer.connect(("127.0.0.1", port))
        peer.sendall(500 * asked)
        yield


def test_who_takes_no_answer_is_hung_up_on(tmp_path: Path) -> None:
    with serving(tmp_path, UNREAD_S=0.2, LOOK_S=0.05) as port, taking_nothing(port):
        until(lambda: established(port) == 0)


def test_answers_that_nobody_takes_fill_no_memory(tmp_path: Path) -> None:
    with serving(tmp_path, UNREAD_BYTES=1, LOOK_S=0.05) as port, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(taking_nothing(port))
        until(lambda: established(port) == 1)
        assert httpx.get(f"http://127.0.0.1:{port}/login", timeout=HANG_S).status_code == 200


def test_mute_connections_give_way_to_who_asks_for_something(tmp_path: Path) -> None:
    with serving(tmp_path, CONNECTIONS=5, HEAD_S=3600.0) as port, ExitStack() as stack:
        mute = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), HANG_S))
            for _ in range(20)
        ]
        assert is_hung_up_on(mute[0])
        assert httpx.get(f"http://127.0.0.1:{port}/login", timeout=HANG_S).status_code == 200


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ward")


def peer_serial(port: int, ca: Path) -> int:
    """Of the certificate that the page shows."""
    context = ssl.create_default_context(cafile=str(ca))
    with (
        socket.create_connection(("127.0.0.1", port), HANG_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        found = secured.getpeercert()
    assert found is not None
    return int(str(found["serialNumber"]), 16)


def test_under_tls_the_cookie_is_secure_and_a_renewed_certificate_needs_no_start(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.issue("localhost", "127.0.0.1")
    files = {"certificate": str(certificate), "key": str(key)}
    trusted = ssl.create_default_context(cafile=str(authority.ca))
    with web.running(tmp_path / "state", host=ANY, tls=files) as page:
        with page.browser(verify=trusted) as browser:
            form = {"name": page.account(), "password": web.PASSWORD}
            said = browser.post("/login", data=form).headers["set-cookie"]
            assert said.startswith("__Host-scanside-")
            assert "Secure" in said
            assert browser.get("/").status_code == 200
        port = page.settings.web.port
        before = peer_serial(port, authority.ca)
        authority.issue("localhost", "127.0.0.1")
        until(lambda: peer_serial(port, authority.ca) != before)
        key.write_text("no key")
        until(lambda: "[web.tls]" in page.log.read_text())
        assert peer_serial(port, authority.ca) != before, "what cannot be used leaves the old one"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/login", timeout=HANG_S)


def test_a_certificate_that_cannot_be_used_is_one_line_with_a_remedy(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, _ = authority.issue("localhost")
    _, key = authority.issue("other")
    config = tmp_path / "scanside.toml"
    config.write_text(
        f'state = "{tmp_path}/state"\n[web]\nenabled = true\nport = {free_port()}\n'
        f'[web.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "web", "--config", str(config)],
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "[web.tls] certificate or key cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
