""".ci/ohif and .ci/axe: what the tests fetch is the pinned package, or nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[2] / ".ci"
FETCHED = {  # program -> what npm packs, the folder that it lies in
    "ohif": ("ohif-app-3.12.10.tgz", "ohif-3.12.10"),
    "axe": ("axe-core-4.14.1.tgz", "axe-4.14.1"),
}
NPM = """#!/bin/sh
echo "$*" >> {folder}/asked
while [ "$1" != --pack-destination ]; do shift; done
echo another > "$2/{packed}"
"""


@pytest.fixture(params=FETCHED)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def machine(tmp_path: Path, program: str) -> dict[str, str]:
    """An environment with a cache of its own and an npm that brings another package."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(NPM.format(folder=tmp_path, packed=FETCHED[program][0]))
    (tmp_path / "bin" / "npm").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": "/nowhere"}


def run(
    program: str, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CI / program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_package_that_is_not_the_pinned_one_is_refused_and_leaves_nothing(
    program: str, machine: dict[str, str], tmp_path: Path
) -> None:
    done = run(program, machine)
    assert done.returncode == 1
    assert "is not the package that is pinned" in done.stderr
    assert list((tmp_path / "cache" / "scanside").iterdir()) == []


def test_it_says_where_it_would_be_and_fetches_it_once(
    program: str, machine: dict[str, str], tmp_path: Path
) -> None:
    said = run(program, machine, "--where")
    folder = Path(said.stdout.strip())
    assert folder == tmp_path / "cache" / "scanside" / FETCHED[program][1]
    assert not (tmp_path / "asked").exists(), "it only says so"
    folder.mkdir(parents=True)
    assert run(program, machine).stdout == said.stdout
    assert not (tmp_path / "asked").exists(), "it is there"


def test_in_a_cache_folder_that_is_not_named_it_lies_below_the_home(program: str) -> None:
    done = run(program, {"PATH": os.environ["PATH"], "HOME": "/somebody"}, "--where")
    assert done.stdout == f"/somebody/.cache/scanside/{FETCHED[program][1]}\n"
