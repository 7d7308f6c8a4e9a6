"""Reports about a series in any position, and what other programs say of what is composed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from appliance.reasons import Code
from appliance.report import Coverage, Finding, Reason, Report, Stage, Status
from appliance.results.source import source
from appliance.results.sr.case import Case
from rigs import oblique
from rigs.composing import FOUND
from rigs.reports import NAMING, make_report

__all__ = ["make_report"]
AT = datetime(2026, 1, 5, 10, 0, 0, 250000, tzinfo=timezone(timedelta(hours=8)))
X, Y, Z = oblique.MIDDLE.tolist()
MEASURED = FOUND
DETECTED = Finding(
    id=2,
    tracking_uid="2.25.78",
    kind="mass",
    score=0.5,
    threshold=0.42,
    center_lps_mm=(X + 2, Y - 3, Z + 4.5),
    box_lps_mm=(X, Y, Z, X + 4, Y + 4, Z + 4),
    diameter_mm=8.0,
    key_image=3,
)
LIMIT = Reason(code=Code.GAP_FILLED, text="1 slice is missing at z -34.5 mm")


@pytest.fixture
def make_case(make_report: Callable[..., Report]) -> Callable[..., Case]:
    """pose, what of the report is to be another, more of the case -> a case."""

    def make(pose: str = "axial", headers: Any = None, **more: Any) -> Case:
        found = {
            "findings": (MEASURED, DETECTED),
            "limitations": (LIMIT,),
            "coverage": Coverage(lungs="cut_head", z_mm=(-200.0, 100.0)),
            "appliance": "0.2.0",
            **more.pop("report", {}),
        }
        report = Report.model_validate(
            {**make_report().model_dump(by_alias=True), **found, "schema": "scanside.report/1"}
        )
        images = oblique.series(oblique.POSES[pose], 20) if headers is None else headers
        return Case(
            report,
            source(images),
            NAMING,
            AT,
            axes=more.pop("axes", {1: oblique.axes(20)}),
            others=("series 2, a localizer, was set aside",),
            **more,
        )

    return make


@pytest.fixture
def refused() -> dict[str, Any]:
    """Of a report, that nothing was analysed."""
    reason = Reason(code=Code.GANTRY_TILT, text="the gantry is tilted by 20 degrees")
    return {"status": Status.NOT_ANALYSED, "findings": (), "limitations": (), "reasons": (reason,)}


@pytest.fixture
def preliminary() -> dict[str, Any]:
    return {"stage": Stage.PRELIMINARY}


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., str]:
    """An object -> what dsrdump prints of it, once dciodvfy and dcentvfy have no error to print.

    images: what dcentvfy compares its patient, study and frame of reference with.
    """

    def judge(data: bytes, images: Any = ()) -> str:
        path = tmp_path / "made.dcm"
        path.write_bytes(data)
        beside = []
        for k, image in enumerate(images):
            beside.append(tmp_path / f"image-{k}.dcm")
            image.save_as(beside[-1], enforce_file_format=True)
        for command in (["dciodvfy", path], ["dcentvfy", path, *beside]):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            said = (done.stdout + done.stderr).splitlines()
            assert [line for line in said if line.startswith("Error")] == [], command[0]
        command = ["dsrdump", "+U8", "+Pl", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert not [line for line in done.stderr.splitlines() if line.startswith("E:")], done.stderr
        return done.stdout

    return judge
