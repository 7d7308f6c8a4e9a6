"""What tests of the pneumonia recipes share: made-up radiographs, and a step to run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from training.recipes.chest_pneumonia.pneumonia_mnist import Radiographs


def _radiographs(count: int = 40) -> Radiographs:
    """Noise; class 1 has a bright patch."""
    from training.recipes.chest_pneumonia.pneumonia_mnist import (  # noqa: PLC0415 - it wants torch
        Radiographs,
        folds_of,
    )

    rng = np.random.default_rng(0)
    labels = (np.arange(count) % 4 > 0).astype(np.int64)
    images = rng.normal(110, 25, (count, 28, 28))
    images[labels == 1, 8:20, 6:14] += 60
    groups = np.arange(count)
    whole = np.clip(images, 0, 255).astype(np.uint8)
    return Radiographs(whole, labels, groups, folds_of(labels, groups))


@pytest.fixture
def radiographs() -> Callable[..., Any]:
    """The function above."""
    return _radiographs


def _run(recipe: object, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """The recipe's `main` with these words on its command line."""
    monkeypatch.setattr(sys, "argv", ["recipe", *words])
    recipe.main()  # type: ignore[attr-defined]


@pytest.fixture
def run() -> Callable[..., Any]:
    """The function above."""
    return _run


def _made_up(count: int, seed: int = 0, steep: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Images of blobs; with `steep`, those of class 0 have more contrast."""
    from scipy import ndimage  # noqa: PLC0415 - a machine without it skips these tests

    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 4 > 0).astype(np.int64)
    blobs = ndimage.gaussian_filter(rng.standard_normal((count, 28, 28)), (0, 2, 2))
    blobs /= blobs.std((1, 2), keepdims=True)
    contrast = np.where(labels == 0, 45, 25)[:, None, None] if steep else 35
    return np.clip(blobs * contrast + 128, 0, 255).astype(np.uint8), labels


@pytest.fixture
def made_up() -> Callable[..., Any]:
    """The function above."""
    return _made_up


def _as_set(images: np.ndarray, labels: np.ndarray) -> Radiographs:
    """The images, each a group of its own."""
    from training.recipes.chest_pneumonia.pneumonia_mnist import (  # noqa: PLC0415 - it wants torch
        Radiographs,
        folds_of,
    )

    groups = np.arange(len(labels))
    return Radiographs(images, labels, groups, folds_of(labels, groups))


@pytest.fixture
def as_set() -> Callable[..., Any]:
    """The function above."""
    return _as_set
