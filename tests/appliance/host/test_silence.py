"""The inference libraries send nothing to their makers and write nothing into the user's home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rigs.chests import Dicom
from rigs.device import Device

REPOSITORY = Path(__file__).resolve().parents[3]
DIALS = ("socket(AF_INET", "sin_port=htons(53)", "sin_port=htons(443)")

LIBRARIES = """
import importlib.util
from appliance.host.silence import silence
silence()
silence()
import onnxruntime
if importlib.util.find_spec("openvino"):
    import openvino
"""


def run(home: Path, *arguments: str, trace: Path | None = None) -> None:
    """Python in a process of its own with an empty home, watched by strace where asked to."""
    unset = ("CI", "XDG_", "ORT_", "SCANSIDE_", "GITHUB_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
    env |= {"HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    watch = ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(trace)] if trace else []
    subprocess.run(
        [*watch, sys.executable, *arguments],
        env=env, cwd=home, check=True, capture_output=True, timeout=120,
    )  # fmt: skip


def written(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def test_importing_them_writes_nothing_into_the_home(tmp_path: Path) -> None:
    run(tmp_path, "-c", LIBRARIES)
    assert written(tmp_path) == []


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_folder_is_analysed_without_a_word_to_the_network(
    site: Device, dicom: Dicom, tmp_path: Path, tiny_bundle: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    folder = dicom.write(dicom.chest(), tmp_path / "in")
    config = site.toml()
    run(
        home, "-m", "appliance", "analyze", str(folder), "--bundle", str(tiny_bundle),
        "--config", str(config), trace=tmp_path / "trace",
    )  # fmt: skip
    said = (tmp_path / "trace").read_text().splitlines()
    assert [line for line in said if any(word in line for word in DIALS)] == []
    assert written(home) == []
