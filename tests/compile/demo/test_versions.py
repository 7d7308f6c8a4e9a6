"""Later versions of a wheel, whole or broken on purpose: pip takes them."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from compile.demo import versions
from compile.wheel import ROOT, packed

pytest.importorskip(
    "hatchling", reason="hatchling is not installed (pip install 'scanside[release]')"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    made = packed(ROOT, tmp_path_factory.mktemp("dist"))
    return made.name, made.read_bytes()


def installed(folder: Path, name: str, data: bytes) -> Path:
    """Where pip put it."""
    (folder / name).write_bytes(data)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(folder / "site"), str(folder / name)], check=True)
    return folder / "site"


@pytest.mark.long
def test_pip_installs_it_under_its_new_version(tmp_path: Path, wheel: tuple[str, bytes]) -> None:
    name, data = versions.of(*wheel, "0.9.1")
    assert name == "scanside-0.9.1-py3-none-any.whl"
    site = installed(tmp_path, name, data)
    said = subprocess.run(
        [sys.executable, "-m", "appliance", "--version"],
        cwd=site, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "scanside 0.9.1\n"


def test_the_same_version_has_the_same_bytes_and_another_one_others(
    wheel: tuple[str, bytes],
) -> None:
    assert versions.of(*wheel, "0.9.1") == versions.of(*wheel, "0.9.1")
    assert versions.of(*wheel, "0.9.1")[1] != versions.of(*wheel, "0.9.2")[1]


@pytest.mark.parametrize("fault", versions.FAULTS)
def test_a_broken_one_differs_in_one_file_alone(wheel: tuple[str, bytes], fault: str) -> None:
    def files(data: bytes) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(data)) as held:
            return {one: held.read(one) for one in held.namelist() if "RECORD" not in one}

    good, bad = (files(versions.of(*wheel, "0.9.1", one)[1]) for one in (None, fault))
    assert [path for path in good if good[path] != bad[path]] == [versions.FAULTS[fault][0]]
