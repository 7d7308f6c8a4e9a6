"""Radiographs of children: folds that hold, views that break the shortcut, figures out of fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from scipy import ndimage  # noqa: E402

from training.errors import DataError, RunError  # noqa: E402
from training.judge.metrics import auc  # noqa: E402
from training.networks import parameter_count  # noqa: E402
from training.networks.radiograph import RadiographNet  # noqa: E402
from training.recipes.chest_pneumonia.figures import (  # noqa: E402
    against,
    calibrated,
    compared,
    figures,
    keep,
    of_logits,
    threshold_of,
)
from training.recipes.chest_pneumonia.pneumonia_mnist import (  # noqa: E402
    FOLDS,
    RANGES,
    Exposure,
    Radiographs,
    against_the_rule,
    alike,
    exposed,
    folds_of,
    load,
    shifted,
    steepness,
    varied,
)


def made_up(count: int, seed: int = 0, steep: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Images of blobs; with `steep`, those of class 0 have more contrast."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 4 > 0).astype(np.int64)
    blobs = ndimage.gaussian_filter(rng.standard_normal((count, 28, 28)), (0, 2, 2))
    blobs /= blobs.std((1, 2), keepdims=True)
    contrast = np.where(labels == 0, 45, 25)[:, None, None] if steep else 35
    return np.clip(blobs * contrast + 128, 0, 255).astype(np.uint8), labels


def as_set(images: np.ndarray, labels: np.ndarray) -> Radiographs:
    groups = np.arange(len(labels))
    return Radiographs(images, labels, groups, folds_of(labels, groups))


def test_copies_form_one_group_even_mirrored_and_noisy() -> None:
    images, _ = made_up(12)
    rng = np.random.default_rng(1)
    noisy = np.clip(images[3].astype(float) + rng.normal(0, 3, (28, 28)), 0, 255).astype(np.uint8)
    groups = alike(np.concatenate([images, images[3:4, :, ::-1], noisy[None]]))
    assert groups[12] == groups[13] == groups[3]
    assert len(set(groups[:12])) == 12


def test_a_group_lies_in_one_fold_and_folds_hold_both_classes_alike() -> None:
    labels = (np.arange(200) % 4 > 0).astype(np.int64)
    groups = np.arange(200) // 2
    folds = folds_of(labels, groups)
    assert all(len(set(folds[groups == g])) == 1 for g in set(groups))
    ill = [labels[folds == f].sum() for f in range(FOLDS)]
    well = [(1 - labels[folds == f]).sum() for f in range(FOLDS)]
    assert max(ill) - min(ill) <= 2
    assert max(well) - min(well) <= 2


def test_a_view_is_drawn_from_seed_and_epoch_alone() -> None:
    images, _ = made_up(6)
    once = varied(images, RANGES, seed=3, epoch=1)
    assert np.array_equal(once, varied(images, RANGES, seed=3, epoch=1))
    assert not np.array_equal(once, varied(images, RANGES, seed=3, epoch=2))


def test_a_new_exposure_takes_the_shortcut_away() -> None:
    images, labels = made_up(400)
    plain = torch.from_numpy(images[:, None] / np.float32(255))
    free = Exposure(share=1.0, cutout=0.0)
    seen = exposed(plain, np.random.default_rng(0), free)
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1
    contrast = seen.std((2, 3)).numpy().ravel()
    assert auc(labels, -plain.std((2, 3)).numpy().ravel()) > 0.95
    assert abs(auc(labels, -contrast) - 0.5) < 0.07


def test_an_exposure_of_no_share_leaves_every_bit() -> None:
    plain = torch.from_numpy(made_up(8)[0][:, None] / np.float32(255))
    same = exposed(plain, np.random.default_rng(0), Exposure(share=0.0, cutout=0.0))
    assert torch.equal(same, plain)


def test_the_third_against_the_rule_turns_the_shortcut_round() -> None:
    rng = np.random.default_rng(0)
    images, labels = made_up(300)
    spread = np.clip(rng.normal(1, 0.5, 300), 0.2, 2)[:, None, None]
    mixed = np.clip((images.astype(float) - 128) * spread + 128, 0, 255).astype(np.uint8)
    data = as_set(mixed, labels)
    hard = against_the_rule(data)
    assert hard.sum() == pytest.approx(100, abs=4)
    steep = -steepness(mixed)
    assert auc(labels[hard], steep[hard]) < auc(labels, steep) < auc(labels[~hard], steep[~hard])


def test_shifted_copies_stay_in_range_and_plain_is_plain() -> None:
    images, labels = made_up(20)
    unit = np.asarray(images / np.float32(255), np.float32)
    copies = shifted(unit, labels)
    assert np.array_equal(copies["plain"], unit)
    assert all(c.dtype == np.float32 and c.min() >= 0 and c.max() <= 1 for c in copies.values())
    assert auc(labels, -unit.std((1, 2))) > 0.9
    assert auc(labels, -copies["contrary"].std((1, 2))) < 0.1


def test_data_of_another_size_or_with_other_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    labels = np.zeros((4, 1), np.uint8)

    def write(side: int, val_labels: np.ndarray) -> None:
        images = np.zeros((4, side, side), np.uint8)
        np.savez(
            path,
            train_images=images,
            train_labels=labels,
            val_images=images,
            val_labels=val_labels,
        )

    write(64, labels + 1)
    with pytest.raises(DataError, match="28 x 28"):
        load(path)
    write(28, labels)
    with pytest.raises(DataError, match="not 0 and 1"):
        load(path)


def test_every_image_is_judged_by_the_network_that_left_it_out() -> None:
    data = as_set(*made_up(60))
    judges = [lambda x, f=f: np.full(len(x), float(f), np.float32) for f in range(FOLDS)]
    _, logits = figures(data, judges)  # type: ignore[arg-type]
    assert all(np.array_equal(values, data.folds) for values in logits.values())


def test_figures_of_a_network_that_knows() -> None:
    data = as_set(*made_up(60))
    right = np.where(data.labels == 1, 2.0, -2.0) + np.linspace(0, 1, 60)
    blind = np.zeros(60)
    found = of_logits(data.labels, data.folds, data.groups, {"plain": right, "soft": blind})
    assert found["auc"] == 1
    assert found["acc"][0] == found["sensitivity"][0] == found["specificity"][0] == 1
    assert found["copies"]["soft"]["auc"] == 0.5
    assert found["auc_of_copies"] == 0.75


def test_the_threshold_bears_the_shifted_copies_and_comes_from_other_folds() -> None:
    labels = np.array([0, 1] * 50)
    plain = np.where(labels == 1, 1.0, -1.0)
    bright = plain + 1.5  # what is well looks like 0.5 there
    assert threshold_of(labels, {"plain": plain}) == 0
    assert threshold_of(labels, {"plain": plain, "bright": bright}) == 0.75
    folds = np.arange(100) // 20
    spoiled = np.where(folds == 0, plain + 9, plain)
    found = of_logits(labels, folds, np.arange(100), {"plain": spoiled})
    assert found["specificity"][0] == pytest.approx(0.8), "fold 0 had no say in its own threshold"


def test_the_score_is_the_probability_where_half_are_ill() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < 0.8).astype(np.int64)
    logits = rng.normal(np.where(labels == 1, 1.0, -1.0), 1.0)  # its log likelihood ratio is 2 z
    scale, bias, threshold = calibrated(labels, {"plain": logits})
    assert scale == pytest.approx(2, abs=0.1)
    assert bias == pytest.approx(0, abs=0.1)
    assert threshold == pytest.approx(0.5, abs=0.1)


def test_the_better_of_two_runs_is_named_and_other_folds_are_refused(tmp_path: Path) -> None:
    data = as_set(*made_up(80))
    rng = np.random.default_rng(0)
    names = ("plain", "alike", "soft")
    good = {n: data.labels + rng.normal(0, 0.2, 80) for n in names}
    poor = {n: data.labels + rng.normal(0, 2.0, 80) for n in names}
    gain = compared(data.labels, data.groups, poor, good)["plain"]
    assert gain["low"] > 0
    keep(tmp_path / "good.npz", data, good)
    keep(tmp_path / "poor.npz", data, poor)
    assert against(tmp_path / "good.npz", tmp_path / "poor.npz")["plain"] == gain
    keep(tmp_path / "other.npz", replace(data, folds=data.folds[::-1]), poor)
    with pytest.raises(RunError, match="other folds"):
        against(tmp_path / "good.npz", tmp_path / "other.npz")
    with pytest.raises(RunError, match="not there"):
        against(tmp_path / "good.npz", tmp_path / "none.npz")


def test_the_logit_is_the_mean_of_the_map_and_a_bias() -> None:
    model = RadiographNet((4, 8, 8)).eval()
    with torch.no_grad():
        model.bias.fill_(0.75)
        logit, activation = model(torch.rand(3, 1, 28, 28))
    assert activation.shape == (3, 1, 7, 7)
    assert torch.allclose(logit, activation.mean((1, 2, 3)) + 0.75)


def test_the_student_is_small() -> None:
    assert parameter_count(RadiographNet((16, 32, 96))) <= 600_000
