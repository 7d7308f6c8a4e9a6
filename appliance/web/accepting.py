"""How connections come to the server: taken one by one, and with TLS bounded in number and time.

Rules
- uvicorn knows of a connection when its TLS handshake is done, and its bounds hold from then on
  (`stage`). Until then they are held here: a handshake has HANDSHAKE_S, and where SHAKING are under
  way the one that began first gives way to a new one. Who connects and says nothing costs no more.
- What is no handshake, such as plain HTTP to the port of TLS, and one that fails, is hung up on;
  that is no matter of the log, which a stranger would fill.
- Where this process has no descriptor left, nothing is taken for PAUSE_S: who waits, waits outside.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

log = logging.getLogger(__name__)

HANDSHAKE_S: Final = 10.0
"""A tablet far away on a bad wireless network needs one or two."""
SHAKING: Final = 50
"""Handshakes at a time: a ward that comes back after a power cut."""
PAUSE_S: Final = 1.0


class Door:
    """Takes the connections of one listener, until `close`. In the loop that serves them."""

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
        *,
        handshake_s: float,
        shaking: int,
    ) -> None:
        """listener: bound, not blocking. context: of TLS; None: without."""
        self._listener, self._protocol, self._context = listener, protocol, context
        self._handshake_s, self._most = handshake_s, shaking
        self._shaking: dict[asyncio.Task[None], None] = {}
        """In the order in which they began."""
        self._taking = asyncio.get_running_loop().create_task(self._take())

    def close(self) -> None:
        """Nobody comes in any more, and who has not come in yet does not."""
        self._taking.cancel()
        for task in list(self._shaking):
            task.cancel()

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                taken, _ = await loop.sock_accept(self._listener)
            except ConnectionError:  # it is gone already
                continue
            except OSError as e:
                log.error("no connection is taken for %.0f s: %s", PAUSE_S, e.strerror)
                await asyncio.sleep(PAUSE_S)
                continue
            if len(self._shaking) >= self._most:
                oldest = next(iter(self._shaking))
                del self._shaking[oldest]
                oldest.cancel()
            task = loop.create_task(self._let_in(taken))
            self._shaking[task] = None
            task.add_done_callback(lambda done: self._shaking.pop(done, None))

    async def _let_in(self, taken: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        bound = {} if self._context is None else {"ssl_handshake_timeout": self._handshake_s}
        try:
            await loop.connect_accepted_socket(self._protocol, taken, ssl=self._context, **bound)
        except (OSError, asyncio.CancelledError):  # ssl.SSLError is an OSError
            with suppress(OSError):
                taken.close()
