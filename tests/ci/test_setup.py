""".ci/setup: what it tells somebody to type who may not install packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[2] / ".ci" / "setup"
TOOLS = ("sh", "dirname", "env")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs, the only ones on the path: no mosquitto, no sudo, and no root."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in TOOLS:
        (programs / name).symlink_to(str(shutil.which(name)))
    for name, lines in {
        "id": "echo 1000",
        "apt-get": f'echo "$0 $*" >> {tmp_path}/installed',
        "python3": f'exec {sys.executable} "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{lines}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "checkout" / ".ci").mkdir(parents=True)
    copy = tmp_path / "checkout" / ".ci" / "setup"
    copy.write_text(SETUP.read_text().replace("/usr/sbin/mosquitto", "/nowhere/mosquitto"))
    copy.chmod(0o755)
    return tmp_path


def test_without_root_the_printed_command_can_be_typed_as_it_stands(machine: Path) -> None:
    env = {"PATH": str(machine / "bin")}
    done = subprocess.run(
        [machine / "checkout" / ".ci" / "setup", "demo"],
        capture_output=True, text=True, env=env, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (typed,) = (line.strip() for line in done.stderr.splitlines() if "sudo " in line)
    assert not (machine / "installed").exists(), "nothing was tried"
    (machine / "bin" / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (machine / "bin" / "sudo").chmod(0o755)
    subprocess.run(["/bin/sh", "-c", typed], env=env, timeout=60, check=True)
    update, install = (machine / "installed").read_text().splitlines()
    assert update.endswith("apt-get update")
    assert install.endswith("install -y --no-install-recommends mosquitto mosquitto-clients")


@pytest.mark.parametrize("toolkit", ["none", "on the path", "in CUDA_HOME"])
def test_a_release_gets_nvcc_from_wheels_only_where_there_is_none(
    machine: Path, toolkit: str
) -> None:
    checkout, programs = machine / "checkout", machine / "bin"
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >> {machine}/asked\n')
    python.chmod(0o755)
    (checkout / "pyproject.toml").touch()
    for name in ("touch", "rm"):
        (programs / name).symlink_to(str(shutil.which(name)))
    cuda = machine / "cuda" / "bin"
    cuda.mkdir(parents=True)
    for folder in {"on the path": [programs], "in CUDA_HOME": [cuda]}.get(toolkit, []):
        (folder / "nvcc").touch(mode=0o755)
    (programs / "g++").touch(mode=0o755)
    subprocess.run(
        [checkout / ".ci" / "setup", "release"],
        env={"PATH": str(programs), "CUDA_HOME": str(cuda.parent)}, timeout=60, check=True,
    )  # fmt: skip
    (line,) = (machine / "asked").read_text().splitlines()
    wanted = "openvino,engine,release" + (",kernels" if toolkit == "none" else "")
    assert line.endswith(f"-e .[{wanted}]")
    assert not (machine / "installed").exists()  # no broker, no dcmtk
