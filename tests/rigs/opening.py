"""A bundle that is held while it is being opened, so that a test decides what comes first."""

from __future__ import annotations

from threading import Event, current_thread, main_thread
from typing import Any

import pytest

from appliance.runtime import bundles, trial

WAIT_S = 120.0


class Held:
    """Whatever a thread beside the work opens waits until `go` is set: its golden cases, which can
    be given up, and its networks, which cannot."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = Event(), Event()
        self.goldens: list[str] = []
        """Versions of the bundles whose golden cases ran beside the work."""
        self.networks = 0
        """How many bundles were opened beside the work."""
        self._run, self._open = trial.run, bundles.open_backend
        monkeypatch.setattr(trial, "run", self._held_run)
        monkeypatch.setattr(bundles, "open_backend", self._held_open)

    def again(self) -> None:
        """Hold the next one."""
        self.begun.clear()
        self.go.clear()

    def _held_run(self, *what: Any, alive: Any, **how: Any) -> Any:
        if current_thread() is not main_thread():
            self.goldens.append(what[3].manifest.version)
            self.begun.set()
            while not self.go.wait(0.01):
                alive()
        return self._run(*what, alive=alive, **how)

    def _held_open(self, *what: Any, **how: Any) -> Any:
        if current_thread() is not main_thread():
            self.begun.set()
            assert self.go.wait(WAIT_S)
            self.networks += 1
        return self._open(*what, **how)
