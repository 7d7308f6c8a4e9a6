"""A repository behind a real nginx on a loopback port, and what its access log says."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.demo.child import free_port
from rigs.peers import HANG_S, until

_CONFIG = """
daemon off;
master_process off;
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections 64; }}
http {{
    log_format bodies '$request_uri $status $body_bytes_sent';
    access_log {home}/access.log bodies;
    client_body_temp_path {home}/temp;
    proxy_temp_path {home}/temp;
    fastcgi_temp_path {home}/temp;
    uwsgi_temp_path {home}/temp;
    scgi_temp_path {home}/temp;
    server {{
        listen 127.0.0.1:{port};
        root {folder};
    }}
}}
"""
_LINE = re.compile(r"/(\S+) (\d{3}) (\d+)")


@dataclass(frozen=True, slots=True)
class Sent:
    """One answer: path below the repository, HTTP status, bytes of its body."""

    path: str
    status: int
    body: int


@dataclass
class Nginx:
    """It serves `url`, and writes a line for each answer."""

    url: str
    _log: Path
    _read: int = 0

    def sent(self) -> list[Sent]:
        """What it sent since this was asked last. Each line is written when its answer is done, so
        one more request is made, and its line waited for."""
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), HANG_S) as peer:
            peer.sendall(b"GET /the-end HTTP/1.0\r\n\r\n")
            while peer.recv(4096):
                pass
        lines: list[str] = until(self._to_the_end)
        self._read += len(lines) + 1
        return [Sent(f[1], int(f[2]), int(f[3])) for f in map(_LINE.fullmatch, lines) if f]

    def _to_the_end(self) -> list[str] | None:
        lines = self._log.read_text(encoding="ascii").splitlines()[self._read :]
        ends = [n for n, line in enumerate(lines) if line.startswith("/the-end ")]
        return lines[: ends[0]] if ends else None


@contextmanager
def nginx(folder: Path, home: Path) -> Iterator[Nginx]:
    """Serves `folder` until the end of the block; its own files lie in `home`."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("nginx is not installed (apt install nginx-light)")
    home.mkdir()
    port = free_port()
    config = home / "nginx.conf"
    config.write_text(_CONFIG.format(home=home, port=port, folder=folder), encoding="utf-8")
    child = subprocess.Popen([program, "-c", str(config), "-p", str(home), "-e", "stderr"])
    try:
        until(lambda: _listens(port))
        yield Nginx(f"http://127.0.0.1:{port}", home / "access.log")
    finally:
        child.terminate()
        child.wait(HANG_S)


def _listens(port: int) -> bool:
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) == 0
