"""What `update` may lay down, and no more: [update] limit_mb, and MOST_FILES.

Rules.
1. `update` keeps to the limit by itself (appliance.update.downloads). One who broke into it does
   not: he could fill the disk that `receive` needs. So `apply` looks at every turn, and where there
   is more than allowed all of it goes: whatever was good there is fetched again.
2. Then `update` is started anew: a file that a process holds open takes its room also without a
   name.
3. The folder is another user's: no link in it is followed, and what is exchanged for one while this
   walks is removed itself, never what it leads to.
4. Between two turns somebody may still write faster than this looks. Where that counts the folder
   lies on a file system of its own (docs/install.md).
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path

from appliance.apply.box import Box
from appliance.errors import ScansideError

MOST_FILES, MOST_DEPTH, MOST_OPEN = 20_000, 8, 100
"""Of a repository far less are needed."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512
"""Bytes of st_blocks (stat(2))."""


def sweep(box: Box) -> bool:
    """Rules 1 and 2; whether anything was swept. StateUnusable where that cannot be audited;
    OSError where the folder cannot be looked at."""
    folder, most = box.places.downloads, box.settings.update.limit_mb
    if not folder.is_dir():
        return False  # `update` has not run yet
    used_mb, files = measured(folder)
    if used_mb <= most and files <= MOST_FILES:
        return False
    detail = {"mb": f"{used_mb:.0f}", "files": str(files), "limit_mb": f"{most:.0f}"}
    box.tell("downloads swept", detail)
    emptied(folder)
    with contextlib.suppress(ScansideError):  # it starts by itself, as ever
        box.units.restart("update", box.slots.current() or 0)
    return True


def measured(folder: Path) -> tuple[float, int]:
    """What lies below a folder, in 10^6 bytes on the disk, and in how many files and folders. It
    looks at MOST_FILES and one at most; what lies deeper than MOST_DEPTH counts as more than
    that. OSError where it cannot be looked at."""
    blocks = count = 0
    top = os.open(folder, _FOLDER)
    left = [(top, MOST_DEPTH)]
    try:
        while left and count <= MOST_FILES:
            handle, depth = left.pop()
            try:
                for name in os.listdir(handle):
                    count += 1
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        facts = os.stat(name, dir_fd=handle, follow_symlinks=False)
                        blocks += facts.st_blocks
                        if stat.S_ISDIR(facts.st_mode):
                            if not depth or len(left) > MOST_OPEN:
                                return blocks * _BLOCK / 1e6, MOST_FILES + 1
                            left.append((os.open(name, _FOLDER, dir_fd=handle), depth - 1))
            finally:
                os.close(handle)
    finally:
        for handle, _ in left:
            os.close(handle)
    return blocks * _BLOCK / 1e6, count


def emptied(folder: Path) -> None:
    """Rule 3: nothing is left in it. A folder in a folder is brought to the top first, so that no
    depth is too deep; what comes meanwhile is found at the next turn."""
    top = os.open(folder, _FOLDER)
    try:
        for _ in range(MOST_FILES):
            names = os.listdir(top)
            if not names:
                return
            for name in names:
                with contextlib.suppress(OSError):
                    _removed(top, name)
    finally:
        os.close(top)


def _removed(top: int, name: str) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=top)
        return
    handle = os.open(name, _FOLDER, dir_fd=top)
    try:
        for inner in os.listdir(handle):
            if stat.S_ISDIR(os.stat(inner, dir_fd=handle, follow_symlinks=False).st_mode):
                os.rename(inner, uuid.uuid4().hex, src_dir_fd=handle, dst_dir_fd=top)
            else:
                os.unlink(inner, dir_fd=handle)
    finally:
        os.close(handle)
    os.rmdir(name, dir_fd=top)
