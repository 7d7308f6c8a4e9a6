"""Files that a verb writes into the folder that a person names.

Rule: nothing is overwritten. A name that is there is an error, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from appliance.errors import ScansideError


def require_free(paths: Iterable[Path]) -> None:
    """ScansideError (`output_exists`) where one of these names is there."""
    for path in paths:
        if path.exists():
            raise ScansideError(
                f"{path} is there already",
                code="output_exists",
                remedy="Name a new folder, or move the file away.",
            )


def write(path: Path, data: bytes) -> str:
    """A file, and its folder; its name. ScansideError (`output_unwritable`)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as e:
        raise ScansideError(
            f"{path}: {e.strerror}", code="output_unwritable", remedy="Name another folder."
        ) from e
    return str(path)
