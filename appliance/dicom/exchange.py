"""A connection to a web service that we open (HTTP/1.1, RFC 9112): blocking, in one thread.

    open        TCP, CONNECT where a proxy is set, TLS where the address is https
    ask         one request and its answer, whatever the answer is
    close

Rules
- No wait is without a limit (`Limits`), not even for a peer that sends a byte now and then: the
  time is that of the whole answer. No answer is longer than ANSWER_MOST bytes.
- Whatever ends the connection is a PeerAway, with a code of `requestor` or `tls`. What was under
  way then may have been taken or not.
- A peer that answers before it has read all, and hangs up, is heard all the same.
- A redirect is an answer like any other: nobody is asked but who is named in the settings.
- TLS is with the service itself, also through a proxy, which sees a host and a port. A proxy is
  used where the settings name one, and never that of the environment.
- `cut` may be called from another thread, and ends every wait at once.

The standard library's http.client writes and reads; the socket under it is ours (`_Wire`), because
its own limit is one for each piece that comes.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Final, cast
from urllib.parse import urlsplit

from appliance.dicom.requestor import (
    ANSWER_MOST,
    AWAY,
    LEAST_S,
    LEFT,
    ODD,
    PIECE_BYTES,
    REJECTS,
    SILENT,
    Limits,
)
from appliance.dicom.tls import days_left, secured
from appliance.errors import PeerAway
from appliance.settings import TLS, Stow

_REMEDY: Final = "Check `url`, and that a DICOMweb service listens there."
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service is, and by which way it is reached."""

    host: str
    port: int
    path: str
    """Before what is asked for; empty, or it begins with a slash."""
    tls: TLS | None = None
    certificate: str | None = None
    """The one that it must show (`settings.Certificate`); None: one that names `host`."""
    proxy: tuple[str, int] | None = None
    """Host and port."""

    @classmethod
    def of(cls, to: Stow) -> Place:
        """That of these settings, which have checked it."""
        url, proxy = urlsplit(to.url), urlsplit(to.proxy or "")
        return cls(
            host=url.hostname or "",
            port=url.port or _PORTS[url.scheme],
            path=url.path,
            tls=to.tls,
            certificate=to.certificate,
            proxy=(proxy.hostname, proxy.port or _PORTS["http"]) if proxy.hostname else None,
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, whole."""

    status: int
    kind: str
    """Its media type in small letters, without parameters; empty where it names none."""
    body: bytes
    retry_after: str | None = None
    location: str | None = None


class Exchange:
    """An open connection."""

    def __init__(self, connection: socket.socket, place: Place, limits: Limits) -> None:
        """`open` makes one."""
        self._connection = connection
        self._place = place
        self._limits = limits
        self._ended = False

    @classmethod
    def open(cls, place: Place, limits: Limits | None = None) -> Exchange:
        """Connect. PeerAway."""
        limits = limits or Limits()
        host, port = place.proxy or (place.host, place.port)
        try:
            connection = socket.create_connection((host, port), limits.connect_s)
        except OSError as e:
            raise _away(f"{_named(host, port)}: no connection: {e.strerror or e}", AWAY) from e
        try:
            # Nagle's algorithm against delayed acknowledgements costs 40 ms an object
            with contextlib.suppress(OSError):  # the peer has gone again: the next step says so
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if place.proxy is not None:
                _through(connection, place, limits)
            if place.tls is not None:
                connection.settimeout(limits.connect_s)
                connection = secured(connection, place.host, place.tls, place.certificate)
        except BaseException:
            connection.close()
            raise
        return cls(connection, place, limits)

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Sequence[bytes] = (),
    ) -> Said:
        """The answer to one request. PeerAway. target: behind the path of the place."""
        headers, pieces = dict(headers), None
        if body:
            headers["Content-Length"] = str(sum(len(part) for part in body))
            pieces = _pieces(body)
        wire = _Wire(self._connection, str(self._place))
        http = _http(wire, self._place)
        wire.within(self._limits.send_s)
        try:
            http.request(method, self._place.path + target, body=pieces, headers=headers)
        except PeerAway as e:
            self._ended = True
            if e.code == LEFT:
                wire.within(self._limits.release_s)
                with contextlib.suppress(PeerAway):
                    return self._heard(http)
            raise
        wire.within(self._limits.answer_s)
        return self._heard(http)

    def is_over(self) -> bool:
        """Whether nothing more can be asked: the peer has hung up, or said that it will."""
        if self._ended:
            return True
        try:
            self._connection.settimeout(0.0)
            self._connection.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            pass
        return True  # the end, or an answer to what was not asked

    def certificate_days(self) -> float | None:
        """Days until the certificate of the peer ends; None without TLS."""
        return days_left(self._connection, time.time())

    def close(self) -> None:
        """End it. There is nothing to say first: a request that is answered is over."""
        self._connection.close()

    def cut(self) -> None:
        """End every wait of the thread that uses it, which then sees a PeerAway."""
        with contextlib.suppress(OSError):
            # not TLS's own, which takes its state away under the thread that reads
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def _heard(self, http: HTTPConnection) -> Said:
        answer = _answer(http, str(self._place))
        try:
            body = answer.read()
        except HTTPException as e:
            raise _odd(str(self._place), "ends its answer before its end") from e
        self._ended = self._ended or answer.will_close
        return Said(
            status=answer.status,
            kind=answer.getheader("Content-Type", "").partition(";")[0].strip().lower(),
            body=body,
            retry_after=answer.getheader("Retry-After"),
            location=answer.getheader("Location"),
        )


class _Wire:
    """What http.client takes for its socket: with one limit for all that is sent, and one for all
    that is received."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self._connection = connection
        self._name = name
        self._end = 0.0
        self._room = ANSWER_MOST

    def within(self, seconds: float) -> None:
        """The time for all that follows."""
        self._end = time.monotonic() + seconds

    def sendall(self, data: bytes) -> None:
        self._timed()
        try:
            self._connection.sendall(data)
        except TimeoutError as e:
            raise _away(f"{self._name} does not read what is sent", SILENT) from e
        except OSError as e:
            raise _away(f"{self._name} hung up: {e.strerror or e}", LEFT) from e

    def receive(self, into: memoryview) -> int:
        """How many bytes came; 0: the peer has hung up."""
        if self._room <= 0:
            raise _odd(self._name, "sends an answer that is too long")
        self._timed()
        try:
            count = self._connection.recv_into(into[: self._room])
        except TimeoutError as e:
            raise _away(f"{self._name} does not answer", SILENT) from e
        except OSError as e:
            raise _away(f"{self._name} hung up: {e.strerror or e}", LEFT) from e
        self._room -= count
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        """Nothing: `Exchange` closes, when the answer was read."""

    def _timed(self) -> None:
        self._connection.settimeout(max(self._end - time.monotonic(), LEAST_S))


class _Incoming(io.RawIOBase):
    """The bytes that come over a wire."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.receive(memoryview(buffer))


def _http(wire: _Wire, place: Place) -> HTTPConnection:
    """http.client over this wire. It opens nothing itself."""
    made = HTTPConnection(place.host, place.port)
    made.default_port = 0 if place.tls is None else _PORTS["https"]  # for the Host header
    made.auto_open = 0
    made.sock = cast(Any, wire)
    return made


def _through(connection: socket.socket, place: Place, limits: Limits) -> None:
    """Let the proxy connect us with the place (RFC 9110 9.3.6). PeerAway."""
    name = f"the proxy {_named(*(place.proxy or ('', 0)))}"
    wire = _Wire(connection, name)
    wire.within(limits.answer_s)
    http = _http(wire, place)
    http.request("CONNECT", _named(place.host, place.port))
    status = _answer(http, name).status
    if not 200 <= status < 300:
        remedy = "Let the proxy connect us with the archive, without asking for a password."
        text = f"{name} answers {status} and does not connect us with {place.host}"
        raise PeerAway(text, code=REJECTS, remedy=remedy)


def _answer(http: HTTPConnection, name: str) -> HTTPResponse:
    """The head of the answer; its body can be read yet. PeerAway."""
    try:
        return http.getresponse()
    except ConnectionError as e:
        raise _away(f"{name} hung up", LEFT) from e
    except (HTTPException, ValueError) as e:
        raise _odd(name, "answers with what is no HTTP") from e


def _pieces(body: Sequence[bytes]) -> Iterable[bytes]:
    for part in body:
        for begin in range(0, len(part), PIECE_BYTES):
            yield part[begin : begin + PIECE_BYTES]


def _named(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _away(text: str, code: str) -> PeerAway:
    return PeerAway(text, code=code, remedy=_REMEDY)


def _odd(name: str, text: str) -> PeerAway:
    return PeerAway(f"{name}: {text}", code=ODD, remedy=_REMEDY)
