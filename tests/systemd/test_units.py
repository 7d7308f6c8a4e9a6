"""The systemd units: systemd itself reads them, and what the design promises stands in them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
STAGES = ("receive", "work", "publish", "retain")


def service(stage: str) -> list[tuple[str, str]]:
    """(key, value) of the [Service] section; a key may stand more than once."""
    lines = (UNITS / f"scanside-{stage}.service").read_text().split("[Service]")[1].splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in pairs]


def test_systemd_reads_every_unit_without_a_complaint(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS.iterdir():  # what it starts must exist here, so this interpreter stands in
        text = unit.read_text().replace("/opt/scanside/bin/scanside", f"{sys.executable} -V")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [program, "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "scanside" in line]
    assert (done.returncode, complaints) == (0, [])


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_a_verb_that_tells_when_it_is_ready(stage: str) -> None:
    pairs = dict(service(stage))
    assert pairs["ExecStart"] == f"/opt/scanside/bin/scanside {stage}"
    assert pairs["Type"] == "notify"
    assert pairs["User"] == "scanside"


def test_publish_cannot_see_pixels_and_work_has_no_network() -> None:
    hidden = {value for key, value in service("publish") if key == "InaccessiblePaths"}
    assert {"-/var/lib/scanside/spool", "-/var/lib/scanside/reports"} <= hidden
    work = dict(service("work"))
    assert work["PrivateNetwork"] == "yes"
    assert work["RestrictAddressFamilies"] == "AF_UNIX"


def test_the_socket_is_the_port_of_the_default_settings() -> None:
    parser = configparser.ConfigParser()
    parser.read(UNITS / "scanside-receive.socket")
    assert parser["Socket"]["ListenStream"] == "11112"
