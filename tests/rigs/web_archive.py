"""A DICOMweb service as a real peer on a loopback port: http.server, answering as a test tells it;
and a peer that says any bytes at all, at any pace."""

from __future__ import annotations

import io
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydicom import Dataset, dcmread

from rigs.peers import HANG_S

JSON = "application/dicom+json"
PATH = "/dicom-web"


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes = b""
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Post:
    """One object, as the service heard it."""

    uid: str
    path: str
    headers: Mapping[str, str]
    whole: bytes
    connection: int
    """Which connection it came over, from 1."""

    def dataset(self) -> Dataset:
        return dcmread(io.BytesIO(self.whole))


def listed(
    uid: str, *, warning: int | None = None, failure: int | None = None, failed: bool = False
) -> bytes:
    """The list of instances that names one as taken, or as failed (PS3.18 annex I and F)."""
    item: dict[str, Any] = {
        "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.88.34"]},
        "00081155": {"vr": "UI", "Value": [uid]},
    }
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    if failure is not None:
        item["00081197"] = {"vr": "US", "Value": [failure]}
    tag = "00081198" if failed or failure is not None else "00081199"
    return json.dumps({tag: {"vr": "SQ", "Value": [item]}}).encode()


def taken(post: Post) -> Response:
    return Response(200, listed(post.uid))


@dataclass
class WebArchive:
    """What it is told to do, and what it saw."""

    answer: Callable[[Post], Response] = taken
    options: int = 405
    """Its answer to OPTIONS."""
    empty: int = 400
    """Its answer to a request to store without an object."""
    holds: threading.Event = field(default_factory=threading.Event)
    """Cleared: it takes an object and does not answer."""
    port: int = 0
    came: list[Post] = field(default_factory=list)
    asked: list[Mapping[str, str]] = field(default_factory=list)
    """The headers of each OPTIONS, and of each request without an object."""
    connections: int = 0
    tls: bool = False

    def __post_init__(self) -> None:
        self.holds.set()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}{PATH}"

    @property
    def uids(self) -> list[str]:
        return [one.uid for one in self.came]


def part(content_type: str, body: bytes) -> bytes:
    """The one object of a body, where the body is as PS3.18 10.5.1 and RFC 2046 want it; empty:
    there is none in it."""
    found = re.fullmatch(
        r'multipart/related; type="application/dicom"; boundary=([0-9A-Za-z]+)', content_type
    )
    assert found, content_type
    boundary = found[1].encode()
    head = b"--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n"
    tail = b"\r\n--" + boundary + b"--\r\n"
    if body == tail[2:]:
        return b""
    assert body.startswith(head)
    assert body.endswith(tail)
    whole = body[len(head) : -len(tail)]
    assert boundary not in whole
    return whole


def _handler(archive: WebArchive) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            archive.connections += 1
            self.number = archive.connections

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            whole = part(self.headers["Content-Type"], body)
            if not whole:
                archive.asked.append(dict(self.headers))
                self._say(Response(archive.empty))
                return
            uid = str(dcmread(io.BytesIO(whole)).SOPInstanceUID)
            post = Post(uid, self.path, dict(self.headers), whole, self.number)
            archive.came.append(post)
            archive.holds.wait()
            self._say(archive.answer(post))

        def do_OPTIONS(self) -> None:
            archive.asked.append(dict(self.headers))
            self._say(Response(archive.options))

        def _say(self, response: Response) -> None:
            self.send_response(response.status)
            if response.body:
                self.send_header("Content-Type", response.kind)
            self.send_header("Content-Length", str(len(response.body)))
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what the tests are about."""


@contextmanager
def serving_web(
    archive: WebArchive | None = None, *, tls: ssl.SSLContext | None = None, port: int = 0
) -> Iterator[WebArchive]:
    """The service, from listening to the end of the block, which ends all its connections."""
    archive = archive or WebArchive()
    server = _Server(("127.0.0.1", port), _handler(archive))
    archive.port, archive.tls = server.server_port, tls is not None
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        archive.holds.set()
        server.shutdown()
        server.server_close()
        for one in server.open:
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        thread.join(HANG_S)


@contextmanager
def saying(speak: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which each connection, one after the other, is spoken to by `speak`."""
    ended = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(0.05)

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection, suppress(OSError):
                    connection.settimeout(HANG_S)
                    speak(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join(HANG_S)


def heard(connection: socket.socket) -> bytes:
    """One request, whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise OSError("the client hung up")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *([0-9]+)", head)
    left = (int(length[1]) if length else 0) - len(body)
    while left > 0:
        piece = connection.recv(min(65536, left))
        if not piece:
            raise OSError("the client hung up")
        data, left = data + piece, left - len(piece)
    return data
