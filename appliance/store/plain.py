"""Files of ours below the state folder, read without following a link.

A symbolic link in a folder of ours is nobody's decision: what it leads to is not ours, so it is an
error (ELOOP, or ENOTDIR for a folder), as is anything that is no regular file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import StateUnusable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def read(root: Path, *parts: str, most: int | None = None) -> bytes:
    """The bytes of the file root/part/part; with `most` no more than that and one.

    OSError where it is not there, cannot be read, or where one of the parts is a link.
    """
    with _opened(root, parts) as handle, open(handle, "rb", closefd=False) as file:
        size = os.fstat(handle).st_size
        # its size first: a read of the most there may be would take that much memory
        return file.read(size + 1 if most is None else min(size, most) + 1)


def real_folder(path: Path) -> Path:
    """`path`, which is about to be written into; StateUnusable where it is a symbolic link."""
    if path.is_symlink():
        raise StateUnusable(
            f"{path} is a symbolic link",
            remedy="Remove the link; only the state folder as a whole may lie elsewhere.",
            code="symbolic_link",
        )
    return path


@contextmanager
def _opened(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """The last of the parts as a descriptor, each opened from the one before."""
    handle = os.open(root, _FOLDER)
    try:
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC if last else _FOLDER
            inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(root.joinpath(*parts)))
        yield handle
    finally:
        os.close(handle)
