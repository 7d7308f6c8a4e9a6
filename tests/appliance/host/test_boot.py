"""Which boot it is."""

from __future__ import annotations

import subprocess
import sys

from appliance.host.boot import boot_id


def test_it_is_the_same_for_all_processes_of_one_boot() -> None:
    program = "from appliance.host.boot import boot_id; print(boot_id())"
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == boot_id() != ""
