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
from appliance.bundle.heads import Calibration
from appliance.bundle.manifest import read
from appliance.bundle.trust import Bundle
from appliance.report import BundleRef
from training import evaluate
from training.judge.froc import Finding
from training.recipes.lung_nodule import bundle as source


def brightness(image: Any) -> dict[str, Any]:
    """The logit is how bright the patch is."""
    return {"logit": (image.mean((1, 2, 3)) - 0.5) * 20}


def opened() -> evaluate.Opened:
    calibration = Calibration(propose=1, classify=1, bias=0, threshold=0.5)
    provenance = {"sources": [], "seed": 0, "code_digest": "-", "made": "2026-01-01"}
    described = source.described(calibration, provenance, [], "1.0.0", 24)
    for entry in described["networks"].values():
        entry["digest"] = "0" * 64
    manifest = read(json.dumps(described).encode())
    backend = CpuBackend("onnxruntime", dict(manifest.networks), {"classify": brightness})
    ref = BundleRef(name="lung-nodule", version="1.0.0", digest="0" * 64)
    return evaluate.Opened(Bundle(ref, manifest), backend)


def test_patches_enter_at_the_patch_network() -> None:
    images = np.full((6, 50, 50), 40, np.uint8)
    images[3:] = 220
    figures = evaluate.of_images(opened(), images, [0, 0, 1, 0, 1, 1])
    assert figures["n"] == 6
    assert figures["auc"] == pytest.approx(6 / 9, abs=1e-4)
    assert (figures["sensitivity"], figures["specificity"]) == pytest.approx(
        (2 / 3, 2 / 3), abs=1e-4
    )
    assert len(figures["per_image"]) == 6


def analysed(_: object, folder: Path, everything: bool = False) -> SimpleNamespace:
    """In every series the same places: x 2 and x 51, and x 90 below the threshold."""
    found = [(0.9, 2.0), (0.8, 51.0)] + ([(0.2, 90.0)] if everything else [])
    findings = [
        SimpleNamespace(place_lps_mm=(x, 0.0, 0.0), diameter_mm=8.0, score=score)
        for score, x in found
    ]
    return SimpleNamespace(
        status=SimpleNamespace(value="analysed"), reasons=(), findings=tuple(findings)
    )


def series(folder: Path, *truth: tuple[float, dict[str, Any]], ignore: object = None) -> None:
    folder.mkdir()
    rows = [{"center_lps_mm": [x, 0, 0], "diameter_mm": 8, **more} for x, more in truth]
    (folder / "truth.json").write_text(json.dumps(rows))
    if ignore is not None:
        (folder / "ignore.json").write_text(json.dumps(ignore))


def test_a_folder_is_counted_series_by_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "a", (0, {}))
    series(tmp_path / "b", (50, {}), (90, {}))
    monkeypatch.setattr(evaluate, "analysed", analysed)
    figures = evaluate.of_folder(opened(), tmp_path)
    # a: one hit, one false; b: one hit, one false, the third nodule only below the threshold
    point = figures["operating_point"]
    assert point["sensitivity"] == pytest.approx(2 / 3, abs=1e-4)
    assert point["fp_per_scan"] == 1.0
    assert 0 < point["interval"][0] < point["sensitivity"] < point["interval"][1] < 1
    last = figures["froc"][-1]
    assert (last["fp_per_scan"], last["sensitivity"]) == (8.0, 1.0)
    assert figures["cpm_interval"][0] <= figures["cpm"] <= figures["cpm_interval"][1]
    assert [s["found"] for s in figures["per_series"]] == [1, 1]
    # truth.json does not say their density
    assert "by_kind" not in figures
    assert figures["by_size"]["8-15 mm"]["of"] == 3


def test_nodules_are_counted_by_what_the_truth_says_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(
        tmp_path / "a",
        (0, {"kind": "solid", "place": "pleural"}),
        (90, {"kind": "ground_glass", "place": "pleural", "diameter_mm": 5}),
    )
    monkeypatch.setattr(evaluate, "analysed", analysed)
    figures = evaluate.of_folder(opened(), tmp_path)
    found = {k: (v["found"], v["of"]) for k, v in figures["by_kind"].items()}
    assert found == {"solid": (1, 1), "ground_glass": (0, 1)}
    assert figures["by_place"]["pleural"]["found"] == 1
    assert figures["by_size"]["4-6 mm"]["found"] == 0


def test_implants_and_the_hosts_own_lesions_are_counted_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "a", (0, {"origin": "implant"}), (51, {"origin": "host"}))
    series(tmp_path / "b", (0, {"origin": "implant"}), (90, {"origin": "host"}))
    monkeypatch.setattr(evaluate, "analysed", analysed)
    figures = evaluate.of_folder(opened(), tmp_path)

    def told(some: dict[str, Any]) -> tuple[float, float, int]:
        point = some["operating_point"]
        return point["sensitivity"], point["fp_per_scan"], some["by_size"]["8-15 mm"]["of"]

    # x 0 and 50 are found in both: the implants, and of the hosts' own lesions the one of a
    assert told(figures["apart"]["implant"]) == (1.0, 0.5, 2)
    assert told(figures["apart"]["host"]) == (0.5, 0.5, 2)
    assert told(figures) == (0.75, 0.5, 4)
    assert figures["apart"]["host"]["froc"][-1]["sensitivity"] == 1.0


@pytest.mark.parametrize("beside", [True, False])
def test_an_ignored_lesion_is_neither_hit_nor_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    known = {"center_lps_mm": [51, 0, 0], "diameter_mm": 6}
    if beside:
        series(tmp_path / "a", (0, {}), ignore=[known])
    else:
        series(tmp_path / "a", (0, {}), (51, {"ignore": True}))
    monkeypatch.setattr(evaluate, "analysed", analysed)
    figures = evaluate.of_folder(opened(), tmp_path)
    assert figures["operating_point"]["fp_per_scan"] == 0
    assert figures["operating_point"]["sensitivity"] == 1
    assert figures["per_series"][0]["nodules"] == 1


def test_a_truth_that_is_none_is_one_line(tmp_path: Path) -> None:
    series(tmp_path / "a", (0, {}))
    for text in (
        '{"center_lps_mm": 3}',
        '[{"center_lps_mm": [1, 2], "diameter_mm": 3}]',
        "[",
        "[3]",
    ):
        (tmp_path / "a" / "truth.json").write_text(text)
        with pytest.raises(SystemExit, match=r"truth\.json: not a list of center_lps_mm"):
            evaluate.known_of(tmp_path / "a")


def test_the_table_names_the_lesion_that_a_finding_hits() -> None:
    lesion = evaluate.Lesion((0.0, 0.0, 0.0), 12.0, True, "spiculated")
    found = [
        Finding((3.0, 0.0, 0.0), 11.0, 0.9),
        Finding((60.0, 0.0, 0.0), 5.0, 0.2),
    ]
    text = evaluate.table("x", found, [lesion], 0.5)
    assert text.splitlines()[0] == "x: 1 findings at 0.5"
    assert text.splitlines()[1].endswith("CANCER spiculated")
