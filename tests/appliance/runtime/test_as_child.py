"""How a child of `work` ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.store import bell
from appliance.store.lock import alone

LOCKS = {"compose": "compose", "compare": bell.COMPARE, "probe": "probe"}


@pytest.mark.parametrize("child", LOCKS)
def test_a_child_that_may_not_work_ends_with_1_and_says_so_in_one_line(
    child: str, tmp_path: Path
) -> None:
    settings = Settings.model_validate({"state": tmp_path})
    with alone(tmp_path, LOCKS[child]):
        done = subprocess.run(
            [sys.executable, "-m", f"appliance.{child}.child"],
            input=settings.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    (line,) = done.stderr.splitlines()
    assert f"ERROR scanside.{child}: " in line
    assert "serves this state folder" in line
    assert done.returncode == 1
