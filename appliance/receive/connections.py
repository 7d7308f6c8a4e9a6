"""Accept connections, one process each, until SIGTERM; then let the running ones finish.

Rules
- The listening socket is ours to bind, or systemd's (sd_listen_fds(3)): then an update of the
  appliance hands it on and no connection is refused meanwhile.
- A process per connection: senders do not share an interpreter, a crash ends one association, and
  whatever it acknowledged is on disk. The parent has one thread and no database, so a fork is safe.
- A connection whose A-ASSOCIATE-RQ has not been accepted waits, and what waits never keeps a sender
  out: there are `WAITING` places for it, `STRANGERS` for hosts that no setting names. Where all are
  taken, the oldest of the host that holds most of them is dropped (SIGUSR1, which a child ignores
  from then on when it accepts). How long it may wait at all is the association's (PS3.8 9.1.5).
- At most `limit` accepted ones, whatever they do. More are closed unheard; the polite limit, with
  an A-ASSOCIATE-RJ, is the association's own and lower.
- The parent beats (store/heartbeat.py) at each turn of its loop: its beats say whether new senders
  get in. A child closes the lock of the stage, with which it was forked: it may outlive a parent
  that is killed, and must not keep the next one out.
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
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.dicom import policy
from appliance.errors import SettingsInvalid
from appliance.receive.fullness import Fullness, Note
from appliance.store.heartbeat import Heart

LOG = logging.getLogger(__name__)
DRAIN_S = 30.0
WAITING = 16
STRANGERS = 4
BACKLOG = 128
DROP = signal.SIGUSR1
_NOTE = struct.Struct("ib")
"""Process id and Note of a child."""
PAUSE_S = 0.1  # where the machine has nothing left to give, do not ask in a circle
LISTEN_FDS_START = 3  # sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class Doors:
    """What the parent decides of a connection by itself."""

    limit: int
    """Most accepted associations, each a process."""
    known: Callable[[str], bool]
    """Whether a host is named in the settings."""


Serve = Callable[[socket.socket, str, Callable[[Note], None]], None]
"""(connection, host, tell): speak with one peer; `tell` ACCEPTED before its A-ASSOCIATE-AC, or why
there is no place for it before its A-ASSOCIATE-RJ."""


@dataclass(slots=True)
class _Children:
    """Process ids, by how far their associations are."""

    waiting: dict[int, tuple[str, bool]] = field(default_factory=dict)
    """Host and whether it is known; the oldest first."""
    dropped: dict[int, str] = field(default_factory=dict)
    """Host of those that were asked to end and have not."""
    accepted: dict[int, str] = field(default_factory=dict)
    """Host of each."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self.dropped) + len(self.accepted)

    def oldest(self, known: bool) -> int:
        """The first to be dropped of those that wait from known hosts, or from strangers."""
        hosts = Counter(host for host, named in self.waiting.values() if named is known)
        most = max(hosts, key=hosts.__getitem__)
        return next(pid for pid, place in self.waiting.items() if place == (most, known))


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
    serve: Serve,
    crashed: Callable[[], None],
    ready: Callable[[], object],
    heart: Heart,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    `serve` is called in a process of its own for each connection. `crashed` is called in this
    process after a child that did not end by itself.
    """
    woken, wake = socket.socketpair()
    accepted_in, accepted_out = socket.socketpair()
    """A child that accepts or refuses says so, with its process id."""
    fullness = Fullness(heart)
    for end in (woken, wake, accepted_in):
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
            heart.beat()
            readable, _, _ = select.select([listening, woken, accepted_in], [], [], heart.sleep_s)
            _empty(woken)
            _take_notes(accepted_in, children, fullness)
            _reap(children, crashed, fullness)
            if listening in readable:
                _accept(
                    listening,
                    doors,
                    children,
                    serve,
                    accepted_out,
                    [woken, wake, accepted_in],
                    fullness,
                    heart.lock,
                )
        listening.close()
        heart.end()
        LOG.info("draining %d associations", len(children))
        _drain(children, woken, crashed, fullness)
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in previous.items():
            signal.signal(number, handler)
        for end in (woken, wake, accepted_in, accepted_out, listening):
            end.close()


def _accept(
    listening: socket.socket,
    doors: Doors,
    children: _Children,
    serve: Serve,
    accepted_out: socket.socket,
    ours: list[socket.socket],
    fullness: Fullness,
    lock: int | None,
) -> None:
    try:
        connection, address = listening.accept()
    except OSError as e:  # gone again, or no descriptor is left
        LOG.warning("accept failed: %s", e)
        time.sleep(PAUSE_S)
        return
    host = policy.unmapped(str(address[0]))
    known = doors.known(host)
    with connection:
        if len(children.accepted) >= doors.limit:
            LOG.warning("connection from %s closed: too many at once", host)
            fullness.refused(host, Note.ALL_TAKEN)
            return
        if sum(named is known for _, named in children.waiting.values()) >= (
            WAITING if known else STRANGERS
        ):
            _drop(children, children.oldest(known))
        try:
            child = os.fork()
        except OSError as e:  # no memory, or too many processes
            LOG.error("no process for %s: %s", host, e)
            time.sleep(PAUSE_S)
            return
        if child == 0:
            if lock is not None:
                os.close(lock)
            _child(connection, host, serve, accepted_out, [listening, *ours])
        children.waiting[child] = host, known


def _drop(children: _Children, pid: int) -> None:
    host, _ = children.waiting.pop(pid)
    children.dropped[pid] = host
    LOG.warning("connection from %s dropped: too many wait, it was the oldest", host)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, DROP)


def _take_notes(accepted_in: socket.socket, children: _Children, fullness: Fullness) -> None:
    """Whose association was accepted, and who found no place."""
    with contextlib.suppress(BlockingIOError):
        while data := accepted_in.recv(_NOTE.size):
            pid, number = _NOTE.unpack(data)
            host, _ = children.waiting.get(pid) or (children.dropped.get(pid), False)
            if host is None:  # it has ended already
                continue
            if (note := Note(number)) is not Note.ACCEPTED:
                fullness.refused(host, note)
                continue
            children.waiting.pop(pid, None)
            children.dropped.pop(pid, None)
            children.accepted[pid] = host


def _child(
    connection: socket.socket,
    host: str,
    serve: Serve,
    accepted_out: socket.socket,
    ours: list[socket.socket],
) -> None:
    """All of a child's life; never returns."""

    def tell(note: Note) -> None:
        if note is Note.ACCEPTED:
            signal.signal(DROP, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # the parent is gone: nobody counts any more
            accepted_out.send(_NOTE.pack(os.getpid(), note))

    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for inherited in ours:
            inherited.close()
        connection.setblocking(True)
        serve(connection, host, tell)
        code = 0
    except Exception:
        LOG.exception("association from %s failed", host)
    finally:
        with contextlib.suppress(OSError):
            connection.close()
        logging.shutdown()
        os._exit(code)


def _reap(children: _Children, crashed: Callable[[], None], fullness: Fullness) -> None:
    while len(children):
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid, status = 0, 0
        if pid == 0:
            return
        children.waiting.pop(pid, None)
        children.dropped.pop(pid, None)
        if (host := children.accepted.pop(pid, None)) is not None:
            fullness.ended(host)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == DROP:
            continue
        if status != 0:
            LOG.error("the process of an association ended with status %d", status)
            crashed()


def _drain(
    children: _Children, woken: socket.socket, crashed: Callable[[], None], fullness: Fullness
) -> None:
    deadline = time.monotonic() + DRAIN_S
    _reap(children, crashed, fullness)
    while len(children) and (left := deadline - time.monotonic()) > 0:
        select.select([woken], [], [], left)
        _empty(woken)
        _reap(children, crashed, fullness)
    for pid in {*children.waiting, *children.dropped, *children.accepted}:
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
