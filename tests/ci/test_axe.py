""".ci/axe: what judges the pages is the pinned package, or nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

FETCH = Path(__file__).resolve().parents[2] / ".ci" / "axe"
NPM = """#!/bin/sh
echo "$*" >> {folder}/asked
while [ "$1" != --pack-destination ]; do shift; done
echo another > "$2/axe-core-4.14.1.tgz"
"""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """An environment with a cache of its own and an npm that brings another package."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(NPM.format(folder=tmp_path))
    (tmp_path / "bin" / "npm").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": "/nowhere"}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FETCH, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_package_that_is_not_the_pinned_one_is_refused_and_leaves_nothing(
    machine: dict[str, str], tmp_path: Path
) -> None:
    done = run(machine)
    assert done.returncode == 1
    assert "is not the package that is pinned" in done.stderr
    assert list((tmp_path / "cache" / "scanside").iterdir()) == []


def test_it_says_where_it_would_be_and_fetches_it_once(
    machine: dict[str, str], tmp_path: Path
) -> None:
    said = run(machine, "--where")
    folder = Path(said.stdout.strip())
    assert folder == tmp_path / "cache" / "scanside" / "axe-4.14.1"
    assert not (tmp_path / "asked").exists(), "it only says so"
    folder.mkdir(parents=True)
    assert run(machine).stdout == said.stdout
    assert not (tmp_path / "asked").exists(), "it is there"


def test_in_a_cache_folder_that_is_not_named_it_lies_below_the_home() -> None:
    done = run({"PATH": os.environ["PATH"], "HOME": "/somebody"}, "--where")
    assert done.stdout == "/somebody/.cache/scanside/axe-4.14.1\n"
