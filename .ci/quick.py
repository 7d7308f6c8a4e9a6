"""What a change needs, in about a minute: style, types, and the tests of what was changed.

    make quick                        .venv/bin/python .ci/quick.py
    make quick ARGS=--list            only say which tests would run

Rules
- Changed is what differs from the commit where this branch left `main`, with what is not committed
  and what git does not know yet. On `main` that is what is not committed.
- A module's tests are its mirror: appliance/store/spool.py has tests/appliance/store/test_spool.py
  and test_spool_*.py. Where there is none, all tests of that folder run. What tests share runs the
  tests that import it. docs/ and README.md run the tests of documents.
- ALWAYS runs in any case: the house, and the whole line on the tiny bundle.
- A test of whole processes (APART) runs only where it was changed itself; `make test` runs all.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ALWAYS = ("tests/test_house.py", "tests/appliance/test_line.py")
APART = tuple(
    f"tests/{folder}"
    for folder in ("scenarios", "faults", "recording", "acceptance", "fuzz", "house")
)
DOCUMENTS = ("tests/docs", "tests/appliance/test_main.py")
STYLE = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
)


def changed(root: Path, main: str = "main") -> list[str]:
    """Paths from the root that differ from where this branch left `main`, new ones included."""

    def git(*words: str) -> list[str]:
        command = ["git", "-C", str(root), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.splitlines() if done.returncode == 0 else []

    since = git("merge-base", "HEAD", main) or git("rev-parse", "HEAD")
    known = git("diff", "--name-only", *since)
    return sorted({*known, *git("ls-files", "--others", "--exclude-standard")})


def tests_of(paths: Iterable[str], root: Path) -> list[str]:
    """The tests that these changes need, as paths from the root: files or folders."""
    found = {test for test in ALWAYS if (root / test).exists()}
    for path in map(Path, paths):
        found.update(str(test.relative_to(root)) for test in _of(path, root) if test.exists())
    return sorted(found)


def _of(path: Path, root: Path) -> list[Path]:
    if path.suffix == ".md" or path.parts[0] == "docs":
        return [root / test for test in DOCUMENTS]
    if path.parts[0] == "tests":
        return _of_a_test(path, root)
    if path.parts[0] == "systemd":
        return list((root / "tests/systemd").glob("test_*.py"))
    folder = root / "tests" / path.parent
    stem = path.stem.strip("_")
    mirror = [*folder.glob(f"test_{stem}.py"), *folder.glob(f"test_{stem}_*.py")]
    return mirror or (list(folder.glob("test_*.py")) if len(path.parts) > 1 else [])


def _of_a_test(path: Path, root: Path) -> list[Path]:
    if path.name.startswith("test_"):
        return [root / path]
    tests = [test for test in (root / "tests").rglob("test_*.py") if not _apart(test, root)]
    if path.name == "conftest.py":
        return [test for test in tests if test.parent == (root / path).parent]
    if path.suffix != ".py":
        return []
    named = re.compile(rf"\b{path.parent.name}(\.| import (\w+, )*){path.stem}\b")
    return [test for test in tests if named.search(test.read_text(encoding="utf-8"))]


def _apart(test: Path, root: Path) -> bool:
    return str(test.relative_to(root)).startswith(APART)


def main() -> int:
    """0 where all passed; stops at the first command that did not."""
    parser = argparse.ArgumentParser(prog="make quick")
    parser.add_argument("--list", action="store_true", help="only say which tests would run")
    root = Path(__file__).resolve().parents[1]
    listed = parser.parse_args().list
    tests = tests_of(changed(root), root)
    if listed:
        sys.stdout.write("\n".join(tests) + "\n")
        return 0
    for module, *words in (*STYLE, ("pytest", "-q", "-m", "not long", *tests)):
        code = subprocess.run([sys.executable, "-m", module, *words], cwd=root, check=False)
        if code.returncode:
            return code.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
