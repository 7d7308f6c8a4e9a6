"""Where runs are kept, and the one line where nothing can be written there."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.errors import RunError  # noqa: E402
from training.learn.checkpoint import save_checkpoint  # noqa: E402
from training.read.folders import work_folder  # noqa: E402


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path / "file"))
    with pytest.raises(RunError, match="name another folder in SCANSIDE_TRAIN"):
        work_folder("run")
    with pytest.raises(RunError, match="cannot be written") as ended:
        save_checkpoint(tmp_path / "file" / "last.pt", {"step": 1})
    assert "\n" not in str(ended.value)
    assert ended.value.code.startswith("error: ")
