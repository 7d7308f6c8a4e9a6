"""LUNA16's documented way, walked on a tiny one: its files, networks, a fit on val, a bundle, a
report. The networks take a few steps, so nothing here says how good they are."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from appliance.bundle.card import card  # noqa: E402
from appliance.bundle.trust import check  # noqa: E402
from appliance.report import Status  # noqa: E402
from compile.pack import pack  # noqa: E402
from rigs.tiny_luna16 import tiny_luna16  # noqa: E402
from training.errors import DataError, command  # noqa: E402
from training.evaluate import analysed  # noqa: E402
from training.judge.opened import open_bundle  # noqa: E402
from training.recipes.lung_nodule import luna16_stages  # noqa: E402
from training.recipes.lung_nodule.calibrate_scans import scans_of  # noqa: E402

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]  # two minutes where nothing else runs

SMALL = {
    "segment": "--steps 24 --warmup 2 --batch 1 --depth 32 --width 96 --disease 0 --empty 0"
    " --masses 0 --gas 0 --repaint 0 --ema 0.5 --bf16 false",
    "propose": "--steps 30 --warmup 2 --batch 2 --kept 8 --ema 0.5 --bf16 false",
    "classify": "--steps 4 --warmup 1 --batch 8 --ema 0.5 --bf16 false",
    "teacher": "--steps 2 --warmup 1 --batch 4 --frozen_steps 1 --pretrained false --bf16 false",
    "quantize": "--images 2 --judged 2 --few 1 --most 100 --threads 1",
    "calibrate_scans": "--threads 1 --top 200",
}
"""What is said after a step's own words, so that it takes seconds."""


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The work folder and the source folder after every step, in this process."""
    root, work = tiny_luna16(tmp_path_factory.mktemp("luna16")), tmp_path_factory.mktemp("work")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_TRAIN", str(work))
        patch.setenv("SCANSIDE_SHARED", str(work / "nothing-shared"))
        for name, value in luna16_stages.environment().items():
            patch.setenv(name, value)
        for stage in luna16_stages.stages(root, str(work / "out"), hosts=1):
            for module, *words in [command for track in stage.values() for command in track]:
                step = module.rpartition(".")[2]
                patch.setattr("sys.argv", [step, *words, *SMALL.get(step, "").split()])
                command(importlib.import_module(module).main)
        yield work, work / "out"
    torch.set_num_threads(threads)


def test_the_way_ends_in_a_bundle_that_analyses_a_series(walked: tuple[Path, Path]) -> None:
    work, out = walked
    opened = open_bundle(out, 1)
    (series,) = (work / "luna16" / "val").iterdir()
    result = analysed(opened, series)
    opened.backend.close()
    assert result.status is Status.ANALYSED
    loaded = check(pack(out))
    manifest = loaded.manifest
    assert (manifest.name, manifest.version) == (luna16_stages.BUNDLE, luna16_stages.VERSION)
    assert set(manifest.networks) == {"segment", "propose", "classify"}
    assert all(network.quantized for network in manifest.networks.values())
    heads = json.loads((work / "luna16" / "heads.json").read_text())
    assert manifest.line.calibration.threshold == heads["threshold"] > 0


def test_its_card_names_luna16_and_nothing_that_was_not_used(walked: tuple[Path, Path]) -> None:
    _, out = walked
    loaded = check(pack(out))
    sources = {one.name: one.licence for one in loaded.manifest.provenance.sources}
    assert sources == {
        "LUNA16 (LIDC-IDRI), scans of train": "CC BY 4.0",
        "LUNA16 (LIDC-IDRI), patches": "CC BY 4.0",
    }
    text = card(loaded.manifest, loaded.digest)
    assert "annotated nodules, scans of val that no network saw: sensitivity at 1 false" in text
    assert "threshold and sensitivities are of the same scans" in text.lower()
    assert "implants" not in text
    assert "R01-001" not in text


def test_scans_of_train_do_not_calibrate(walked: tuple[Path, Path]) -> None:
    work, _ = walked
    with pytest.raises(DataError, match="it is of split train; only val calibrates"):
        scans_of(work / "luna16" / "hosts", [])
    assert len(scans_of(work / "luna16" / "val", ["luna16-segment"])) == 1
