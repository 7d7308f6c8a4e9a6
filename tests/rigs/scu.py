"""A race of pynetdicom 3 as a sender, closed for all tests.

Before it sends, `Association` asks its own thread to pause, so that this thread does not take the
answer (association.py, "Pause the reactor to prevent a race condition"). But it believes a pause
that is just ending, such as the one of the message before. Then the thread takes the answer
("Received unexpected C-STORE service message") and the sender waits for it in vain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from pynetdicom.association import Association

LASTS_S = 0.003
"""A pause that lasts so long is one: a thread that passes by is out of it in microseconds."""


def mended() -> None:
    """From now on each C-STORE and C-ECHO of this process waits for a real pause."""
    for name in ("send_c_store", "send_c_echo"):
        setattr(Association, name, _after_a_pause(getattr(Association, name)))


def _after_a_pause(send: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(send)
    def sent(self: Any, *words: Any, **named: Any) -> Any:
        if self.is_established:
            self._reactor_checkpoint.clear()
            since = time.monotonic()
            while time.monotonic() - since < LASTS_S and self.is_alive():
                if not self._is_paused:
                    since = time.monotonic()
                time.sleep(0.0005)
        return send(self, *words, **named)

    return sent
