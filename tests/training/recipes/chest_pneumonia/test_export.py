"""The whole task in small: teachers, student, INT8, a source folder that packs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from appliance.bundle import trust  # noqa: E402
from appliance.bundle.lines import ClassifyImage  # noqa: E402
from appliance.phantom.chest import chest  # noqa: E402
from compile.pack import pack  # noqa: E402
from training import evaluate  # noqa: E402
from training.networks.radiograph import RadiographNet  # noqa: E402
from training.recipes.chest_pneumonia import (  # noqa: E402
    certainty,
    double,
    export,
    frontal,
    quantize,
    renew,
    student,
)
from training.recipes.chest_pneumonia import teacher as taught  # noqa: E402
from training.recipes.chest_pneumonia.pneumonia_mnist import (  # noqa: E402
    FILE,
)
from training.ship.onnx_file import exported, parity  # noqa: E402


@pytest.mark.filterwarnings("ignore")
@pytest.mark.long
def test_the_exported_network_answers_like_torch() -> None:
    model = RadiographNet((4, 4, 8)).eval()
    file = exported(model, (28, 28), quantize.OUTPUTS)
    image = np.random.default_rng(0).random((7, 1, 28, 28), dtype=np.float32)
    assert max(parity(model, file, image).values()) < 1e-4


def let_all_ship(metrics: Path) -> None:
    """The figures of a run of two steps, as good as frontal_rule.py wants them."""
    about = json.loads(metrics.read_text())
    found = about["figures"]
    for source in ("val", "left_out"):
        for one in found[source].values():
            one["share"] = 1.0
    found["drawn"] = dict.fromkeys(found["drawn"], 0.999)
    metrics.write_text(json.dumps(about))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_the_chain_ends_in_a_bundle_that_packs(
    radiographs: Any,
    run: Any,
    write_ct: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = radiographs(100)
    file = tmp_path / "shared" / FILE
    file.parent.mkdir(parents=True)
    parts = {"train": slice(0, 80), "val": slice(80, 100)}
    arrays = {f"{name}_images": data.images[part] for name, part in parts.items()}
    arrays |= {f"{name}_labels": data.labels[part, None] for name, part in parts.items()}
    np.savez(file, **arrays)
    monkeypatch.setenv("SCANSIDE_SHARED", str(tmp_path / "shared"))
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path / "train"))
    few = ["--widths", "4,4,8", "--depth", "0", "--steps", "2", "--warmup", "1", "--batch", "8"]
    few += ["--views", "2"]
    run(taught, monkeypatch, *few)
    run(student, monkeypatch, *few, "--final_steps", "2")
    alone = ["--name", "pneumonia-alone", "--teacher", "", "--final", "false"]
    run(student, monkeypatch, *few, *alone)
    counts = ["--views", "2", "--images", "2", "--judged", "20", "--few", "1", "--most_lost", "1"]
    run(quantize, monkeypatch, *counts)
    run(double, monkeypatch, *few)
    run(certainty, monkeypatch)
    for seed in (1, 2, 3):
        body = chest(seed, spacing_mm=(4.0, 2.0, 2.0))
        write_ct(tmp_path / f"body-{seed}", body.hu, body.spacing_mm, body.origin_lps_mm)
    hosts = ",".join(str(tmp_path / f"body-{seed}") for seed in (1, 2, 3))
    little = ["--steps", "2", "--warmup", "1", "--batch", "8", "--each", "4", "--blanks", "8"]
    run(frontal, monkeypatch, "--hosts", hosts, *little)
    out = tmp_path / "out"
    run(export, monkeypatch, "--out", str(tmp_path / "plain"), "--frontal", "")
    plain = trust.check(pack(tmp_path / "plain")).manifest
    assert set(plain.networks) == {"classify"}, "none ships where none is asked for"
    assert plain.line_of(ClassifyImage).frontal is None
    with pytest.raises(SystemExit, match="pneumonia-frontal does not ship: "):
        run(export, monkeypatch, "--out", str(out))
    let_all_ship(tmp_path / "train" / "pneumonia-frontal" / "metrics.json")
    run(export, monkeypatch, "--out", str(out))

    about = json.loads((tmp_path / "train" / "pneumonia" / "quantize.json").read_text())
    assert about["scales"]
    assert len(about["calibration"]["digest"]) == 64
    opened = evaluate.open_bundle(out, threads=1)
    found = evaluate.of_images(opened, data.images[80:], data.labels[80:])
    assert found["threshold"] == json.loads((out / "heads.json").read_text())["threshold"]
    assert len(found["per_image"]) == 20
    bundle = tmp_path / "first.scanside"
    bundle.write_bytes(pack(out))

    renewed = tmp_path / "renewed"
    again = ["--bundle", str(bundle), "--version", "9.0.0", "--out", str(renewed)]
    run(certainty, monkeypatch, *again, "--alpha", "0.2")
    before, after = (trust.check(data) for data in (bundle.read_bytes(), pack(renewed)))
    assert after.networks == before.networks
    assert after.manifest.goldens == before.manifest.goldens
    lines = [one.manifest.line_of(ClassifyImage) for one in (before, after)]
    assert [line.certainty.alpha for line in lines if line.certainty] == [0.05, 0.2]
    bare = [line.model_copy(update={"certainty": None}) for line in lines]
    assert bare[0] == bare[1]

    again = ["--bundle", str(bundle), "--version", "9.1.0", "--out", str(tmp_path / "told")]
    run(renew, monkeypatch, *again)
    told = trust.check(pack(tmp_path / "told"))
    assert told.networks == before.networks
    assert told.manifest.line_of(ClassifyImage) == lines[0], "the same run gives the same head"
    assert "never saw a real lateral" in " ".join(told.manifest.provenance.never_tested)
