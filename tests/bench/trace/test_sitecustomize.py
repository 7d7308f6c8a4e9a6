"""The trace notes what the line does, without a change to it, and only where it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.site import trace, traced

PROGRAM = """
from appliance import line
fold = line.add(line.begin(()), b"no DICOM")
class Backend:
    ref = None
    def infer(self, role, image): return {}
line.finish(fold, None, Backend())
"""


def run(environment: dict[str, str], folder: Path) -> None:
    command = [sys.executable, "-c", PROGRAM]
    subprocess.run(command, env={**os.environ, **environment}, cwd=folder, check=True)


def test_each_call_of_the_line_is_a_row_with_its_times(tmp_path: Path) -> None:
    notes = tmp_path / "trace"
    run(traced(notes), tmp_path)
    (added,), (finished,) = trace(notes, "add"), trace(notes, "finish")
    assert added["begin"] <= added["end"] <= finished["begin"] <= finished["end"]
    assert added["spent"] == finished["spent"] == {}  # nothing was inferred of what is no image
    assert finished["own"] >= 0


def test_without_a_file_to_write_to_nothing_is_noted(tmp_path: Path) -> None:
    notes = tmp_path / "trace"
    run({**traced(notes), "SCANSIDE_BENCH_TRACE": ""}, tmp_path)
    assert not notes.exists()
