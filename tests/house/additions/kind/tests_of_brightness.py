"""The line of brightness: what is its own beside the contract of all kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import line
from appliance.backend.open import open_backend
from appliance.bundle import trust
from appliance.records import Result
from appliance.report import Status
from rigs.chests import PIXEL_MM, STEP_MM, Dicom
from rigs.tiny_brightness import SIZE, THRESHOLD, packed


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Of a small chest, a little less dense than water."""
    folder: Path = tmp_path_factory.mktemp("brightness")
    loaded = trust.check(packed(folder / "source"))
    files = [Dicom().bytes(image) for image in Dicom().chest(shift_hu=-150)]
    networks = dict(loaded.manifest.networks)
    backend = open_backend("onnxruntime", networks, loaded.networks, 2)
    try:
        return line.process(files, loaded.bundle, backend)
    finally:
        backend.close()


def test_the_brightest_slices_are_found_best_first(result: Result) -> None:
    assert result.status is Status.ANALYSED
    scores = [finding.score for finding in result.findings]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] >= THRESHOLD


def test_a_finding_lies_in_the_middle_of_its_slice(result: Result) -> None:
    for finding in result.findings:
        x, y, _ = finding.place_lps_mm
        assert (abs(x), abs(y)) <= (PIXEL_MM, PIXEL_MM)
        assert finding.box_lps_mm is not None
        x0, y0, z0, x1, y1, z1 = finding.box_lps_mm
        width = SIZE * PIXEL_MM
        assert (x1 - x0, y1 - y0, z1 - z0) == pytest.approx((width, width, STEP_MM))
