"""Another exposure, and what would undo it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from appliance.lines import kinds
from training.errors import RunError
from training.judge.opened import open_bundle
from training.recipes.chest_pneumonia import exposure

BUNDLE = Path("appliance/factory/bundles/chest-pneumonia.scanside")


def images(n: int, seed: int = 1) -> Any:
    """Made-up images [n, 28, 28] in [0, 1], each of another mean."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(0.4, 0.7, (n, 1, 1))
    return np.clip(rng.normal(means, 0.15, (n, 28, 28)), 0, 1).astype(np.float32)


def test_a_copy_has_eight_bits_and_a_low_gamma_is_bright() -> None:
    plain = images(5)
    bright = exposure.exposed(plain, 0.8)
    assert np.allclose(bright, plain**0.8, atol=0.51 / 255)
    assert set(np.unique(np.rint(bright * 255 * 16) % 16)) == {0}
    assert exposure.exposed(plain, 1.25).mean() < plain.mean() < bright.mean()


@pytest.mark.parametrize("gamma", [0.5, 0.8, 1.25, 2.0])
def test_the_gamma_that_undoes_a_change_is_its_inverse(gamma: float) -> None:
    plain = images(50)
    found = exposure.back(exposure.exposed(plain, gamma), float(plain.mean()))
    assert found == pytest.approx(1 / gamma, rel=0.01)


def test_each_tuning_does_what_its_rule_says() -> None:
    plain, usual = images(40), 0.55
    changed = exposure.exposed(plain, 0.8)
    made = exposure.tunings(changed, exposure.exposed(images(50, 2), 0.8), usual)
    assert (made["none"] == changed).all()
    assert made["each"].mean((1, 2)) == pytest.approx(np.full(40, usual), abs=1e-4)
    assert abs(made["detector"] - plain).max() < 0.03
    touched = (made["beyond"] != changed).any(axis=(1, 2))
    assert 0 < touched.sum() < 40
    means = changed.mean((1, 2))
    assert means[touched].min() > means[~touched].max(), "the brightest are the changed ones"
    dark = exposure.exposed(plain, 1.25)
    made = exposure.tunings(dark, exposure.exposed(images(50, 2), 1.25), usual)
    touched = (made["beyond"] != dark).any(axis=(1, 2))
    means = dark.mean((1, 2))
    assert means[touched].max() < means[~touched].min(), "and the darkest, after the other change"


def test_a_judge_of_brightness_loses_specificity_that_a_tuning_gives_back() -> None:
    """Ill ones are .04 brighter in the mean, well ones below the threshold: a low gamma calls
    all."""
    rng = np.random.default_rng(3)
    labels = np.arange(200, dtype=np.int64) % 2

    def drawn(means: Any) -> Any:
        each = rng.uniform(-0.3, 0.3, (len(means), 28, 28))
        each += means[:, None, None] - each.mean((1, 2), keepdims=True)
        return np.clip(each, 0, 1).astype(np.float32)

    plain, train = drawn(0.53 + 0.04 * labels), drawn(np.full(300, 0.55))

    def judge(some: Any) -> Any:
        return some.mean((1, 2)).astype(np.float64)

    said = exposure.lines((plain, labels, np.arange(200)), train, judge, 0.55, (0.8,))
    assert said[0].startswith("gamma 0.8: mean 0.6")
    none, detector = said[1].split(), said[4].split()
    assert (none[0], detector[0]) == ("none", "detector")
    assert [float(none[k]) for k in (1, 5, 9)] == [1.0, 1.0, 0.0]
    assert [float(detector[k]) for k in (1, 5, 9)] == pytest.approx([1.0, 1.0, 1.0], abs=0.03)
    moved = said[5].split()
    assert moved[0] == "moved"
    assert float(moved[9]) == pytest.approx(1.0, abs=0.03)


def test_the_shipped_network_scores_as_the_line_does() -> None:
    opened = open_bundle(BUNDLE, threads=1)
    manifest = opened.bundle.manifest
    raw = np.random.default_rng(5).integers(0, 256, (4, 28, 28)).astype(np.uint8)
    scores, _ = kinds.of(manifest).scores(raw, manifest, opened.backend)
    judge = exposure.shipped(opened.backend, manifest.line_of(exposure.ClassifyImage))
    assert judge(raw / np.float32(255)) == pytest.approx(scores, abs=1e-5)


def test_without_its_double_the_step_says_what_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    with pytest.raises(RunError, match="not there; train it first"):
        exposure.doubled("pneumonia-double", np.zeros(2, np.int64), images(2))
