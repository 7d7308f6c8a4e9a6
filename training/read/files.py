"""Files that several recipes make and use, each in a process of its own and often at once.

A file of the cache appears whole or not at all. Two that find it missing both make it, each beside
its own name, and the later replaces the earlier: what they made is the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, at `path` only once it is left without an error."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            yield part
        except BaseException:
            os.unlink(part.name)
            raise
    os.replace(part.name, path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
