"""A trace of `work` from inside: when each slice is added and when each series is analysed.

Python imports a module of this name when it starts, wherever it finds one (library reference,
`site`). Who measures puts this folder on the PYTHONPATH of `scanside run` and names a file in
SCANSIDE_BENCH_TRACE (bench/site.py). Nothing happens before `appliance.line` is imported; then its
`add` and `finish`, and the backend that `finish` is given, note their times: a line of JSON a call,
with `what`, `begin` and `end` (seconds since 1970), `spent` (call of the backend -> seconds) and
`own` (seconds of processor time that our own code took in this thread, the backend left out: a busy
machine does not change it).

Only names are used that every revision has, so that an older one can be measured beside this one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

FILE = os.environ.get("SCANSIDE_BENCH_TRACE")


class Clocked:
    """A backend whose calls are timed; a network by its role. Of one that was begun, the beginning
    and the wait count."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.spent: dict[str, float] = {}
        self.processor_s = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if name == "begin":
            return self._begun(found)
        return self._timed(name, found) if name in {"prepare", "gather", "infer"} else found

    def _begun(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def begun(role: str, image: Any) -> Callable[[], Any]:
            wait = self._timed("infer", call)(role, image)
            return partial(self._timed("infer", lambda _: wait()), role)

        return begun

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            what = str(arguments[0]) if name == "infer" else "prepare"
            began, own = time.perf_counter(), time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self.processor_s += time.thread_time() - own
                took = time.perf_counter() - began
                self.spent[what] = self.spent.get(what, 0.0) + took

        return timed


def noted(what: str, call: Callable[..., Any], out: int) -> Callable[..., Any]:
    """A function of the line that writes a line of the trace for each of its calls."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        given = [Clocked(one) if hasattr(one, "infer") else one for one in arguments]
        also = {k: Clocked(one) if hasattr(one, "infer") else one for k, one in named.items()}
        backends = [one for one in (*given, *also.values()) if isinstance(one, Clocked)]
        begin, own = time.time(), time.thread_time()
        try:
            return call(*given, **also)
        finally:
            row = {
                "what": what,
                "begin": begin,
                "end": time.time(),
                "spent": backends[0].spent if backends else {},
                "own": time.thread_time() - own - sum(one.processor_s for one in backends),
            }
            os.write(out, json.dumps(row).encode() + b"\n")

    return wrapped


class Hook(MetaPathFinder):
    """Waits for the import of `appliance.line`."""

    def __init__(self, file: str) -> None:
        self._file = file

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See MetaPathFinder."""
        if fullname != "appliance.line":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        run: Callable[[ModuleType], None] = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            out = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            for what in ("add", "finish"):
                setattr(module, what, noted(what, getattr(module, what), out))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if FILE:
    sys.meta_path.insert(0, Hook(FILE))
