"""Radiographs of children: folds that hold, views that break the shortcut, figures out of fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")


from training.errors import DataError  # noqa: E402
from training.judge.metrics import auc  # noqa: E402
from training.recipes.chest_pneumonia.pneumonia_mnist import (  # noqa: E402
    FOLDS,
    RANGES,
    Exposure,
    against_the_rule,
    alike,
    exposed,
    folds_of,
    load,
    shifted,
    steepness,
    varied,
)


def test_copies_form_one_group_even_mirrored_and_noisy(made_up: Any) -> None:
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


def test_a_view_is_drawn_from_seed_and_epoch_alone(made_up: Any) -> None:
    images, _ = made_up(6)
    once = varied(images, RANGES, seed=3, epoch=1)
    assert np.array_equal(once, varied(images, RANGES, seed=3, epoch=1))
    assert not np.array_equal(once, varied(images, RANGES, seed=3, epoch=2))


def test_a_new_exposure_takes_the_shortcut_away(made_up: Any) -> None:
    images, labels = made_up(400)
    plain = torch.from_numpy(images[:, None] / np.float32(255))
    free = Exposure(share=1.0, cutout=0.0)
    seen = exposed(plain, np.random.default_rng(0), free)
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1
    contrast = seen.std((2, 3)).numpy().ravel()
    assert auc(labels, -plain.std((2, 3)).numpy().ravel()) > 0.95
    assert abs(auc(labels, -contrast) - 0.5) < 0.07


def test_an_exposure_of_no_share_leaves_every_bit(made_up: Any) -> None:
    plain = torch.from_numpy(made_up(8)[0][:, None] / np.float32(255))
    same = exposed(plain, np.random.default_rng(0), Exposure(share=0.0, cutout=0.0))
    assert torch.equal(same, plain)


def test_the_third_against_the_rule_turns_the_shortcut_round(as_set: Any, made_up: Any) -> None:
    rng = np.random.default_rng(0)
    images, labels = made_up(300)
    spread = np.clip(rng.normal(1, 0.5, 300), 0.2, 2)[:, None, None]
    mixed = np.clip((images.astype(float) - 128) * spread + 128, 0, 255).astype(np.uint8)
    data = as_set(mixed, labels)
    hard = against_the_rule(data)
    assert hard.sum() == pytest.approx(100, abs=4)
    steep = -steepness(mixed)
    assert auc(labels[hard], steep[hard]) < auc(labels, steep) < auc(labels[~hard], steep[~hard])


def test_shifted_copies_stay_in_range_and_plain_is_plain(made_up: Any) -> None:
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
