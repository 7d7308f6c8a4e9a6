"""What is wrong with data, and the one line with which a command of training/ says so."""

from __future__ import annotations

from collections.abc import Callable


class DataError(ValueError):
    """A data set that cannot be used; the text is one line that names the file and the fault."""


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
