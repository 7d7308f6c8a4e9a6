"""Checkpoints: what a resume needs, outside the tree.

Rules. A checkpoint is written whole or not at all. It holds tensors and plain values only, and
names no module of this package: it still loads after a module was renamed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.errors import RunError
from training.learn.steps import Ema


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


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Ema,
    step: int,
    knobs: dict[str, Any],
) -> None:
    """What a recipe with a loop of its own keeps after `step` steps."""
    state = {
        "model": model.state_dict(),
        "ema": ema.shadow,
        "optimizer": optimizer.state_dict(),
        "step": step,
        "knobs": knobs,
    }
    save_checkpoint(path, state)


def restore_state(
    state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema
) -> int:
    """Puts back what `save_state` wrote; the number of steps that were taken."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    ema.shadow, ema.updates = state["ema"], state["step"]
    return int(state["step"])
