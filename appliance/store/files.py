"""The one place of durable writes. Every file that must survive a power cut goes through a Disk.

Rules
- A file appears whole or not at all: written under a temporary name in the folder it is meant for
  (or, for `adopt`, on the same file system), fdatasync, then its name, then fsync of the folder.
  A call that returned is durable; a call that raised left at most a temporary file.
- `adopt` never overwrites: two racing senders of one name get one FileExistsError between them.
- A folder is durable when its parent is synced; `make_folder` does so for each one it makes.
- FileExistsError and FileNotFoundError are answers and pass through. Every other OSError (full,
  read-only, broken) becomes StateUnusable.

The public methods are compositions of the ten steps at the end of the class, each one system
call. A test subclasses these steps to cut the power before any of them.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import StateUnusable

TEMP_SUFFIX = ".tmp"


class Disk:
    """Durable file operations. Stateless; `DISK` is the real one, to be passed as an argument."""

    def write(self, path: Path, data: bytes) -> None:
        """Make `path` hold `data`, replacing what was there. The folder must exist."""
        temp = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMP_SUFFIX}")
        with _as_state_unusable(path):
            try:
                self.put(temp, data)
                self.sync_file(temp)
                self.rename(temp, path)
            except OSError:
                with contextlib.suppress(OSError):
                    temp.unlink()
                raise
            self.sync_folder(path.parent)

    def adopt(self, temp: Path, path: Path) -> None:
        """Give the finished file `temp` its name `path` on the same file system, durably.

        Raises FileExistsError (and keeps `temp`) where `path` is taken.
        """
        with _as_state_unusable(path):
            self.sync_file(temp)
            self.link(temp, path)
            self.unlink(temp)
            self.sync_folder(path.parent)

    def move(self, source: Path, target: Path) -> None:
        """Rename a file or folder within the file system, durably. Replaces a file `target`."""
        with _as_state_unusable(target):
            self.rename(source, target)
            self.sync_folder(target.parent)
            if source.parent != target.parent:
                self.sync_folder(source.parent)

    def point(self, link: Path, target: str) -> None:
        """Make `link` a symbolic link to `target`, replacing the link that was there, durably. A
        link has no bytes to be synced: where it leads is as durable as its name."""
        temp = link.with_name(f".{link.name}.{uuid.uuid4().hex}{TEMP_SUFFIX}")
        with _as_state_unusable(link):
            try:
                self.symlink(target, temp)
                self.rename(temp, link)
            except OSError:
                with contextlib.suppress(OSError):
                    temp.unlink()
                raise
            self.sync_folder(link.parent)

    def append(self, path: Path, data: bytes, *, lasting: bool = True) -> int:
        """Add `data` to the end of a file that is there; returns where that was, for `cut`.

        lasting: durable when this returns. What raised has taken back what it wrote, if it could.
        Two that append to one file at once need a lock of their own.
        """
        with _as_state_unusable(path):
            end = path.stat().st_size
            try:
                self.put_at(path, end, data)
                if lasting:
                    self.sync_file(path)
            except OSError:
                with contextlib.suppress(OSError):
                    self.truncate(path, end)
                raise
        return end

    def cut(self, path: Path, size: int) -> None:
        """Take back what was appended behind `size`. Not durable: it was never relied on."""
        with _as_state_unusable(path):
            self.truncate(path, size)

    def remove(self, path: Path) -> None:
        """Remove a file durably. Not there is fine."""
        with _as_state_unusable(path), contextlib.suppress(FileNotFoundError):
            self.unlink(path)
            self.sync_folder(path.parent)

    def make_folder(self, path: Path) -> None:
        """Make a folder and its missing parents, each durable. There already is fine."""
        with _as_state_unusable(path):
            if path.is_dir():
                return
        self.make_folder(path.parent)
        with _as_state_unusable(path):
            with contextlib.suppress(FileExistsError):
                self.mkdir(path)
            self.sync_folder(path.parent)

    def settle(self, folder: Path) -> None:
        """Make the names that others put into `folder` durable before relying on them."""
        with _as_state_unusable(folder):
            self.sync_folder(folder)

    def free_mb(self, path: Path) -> float:
        """What this user may still write on the file system of `path`, in 10^6 bytes."""
        with _as_state_unusable(path):
            facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize / 1e6

    # The steps: one system call each.

    def put(self, path: Path, data: bytes) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)

    def put_at(self, path: Path, offset: int, data: bytes) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            while data:
                count = os.pwrite(handle, data, offset)
                data, offset = data[count:], offset + count
        finally:
            os.close(handle)

    def truncate(self, path: Path, size: int) -> None:
        os.truncate(path, size)

    def sync_file(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)

    def sync_folder(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def link(self, temp: Path, path: Path) -> None:
        os.link(temp, path)

    def symlink(self, target: str, link: Path) -> None:
        os.symlink(target, link)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def mkdir(self, path: Path) -> None:
        os.mkdir(path, 0o700)


DISK = Disk()


@contextlib.contextmanager
def _as_state_unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as e:
        raise StateUnusable(f"{path}: {e.strerror}") from e
