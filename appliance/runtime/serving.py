"""How a stage that a bell wakes lives: its lock and its beats, the journal, the bell, and its end.

Rule: SIGTERM and SIGINT end it on purpose, and systemd is told so at once. In another thread than
the main one, as in a test, signals cannot be taken: there, who made the server stops it.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from appliance.host import notify
from appliance.settings import Settings
from appliance.store import bell
from appliance.store.heartbeat import Heart, living
from appliance.store.journal import Journal


class Server(Protocol):
    """What a stage does while it lives."""

    def run(self) -> None:
        """Serve until `stop`."""
        ...

    def stop(self) -> None:
        """End soon. Called from a signal handler."""
        ...


def serve(
    settings: Settings,
    stage: str,
    made: Callable[[Settings, Journal, socket.socket, Heart], Server],
    ready: Callable[[], object],
) -> int:
    """Until SIGTERM or SIGINT; 0 after a clean stop.

    The state folder must be there. `made` gets the socket of the bell; `ready` is called once the
    stage can be ended.
    """
    with (
        living(settings.state, stage) as heart,
        Journal.awaited(settings.state) as journal,
        bell.hearing(settings.state, stage) as heard,
    ):
        server = made(settings, journal, heard, heart)

        def end(_number: int, _frame: FrameType | None) -> None:
            server.stop()
            notify.stopping()

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, end)
            signal.signal(signal.SIGINT, end)
        ready()
        server.run()
    return 0
