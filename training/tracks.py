"""Commands side by side: the steps of a task, each a process of its own.

Rules.
1. A task is a list of stages, a stage a list of tracks that do not need one another, a track a list
   of commands, each a recipe of its own. Tracks run side by side, as many as there are cores: a
   recipe learns on one core, and two networks on a core each take less than one after the other on
   both. Every line says which track it is of.
2. The first command that fails ends the run, and those beside it. Recipes resume from their
   checkpoints, so a second call goes on where the first ended and does nothing where all is done
   (remove the training work folder to start afresh).
3. A recipe uses the threads that its knobs say; without OMP_NUM_THREADS the linear algebra under
   numpy would start as many as there are cores for each small product, and spend most of them
   waiting.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

Command = list[str]
"""A module and its arguments."""
Stage = Mapping[str, list[Command]]
"""Tracks by name, the longest first."""


@dataclass(frozen=True)
class Row:
    """A row of a study (`training.study`): commands, and the JSON that the last of them writes."""

    name: str
    commands: tuple[Command, ...]
    figures: Path
    shown: Mapping[str, tuple[str, ...]]
    """What is shown of the figures: a name, and the keys that lead to its value."""


class Failed(Exception):
    """A command's exit status, beside which the others were ended."""


class _Runner:
    """Tracks side by side."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[str]] = set()
        self.lock, self.ended = threading.Lock(), False

    def say(self, track: str, line: str) -> None:
        """One line on stdout, whole."""
        with self.lock:
            print(f"{track}: {line}", flush=True)

    def follow(self, track: str, commands: Iterable[Command]) -> None:
        """The commands of a track in their order; Failed at the first that fails."""
        for words in commands:
            began = time.monotonic()
            with self.lock:
                if self.ended:
                    return
                typed = " ".join(w or "''" for w in words)
                print(f"{track}: $ python -m {typed}", flush=True)
                child = subprocess.Popen(
                    [sys.executable, "-m", *words],
                    env={"OMP_NUM_THREADS": "1", **os.environ},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                )
                self.running.add(child)
            assert child.stdout is not None
            with child.stdout:
                for line in child.stdout:
                    self.say(track, line.rstrip())
            code = child.wait()
            with self.lock:
                self.running.discard(child)
                if self.ended:
                    return
            if code:
                raise Failed(f"{track}: {words[0]} ended with {code}")
            self.say(track, f"{words[0]}: {time.monotonic() - began:.0f} s")

    def end(self) -> None:
        """Ends what runs; their checkpoints stay."""
        with self.lock:
            self.ended = True
            for child in self.running:
                child.terminate()


def run_stages(stages: Sequence[Stage], jobs: int) -> None:
    """Every stage after the one before; Failed, with nothing left running."""
    for stage in stages:
        runner = _Runner()
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            tracks = [pool.submit(runner.follow, name, list(c)) for name, c in stage.items()]
            try:
                done, _ = wait(tracks, return_when=FIRST_EXCEPTION)
                if any(track.exception() for track in done):
                    runner.end()
            except KeyboardInterrupt:
                runner.end()
                raise Failed("stopped; the same command goes on from the checkpoints") from None
        for track in tracks:
            track.result()
