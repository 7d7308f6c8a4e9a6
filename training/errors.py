"""What ends a command of training/: data that cannot be used, a run that cannot go on.

Both are one line on stderr and exit code 1, never a traceback.
"""

from __future__ import annotations

from collections.abc import Callable


class DataError(ValueError):
    """A data set that cannot be used; the text is one line that names the file and the fault."""


class RunError(SystemExit):
    """A training that cannot go on: one line on stderr and exit code 1, no traceback."""

    def __init__(self, text: str) -> None:
        """`text` says what is wrong, without "error:"."""
        super().__init__(f"error: {text}")


def command(main: Callable[[], None]) -> None:
    """`main`; data that cannot be used, and a file that cannot be read or written, end it with one
    line on stderr and exit code 1."""
    try:
        main()
    except DataError as wrong:
        raise SystemExit(f"error: {wrong}") from None
    except OSError as wrong:
        named = f"{wrong.filename}: {wrong.strerror}" if wrong.filename else wrong
        raise SystemExit(f"error: {named}") from None
