"""Figures of a bundle on patches and on series, on answers that are known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.backend.cpu import CpuBackend
from appliance.bundle.manifest import Calibration
from training import evaluate, source
from training.findings import Finding


def brightness(image: Any) -> dict[str, Any]:
    """The logit is how bright the patch is."""
    return {"logit": (image.mean((1, 2, 3)) - 0.5) * 20}


def opened() -> evaluate.Opened:
    line = source.line(Calibration(propose=1, classify=1, bias=0, threshold=0.5))
    bundle = SimpleNamespace(manifest=SimpleNamespace(nodules=lambda: line))
    entries = {"classify": source.network("classify", "0" * 64)}
    backend = CpuBackend("onnxruntime", entries, {"classify": brightness})
    return evaluate.Opened(bundle, backend)  # type: ignore[arg-type]


def test_patches_enter_at_the_patch_network() -> None:
    images = np.full((6, 50, 50), 40, np.uint8)
    images[3:] = 220
    figures = evaluate.of_patches(opened(), images, [0, 0, 1, 0, 1, 1])
    assert figures["n"] == 6
    assert figures["auc"] == pytest.approx(6 / 9, abs=1e-4)
    assert (figures["sensitivity"], figures["specificity"]) == pytest.approx(
        (2 / 3, 2 / 3), abs=1e-4
    )
    assert len(figures["per_image"]) == 6


def test_a_folder_is_counted_series_by_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, truth in (("a", [[0, 0, 0]]), ("b", [[50, 0, 0], [90, 0, 0]])):
        (tmp_path / name).mkdir()
        entries = [{"center_lps_mm": at, "diameter_mm": 8} for at in truth]
        (tmp_path / name / "truth.json").write_text(json.dumps(entries))

    def analysed(_: object, folder: Path, everything: bool = False) -> SimpleNamespace:
        found = [(0.9, 2.0), (0.8, 51.0)] + ([(0.2, 90.0)] if everything else [])
        findings = [
            SimpleNamespace(center_lps_mm=(x, 0.0, 0.0), diameter_mm=8.0, score=score)
            for score, x in found
        ]
        return SimpleNamespace(
            status=SimpleNamespace(value="analysed"), reasons=(), findings=tuple(findings)
        )

    monkeypatch.setattr(evaluate, "analysed", analysed)
    figures = evaluate.of_folder(opened(), tmp_path)
    # a: one hit, one false; b: one hit, one false, the third nodule only below the threshold
    assert figures["operating_point"] == {
        "sensitivity": pytest.approx(2 / 3, abs=1e-4),
        "fp_per_scan": 1.0,
    }
    assert figures["froc"][-1] == {"fp_per_scan": 8.0, "sensitivity": 1.0}
    assert [s["found"] for s in figures["per_series"]] == [1, 1]


def test_the_table_names_the_lesion_that_a_finding_hits() -> None:
    lesion = evaluate.Lesion((0.0, 0.0, 0.0), 12.0, True, "spiculated")
    found = [
        Finding((3.0, 0.0, 0.0), 11.0, 0.0, 0.0, 0.9),
        Finding((60.0, 0.0, 0.0), 5.0, 0.0, 0.0, 0.2),
    ]
    text = evaluate.table("x", found, [lesion], 0.5)
    assert text.splitlines()[0] == "x: 1 findings at 0.5"
    assert text.splitlines()[1].endswith("CANCER spiculated")
