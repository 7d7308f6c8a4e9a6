"""The house itself: sizes of its files, its folders, and that tests mirror what they test.

The order of the folders is a contract of import-linter in pyproject.toml (`make check`); here
stands what it does not see.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
APPLIANCE = ROOT / "appliance"
SOURCES = ("appliance", "compile", "training", "bench")
MIRRORED = (*SOURCES, "jetson")
MOST_LINES, MOST_LINES_OF_A_TEST, MOST_ROOT_MODULES = 450, 700, 10
NAMELESS = {"util", "utils", "common", "helpers", "base", "manager", "misc"}


def python(*folders: str) -> list[Path]:
    """Python files below these folders, as paths from the root."""
    return sorted(p.relative_to(ROOT) for f in folders for p in (ROOT / f).rglob("*.py"))


def lines(path: Path) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def test_no_file_is_longer_than_one_reading_holds() -> None:
    most = {**dict.fromkeys(python("appliance", "compile", "training"), MOST_LINES)}
    most |= dict.fromkeys(python("tests"), MOST_LINES_OF_A_TEST)
    long = {str(path): lines(path) for path, limit in most.items() if lines(path) > limit}
    assert not long, "Move one coherent part into a module of its own."


def test_few_modules_stand_at_the_root_of_the_appliance() -> None:
    modules = [p.name for p in APPLIANCE.glob("*.py") if p.name != "__init__.py"]
    assert len(modules) <= MOST_ROOT_MODULES, sorted(modules)


def test_every_module_is_named_by_what_it_does() -> None:
    named = {p for p in python(*SOURCES, "tests") if {p.stem, *p.parts[:-1]} & NAMELESS}
    assert not named


def test_a_folder_of_the_appliance_is_never_in_a_cycle() -> None:
    arrows = {(folder, other) for folder, other in _imports() if folder != other}
    left = {folder for arrow in arrows for folder in arrow}
    while ends := {f for f in left if not any(a == f and b in left for a, b in arrows)}:
        left -= ends  # it imports nothing of what is left
    assert not left, sorted(a for a in arrows if set(a) <= left)


def _imports() -> Iterator[tuple[str, str]]:
    """(folder or root module of the appliance, the other one that it imports)."""
    for path in python("appliance"):
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.module, f"{path}: a relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "appliance" and len(parts) > 1:
                    yield path.parts[1].removesuffix(".py"), parts[1]


@pytest.mark.parametrize("test", python(*(f"tests/{f}" for f in MIRRORED)), ids=str)
def test_a_test_stands_where_its_module_stands(test: Path) -> None:
    """test_X.py or test_X_MORE.py where X is a module of that folder, a folder in it, or itself."""
    if test.name == "conftest.py":
        return
    found = re.fullmatch(r"test_(\w+)\.py", test.name)
    assert found, f"{test}: what several tests share stands in tests/rigs"
    folder = ROOT.joinpath(*test.parts[1:-1])
    assert folder.is_dir(), folder
    there = {p.stem.strip("_") for p in folder.iterdir() if p.name != "__init__.py"} | {folder.name}
    words = found[1].split("_")
    assert there & {"_".join(words[:n]) for n in range(1, len(words) + 1)}, f"no module in {folder}"


def test_no_test_folder_is_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py")), "--import-mode=importlib"


@pytest.mark.parametrize("stage", ["receive", "work", "publish", "retain"])
def test_no_stage_on_the_way_of_a_slice_loads_the_library_that_composes_results(stage: str) -> None:
    """It takes a second and 73 MB: who composes is a process of its own."""
    code = f"import sys, appliance.{stage}.stage; print('highdicom' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"
