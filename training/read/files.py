"""Files and folders that appear whole or not at all.

Rules. Files of the cache are made and used by several recipes, each in a process of its own and
often at once. Two that find one missing both make it, each beside its own name, and the later
replaces the earlier: what they made is the same. A folder that is there already is never touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from training.errors import DataError


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


@contextlib.contextmanager
def whole_folder(path: Path, option: str) -> Iterator[Path]:
    """A folder to fill, at `path` only once it is left without an error.

    DataError where it is there already (`option` chooses another) or cannot be written.
    """
    if path.exists():
        raise DataError(f"{path}: already there; remove it or choose another {option}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as e:
        raise DataError(f"{path.parent}: {e.strerror}") from e
    try:
        yield part
        part.chmod(0o755)
        part.rename(path)
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
