"""The last steps before a unit's program, in the order in which systemd takes them: user, umask,
sockets, filters of system calls, then the program. Runs inside of what bubblewrap made.

    python -I -S enter.py FD     FD: a JSON object, see rigs.sandbox.Sandboxed.last_steps

bubblewrap could load one filter itself, but would load it before the user can be changed, which
the filter forbids. Only the standard library; this file is run by its path.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

_NO_NEW_PRIVILEGES, _SECCOMP, _BY_FILTER = 38, 22, 2  # prctl(2)
_FIRST_PASSED = 3  # sd_listen_fds(3)
_STEP = 8  # bytes of struct sock_filter


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _prctl(*words: object) -> None:
    c = ctypes.CDLL(None, use_errno=True)
    if c.prctl(*words) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def main() -> None:
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        steps = json.load(file)
    if steps["uid"] != 0:
        os.setgroups(steps["groups"])
        os.setresgid(steps["gid"], steps["gid"], steps["gid"])
        os.setresuid(steps["uid"], steps["uid"], steps["uid"])
    os.umask(steps["umask"])
    os.environ["SYSTEMD_EXEC_PID"] = str(os.getpid())
    if steps["passed"] is not None:
        if steps["passed"] != _FIRST_PASSED:
            os.dup2(steps["passed"], _FIRST_PASSED)
            os.close(steps["passed"])
        os.set_inheritable(_FIRST_PASSED, True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
    if steps["no_new_privileges"]:
        _prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    for text in steps["filters"]:
        code = bytes.fromhex(text)
        _prctl(_SECCOMP, _BY_FILTER, ctypes.byref(_Program(len(code) // _STEP, code)))
    os.execvpe(steps["command"][0], steps["command"], os.environ)  # noqa: S606 - words, no shell


main()
