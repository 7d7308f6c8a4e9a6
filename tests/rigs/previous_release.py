"""The release before this one, as a wheel that is built from git."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

COMMIT = "74c0759"
"""The release that an appliance goes back to; the first one whose journal says who may use it."""
REPOSITORY = Path(__file__).parents[2]


def ran(command: list[str], packages: Path | None = None) -> str:
    """Its output. packages: what is imported before what is installed; None: as a user's shell."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SCANSIDE_", "PYTHON"))}
    if packages is not None:
        environment["PYTHONPATH"] = f"{packages}{os.pathsep}{packages / 'tests'}"
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(folder: Path) -> Path:
    """The Python of an environment with that release, which borrows the libraries of this one."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed: the release before cannot be built")
    tree, source = folder / "tree.tar", folder / "source"
    made = subprocess.run(
        [git, "-C", str(REPOSITORY), "archive", "-o", str(tree), COMMIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"commit {COMMIT} cannot be had from git: {made.stderr.strip()}")
    with tarfile.open(tree) as archive:
        archive.extractall(source, filter="data")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    build = ["wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    ran([*pip, *build, *offline])
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    ran([pip[0], "-m", "pip", "--python", str(python), *pip[3:], "install", *offline, str(wheel)])
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # a path alone: what is installed there for editing is not followed
    (packages / "libraries.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    shutil.rmtree(source)
    return python
