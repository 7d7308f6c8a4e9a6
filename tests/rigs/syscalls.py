"""The filters of system calls that systemd makes of a unit's lines (systemd.exec(5), seccomp(2)).

Rules
- One program of classic BPF for each line, as systemd loads them: of several answers the kernel
  takes the most severe one. Each reads struct seccomp_data: the number of the call, the
  architecture, and the lower halves of six arguments, on a machine that is little-endian.
- What SystemCallFilter= leaves out ends the process by SIGSYS (systemd without
  SystemCallErrorNumber=); a call that systemd does not know gets ENOSYS, as systemd has it. What
  another line forbids gets the error that systemd gives.
- The groups are those of `systemd-analyze syscall-filter`; the numbers of the names are those of
  libseccomp, which systemd itself asks.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import platform
import socket
import struct
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rigs.programs import program

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_X32 = 0x40000000  # __X32_SYSCALL_BIT: the third architecture of x86-64
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_RET|K
_EQUAL, _AT_LEAST = 0x15, 0x35  # BPF_JMP|JEQ|K, BPF_JMP|JGE|K
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_FILTER = struct.Struct("=HBBI")  # struct sock_filter
Step = tuple[int, int, int, int]
"""Code, jump if true, jump if false, value."""


@dataclass(frozen=True, slots=True)
class Holds:
    """Whether `argument & mask` is one of `values`, or with `none_of` none of them."""

    argument: int
    mask: int
    values: tuple[int, ...]
    none_of: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Calls that get `error` where all tests hold."""

    names: tuple[str, ...]
    tests: tuple[Holds, ...] = ()
    error: int = errno.EPERM


@functools.cache
def groups() -> dict[str, tuple[str, ...]]:
    """Name of a group -> what stands in it, groups and names."""
    said = subprocess.run(
        [program("systemd-analyze"), "--no-pager", "syscall-filter"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    found: dict[str, list[str]] = {}
    name = ""
    for line in said.splitlines():
        if line.startswith("@"):
            name = line.strip()
            found[name] = []
        elif line.startswith(" ") and not line.strip().startswith("#"):
            found[name].append(line.strip())
    return {name: tuple(members) for name, members in found.items()}


def members(names: Iterable[str]) -> set[str]:
    """The names of calls that these names and groups are."""
    found: set[str] = set()
    for name in names:
        found |= members(groups()[name]) if name.startswith("@") else {name}
    return found


@functools.cache
def number(name: str) -> int | None:
    """The number of a call on this machine; None where it has no such call."""
    resolve = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name
    found = int(resolve(name.encode()))
    return found if found >= 0 else None


def listed(values: Sequence[str]) -> bytes:
    """The program of the lines SystemCallFilter=, which begin with what is allowed."""
    allowed = members(["@default"])
    for value in values:
        names = members(value.removeprefix("~").split())
        allowed = allowed - names if value.startswith("~") else allowed | names
    steps: list[Step] = [(_LOAD, 0, 0, _NUMBER_AT)]
    for names, answer in (
        (allowed, _ALLOW),
        (members(["@known"]) - allowed, _KILL),
    ):
        for one in sorted({found for name in names if (found := number(name)) is not None}):
            steps += [(_EQUAL, 0, 1, one), (_RETURN, 0, 0, answer)]
    return _packed([*steps, (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])


def native() -> bytes:
    """SystemCallArchitectures=native."""
    return _packed(
        [
            (_LOAD, 0, 0, _ARCHITECTURE_AT),
            (_EQUAL, 1, 0, _ARCHITECTURE[platform.machine()]),
            (_RETURN, 0, 0, _KILL),
            (_LOAD, 0, 0, _NUMBER_AT),
            (_AT_LEAST, 0, 1, _X32),
            (_RETURN, 0, 0, _KILL),
            (_RETURN, 0, 0, _ALLOW),
        ]
    )


def refusing(refusals: Sequence[Refusal]) -> bytes:
    """Everything is allowed but these; calls of another architecture are another line's."""
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURE[platform.machine()]),
        (_RETURN, 0, 0, _ALLOW),
    ]
    for refusal in refusals:
        for name in sorted(members(refusal.names)):
            found = number(name)
            if found is not None:
                steps += _refused(found, refusal)
    return _packed([*steps, (_RETURN, 0, 0, _ALLOW)])


def _refused(call: int, refusal: Refusal) -> list[Step]:
    """Steps that go on to the next ones where it is another call, or a test does not hold."""
    tested: list[Step] = []
    for test in reversed(refusal.tests):  # from behind, because each jumps over what follows
        tested = [*_tested(test, past=len(tested) + 1), *tested]
    tested.append((_RETURN, 0, 0, _ERRNO | refusal.error))
    return [(_LOAD, 0, 0, _NUMBER_AT), (_EQUAL, 0, len(tested), call), *tested]


def _tested(test: Holds, past: int) -> list[Step]:
    """Steps that go on behind them where the test holds, else `past` steps further."""
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * test.argument),
        (_AND, 0, 0, test.mask),
    ]
    for index, value in enumerate(test.values):
        left = len(test.values) - index - 1
        if test.none_of:
            steps.append((_EQUAL, left + past, 0, value))
        else:
            steps.append((_EQUAL, left, 0 if left else past, value))
    return steps


def _packed(steps: Sequence[Step]) -> bytes:
    return b"".join(_FILTER.pack(*step) for step in steps)


def families(words: Sequence[str]) -> tuple[Refusal, ...]:
    """RestrictAddressFamilies=, which names those that are allowed."""
    known = tuple(int(socket.AddressFamily[word]) for word in words)
    test = Holds(0, 0xFFFFFFFF, known, none_of=True)
    return (Refusal(("socket",), (test,), errno.EAFNOSUPPORT),)


_ANY = 0xFFFFFFFF
_WRITE, _EXECUTE, _SHM_EXECUTE = 2, 4, 0o100000  # mman.h, shm.h
_NEW = 0x7E020080  # CLONE_NEW* of sched.h, all but those of times
_CREATE = 0o100  # O_CREAT
_SET_ID = 0o6000


def _set_id(argument: int) -> tuple[Holds, ...]:
    return (Holds(argument, _SET_ID, (0,), none_of=True),)


def _created(argument: int) -> tuple[Holds, ...]:
    return (Holds(argument - 1, _CREATE, (_CREATE,)), *_set_id(argument))


YES: dict[str, Callable[[], tuple[Refusal, ...]]] = {
    "MemoryDenyWriteExecute": lambda: (
        Refusal(("mmap",), (Holds(2, _WRITE | _EXECUTE, (_WRITE | _EXECUTE,)),)),
        Refusal(("mprotect", "pkey_mprotect"), (Holds(2, _EXECUTE, (_EXECUTE,)),)),
        Refusal(("shmat",), (Holds(2, _SHM_EXECUTE, (_SHM_EXECUTE,)),)),
    ),
    "RestrictNamespaces": lambda: (
        Refusal(("clone", "unshare"), (Holds(0, _NEW, (0,), none_of=True),)),
        Refusal(("setns",)),
        Refusal(("clone3",), error=errno.ENOSYS),  # its flags lie in memory, out of sight
    ),
    "RestrictRealtime": lambda: (
        Refusal(("sched_setscheduler",), (Holds(1, _ANY, (0, 3, 5), none_of=True),)),
    ),
    "RestrictSUIDSGID": lambda: (
        Refusal(("chmod", "fchmod", "mkdir", "creat", "mknod"), _set_id(1)),
        Refusal(("fchmodat", "mkdirat", "mknodat"), _set_id(2)),
        Refusal(("open",), _created(2)),
        Refusal(("openat",), _created(3)),
        Refusal(("openat2",), error=errno.ENOSYS),
    ),
    "LockPersonality": lambda: (
        Refusal(("personality",), (Holds(0, _ANY, (0, _ANY), none_of=True),)),
    ),
    "ProtectHostname": lambda: (Refusal(("sethostname", "setdomainname")),),
    "ProtectKernelLogs": lambda: (Refusal(("syslog",)),),
    "ProtectKernelModules": lambda: (Refusal(("@module",)),),
    "ProtectClock": lambda: (Refusal(("@clock",)),),
    "PrivateDevices": lambda: (Refusal(("@raw-io",)),),
}
"""What a line with the value `yes` refuses (systemd 252, src/shared/seccomp-util.c says which)."""
