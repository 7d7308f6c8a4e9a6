"""What a process asks of the disk, seen by strace, and a disk that forgets what was not synced.

Rules of the disk (what POSIX promises, no more)
- The bytes of a file are durable once the file is synced, a name once its folder is: either may be
  kept or lost before, in any part, each by itself.
- A rename within the trace is kept or lost as one. Blocks of 512 bytes are kept or lost as one.
- Where a symbolic link leads is kept or lost with its name.
- SQLite's -shm is memory that other processes share, not durable state.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

DISK_CALLS = (
    "open,openat,creat,lseek,write,pwrite64,writev,pwritev,ftruncate,truncate,"
    "fallocate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,"
    "rmdir,symlink,symlinkat,syncfs"
)
BLOCK = 512
LOST, NAMES, BYTES, ALL = "all lost", "names kept", "bytes kept", "all kept"
PLAIN = (LOST, NAMES, BYTES, ALL)
_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(.*)", re.DOTALL)
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")


def strace(calls: str = DISK_CALLS, *more: str, output: Path) -> list[str]:
    """The beginning of a command line that traces `calls` of what follows and of its children."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed (apt install strace)")
    options = ["-f", "-y", "-xx", "-s", "100000000", "-e", f"trace={calls}", "-o", str(output)]
    return [found, "--seccomp-bpf", *options, *more]


def python(*command: str) -> list[str]:
    return [sys.executable, *command]


def run(command: Sequence[str], timeout: float = 240) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@dataclass(frozen=True)
class Call:
    """One system call. `result` is None where it never returned."""

    pid: int
    name: str
    args: tuple[str, ...]
    result: int | None

    def path(self, at: int) -> str:
        """The path that an argument names: a string, or the file behind a descriptor."""
        if self.args[at].startswith('"'):
            named = os.fsdecode(self.data(at))
            before = self.args[at - 1] if at else ""
            return os.path.join(_behind(before), named) if "<" in before else named
        return _behind(self.args[at])

    def data(self, at: int) -> bytes:
        return bytes.fromhex(self.args[at].strip('"').replace("\\x", ""))

    @property
    def text(self) -> str:
        """Its arguments as a person would write them."""
        return _plain(", ".join(self.args))

    def touches(self, part: str) -> bool:
        """Whether any path that it names has `part` in it."""
        return any(part in _plain(a) for a in self.args if "<" in a or a.startswith('"'))


def _plain(text: str) -> str:
    return _HEX.sub(lambda m: os.fsdecode(bytes.fromhex(m[0].replace("\\x", ""))), text)


def _behind(descriptor: str) -> str:
    return _plain(descriptor.partition("<")[2].rpartition(">")[0]).removesuffix(" (deleted)")


def calls(trace: Path) -> Iterator[Call]:
    """The calls in order of their return; what was cut short by the end of its process comes last
    of that process."""
    begun: dict[str, str] = {}
    with trace.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            pid, _, said = line.rstrip("\n").partition(" ")
            said = said.strip()
            if said.endswith("<unfinished ...>"):
                begun[pid] = said.removesuffix("<unfinished ...>")
                continue
            if said.startswith("<... "):
                said = begun.pop(pid, "") + said.partition("resumed>")[2]
            elif said.startswith("+++") and pid in begun:
                said = begun.pop(pid).rstrip(" ,") + ") = ?"
            if found := _CALL.fullmatch(f"{pid} {said}"):
                result = None if found[4] == "?" else int(found[4])
                yield Call(int(found[1]), found[2], tuple(found[3].split(", ")), result)


# The disk.


@dataclass(eq=False)
class Inode:
    """A file (`content`), a folder (`names`) or a link (`target`), as it is and as a power cut
    would leave it."""

    content: bytearray | None = None
    target: str | None = None
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Since the last sync: (offset, bytes written), or (size, None) of a truncation."""
    names: dict[str, Inode] = field(default_factory=dict)
    durable_names: dict[str, Inode] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    """Unsynced name -> number of the change; a rename has one number for both of its names."""
    version: int = 0

    def write(self, offset: int, data: bytes) -> None:
        assert self.content is not None
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data
        self.pending.append((offset, data))
        self.version += 1

    def resize(self, size: int) -> None:
        assert self.content is not None
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))
        self.pending.append((size, None))
        self.version += 1

    def sync(self) -> None:
        if self.content is not None and self.pending:
            self.durable = bytes(self.content)
            self.pending.clear()
            self.version += 1
        self.durable_names = dict(self.names)
        self.changes.clear()

    def sync_all(self) -> None:
        for child in self.names.values():
            child.sync_all()
        self.sync()

    def torn(self, keep: Callable[[], bool]) -> bytes:
        """What was synced, and of what was written since whatever blocks `keep` says."""
        left = bytearray(self.durable)
        for at, data in self.pending:
            if data is None:
                if keep():
                    del left[at:]
                    left.extend(bytes(at - len(left)))
                continue
            start = at
            while start < at + len(data):
                end = min(at + len(data), (start // BLOCK + 1) * BLOCK)
                if keep():
                    left.extend(bytes(max(0, end - len(left))))
                    left[start:end] = data[start - at : end - at]
                start = end
        return bytes(left)


Left = dict[str, bytes | Inode | None]


def picture(left: Left) -> int:
    """Equal where a cut leaves the same."""
    return hash(
        tuple((p, (id(c), c.version) if isinstance(c, Inode) else c) for p, c in left.items())
    )


class Disk:
    """The folder `root` on such a disk. `apply` each call in turn; `left` is what a cut leaves."""

    def __init__(self, root: Path, start: Path) -> None:
        """`start`: a copy of what the folder held, durably, before the first call."""
        self.root = str(root)
        self.top = self._loaded(start)
        self.names = 0
        self._offsets: dict[tuple[int, str], int] = {}

    def _loaded(self, path: Path) -> Inode:
        if path.is_symlink():
            return Inode(target=str(path.readlink()))
        if not path.is_dir():
            data = path.read_bytes()
            return Inode(bytearray(data), durable=data)
        found = {p.name: self._loaded(p) for p in path.iterdir() if not p.is_socket()}
        return Inode(names=found, durable_names=dict(found))

    def find(self, path: str) -> Inode | None:
        if path == self.root:
            return self.top
        if not path.startswith(f"{self.root}/"):
            return None
        node: Inode | None = self.top
        for name in path[len(self.root) + 1 :].split("/"):
            node = node.names.get(name) if node else None
        return node

    def _set(self, path: str, node: Inode | None, number: int | None = None) -> None:
        folder = self.find(os.path.dirname(path))
        assert folder is not None, path
        name = os.path.basename(path)
        if node is None:
            del folder.names[name]
        else:
            folder.names[name] = node
        self.names += 1
        folder.changes[name] = self.names if number is None else number

    def apply(self, call: Call) -> bool:
        """Do what a call that succeeded did; whether it did anything to this disk."""
        if call.result is None or call.result < 0:
            return False
        assert call.name not in _NOT_MODELLED or not call.touches(self.root), call
        step = getattr(self, f"_{_ALIASES.get(call.name, call.name)}", None)
        return bool(step and step(call))

    def _open(self, call: Call) -> bool:
        at = 0 if call.name in ("open", "creat") else 1
        path = call.path(at)
        flags = call.args[at + 1]
        self._offsets[call.pid, str(call.result)] = 0
        if not path.startswith(f"{self.root}/"):
            return False
        node = self.find(path)
        if node is None:
            assert "O_CREAT" in flags, path
            self._set(path, Inode(bytearray()))
            return True
        if "O_TRUNC" in flags:
            node.resize(0)
        return "O_TRUNC" in flags

    def _lseek(self, call: Call) -> bool:
        self._offsets[call.pid, call.args[0].partition("<")[0]] = call.result or 0
        return False

    def _write(self, call: Call) -> bool:
        handle = call.pid, call.args[0].partition("<")[0]
        offset = self._offsets.get(handle, 0)
        self._offsets[handle] = offset + (call.result or 0)
        return self._put(call, offset)

    def _pwrite64(self, call: Call) -> bool:
        return self._put(call, int(call.args[3]))

    def _put(self, call: Call, offset: int) -> bool:
        node = self.find(_behind(call.args[0]))
        if node is None or node.content is None:
            return False
        node.write(offset, call.data(1)[: call.result])
        return True

    def _truncate(self, call: Call) -> bool:
        node = self.find(call.path(0))
        if node is not None:
            node.resize(int(call.args[1]))
        return node is not None

    def _sync(self, call: Call) -> bool:
        node = self.find(_behind(call.args[0]))
        if node is not None:
            node.sync()
        return node is not None

    def _syncfs(self, call: Call) -> bool:
        if self.find(_behind(call.args[0])) is None:
            return False
        self.top.sync_all()
        return True

    def _symlink(self, call: Call) -> bool:
        path = call.path(2 if call.name == "symlinkat" else 1)
        if not path.startswith(f"{self.root}/"):
            return False
        self._set(path, Inode(target=os.fsdecode(call.data(0))))
        return True

    def _rename(self, call: Call) -> bool:
        old, new = self._two(call)
        node = self.find(old)
        if node is None:
            return False
        self._set(new, node)
        self._set(old, None, self.names)
        return True

    def _link(self, call: Call) -> bool:
        old, new = self._two(call)
        node = self.find(old)
        if node is not None:
            self._set(new, node)
        return node is not None

    def _two(self, call: Call) -> tuple[str, str]:
        return (call.path(0), call.path(1)) if call.name in _SHORT else (call.path(1), call.path(3))

    def _unlink(self, call: Call) -> bool:
        path = call.path(1 if call.name == "unlinkat" else 0)
        if self.find(path) is None:
            return False
        self._set(path, None)
        return True

    def _mkdir(self, call: Call) -> bool:
        path = call.path(1 if call.name == "mkdirat" else 0)
        if path.startswith(f"{self.root}/"):
            self._set(path, Inode())
        return path.startswith(f"{self.root}/")

    def left(self, variant: str, seed: int = 0) -> Left:
        """Path -> what a power cut leaves of it: None for a folder, an Inode where nothing of the
        file was unsynced. PLAIN are the four extremes, every other `variant` is random."""
        random_ = random.Random(seed)
        share = random_.choice((0.1, 0.5, 0.9))
        kept: dict[int, bool] = {}

        def named(number: int) -> bool:
            if variant in PLAIN:
                return variant in (NAMES, ALL)
            return kept.setdefault(number, random_.random() < share)

        def content(node: Inode) -> bytes:
            assert node.content is not None
            if variant in PLAIN:
                return bytes(node.content) if variant in (BYTES, ALL) else node.durable
            return node.torn(lambda: random_.random() < share)

        found: Left = {}

        def walk(node: Inode, path: str) -> None:
            for name in sorted(node.names.keys() | node.durable_names.keys()):
                now = name not in node.changes or named(node.changes[name])
                child = (node.names if now else node.durable_names).get(name)
                if child is None or name.endswith("-shm"):
                    continue
                at = os.path.join(path, name)
                if child.target is not None:
                    found[at] = child
                elif child.content is None:
                    found[at] = None
                    walk(child, at)
                else:
                    found[at] = content(child) if child.pending else child

        walk(self.top, "")
        return found


_SHORT = frozenset({"rename", "link"})
_NOT_MODELLED = frozenset({"writev", "pwritev", "fallocate"})
_ALIASES = {
    "openat": "open",
    "creat": "open",
    "ftruncate": "truncate",
    "fsync": "sync",
    "fdatasync": "sync",
    "renameat": "rename",
    "renameat2": "rename",
    "linkat": "link",
    "unlinkat": "unlink",
    "rmdir": "unlink",
    "symlinkat": "symlink",
    "mkdirat": "mkdir",
}


class Shelf:
    """Folders as a cut left them, made quickly: what did not change is linked, not copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole: dict[int, tuple[Inode, int, Path]] = {}
        (folder / "whole").mkdir()

    def make(self, left: Left, name: str = "state") -> Path:
        target = self._folder / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for at, content in left.items():
            path = target / at
            if content is None:
                path.mkdir()
            elif isinstance(content, bytes):
                path.write_bytes(content)
            elif content.target is not None:
                path.symlink_to(content.target)
            elif path.parent == target:  # the journal, which a look at it changes
                path.write_bytes(content.durable)
            else:
                os.link(self._kept(content), path)
        return target

    def _kept(self, node: Inode) -> Path:
        known = self._whole.get(id(node))
        if known is None or known[1] != node.version:
            path = self._folder / "whole" / f"{len(self._whole)}-{id(node)}-{node.version}"
            path.write_bytes(node.durable)
            known = self._whole[id(node)] = node, node.version, path
        return known[2]
