""".ci/quick.py: which tests a change needs."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = runpy.run_path(str(ROOT / ".ci" / "quick.py"))
FILES = (
    "appliance/line.py",
    "appliance/store/spool.py",
    "appliance/store/part.py",
    "tests/test_house.py",
    "tests/appliance/conftest.py",
    "tests/appliance/test_line.py",
    "tests/appliance/test_main.py",
    "tests/appliance/store/test_spool.py",
    "tests/appliance/store/test_spool_hostile.py",
    "tests/appliance/store/test_files.py",
    "tests/rigs/scans.py",
    "tests/scenarios/test_arrival.py",
    "tests/docs/test_reliability.py",
    "systemd/scanside-work@.service",
    "tests/systemd/test_units.py",
    "README.md",
)
STORE = "tests/appliance/store"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose main holds FILES."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / STORE / "test_files.py").write_text("from rigs.scans import Scan\n")
    (tmp_path / "tests/scenarios/test_arrival.py").write_text("from rigs.scans import Scan\n")
    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *words: str) -> None:
    named = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(
        [str(shutil.which("git")), "-C", str(folder), *named, *words], check=True, timeout=60
    )


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")


CHANGES = {
    "appliance/store/spool.py": [f"{STORE}/test_spool.py", f"{STORE}/test_spool_hostile.py"],
    "appliance/store/part.py": [
        f"{STORE}/test_files.py", f"{STORE}/test_spool.py", f"{STORE}/test_spool_hostile.py",
    ],
    "appliance/line.py": [],
    "tests/rigs/scans.py": [f"{STORE}/test_files.py"],
    "tests/scenarios/test_arrival.py": ["tests/scenarios/test_arrival.py"],
    "tests/appliance/conftest.py": ["tests/appliance/test_main.py"],
    "systemd/scanside-work@.service": ["tests/systemd/test_units.py"],
    "README.md": ["tests/appliance/test_main.py", "tests/docs"],
}  # fmt: skip


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_needs_the_tests_of_its_mirror_and_those_that_always_run(
    path: str, checkout: Path
) -> None:
    (checkout / path).write_text("changed\n")
    assert QUICK["changed"](checkout) == [path]
    wanted = {*CHANGES[path], "tests/test_house.py", "tests/appliance/test_line.py"}
    assert QUICK["tests_of"]([path], checkout) == sorted(wanted)


def test_on_a_branch_what_is_committed_since_main_and_what_git_does_not_know_count(
    checkout: Path,
) -> None:
    git(checkout, "checkout", "-q", "-b", "branch")
    (checkout / "appliance/line.py").write_text("committed\n")
    commit(checkout)
    (checkout / "appliance/store/new.py").write_text("unknown\n")
    assert QUICK["changed"](checkout) == ["appliance/line.py", "appliance/store/new.py"]


def test_every_test_that_always_runs_and_every_place_apart_is_there() -> None:
    for path in (*QUICK["ALWAYS"], *QUICK["APART"], *QUICK["DOCUMENTS"]):
        assert (ROOT / path).exists(), path
