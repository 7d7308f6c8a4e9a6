"""What a child of `work` has in hand: what is known of one that died.

    run/compose.hand    the key of the object that is being composed; empty between two objects
    run/compare.hand    the report that is being compared

Not durable, and no error: where a machine dies with it, or the disk takes no mark, nobody is
blamed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from appliance.store.files import DISK


class Hand:
    """The mark of one child of a state folder."""

    def __init__(self, state: Path, child: str) -> None:
        self._path = state / "run" / f"{child}.hand"

    def last(self) -> str | None:
        """What a process that is gone had in hand; None where it had nothing."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return self._path.read_text() or None
        return None

    @contextlib.contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """While this runs, this is in hand. An exception is an answer: it clears the mark."""
        self._write(key)
        try:
            yield
        finally:
            self.clear()

    def clear(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            DISK.make_folder(self._path.parent)
            self._path.write_text(text)
