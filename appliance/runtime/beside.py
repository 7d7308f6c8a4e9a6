"""Bundles that are opened beside the work: in a thread of their own, one after another.

To open a bundle takes seconds: its file is read, its golden cases run, its networks are loaded.
Meanwhile a study may begin, and must not wait.

    take   a bundle that is open now; Opening while it is not, and from the first call on the thread
           works at it; what went wrong is raised
    only   what is wanted: the rest is given up, at the next step of its golden cases at the latest
    first  while this lasts the thread begins no further step

Rules
- `take`, `only`, `first` and `close` are called by one thread; `news` is called by the other one,
  when `take` has something to give.
- The machine is the studies' first. A step that has begun runs on (a network is loaded in some
  tenths of a second), but the next one waits while a series is analysed, for YIELD_S at most: a box
  that analyses without pause opens its bundle later, and does open it. A lower priority would not
  do: threads that a library starts meanwhile would keep it, and infer with it for years.
- What was opened and is not wanted any more is closed.
- Nothing of a bundle that was given up is left but the result of its golden cases.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from threading import Event, get_ident
from typing import Generic, TypeVar

Opened = TypeVar("Opened")
Key = tuple[str, Hashable]
"""Digest of a bundle, and which of its openings."""
LOOK_S = 1.0
"""Between two calls of `alive` of who waits."""
YIELD_S = 10.0
"""So long a step waits for the end of an analysis."""


class Opening(Exception):
    """It is being opened."""


class GivenUp(Exception):
    """It is not wanted any more."""


class Beside(Generic[Opened]):
    """What is being opened."""

    def __init__(self, close: Callable[[Opened], None], news: Callable[[], object]) -> None:
        """`close`: of what nobody takes; it runs in either thread."""
        self._close = close
        self._news = news
        self._thread = ThreadPoolExecutor(1, "opening")
        self._under_way: dict[Key, Future[Opened]] = {}
        self._wanted: frozenset[str] = frozenset()
        self._in_hand: str | None = None
        """Digest; only the thread writes it."""
        self._opener: int | None = None
        self._free = Event()
        """Not set while the other thread analyses."""
        self._free.set()

    def take(
        self,
        key: Key,
        opened: Callable[[], Opened],
        *,
        wait: Callable[[], object] | None = None,
    ) -> Opened:
        """What `opened` gives in the thread, or what it raises. Opening while it is not done, and
        always the first time; with `wait`, which is called now and then, never."""
        future = self._under_way.get(key)
        if future is None:
            self._wanted |= {key[0]}
            for other in [one for one in self._under_way if one[0] == key[0] and one[1] != key[1]]:
                self._give_up(other)
            future = self._under_way[key] = self._thread.submit(self._work_at, key[0], opened)
            future.add_done_callback(lambda _: self._news())
            if wait is None:
                raise Opening
        if wait is not None:
            self._free.set()  # whoever waits for it analyses nothing
        while wait is not None and not future.done():
            wait()
            wait_for([future], timeout=LOOK_S)
        if not future.done():
            raise Opening
        del self._under_way[key]
        return future.result()

    def only(self, digests: Collection[str]) -> None:
        """Give up what is none of these."""
        self._wanted = frozenset(digests)
        for key in [one for one in self._under_way if one[0] not in self._wanted]:
            self._give_up(key)

    def go_on(self) -> None:
        """For the thread, at each step: GivenUp where nobody wants what it works at."""
        if self._in_hand not in self._wanted:
            raise GivenUp

    def pause(self) -> None:
        """For the thread, between two steps; of no effect in another. GivenUp as `go_on`."""
        if get_ident() == self._opener:
            self._free.wait(YIELD_S)
            self.go_on()

    @contextmanager
    def first(self) -> Iterator[None]:
        """For an analysis: meanwhile the thread begins no further step."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def close(self) -> None:
        """Give everything up and wait for the thread."""
        self.only(())
        self._thread.shutdown(wait=True)

    def _work_at(self, digest: str, opened: Callable[[], Opened]) -> Opened:
        self._in_hand, self._opener = digest, get_ident()
        self.go_on()
        return opened()

    def _give_up(self, key: Key) -> None:
        future = self._under_way.pop(key)
        if not future.cancel():
            future.add_done_callback(self._dropped)

    def _dropped(self, future: Future[Opened]) -> None:
        if future.exception() is None:
            self._close(future.result())
