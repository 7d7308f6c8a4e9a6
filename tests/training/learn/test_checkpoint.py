"""Checkpoints: whole or not at all, and one line where one is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")


from training.errors import RunError  # noqa: E402
from training.learn.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402


def test_a_checkpoint_comes_back_as_it_went(tmp_path: Path) -> None:
    path = tmp_path / "run" / "last.pt"
    save_checkpoint(path, {"model": {"w": torch.ones(2)}, "step": 3})
    assert load_checkpoint(path)["step"] == 3
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_a_checkpoint_that_fails_to_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})
    (tmp_path / "last.new").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path)["step"] == 1
