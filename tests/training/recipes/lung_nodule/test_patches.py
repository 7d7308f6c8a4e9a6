"""Patches: read, varied, and seen eight ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.errors import DataError, RunError  # noqa: E402
from training.read.left_out import KEY  # noqa: E402
from training.recipes.lung_nodule.patches import (  # noqa: E402
    Variation,
    augment,
    eight_views,
    load_patches,
    mixed,
)

pytestmark = pytest.mark.usefixtures("work")


def test_a_patch_file_that_is_none_or_cut_short_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "patches.npz"
    with pytest.raises(RunError, match="not the LUNA16 patch file"):
        load_patches(path)
    some = {name: np.zeros((1, 50, 50), np.uint8) for name in ("train_images", "train_labels")}
    np.savez(path, left_out=KEY, **some)
    with pytest.raises(RunError, match="not the LUNA16 patch file"):
        load_patches(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="not the LUNA16 patch file") as ended:
        load_patches(path)
    assert "\n" not in str(ended.value)


def test_a_patch_of_somebody_who_is_left_out_is_not_read(
    data: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "patches.npz"
    train, val = np.arange(16), np.arange(54_793, 54_809)
    train[[3, 7]] = 123_600, 312_300
    np.savez(path, train_luna_row=train, val_luna_row=val, **data)
    kept = load_patches(path)
    assert np.array_equal(kept["train_images"], np.delete(data["train_images"], [3, 7], 0))
    assert np.array_equal(kept["val_labels"], data["val_labels"][8:])
    np.savez(path, train_luna_row=train, **data)
    with pytest.raises(DataError, match="does not tell whose its val patches are"):
        load_patches(path)


def test_varied_patches_are_the_same_for_the_same_seed_and_stay_in_the_window(
    data: dict[str, np.ndarray],
) -> None:
    images, labels = data["train_images"], data["train_labels"]
    one, other = (mixed(np.random.default_rng(4), images, labels, Variation()) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert one[0].shape == (16, 1, 48, 48)
    assert 0 <= one[0].min() <= one[0].max() <= 1
    plain = augment(torch.from_numpy(images), np.random.default_rng(4), Variation(0, 0, 0))
    assert plain[labels == 1, :, 20:28, 20:28].mean() > plain[labels == 0].mean() + 0.3


def test_eight_views_are_eight() -> None:
    x = torch.rand(1, 1, 4, 4)
    views = eight_views(x)
    assert len({tuple(v.flatten().tolist()) for v in views}) == 8
    assert all(sorted(v.flatten().tolist()) == sorted(x.flatten().tolist()) for v in views)
