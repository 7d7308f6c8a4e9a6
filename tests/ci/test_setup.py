""".ci/setup: what it tells somebody to type who may not install packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
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


@pytest.mark.parametrize(("argument", "asked"), [("", False), ("--pacs", True)])
def test_the_demo_gets_orthanc_only_for_pacs_and_its_service_is_ended(
    machine: Path, argument: str, asked: bool
) -> None:
    setup = machine / "checkout" / ".ci" / "setup"
    elsewhere = setup.read_text().replace("/usr/s", "/nowhere/s")
    setup.write_text(elsewhere.replace("\nlocks=", "\nexit 0\nlocks="))
    for name, lines in {
        "id": "echo 0",
        "service": f'echo "$0 $*" >> {machine}/installed',
        "update-rc.d": f'echo "$0 $*" >> {machine}/installed',
    }.items():
        (machine / "bin" / name).write_text(f"#!/bin/sh\n{lines}\n")
        (machine / "bin" / name).chmod(0o755)
    subprocess.run(
        [setup, "demo", *argument.split()],
        env={"PATH": str(machine / "bin")},
        timeout=60,
        check=True,
    )
    _, install, *after = (machine / "installed").read_text().splitlines()
    assert (" orthanc orthanc-dicomweb" in install) is asked
    ended = ["service orthanc stop", "update-rc.d orthanc disable"]
    assert [line.rpartition("/")[2] for line in after] == (ended if asked else [])


@pytest.mark.parametrize(
    ("want", "locks"),
    {"demo": "device build", "test": "check", "train": "check", "bench": "check bench"}.items(),
)
def test_what_is_installed_is_locked_by_hash_again_when_a_lock_is_newer(
    machine: Path, want: str, locks: str
) -> None:
    checkout, programs = machine / "checkout", machine / "bin"
    setup = checkout / ".ci" / "setup"
    setup.write_text(re.sub(r"^\tneed .*", "\t:", setup.read_text(), flags=re.M))
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >> {machine}/asked\n')
    python.chmod(0o755)
    (programs / "touch").symlink_to(str(shutil.which("touch")))
    (checkout / "locks").mkdir()
    old = time.time() - 60
    for path in ("pyproject.toml", "locks/check.txt", "locks/device.txt"):
        (checkout / path).touch()
        os.utime(checkout / path, (old, old))

    def asked() -> list[str]:
        (machine / "asked").unlink(missing_ok=True)
        subprocess.run([setup, want], env={"PATH": str(programs)}, timeout=60, check=True)
        seen = machine / "asked"
        return seen.read_text().splitlines() if seen.exists() else []

    (hashed,) = (line for line in asked() if "--require-hashes" in line)
    assert hashed.endswith(" ".join(f"-r locks/{name}.txt" for name in locks.split()))
    assert "--no-deps" in hashed
    assert asked() == [], "nothing is new"
    new = time.time() + 60
    os.utime(checkout / "locks" / "device.txt", (new, new))
    assert any("--require-hashes" in line for line in asked())


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
    (checkout / "locks").mkdir()
    (checkout / "locks" / "check.txt").touch()
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
    locked, ours, *others = (machine / "asked").read_text().splitlines()
    assert locked.endswith("--no-deps --require-hashes -r locks/check.txt")
    assert ours.endswith("--no-deps --no-build-isolation -e .")
    assert [line.rpartition(" ")[2] for line in others] == [".[kernels]"] * (toolkit == "none")
    assert not (machine / "installed").exists()  # no broker, no dcmtk
