"""Tell systemd how the stage does: sd_notify(3) over $NOTIFY_SOCKET, in plain Python.

Rules. Without $NOTIFY_SOCKET everything here does nothing. A name that begins with "@" lies in the
abstract namespace (unix(7)). Nothing raises: a stage that cannot tell systemd how it does goes on
working, and systemd's own watchdog then decides. The watchdog (sd_watchdog_enabled(3)) is fed by
the beats of a stage alone (store/heartbeat.py): they are progress.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def notify(*assignments: str, environ: Mapping[str, str] | None = None) -> bool:
    """Send `READY=1` and the like as one datagram; whether it left."""
    name = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if not name or name[0] not in "/@":
        return False
    address = "\0" + name[1:] if name[0] == "@" else name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.sendto("\n".join(assignments).encode(), address)
        except OSError:
            return False
    return True


def ready(text: str = "", *, environ: Mapping[str, str] | None = None) -> bool:
    """The stage serves."""
    return notify("READY=1", *_status(text), environ=environ)


def watchdog(text: str = "", *, environ: Mapping[str, str] | None = None) -> bool:
    """The loop still turns."""
    return notify("WATCHDOG=1", *_status(text), environ=environ)


def status(text: str, *, environ: Mapping[str, str] | None = None) -> bool:
    """What it does, for `systemctl status`."""
    return notify(*_status(text), environ=environ)


def stopping(*, environ: Mapping[str, str] | None = None) -> bool:
    """The stage ends on purpose."""
    return notify("STOPPING=1", environ=environ)


def watchdog_s(*, environ: Mapping[str, str] | None = None) -> float | None:
    """Seconds between two signs of life, half of what systemd allows; None without a watchdog."""
    env = os.environ if environ is None else environ
    limit = env.get("WATCHDOG_USEC", "")
    meant_for = env.get("WATCHDOG_PID", "")
    if not limit.isascii() or not limit.isdigit() or int(limit) == 0:
        return None
    if meant_for and meant_for != str(os.getpid()):
        return None
    return int(limit) / 2_000_000


def _status(text: str) -> tuple[str, ...]:
    """A line for `systemctl status`; one line only, as a newline would begin another assignment."""
    return (f"STATUS={' '.join(text.split())}",) if text else ()
