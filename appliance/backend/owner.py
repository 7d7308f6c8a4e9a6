"""One thread that owns a device: it opens it, makes every call to it, and closes it.

A CUDA context is current in a thread. Opening it once in a thread of its own, and never handing it
on, leaves no question which context a call goes to (pycuda.autoinit makes another one than
TensorRT's, and its answer is "invalid resource handle").
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Owned = TypeVar("Owned")
Answer = TypeVar("Answer")


class Owner(Generic[Owned]):
    """Hands calls to its thread in their order."""

    def __init__(self, make: Callable[[], Owned], close: Callable[[Owned], None]) -> None:
        """`make` and `close` run in the thread; what `make` raises is raised here."""
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[Owned], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._close = close
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(make, opened), name="gpu", daemon=True
        )
        self._thread.start()
        opened.result()

    def call(self, do: Callable[[Owned], Answer]) -> Answer:
        """Do it in the thread and wait; what it raises is raised here. RuntimeError once closed."""
        return self.hand(do).result()

    def hand(self, do: Callable[[Owned], Answer]) -> Future[Answer]:
        """Do it in the thread, behind what is queued, without waiting."""
        if not self._thread.is_alive():
            raise RuntimeError("the device is closed")
        future: Future[Answer] = Future()
        self._calls.put((future, do))
        return future

    def stop(self) -> None:
        """Close the device once what is queued is done, and end the thread."""
        if self._thread.is_alive():
            self._calls.put(None)
            self._thread.join()

    def _serve(self, make: Callable[[], Owned], opened: Future[None]) -> None:
        try:
            owned = make()
        except BaseException as e:  # noqa: BLE001 - raised again in the thread that asked
            opened.set_exception(e)
            return
        opened.set_result(None)
        try:
            while (one := self._calls.get()) is not None:
                future, do = one
                try:
                    future.set_result(do(owned))
                except BaseException as e:  # noqa: BLE001 - as above
                    future.set_exception(e)
                del one, future, do
        finally:
            self._close(owned)
