"""Accept connections, one process each, until SIGTERM; then let the running ones finish.

Rules
- The listening socket is ours to bind, or systemd's (sd_listen_fds(3)): then an update of the
  appliance hands it on and no connection is refused meanwhile.
- A process per connection: senders do not share an interpreter, a crash ends one association, and
  whatever it acknowledged is on disk. The parent has one thread and no database, so a fork is safe.
- At most `limit` processes, whatever they do, and of those at most `STRANGERS` for hosts that no
  setting names, so that they cannot take all places. More are closed unheard; the polite limit,
  with an A-ASSOCIATE-RJ, is the association's own and lower.
- SIGTERM or SIGINT: close the listening socket, wait for the children, but no longer than
  `DRAIN_S`. Children ignore both signals, because a service manager sends them to the whole group.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.errors import SettingsInvalid

LOG = logging.getLogger(__name__)
DRAIN_S = 30.0
STRANGERS = 4
BACKLOG = 128
PAUSE_S = 0.1  # where the machine has nothing left to give, do not ask in a circle
LISTEN_FDS_START = 3  # sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class Doors:
    """What the parent decides of a connection by itself."""

    limit: int
    known: Callable[[str], bool]
    """Whether a host is named in the settings."""


@dataclass(slots=True)
class _Children:
    known: set[int] = field(default_factory=set)
    strangers: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.known) + len(self.strangers)


def listening_socket(host: str, port: int) -> socket.socket:
    """The socket that systemd hands over, else one of our own on host and port (0: any)."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and int(os.environ.get("LISTEN_FDS", "0")):
        listening = socket.socket(fileno=LISTEN_FDS_START)
        os.set_inheritable(listening.fileno(), False)
        listening.setblocking(False)
        return listening
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as e:
        raise SettingsInvalid(
            f"cannot listen on {host} port {port}: {e.strerror}",
            remedy="Choose another [dicom] bind or port, or stop what uses it.",
        ) from e
    listening.setblocking(False)
    return listening


def run(
    listening: socket.socket,
    doors: Doors,
    serve: Callable[[socket.socket, str], None],
    crashed: Callable[[], None],
    ready: Callable[[], object],
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    `serve(connection, host)` speaks with one peer, in a process of its own. `crashed` is
    called in this process after a child that did not end by itself.
    """
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    stopped: list[int] = []
    children = _Children()
    previous = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGTERM, lambda number, _: stopped.append(number)),
            (signal.SIGINT, lambda number, _: stopped.append(number)),
            (signal.SIGCHLD, lambda *_: None),
        )
    }
    wakeup = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    try:
        ready()
        while not stopped:
            readable, _, _ = select.select([listening, woken], [], [])
            _empty(woken)
            _reap(children, crashed)
            if listening in readable:
                _accept(listening, doors, children, serve, [woken, wake])
        listening.close()
        LOG.info("draining %d associations", len(children))
        _drain(children, woken, crashed)
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in previous.items():
            signal.signal(number, handler)
        for end in (woken, wake, listening):
            end.close()


def _accept(
    listening: socket.socket,
    doors: Doors,
    children: _Children,
    serve: Callable[[socket.socket, str], None],
    ours: list[socket.socket],
) -> None:
    try:
        connection, address = listening.accept()
    except OSError as e:  # gone again, or no descriptor is left
        LOG.warning("accept failed: %s", e)
        time.sleep(PAUSE_S)
        return
    host = str(address[0])
    group = children.known if doors.known(host) else children.strangers
    with connection:
        if (group is children.strangers and len(group) >= STRANGERS) or (
            len(children) >= doors.limit
        ):
            LOG.warning("connection from %s closed: too many at once", host)
            return
        try:
            child = os.fork()
        except OSError as e:  # no memory, or too many processes
            LOG.error("no process for %s: %s", host, e)
            time.sleep(PAUSE_S)
            return
        if child == 0:
            _child(connection, host, serve, [listening, *ours])
        group.add(child)


def _child(
    connection: socket.socket,
    host: str,
    serve: Callable[[socket.socket, str], None],
    ours: list[socket.socket],
) -> None:
    """All of a child's life; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for inherited in ours:
            inherited.close()
        connection.setblocking(True)
        serve(connection, host)
        code = 0
    except Exception:
        LOG.exception("association from %s failed", host)
    finally:
        with contextlib.suppress(OSError):
            connection.close()
        logging.shutdown()
        os._exit(code)


def _reap(children: _Children, crashed: Callable[[], None]) -> None:
    while len(children):
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid, status = 0, 0
        if pid == 0:
            return
        children.known.discard(pid)
        children.strangers.discard(pid)
        if status != 0:
            LOG.error("the process of an association ended with status %d", status)
            crashed()


def _drain(children: _Children, woken: socket.socket, crashed: Callable[[], None]) -> None:
    deadline = time.monotonic() + DRAIN_S
    _reap(children, crashed)
    while len(children) and (left := deadline - time.monotonic()) > 0:
        select.select([woken], [], [], left)
        _empty(woken)
        _reap(children, crashed)
    for pid in children.known | children.strangers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if len(children):
        LOG.warning("%d associations did not end in %.0f s and were cut", len(children), DRAIN_S)
        crashed()


def _empty(woken: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while woken.recv(4096):
            pass
