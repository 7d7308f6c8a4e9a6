"""The stage that answers C-STORE: Storage and Verification SCP (PS3.4 B, A).

Rules
- Success means: file and folder are on disk. What was acknowledged is never lost.
- Every other status means: nothing of it counts, and the sender keeps its image.

    what came                                              status  bytes          journal
    an instance                                            0000    spool          arrivals
    the same instance again, in any transfer syntax        0000    stored once    -
    other content under a known SOP Instance UID           0111    first stays    instance_refused
    anything, with less free than retain.reserve_mb        A700    dropped        disk_reserve
    the disk fails                                         A700    dropped        instance_refused
    SOP class or instance of command and data set differ   A900    dropped        instance_refused
    not DICOM, cut, without a UID, a UID that is none      C000    quarantine     instance_refused
    a class that is not the one of its context             0122    dropped        -

  (PS3.4 B.2.3: A7xx out of resources, A9xx data set does not match SOP class, Cxxx cannot
  understand; PS3.7 annex C.) 0111 keeps both digests in the journal.
- Same content: equal bytes after the meta information, else equal decoded pixels and geometry, of
  every greyscale image (`series.same`). One association decodes at a time (`run/decoding.lock`),
  and deflated data are inflated piece by piece (`peek`): many senders need no more than one.
- The file is Part 10 with the transfer syntax negotiated; its meta information names us as writer.
- After each stored instance a datagram to `run/work.sock` wakes `work`: {"series":.., "study":..};
  when an association ends, {"association":..}. A hint only: nobody there is no error.
- No patient data in any log or journal row: UIDs, AE titles and addresses only.
- One process an association (`connections`), one thread (`association`). No sender holds more than
  its share of them ([dicom] share), so another scanner always gets in. Who finds no place is told
  to try again later (PS3.8 9.3.4), and status and doctor say so (`fullness`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import Callable

from appliance.dicom import association, pdu, policy
from appliance.errors import StateUnusable
from appliance.receive import books, connections, tls
from appliance.receive.fullness import Note
from appliance.receive.intake import Intake
from appliance.settings import Settings
from appliance.store import events, hint
from appliance.store.files import DISK
from appliance.store.heartbeat import Heart, living
from appliance.store.hint import Hint
from appliance.store.journal import Journal, Manner
from appliance.store.lock import lives_beside
from appliance.store.spool import Spool

LOG = logging.getLogger(__name__)

TLS_HANDSHAKE_S = 10.0


def main(settings: Settings, ready: Callable[[], object] | None = None) -> int:
    """Run in the foreground until SIGTERM; `ready` is called once connections are accepted."""
    with living(settings.state, "receive") as heart:
        return _run(settings, ready or (lambda: None), heart)


def _run(settings: Settings, ready: Callable[[], object], heart: Heart) -> int:
    DISK.make_folder(settings.state / "run")
    Spool(settings.state).clear_incoming(2 * settings.dicom.idle_s)
    _recover(settings)
    context = tls.context(settings.dicom.tls) if settings.dicom.tls else None
    listening = connections.listening_socket(settings.dicom.bind, settings.dicom.port)
    port = listening.getsockname()[1]
    port_file = settings.state / "run" / "receive.port"
    DISK.write(port_file, f"{port}\n".encode())
    pdu.implementation_version()  # once, before the first fork: it reads the package's metadata
    bound = policy.unmapped(str(listening.getsockname()[0]))
    LOG.info("%s listens on %s port %d", settings.dicom.ae_title, bound, port)
    address_file = settings.state / "run" / policy.ADDRESS_NAME
    DISK.write(address_file, f"{bound}\n".encode())
    if not policy.holds(settings.dicom.bind, bound):
        text = "[dicom] bind = %s does not hold: the socket that systemd hands over is bound to %s"
        LOG.error(text, settings.dicom.bind, bound)
    doors = connections.Doors(
        2 * settings.dicom.max_associations,
        functools.partial(policy.known_host, settings.dicom, archives=policy.archives(settings)),
    )
    connections.run(
        listening,
        doors,
        functools.partial(_serve, settings, context),
        functools.partial(_recover_if_possible, settings),
        ready,
        heart,
    )
    if not lives_beside(settings.state, "receive"):  # else they are the next one's
        DISK.remove(port_file)
        DISK.remove(address_file)
    return 0


def _recover_if_possible(settings: Settings) -> None:
    """After the crash of one association: a journal that is away must not end the others."""
    try:
        _recover(settings)
    except StateUnusable as e:
        LOG.error("%s", e.one_line())


def _recover(settings: Settings) -> None:
    """Associations that are lost with their process; nobody waits for a look at the journal."""
    try:
        _mark_lost(settings, Manner.HURRY)
    except StateUnusable as e:
        if e.code not in books.AWAY:
            raise
        books.beside(functools.partial(_mark_lost, settings, Manner.LOOK))


def _mark_lost(settings: Settings, manner: Manner) -> None:
    with Journal.open(settings.state, manner=manner) as journal:
        for lost in journal.series.recover_associations():
            LOG.warning("association %s was lost with its process", lost)
            hint.send(settings.state, Hint(association=lost))


def _serve(
    settings: Settings,
    context: ssl.SSLContext | None,
    connection: socket.socket,
    host: str,
    tell: Callable[[Note], None],
) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if context is not None:
        connection.settimeout(TLS_HANDSHAKE_S)
        if tls.is_mute(connection):
            LOG.info("a connection from %s was closed without a word", host)
            return
        try:
            connection = context.wrap_socket(connection, server_side=True)
        except OSError as e:
            _no_handshake(settings, host, tls.why(e))
            return
    with (
        contextlib.closing(connection),
        books.Books(settings.state) as kept,
    ):
        intake = Intake(
            settings,
            kept.journal,
            Spool(settings.state),
            host=host,
            tell=tell,
            stand_in=kept.stand_in,
            durable=kept.durable,
            shown=tls.shown(settings, connection),
        )
        outcome, why = association.serve(
            connection,
            intake,
            max_pdu=settings.dicom.max_pdu_bytes,
            idle_s=settings.dicom.idle_s,
        )
        LOG.info("association from %s: %s", host, f"{outcome}: {why}" if why else outcome)


def _no_handshake(settings: Settings, host: str, why: str) -> None:
    """A peer that came to no TLS, for log and journal."""
    LOG.warning("no TLS with %s: %s", host, why)
    try:
        with books.Books(settings.state) as kept:
            kept.journal.events.add_rationed(events.HandshakeRefused(subject=host, text=why))
    except StateUnusable as e:
        LOG.error("%s", e.one_line())
