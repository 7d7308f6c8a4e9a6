"""What `scanside doctor` says, asked from the page of health by a person of the role service.

Rules
- The doctor is a program of its own and is run as one: a child with the settings file that this
  stage was started with, one at a time, ended after LIMIT_S. It changes nothing and may take long,
  so no request waits for it: the page shows what it said when it has ended.
- What it said is kept in memory alone, until it is asked again or the stage ends.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ConfigDict, ValidationError

from appliance.report import Record

LIMIT_S: Final = 120.0
MOST_BYTES: Final = 1 << 20


class Finding(Record):
    """One link of the chain, as `scanside.doctor/1` has it."""

    name: str
    ok: bool
    text: str
    remedy: str = ""


class _Said(Record):
    """The part of it that a page shows."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    checks: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Examination:
    """What was said last."""

    running: bool = False
    at: float | None = None
    """When it ended, seconds since 1970; None: never asked, or not ended yet."""
    findings: tuple[Finding, ...] = ()
    why: str = ""
    """Why it did not end; empty: it did."""


class Examiner:
    """Of one process; usable from several threads."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._turn = threading.Lock()
        self._last = Examination()

    @property
    def last(self) -> Examination:
        with self._turn:
            return self._last

    def ask(self) -> None:
        """Begin to examine, unless somebody has asked already."""
        with self._turn:
            if self._last.running:
                return
            self._last = Examination(running=True)
        threading.Thread(target=self._examine, name="doctor", daemon=True).start()

    def _examine(self) -> None:
        findings: tuple[Finding, ...] = ()
        why = ""
        try:
            done = subprocess.run(self._command, capture_output=True, timeout=LIMIT_S, check=False)
            findings = _Said.model_validate_json(done.stdout[:MOST_BYTES]).checks
        except subprocess.TimeoutExpired:
            why = f"it took longer than {LIMIT_S:.0f} s"
        except (OSError, ValidationError) as e:
            why = type(e).__name__
        with self._turn:
            self._last = Examination(at=time.time(), findings=findings, why=why)


def doctor(argv: Sequence[str]) -> list[str]:
    """The command that asks the doctor. argv: of this process, which may name a settings file."""
    found = [sys.executable, "-m", "appliance", "doctor", "--json"]
    for place, word in enumerate(argv):
        if word == "--config" and place + 1 < len(argv):
            return [*found, "--config", argv[place + 1]]
        if word.startswith("--config="):
            return [*found, word]
    return found
