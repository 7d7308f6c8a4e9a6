"""Which series `work` has in hand, and at which step: what is known of a process that died.

    run/work.hand     {"study", "series", "step", "boot"} while a step runs; empty between steps

Rules
- One series at most is in hand: `work` has one thread.
- The mark outlives its process whatever ends it (a signal, memory that ran out, a fault in a
  library). Only a machine that dies may lose it, so it is synced where the machine itself may be
  at stake (`lasting`): before an inference, not before each slice, where it would cost more than
  the slice does.
- A mark that cannot be read says nothing: nobody is blamed on a guess. So does a disk that takes no
  mark: the work goes on.
- A stop on purpose clears it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from appliance.host.boot import boot_id
from appliance.report import Record, SeriesKey
from appliance.store.files import DISK

NAME = "work.hand"
Step = Literal["read", "judge"]


class InHand(Record):
    """A step of one series."""

    study: str
    series: str
    step: Step
    boot: str
    """In which boot it began (`host.boot`)."""

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.study, self.series)


class Hand:
    """The mark of one state folder, held by its `work` alone."""

    def __init__(self, state: Path) -> None:
        self._path = state / "run" / NAME
        self._boot = boot_id()

    def last(self) -> InHand | None:
        """What a process that is gone had in hand; None where it ended between two steps."""
        try:
            return InHand.stored(self._path.read_bytes())
        except (OSError, ValidationError):
            return None

    @contextlib.contextmanager
    def holding(self, key: SeriesKey, step: Step, *, lasting: bool = False) -> Iterator[None]:
        """While this runs, the series is in hand. An exception is an answer: it clears the mark."""
        mark = InHand(study=key.study, series=key.series, step=step, boot=self._boot)
        self._write(mark.model_dump_json().encode(), lasting=lasting)
        try:
            yield
        finally:
            self.clear()

    def clear(self) -> None:
        """Nothing is in hand."""
        self._write(b"", lasting=False)

    def _write(self, data: bytes, *, lasting: bool) -> None:
        with contextlib.suppress(OSError):
            DISK.make_folder(self._path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            handle = os.open(self._path, flags, 0o600)
            try:
                os.pwrite(handle, data, 0)
                os.ftruncate(handle, len(data))
                if lasting:
                    os.fdatasync(handle)
            finally:
                os.close(handle)
