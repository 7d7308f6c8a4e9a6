"""The package `compile` never shadows the builtin where a file wants that."""

from __future__ import annotations

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PLACES = ("appliance", "compile", "training", "tests", "bench")


def test_no_file_imports_compile_as_a_whole() -> None:
    files = [path for place in PLACES for path in (REPOSITORY / place).rglob("*.py")]
    assert len(files) > 20
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert alias.name.split(".")[0] != "compile", f"{path}: from compile.x import y"
