"""What tests of the nodule recipes share: patches, candidates, a work folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.recipes.lung_nodule.calibrate import Judged
from training.recipes.lung_nodule.candidates import CUBE, PATCH, Candidates
from training.recipes.lung_nodule.fold_candidates import Fold, Kept


def _pool(count: int = 12, seed: int = 0, real: int = 1) -> Candidates:
    """Noise; a nodule has a bright middle. The first `real` nodules are marked lesions."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    patches = rng.integers(0, 60, (count, PATCH, PATCH)).astype(np.uint8)
    cubes = rng.integers(0, 60, (count, CUBE, CUBE, CUBE)).astype(np.uint8)
    patches[labels == 1, 20:28, 20:28] = 200
    cubes[labels == 1, 16:24, 16:24, 16:24] = 200
    marked = np.zeros(count, bool)
    marked[np.flatnonzero(labels)[:real]] = True
    return Candidates(
        patches,
        cubes,
        labels,
        found=np.ones(count, bool),
        real=marked,
        heat=np.zeros(count, np.float32),
        diameter=np.full(count, 7, np.float32),
        rank=np.arange(count, dtype=np.int32),
        nodule=np.where(labels == 1, np.arange(count) // 2, -1).astype(np.int32),
        scan=np.zeros(count, np.int32),
        truth=np.array([count // 2], np.int32),
        slice_mm=np.array([2.0], np.float32),
    )


@pytest.fixture
def pool() -> Callable[..., Any]:
    """The function above."""
    return _pool


def _folder(parent: Path, name: str) -> Path:
    """A new folder of a run."""
    (parent / name).mkdir()
    return parent / name


@pytest.fixture
def folder() -> Callable[..., Any]:
    """The function above."""
    return _folder


def _a_fold(host: str, count: int = 40, seed: int = 0) -> Judged:
    """Two scans of `count` candidates and the unaltered host; every fourth hits a nodule, and the
    cube column alone knows it. In the host's own scan the last candidate hits its lesion."""
    rng = np.random.default_rng(seed)
    scan = np.repeat(np.arange(3), count)
    at = np.column_stack([np.tile(np.arange(count) * 30.0, 3), np.zeros((3 * count, 2))])
    rows = [{"center_lps_mm": [30.0 * i, 0.0, 0.0], "diameter_mm": 8.0} for i in range(0, count, 4)]
    lesions = [{"center_lps_mm": [30.0 * (count - 1), 0.0, 0.0], "diameter_mm": 8.0}]
    of = Kept(
        scan,
        at,
        np.full(3 * count, 8.0),
        -np.tile(np.arange(count, dtype=np.float64), 3),
        rng.random((3 * count, 48, 48)).astype(np.float16),
        rng.random((3 * count, 32, 32, 32)).astype(np.float16),
        np.zeros(3 * count, bool),
        [rows, rows, []],
        lesions,
        [],
    )
    verdicts = np.concatenate([of.verdicts(i) for i in range(3)])
    lesion = np.where((scan == 2) & (np.arange(3 * count) == 3 * count - 1), 0, -1)
    knows = ((verdicts >= 0) | (lesion >= 0)) * 20.0 - 10 + rng.normal(0, 0.1, 3 * count)
    features = np.column_stack([rng.normal(size=(3 * count, 2)), knows])
    return Judged(Fold(host, "p", top=count, seeds=2), of, features, verdicts, lesion)


@pytest.fixture
def a_fold() -> Callable[..., Any]:
    """The function above."""
    return _a_fold


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    """Patches of both splits: noise, a nodule has a bright middle."""
    rng = np.random.default_rng(0)
    made = {}
    for part in ("train", "val"):
        labels = (np.arange(16) % 2).astype(np.uint8)
        noise = rng.integers(0, 60, (16, 50, 50))
        noise[labels == 1, 20:30, 20:30] += 150
        made |= {f"{part}_images": noise.astype(np.uint8), f"{part}_labels": labels}
    return made


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A work folder of its own; torch has as many threads afterwards as before."""
    import torch  # noqa: PLC0415 - other tests of this folder do without

    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
