"""The demo of a scanner that changes silently, whole."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from appliance.__main__ import app
from appliance.demo import drift as demo
from appliance.naming import MAKER
from appliance.phantom.chest import chest
from appliance.verbs.drift import Said

REPOSITORY = Path(__file__).resolve().parents[3]
needs_broker = pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is None
    or shutil.which("mosquitto_sub") is None,
    reason="mosquitto is not installed",
)


def test_each_patient_has_a_study_and_all_have_the_same_device_and_kernel() -> None:
    scan = chest(spacing_mm=(60.0, 24.0, 24.0), nodules=())
    first, second = (next(demo.images(scan, number)) for number in (0, 1))
    assert first.PatientID != second.PatientID
    assert first.StudyDate + first.StudyTime < second.StudyDate + second.StudyTime
    for one in (first, second):
        assert (one.Manufacturer, one.ConvolutionKernel) == (demo.MAKER, "STANDARD")
        assert one.Manufacturer.casefold() != MAKER.casefold(), (
            "what that maker sends is not counted"
        )


@pytest.mark.parametrize(
    "other", [["--radiograph"], ["--pacs"], ["--follow-up"], ["--series", "."]]
)
def test_it_sends_phantoms_of_its_own_and_nothing_else(other: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--drift", "--out", str(tmp_path), *other])
    assert done.exit_code == 2
    assert "phantoms of its own" in " ".join(done.output.replace("│", " ").split())


@pytest.mark.long
@needs_broker
def test_a_sharper_kernel_is_said_within_four_series_and_acknowledged(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "demo", "--drift", "--out", tmp_path],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = Said.model_validate_json((tmp_path / "drift.json").read_text()).rows
    assert row.n == 34
    assert {alarm.cause.value for alarm in row.alarms} == {"sharper_kernel"}
