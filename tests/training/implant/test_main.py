"""The command that writes a CT with implants."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.errors import command
from training.implant.__main__ import main
from training.read.datasets import read_dicom
from training.read.volume import F32, Volume


def phantom() -> F32:
    """Two lungs in a body, 2 mm voxels."""
    hu = np.full((60, 100, 100), -1000, np.float32)
    z, y, x = np.ogrid[:60, :100, :100]
    hu[np.broadcast_to(((y - 50) / 40) ** 2 + ((x - 50) / 46) ** 2 < 1, hu.shape)] = 40
    for side in (28, 72):
        lung = ((z - 28) / 24) ** 2 + ((y - 50) / 26) ** 2 + ((x - side) / 15) ** 2 < 1
        hu[lung] = -850
    return hu + np.rint(np.random.default_rng(0).normal(0, 8, hu.shape)).astype(np.float32)


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    monkeypatch.setattr(sys, "argv", ["implant", *map(str, words)])
    try:
        command(main)
    except SystemExit as ended:
        return str(ended.code)
    return ""


@pytest.mark.long
def test_the_command_makes_a_series_that_evaluation_can_read(
    lidc: Any, tmp_path: Path, write_ct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = write_ct(tmp_path / "chest", phantom(), (2.0, 2.0, 2.0))
    database, out = lidc(tmp_path / "lidc.sqlite"), tmp_path / "out"
    words = ["--host", host, "--seed", 1, "--each", 1, "--out", out, "--lidc", database]
    assert run(monkeypatch, *words) == ""
    (made,) = out.iterdir()
    assert made.name == "chest-seed1"
    assert sorted(p.suffix for p in made.iterdir() if p.is_file()) == [".dcm"] * 60 + [".json"]
    volume: Volume = read_dicom(made)
    rows = json.loads((made / "truth.json").read_text())
    assert rows
    for row in rows:
        z, y, x = np.rint(volume.zyx(row["center_lps_mm"])).astype(int)
        assert (28 - z) ** 2 / 24**2 + (50 - y) ** 2 / 26**2 < 1.2
        assert min(abs(x - 28), abs(x - 72)) <= 17
    before = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
    assert "already there" in run(monkeypatch, *words)
    assert {p: p.read_bytes() for p in made.rglob("*") if p.is_file()} == before


def test_what_cannot_be_used_is_one_line_and_leaves_nothing(
    lidc: Any, tmp_path: Path, write_ct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, out = lidc(tmp_path / "lidc.sqlite"), tmp_path / "out"
    rest = ["--seed", 1, "--out", out, "--lidc", database]
    assert "gone: No such file" in run(monkeypatch, "--host", tmp_path / "gone", *rest)
    solid = write_ct(tmp_path / "solid", np.full((9, 30, 30), 40.0) + np.arange(9)[:, None, None])
    assert "no lungs were found" in run(monkeypatch, "--host", solid, *rest)
    half = write_ct(tmp_path / "half", phantom(), (2.0, 2.0, 2.0))
    cut = half / "007.dcm"
    cut.write_bytes(cut.read_bytes()[:-100])
    said = run(monkeypatch, "--host", half, *rest)
    assert said.startswith(f"error: {cut}: ")
    assert "\n" not in said
    assert not out.exists()
