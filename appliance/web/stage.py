"""The web stage: serves the page at the bedside until SIGTERM.

Rules
- HTTP/1.1 by uvicorn, one process, one loop; pages run in threads of it (`app`). TLS 1.2 or later
  where `[web.tls]` names a certificate, which is read again when its files change; without it the
  loopback alone (the settings hold that).
- No request is logged: addresses hold what a reader looks at. Forwarded headers are not read.
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
import logging
import signal
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import anyio
import uvicorn

from appliance.errors import SettingsInvalid
from appliance.host import notify
from appliance.settings import PageTLS, Settings, Web
from appliance.store.files import DISK
from appliance.store.heartbeat import BEAT_S, Heart, living
from appliance.store.journal import Journal
from appliance.web import serving
from appliance.web.app import PAGES, application
from appliance.web.rendering import renderer
from appliance.web.site import Site

log = logging.getLogger(__name__)

STAGE = "web"
CLOSING_S = 3
CONNECTIONS = 400
"""At a time; 200 streams of events are among them."""
HEAD_BYTES = 32768
"""Of the request line and the headers."""
TICK_S = BEAT_S / 4


class _Server(uvicorn.Server):
    """uvicorn's, which leaves the signals to us: it would raise SIGTERM again when it has ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Certificate:
    """What `[web.tls]` names, kept as its files are."""

    def __init__(self, files: PageTLS) -> None:
        self._files = files
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
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
    DISK.make_folder(settings.state)
    with living(settings.state, STAGE) as heart, _listener(settings.web) as listener:
        certificate = Certificate(settings.web.tls) if settings.web.tls is not None else None
        assets = serving.read()
        site = Site(
            settings,
            lambda: _reading(settings.state),
            renderer(assets, settings.web.languages),
            time.time,
        )
        threads = anyio.CapacityLimiter(PAGES)
        config = uvicorn.Config(
            application(settings, site, assets, threads),
            http="h11",
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
        if certificate is not None:
            config.ssl = certificate.context
        asyncio.run(_serve(_Server(config), listener, _beat(heart, threads, certificate), ready))
    return 0


async def _serve(
    server: uvicorn.Server,
    listener: socket.socket,
    beats: Coroutine[object, object, None],
    ready: Callable[[], object],
) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        notify.stopping()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    serves = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serves.done():
        await asyncio.sleep(0.01)
    beating = asyncio.create_task(beats)
    ready()
    try:
        await serves
    finally:
        beating.cancel()


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
    journal = Journal.read(state)
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
