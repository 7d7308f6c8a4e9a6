"""What every recipe needs around its loop: knobs, seeds, checkpoints, one progress line.

Rules.
1. A knob is a field of a frozen dataclass. An override names a known field and a value of its type;
   anything else is one line on stderr and exit code 2. Nothing is evaluated.
2. A checkpoint lies outside the tree, is written whole or not at all, and holds what a resume
   needs.
3. The same knobs and seed give the same data order on the same machine and thread count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import pickle
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

K = TypeVar("K")


class RunError(SystemExit):
    """A training that cannot go on: one line on stderr and exit code 1, no traceback."""

    def __init__(self, text: str) -> None:
        """`text` says what is wrong, without "error:"."""
        super().__init__(f"error: {text}")


class KnobError(ValueError):
    """An override names no knob, lacks its value, or has a value of the wrong type."""


def _parse(name: str, text: str, current: object) -> object:
    """Text as a value of the type of `current` (bool, int, float or str)."""
    if isinstance(current, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise KnobError(f"--{name} wants true or false, not {text!r}")
    if isinstance(current, int):
        try:
            return int(text)
        except ValueError:
            raise KnobError(f"--{name} wants a whole number, not {text!r}") from None
    if isinstance(current, float):
        try:
            return float(text)
        except ValueError:
            raise KnobError(f"--{name} wants a number, not {text!r}") from None
    return text


def override(knobs: K, argv: Sequence[str]) -> K:
    """`knobs` with `--name value` or `--name=value` pairs applied; KnobError says what is wrong."""
    assert dataclasses.is_dataclass(knobs)
    assert not isinstance(knobs, type)
    known = {f.name: getattr(knobs, f.name) for f in dataclasses.fields(knobs)}
    changes: dict[str, Any] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise KnobError(f"expected --knob value, got {word!r}")
        name, has_value, text = word[2:].partition("=")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean --{near[0]}?" if near else "known: " + ", ".join(sorted(known))
            raise KnobError(f"unknown knob --{name}; {hint}")
        if not has_value:
            if not words:
                raise KnobError(f"--{name} has no value")
            text = words.pop(0)
        changes[name] = _parse(name, text, known[name])
    return dataclasses.replace(knobs, **changes)


def knobs_from_command_line(knobs: K) -> K:
    """`override` with sys.argv; a wrong one ends the program with one line and exit code 2."""
    try:
        return override(knobs, sys.argv[1:])
    except KnobError as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        raise SystemExit(2) from None


def work_folder(name: str) -> Path:
    """Folder for checkpoints and caches outside the tree: $SCANSIDE_TRAIN or ~/.cache/scanside-
    train. RunError where nothing can be written there."""
    root = os.environ.get("SCANSIDE_TRAIN")
    folder = (Path(root) if root else Path.home() / ".cache" / "scanside-train") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise RunError(f"{folder}: {e.strerror}; name another folder in SCANSIDE_TRAIN") from e
    return folder


def shared_folder() -> Path:
    """Folder of the shared data: $SCANSIDE_SHARED or `../shared` beside the repository."""
    named = os.environ.get("SCANSIDE_SHARED")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared"


def seed_all(seed: int, threads: int) -> np.random.Generator:
    """Seeds python, numpy and torch, pins the thread count; returns the data's generator."""
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    return np.random.default_rng(seed)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` beside `path` and renames it, so a reader sees the old or the new file.

    RunError where that cannot be; the old file stays.
    """
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, new)
        os.replace(new, path)
    except (OSError, RuntimeError) as e:  # torch says RuntimeError of a full disk
        with contextlib.suppress(OSError):
            new.unlink()
        raise RunError(f"{path}: cannot be written: {e}".splitlines()[0]) from e


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's state: tensors and plain values only (no pickled code).

    RunError where the file is missing, cut short or no checkpoint.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as e:
        raise RunError(f"{path}: {e.strerror}: has this run been trained?") from e
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as e:
        raise RunError(f"{path}: no whole checkpoint: remove it to start afresh") from e
    return state


def finite_or_stop(loss: float, step: int, checkpoint: Path) -> None:
    """RunError where a loss is NaN or infinite; the last good checkpoint stays as it is."""
    if not math.isfinite(loss):
        kept = f"{checkpoint} is as it was" if checkpoint.exists() else "nothing was written yet"
        raise RunError(f"the loss of step {step + 1} is {loss}; {kept}: resume with a lower rate")


class Ema:
    """Exponential moving average of a model's parameters and buffers; its decay warms up."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        """Starts from the model's present state."""
        self.decay = decay
        self.updates = 0
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def update(self, model: torch.nn.Module) -> None:
        """One step: shadow = d * shadow + (1 - d) * model, d growing to `decay`."""
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for k, v in model.state_dict().items():
            if v.dtype.is_floating_point:
                self.shadow[k].lerp_(v.detach(), 1 - d)
            else:
                self.shadow[k].copy_(v)


class Progress:
    """One line every `every` seconds: step, loss, rate, time left."""

    def __init__(self, steps: int, start: int = 0, every: float = 10.0) -> None:
        """`start` is the first step of this run (after a resume)."""
        self.steps, self.start, self.every = steps, start, every
        self.t0 = self.last = time.monotonic()
        self.loss = float("nan")

    def __call__(self, step: int, loss: float, extra: str = "") -> None:
        """Call once a step; prints when it is time."""
        self.loss = loss if self.loss != self.loss else 0.95 * self.loss + 0.05 * loss
        now = time.monotonic()
        if now - self.last < self.every and step + 1 < self.steps:
            return
        self.last = now
        done = step + 1 - self.start
        rate = done / max(now - self.t0, 1e-9)
        left = (self.steps - step - 1) / max(rate, 1e-9)
        print(
            f"step {step + 1}/{self.steps} loss {self.loss:.4f} {rate:.2f} steps/s "
            f"{left:.0f} s left {extra}",
            flush=True,
        )


def cosine_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Learning rate: linear warm-up to `peak`, then a cosine to 1 % of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    t = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * min(t, 1.0)))))


class Plateau:
    """Counts how often a figure stopped rising: each `patience` judgements without gain are a
    drop."""

    def __init__(self, patience: int) -> None:
        """Starts with nothing seen."""
        self.patience, self.best = patience, -math.inf
        self.waited = self.drops = 0

    def see(self, figure: float) -> None:
        """One judgement; more is better."""
        if figure > self.best:
            self.best, self.waited = figure, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited, self.drops = 0, self.drops + 1
