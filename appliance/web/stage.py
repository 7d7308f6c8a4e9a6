"""The web stage: serves the page at the bedside until SIGTERM.

Rules
- HTTP/1.1 by uvicorn, one process, one loop; pages run in threads of it (`app`). TLS 1.2 or later
  where `[web.tls]` names a certificate, which is read again when its files change; without it the
  loopback alone (the settings hold that).
- No request is logged: addresses hold what a reader looks at. Forwarded headers are not read. Of
  the server's own log errors alone are kept: else any stranger writes a line with each request.
- A connection that waits for its peer is hung up on: in its TLS handshake (`accepting`); after
  HEAD_S, where a head does not come to its end, first or later, or the body of a request; and after
  UNREAD_S, where an answer is not taken. Where all CONNECTIONS are in use, the one that waits
  longest gives way to a new one; so it does where answers that nobody takes fill UNREAD_BYTES.
- The journal is opened for reading, for each page anew, but for the rows that `access.rows` writes.
  The spool and reports are read; the site key is not.
- It is on nobody's way: `work` and `publish` never wait for it, its unit gives it the least share
  of the processor, and what it computes at once is bounded.
- A beat goes through the threads that serve pages: where all of them are stuck, there is none.
- Who wants to stop waits CLOSING_S for pages that are under way; streams are ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import anyio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from appliance.errors import SettingsInvalid
from appliance.host import notify
from appliance.settings import PageTLS, Settings, Web
from appliance.store.files import DISK
from appliance.store.heartbeat import BEAT_S, Heart, living
from appliance.store.journal import Journal
from appliance.web import serving
from appliance.web.accepting import HANDSHAKE_S, SHAKING, Door
from appliance.web.app import PAGES, application
from appliance.web.rendering import Renderer
from appliance.web.site import PATIENCE_MS, Site

log = logging.getLogger(__name__)

STAGE = "web"
NICE = 10
"""What analyses and what publishes go first, also where no unit of systemd shares out the time."""
CLOSING_S = 3
CONNECTIONS = 400
"""At a time; 250 streams of events are among them."""
HEAD_S = 20.0
"""From the connection, or the end of the answer before, to the end of a head; then for its body."""
ABOVE = 50
"""Connections more, which are told that there are too many; further ones are hung up on at once."""
UNREAD_S = 120.0
"""For an answer to be taken by who asked for it."""
UNREAD_BYTES = 64 << 20
"""Of memory for answers that are not taken yet, but for the one of a single connection."""
LOOK_S = 1.0
"""How often it is looked for connections that wait too long."""
HEAD_BYTES = 32768
"""Of the request line and the headers."""
TICK_S = BEAT_S / 4


class _Server(uvicorn.Server):
    """uvicorn's, which leaves the signals to us: it would raise SIGTERM again when it has ended. So
    it does with the taking of connections (`accepting`)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        (listener,) = list(sockets or [])
        await super().startup(sockets=[])  # all but to listen
        protocol = functools.partial(
            _Protocol, config=self.config, server_state=self.server_state, app_state={}
        )
        self.door = Door(
            listener, protocol, self.config.ssl, handshake_s=HANDSHAKE_S, shaking=SHAKING
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.door.close()
        await super().shutdown(sockets=sockets)


class _Protocol(H11Protocol):
    """uvicorn's, which knows since when it has been waiting for its peer."""

    since = 0.0
    """When it last began to wait: for a request, the body of one, or the answer to be taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = self.loop.time()
        if len(self.connections) >= CONNECTIONS:
            self._make_room()

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self.since = self.loop.time()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self.since = self.loop.time()
        super().pause_writing()

    @property
    def waits(self) -> bool:
        """Whether it is its peer's turn."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body or self.unread

    @property
    def unread(self) -> bool:
        return self.flow.write_paused or self.transport.get_write_buffer_size() > 0

    def look(self) -> None:
        """Hang up, where it has been waiting too long."""
        waited = self.loop.time() - self.since if self.waits else 0.0
        if waited > UNREAD_S:
            self.transport.abort()
        elif waited > HEAD_S and not self.unread and not self.transport.is_closing():
            self.transport.close()

    def _make_room(self) -> None:
        others = [one for one in self.connections if one is not self]
        waiting = [one for one in others if isinstance(one, _Protocol) and one.waits]
        if waiting:
            gone = min(waiting, key=lambda one: one.since)
            gone.since = math.inf  # it is chosen once
            gone.transport.abort()
        elif len(self.connections) > CONNECTIONS + ABOVE:
            self.transport.abort()


class Certificate:
    """What `[web.tls]` names, kept as its files are."""

    def __init__(self, files: PageTLS) -> None:
        self._files = files
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        # a peer that negotiates anew all the time makes us compute for ever (TLS 1.2 alone has it)
        self.context.options |= ssl.OP_NO_RENEGOTIATION
        self._seen = self._marks()
        self._load()

    def look_again(self) -> None:
        """New connections get a renewed certificate; what cannot be read leaves the old one."""
        try:
            if (marks := self._marks()) != self._seen:
                self._load()
                self._seen = marks
        except SettingsInvalid as e:
            log.error("%s", e.one_line())

    def _marks(self) -> list[tuple[int, int]]:
        try:
            found = [path.stat() for path in (self._files.certificate, self._files.key)]
        except OSError as e:
            raise SettingsInvalid(f"[web.tls] {e.filename}: {e.strerror}") from e
        return [(one.st_ino, one.st_mtime_ns) for one in found]

    def _load(self) -> None:
        try:
            self.context.load_cert_chain(self._files.certificate, self._files.key)
        except (OSError, ssl.SSLError) as e:
            raise SettingsInvalid(
                f"[web.tls] certificate or key cannot be used: {e.strerror or e}",
                remedy="Name PEM files that belong together and that the stage can read.",
            ) from e


def main(settings: Settings, ready: Callable[[], object] = notify.ready) -> int:
    """`scanside web`: serve until SIGTERM or SIGINT; 0 after a clean stop."""
    os.nice(NICE)
    DISK.make_folder(settings.state)
    with living(settings.state, STAGE) as heart, _listener(settings.web) as listener:
        certificate = Certificate(settings.web.tls) if settings.web.tls is not None else None
        assets = serving.read()
        pages = Renderer(assets, settings.web.languages)
        site = Site(
            settings, lambda: _reading(settings.state), pages, time.time, prepare=pages.prepare
        )
        threads = anyio.CapacityLimiter(PAGES)
        app = application(settings, site, assets, threads)
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_graceful_shutdown=CLOSING_S,
        )
        config.load()
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        if certificate is not None:
            config.ssl = certificate.context
        beats = _beat(heart, threads, certificate)
        asyncio.run(_serve(_Server(config), listener, beats, ready, app.end_streams))
    return 0


async def _serve(
    server: uvicorn.Server,
    listener: socket.socket,
    beats: Coroutine[object, object, None],
    ready: Callable[[], object],
    end_streams: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        notify.stopping()
        end_streams()
        for one in list(server.server_state.connections):
            if isinstance(one, _Protocol) and one.waits and not one.unread:
                one.transport.close()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    serves = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serves.done():
        await asyncio.sleep(0.01)
    beside = [asyncio.create_task(beats), asyncio.create_task(_hang_up(server))]
    ready()
    try:
        await serves
    finally:
        for one in beside:
            one.cancel()


async def _hang_up(server: uvicorn.Server) -> None:
    """On who keeps a connection and lets it wait."""
    while True:
        await asyncio.sleep(LOOK_S)
        ours = [one for one in server.server_state.connections if isinstance(one, _Protocol)]
        for one in ours:
            one.look()
        unread = {one: one.transport.get_write_buffer_size() for one in ours if one.unread}
        for one in sorted(unread, key=lambda one: one.since)[:-1]:
            if sum(unread.values()) > UNREAD_BYTES:
                one.transport.abort()
                del unread[one]


async def _beat(
    heart: Heart, threads: anyio.CapacityLimiter, certificate: Certificate | None
) -> None:
    while True:
        await anyio.to_thread.run_sync(heart.beat, limiter=threads)
        if certificate is not None:
            certificate.look_again()
        await asyncio.sleep(TICK_S)


@contextlib.contextmanager
def _reading(state: Path) -> Iterator[Journal | None]:
    """`Site.reading`."""
    journal = Journal.read(state, PATIENCE_MS)
    if journal is None:
        yield None
        return
    with journal:
        yield journal


@contextlib.contextmanager
def _listener(web: Web) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    try:
        made = socket.create_server((web.host, web.port), family=family, backlog=128)
    except OSError as e:
        raise SettingsInvalid(
            f"[web] {web.host} port {web.port}: {e.strerror}",
            remedy="Name an address of this machine and a port that nobody else uses.",
        ) from e
    with made:
        made.setblocking(False)
        yield made
