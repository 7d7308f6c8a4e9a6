"""The hybrid teacher: pairs and patches alone, and whom it may teach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
import torch

from training.errors import RunError
from training.recipes.lung_nodule import cube, hybrid
from training.recipes.lung_nodule import judge_cube as judge

TINY = cube.Knobs(steps=2, batch=4, save_every=1, warmup=1)


def luna_patches(count: int = 16) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 255, (count, 50, 50)).astype(np.uint8)
    labels = (np.arange(count) % 2).astype(np.uint8)
    return {
        f"{s}_{what}": v
        for s in ("train", "val")
        for what, v in (("images", images), ("labels", labels))
    }


SMALL = hybrid.Knobs(
    hosts="a,b", scale=0.125, steps=2, pairs=3, alone=3, warmup=1, save_every=1, judge_every=2
)


def test_pairs_and_patches_alone_make_one_batch(pool: Any) -> None:
    k = replace(SMALL, pairs=100, alone=4, hidden=0.2)
    patches, cubes, present, labels = hybrid.batch_of(
        np.random.default_rng(0), [pool()], luna_patches(), k
    )
    assert patches.shape == (104, 1, 48, 48)
    assert cubes.shape == (104, 1, 32, 32, 32)
    assert labels.shape == (104,)
    assert present[100:].tolist() == [[1, 0]] * 4
    assert (present.sum(1) >= 1).all()
    hidden = 1 - present[:100].mean(0)
    assert ((hidden > 0.1) & (hidden < 0.3)).all()


@pytest.mark.long
def test_a_hybrid_trains_and_teaches_only_a_student_of_its_own_hosts(
    a_fold: Any, folder: Any, pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    trained = hybrid.train(SMALL, [pool()], luna_patches(), folder(tmp_path, "t"))
    teacher = cube.teacher_of("t", "b,a")
    of = a_fold("a", count=2).of
    wanted = cube.logits_of(trained, of.patches, of.cubes)
    assert np.array_equal(cube.logits_of(teacher, of.patches, of.cubes), wanted)
    assert np.array_equal(judge.logits(of, "t", "last.pt"), wanted)
    with pytest.raises(RunError, match="saw a,b, its student is to see a"):
        cube.teacher_of("t", "a")
    taught = cube.train(replace(TINY, name="s"), [pool()], teacher, folder(tmp_path, "s"))
    alone = cube.train(replace(TINY, name="s"), [pool()], None, folder(tmp_path, "x"))
    assert not torch.equal(taught.head.weight, alone.head.weight)
