"""None of it is loaded by a stage: what follows the last slice never waits for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from appliance.stages import STAGES

LOADED = "import sys, {}; print(*(m for m in sys.modules if 'faithful' in m))"


@pytest.mark.parametrize("module", [stage.module for stage in STAGES])
def test_no_stage_imports_it(module: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOADED.format(module)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert found.stdout.split() == []


def test_the_verb_does() -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOADED.format("appliance.verbs.quality")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "appliance.quality.faithful.verdict" in found.stdout
