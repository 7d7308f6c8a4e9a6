"""Checkpoints: what a resume needs, outside the tree.

Rules. A checkpoint is written whole or not at all. It holds tensors and plain values only, and
names no module of this package: it still loads after a module was renamed. One of another recipe or
network, or of other knobs, is refused with one line that names what differs.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import RunError

MAY_CHANGE = {"name", "threads", "steps", "save_every", "judge_every"}
"""Knobs that a resumed run may give otherwise: a longer one goes on where the shorter ended."""


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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as e:
        raise RunError(f"{path}: {e.strerror}: has this run been trained?") from e
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as e:
        raise RunError(f"{path}: no whole checkpoint: remove it to start afresh") from e
    if not isinstance(state, dict):
        raise RunError(f"{path}: no checkpoint of a run: remove it to start afresh")
    return state


def refuse_another(
    path: Path, state: Mapping[str, Any], recipe: str, knobs: Mapping[str, Any]
) -> None:
    """RunError where a checkpoint is of another recipe or of knobs that change what is learned; it
    names each of them."""
    made_by = state.get("recipe", "an older recipe")
    if made_by != recipe:
        raise RunError(f"{path} was made by {made_by}, not by {recipe}: give another --name")
    theirs = state.get("knobs", {})
    changed = [
        _difference(name, theirs, knobs)
        for name in dict.fromkeys([*theirs, *knobs])
        if name not in MAY_CHANGE
        and (name not in theirs or name not in knobs or theirs[name] != knobs[name])
    ]
    if changed:
        raise RunError(f"{path} was made {', '.join(changed)}: give another --name")


def _difference(name: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """How one knob of a checkpoint differs from this run's."""
    if name not in theirs:
        return f"without --{name}, now {ours[name]}"
    now = f"not {ours[name]}" if name in ours else "which is no knob any more"
    return f"with --{name} {theirs[name]}, {now}"


def fill(
    model: nn.Module, weights: Mapping[str, Tensor], path: Path, only_look: bool = False
) -> None:
    """Puts a checkpoint's weights into `model`; with `only_look`, sees only whether they would fit.

    RunError where they are another network's: it names the first tensor that differs.
    """
    own = model.state_dict()
    for name in dict.fromkeys([*own, *weights]):
        theirs, ours = (_shape(each.get(name)) for each in (weights, own))
        if theirs != ours:
            raise RunError(
                f"{path} is of another network: {name} is {theirs} there and {ours} here: give "
                "another --name"
            )
    if not only_look:
        model.load_state_dict(weights)


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "one number"
