"""`compile` never shadows the builtin where a file wants that, and says which library it lacks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PLACES = ("appliance", "compile", "training", "tests", "bench")


def test_no_file_imports_compile_as_a_whole() -> None:
    files = [path for place in PLACES for path in (REPOSITORY / place).rglob("*.py")]
    assert len(files) > 20
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    named = [path for path, text in texts.items() if re.search(r"import\b.*\bcompile\b", text)]
    for path in named:  # to read all files as Python takes a while
        for node in ast.walk(ast.parse(texts[path])):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert alias.name.split(".")[0] != "compile", f"{path}: from compile.x import y"


def test_without_tuf_one_line_says_what_to_install() -> None:
    script = (
        "import runpy, sys\n"
        "sys.modules['tuf'] = None\n"
        "sys.argv = ['compile', 'release', 'check', 'repo']\n"
        "runpy.run_module('compile', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "tuf.api is not installed [release_library] pip install 'scanside[release,update]'"
    ]


def test_without_onnx_one_line_says_what_to_install() -> None:
    script = (
        "import runpy, sys\n"
        "sys.modules['onnx'] = None\n"
        "sys.argv = ['compile', 'lint', 'some.scanside']\n"
        "runpy.run_module('compile', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "onnx is not installed [compile_library] pip install 'scanside[engine]'"
    ]
