"""A repository as a box meets it: a folder, and a web server on a loopback port that serves it well
or badly."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ENDLESS = 100_000_000
"""More than any box takes and any socket holds, and no more than a disk bears if one does."""


def lay(folder: Path, files: Mapping[str, bytes]) -> Path:
    """These files and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@dataclass
class Server:
    """How it serves, which a test may change at any time, and what it was asked for."""

    folder: Path
    url: str = ""
    ranges: bool = True
    cut: int | None = None
    """After so many bytes of a blob it closes the connection."""
    endless: str | None = None
    """A file of which it sends ENDLESS bytes, unless the other side leaves before."""
    sent: int = 0
    """Bytes of that file."""
    redirect: str | None = None
    silent: threading.Event | None = None
    """It says nothing until this is set."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths and ranges, in order."""
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """Serves until the end of the block."""
    how = Server(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, wanted = self.path.lstrip("/"), self.headers.get("Range")
            how.asked.append((path, wanted))
            how.headers.append(dict(self.headers))
            if how.silent is not None:
                how.silent.wait(120)
                return
            if how.redirect is not None:
                self.send_response(302)
                self.send_header("Location", how.redirect)
                self.end_headers()
                return
            if path == how.endless:
                self._endless()
                return
            where = folder / path
            if not where.is_file():
                self.send_error(404)
                return
            self._file(where.read_bytes(), wanted, blob=path.startswith("blobs/"))

        def _file(self, data: bytes, wanted: str | None, *, blob: bool) -> None:
            start = 0
            if wanted is not None and how.ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            last = start + how.cut if blob and how.cut is not None else len(data)
            self.wfile.write(data[start:last])

        def _endless(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while how.sent < ENDLESS:
                    how.sent += self.wfile.write(b" " * 65_536)
            except OSError:
                return

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    how.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield how
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
