"""The folder control/ of `scanside run`: what is asked of it, and when each is answered.

The words are those of appliance/update/units.py. Rules
- A request is taken by removing its file, so none is done twice. One that makes no sense is
  answered with `failed`, and nothing else is done.
- An answer may be due much later: a start is answered when the child said READY, ended or had its
  time; an end when it has ended.
- Who asked may be gone meanwhile: an answer that nobody took for an hour is removed.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.run.child import Child
from appliance.update.units import PLAIN, REFUSED, start_s

log = logging.getLogger("scanside.run")

LINE: Final = re.compile(r"(start|begin|stop|kill|restart|state) ([a-z]{1,32}) ([0-9]{1,9})\n?")
LONGEST: Final = 64
KEPT_S: Final = 3600.0

Due = Callable[[float], "str | None"]
"""tick -> the answer, once there is one."""


@dataclass
class Control:
    """The requests, and who waits for an answer. `children` is the parent's list, by name and slot;
    `add` gives it one more."""

    folder: Path
    children: dict[tuple[str, int], Child]
    known: frozenset[str]
    """The stages that these settings ask for."""
    add: Callable[[str, int], Child]

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o700)
        self._waiting: dict[str, Due] = {}

    def turn(self, now: float) -> None:
        """Take what is asked, and answer what is due."""
        for path in sorted(self.folder.glob("*.req")):
            with suppress(OSError):
                with path.open(encoding="ascii", errors="replace") as file:
                    line = file.read(LONGEST)
                path.unlink()
                log.info("asked: %s", line.strip())
                self._waiting[path.stem] = self._asked(line, now)
        for ident, due in list(self._waiting.items()):
            if (answer := due(now)) is not None:
                del self._waiting[ident]
                self._answer(ident, answer)
        self._sweep()

    def _asked(self, line: str, now: float) -> Due:
        found = LINE.fullmatch(line)
        if found is None:
            return _at_once(f"{REFUSED} this is no request")
        verb, stage, number = found[1], found[2], int(found[3])
        if stage not in self.known:
            # as systemd, whose units for what nobody configured are started and do nothing
            return _at_once("ok absent" if verb == "state" else "ok")
        key = (stage, 0 if stage in PLAIN else number)
        child = self.children.get(key)
        if verb in {"start", "begin"}:
            if child is None:
                child = self.add(*key)
            child.want()
            return _at_once("ok") if verb == "begin" else _serves(child, now)
        if child is None:
            if verb == "restart":
                return _serves(self.add(*key), now)
            return _at_once("ok absent" if verb == "state" else "ok")
        if verb == "state":
            return _at_once(f"ok {child.state}")
        if verb == "kill":
            child.kill()
            return _at_once("ok")
        child.stop(now)
        if verb == "restart":
            child.want()
            return _serves(child, now)
        return _has_ended(child)

    def _answer(self, ident: str, answer: str) -> None:
        temp = self.folder / f".{ident}.tmp"
        with suppress(OSError):
            temp.write_text(f"{answer}\n", encoding="utf-8")
            temp.replace(self.folder / f"{ident}.rep")

    def _sweep(self) -> None:
        for path in self.folder.glob("*.rep"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > KEPT_S:
                    path.unlink()


def _at_once(answer: str) -> Due:
    return lambda _now: answer


def _serves(child: Child, asked: float) -> Due:
    ends = child.ends

    def due(now: float) -> str | None:
        if not child.wanted:
            return f"{REFUSED} it was stopped meanwhile"
        if child.ready and child.kill_at is None:
            return "ok"
        if child.ends > ends:
            return f"{REFUSED} it ended before it said READY"
        if now - asked > start_s(child.name):
            return f"{REFUSED} it did not say READY within {start_s(child.name):.0f} s"
        return None

    return due


def _has_ended(child: Child) -> Due:
    return lambda _now: "ok" if child.gone or child.kill_at is None else None
