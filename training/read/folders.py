"""Where data come from and where runs are kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from training.errors import RunError


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
    return Path(named) if named else Path(__file__).resolve().parents[3] / "shared"
