"""The journal of one association, and what stands in for it while it cannot be had.

Rules
- What is acknowledged lies in the spool; the journal only says who brought it. So no association
  waits for a journal that is being looked at or made anew: one in memory stands in for it.
- At the end of the association its rows go into the real one, if that can be had by then. Nobody
  waits for that either, because who waits takes the place of another sender. Only what nobody else
  keeps, a promise or a request for one, waits (`durable`). What is lost is who
  sent what, and when it ended: `work` counts what lies in the spool, and waits for its quiet time.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from appliance.errors import StateUnusable
from appliance.store.journal import Journal, Manner

LOG = logging.getLogger(__name__)

AWAY = frozenset({"journal_not_ready", "journal_damaged", "journal_replaced"})
"""Codes of a journal that will be back by itself."""


class Books:
    """`journal` of a state folder, as a context."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._real = self._opened()
        self._spare: Journal | None = None
        self.journal = self._real or self.stand_in()

    def durable(self) -> Journal | None:
        """The real one, for what must not be lost, even if its look has to be waited for; None
        where it cannot be had now."""
        if self._real is None:
            self._real = self._opened(Manner.LOOK)
        return self._real

    def stand_in(self) -> Journal:
        """An empty one in place of the real one."""
        if self._spare is None:
            LOG.warning("the journal is not to be had now: images go on into the spool")
            self._spare = Journal.in_memory()
        return self._spare

    def __enter__(self) -> Books:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._real is not None:
            self._real.close()
        if self._spare is not None:
            with contextlib.closing(self._spare):
                self._hand_over(self._spare)

    def _hand_over(self, spare: Journal) -> None:
        real = self._opened()
        if real is None:
            LOG.warning("the journal does not hear of this association: `work` counts its images")
            return
        with real:
            try:
                spare.copy_to(real)
            except StateUnusable as e:
                LOG.error("%s", e.one_line())

    def _opened(self, manner: Manner = Manner.HURRY) -> Journal | None:
        """The real one; None where it cannot be had now."""
        try:
            return Journal.open(self._state, manner=manner)
        except StateUnusable as e:
            if e.code not in AWAY:
                raise
            return None


def beside(task: Callable[[], None]) -> None:
    """Do something in a process of its own, which nobody waits for."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if os.fork() == 0:  # so that it is nobody's child that has to be waited for
            os.closerange(3, 1024)  # the listening socket must not outlive its owner
            task()
    except StateUnusable as e:
        LOG.error("%s", e.one_line())
    except Exception:
        LOG.exception("what was to be done beside the work failed")
    finally:
        os._exit(0)
