"""What wakes `work` for its bundles: a change of the shelf's tables, and a bundle that is open now.

Rules
- The tables appear by a rename (store/files.py), whoever writes them: a verb, or another program
  that puts bundles onto the shelf. So inotify(7) of their folder sees every choice.
- Where the system gives no watch, or the folder is not there, the shelf is looked at when the first
  series of a study begins, as it is in any case.
- `opened` is called by the thread that opens bundles (runtime/beside.py); the rest by the loop.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from inotify_simple import INotify, flags

from appliance.bundle.tables import FOLDER
from appliance.errors import StateUnusable
from appliance.store.files import DISK

log = logging.getLogger("scanside.work")


class ShelfWatch:
    """Two descriptors for select(2)."""

    def __init__(self, state: Path) -> None:
        self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._watch: INotify | None = None
        with contextlib.suppress(StateUnusable):
            DISK.make_folder(state / FOLDER)
        try:
            self._watch = INotify(nonblocking=True)
            self._watch.add_watch(state / FOLDER, flags.MOVED_TO)
        except OSError as e:
            log.warning("the shelf is not watched: inotify: %s", e.strerror)
            self._end_watch()

    @property
    def handles(self) -> tuple[int, ...]:
        """Readable where there may be something new."""
        watch = () if self._watch is None else (self._watch.fileno(),)
        return (self._news, *watch)

    def opened(self) -> None:
        """There is a bundle to take up."""
        with contextlib.suppress(OSError):  # after `close`
            os.eventfd_write(self._news, 1)

    def heard(self) -> bool:
        """Whether anything is new since the last call. Never waits."""
        new = False
        with contextlib.suppress(BlockingIOError):
            new = os.eventfd_read(self._news) > 0
        if self._watch is not None:
            new = bool(list(self._watch.read(timeout=0))) or new
        return new

    def close(self) -> None:
        """Nothing is watched any more."""
        self._end_watch()
        os.close(self._news)

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
