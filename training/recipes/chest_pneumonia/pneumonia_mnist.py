"""Chest radiographs of children (PneumoniaMNIST): images, folds, variation, and shifted copies.

Rules.
1. Images are uint8 [n, 28, 28]; a network sees them as float32 [n, 1, 28, 28] in [0, 1]. Label 1
   is pneumonia. Train and val are one set here; the test split is never read.
2. Pictures that are alike (`read.fingerprint`, mirrored and turned ones too) form a group, and
   a group lies in one fold: the published splits hold 8 pictures twice, and more nearly so.
3. In these data normal radiographs are sharper and richer in contrast: the mean step between
   neighbouring pixels alone has an AUC of .92. Another machine's exposure breaks that, so training
   draws exposure, sharpness and frame anew for every view, whatever the label.
4. `shifted` makes the copies that a network is judged on besides the images as they are; none of
   them is a step of the training's own variation but blur, whose reach is longer here.
5. A fault of the data is a DataError of one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from training.errors import DataError
from training.learn.augment import Ranges, augment
from training.read.datasets import read_medmnist
from training.read.fingerprint import LIKE, of_image, views
from training.read.volume import F32, F64

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

SIZE = 28
FOLDS = 5
FILE = Path("data") / "cxr" / "pneumoniamnist28.npz"
"""From the shared folder."""
_CHUNK = 512

RANGES = Ranges(
    share=0.6,
    rotate_deg=15.0,
    scale=(0.8, 1.2),
    shift=2.5,
    flip=(-1,),
    elastic=1.5,
    elastic_cell=7.0,
    kernel=(-1.0, 1.0),
    gamma=(0.7, 1.5),
    noise=0.05,
    clahe=0.08,
    equalize=0.08,
)


@dataclass(frozen=True)
class Exposure:
    """What a batch gets on top of `RANGES`, drawn anew each time it is seen."""

    share: float = 0.7  # chance of a new mean and contrast
    mean: tuple[float, float] = (0.4, 0.7)
    spread: tuple[float, float] = (0.07, 0.22)  # standard deviation over the image, log-uniform
    cutout: float = 0.3  # chance of a square of one value
    cutout_px: tuple[int, int] = (5, 11)


@dataclass(frozen=True)
class Radiographs:
    """A set of images with what keeps folds apart."""

    images: U8  # [n, 28, 28]
    labels: I64  # [n], 0 or 1
    groups: I64  # [n], equal for pictures that are alike
    folds: I64  # [n], 0 to FOLDS - 1

    def __len__(self) -> int:
        return len(self.labels)


def load(path: Path, splits: Sequence[str] = ("train", "val")) -> Radiographs:
    """Both splits as one set, in their order."""
    found = read_medmnist(path)
    if missing := [s for s in splits if s not in found]:
        raise DataError(f"{path}: no {missing[0]}_images in it")
    images = np.concatenate([found[s].images for s in splits])
    labels = np.concatenate([found[s].labels for s in splits])
    if images.shape[1:] != (SIZE, SIZE):
        raise DataError(f"{path}: images are {images.shape[1:]}, not {SIZE} x {SIZE} grey values")
    if set(np.unique(labels)) != {0, 1}:
        raise DataError(f"{path}: labels are not 0 and 1")
    groups = alike(images)
    return Radiographs(images, labels, groups, folds_of(labels, groups))


def alike(images: U8, like: float = LIKE) -> I64:
    """Group [n] of each image: the smallest index among those it is like, directly or by others."""
    prints = np.stack([of_image(image) for image in images])
    flat = prints.reshape(len(prints), -1)
    group = np.arange(len(images))

    def root(i: int) -> int:
        while group[i] != i:
            i = int(group[i])
        return i

    for _, turned in views(prints):
        other = np.ascontiguousarray(turned).reshape(len(prints), -1)
        for start in range(0, len(flat), _CHUNK):
            for a, b in np.argwhere(flat[start : start + _CHUNK] @ other.T >= like):
                one, two = sorted((root(start + int(a)), root(int(b))))
                group[two] = one
    return np.array([root(i) for i in range(len(images))], np.int64)


def folds_of(labels: I64, groups: I64, folds: int = FOLDS, seed: int = 0) -> I64:
    """Fold [n] of each image: whole groups, both classes spread evenly."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    order = sorted(rng.permutation(len(members)), key=lambda i: -len(members[i]))
    held, out = np.zeros((folds, 2), np.int64), np.zeros(len(labels), np.int64)
    for i in order:
        of_class = np.bincount(labels[members[i]], minlength=2)
        # the fold that has least of what this group brings
        fold = int(np.argmin((held * (of_class > 0)).sum(1)))
        out[members[i]] = fold
        held[fold] += of_class
    return out


def varied(images: U8, ranges: Ranges, seed: int, epoch: int) -> U8:
    """One view [n, 28, 28] of each image, by `ranges`; equal for equal arguments."""
    out = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        part = torch.from_numpy(images[start : start + _CHUNK, None] / np.float32(255))
        indices = range(start, start + len(part))
        made = augment(part, ranges, seed=seed, epoch=epoch, indices=indices).images
        out[start : start + _CHUNK] = made[:, 0].mul(255).round().to(torch.uint8).numpy()
    return out


def exposed(images: Tensor, rng: np.random.Generator, e: Exposure) -> Tensor:
    """[n, 1, 28, 28] in [0, 1] with another mean and contrast, and squares cut out."""
    n = len(images)

    def column(values: F64) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).reshape(-1, 1, 1, 1)

    new = column(rng.random(n)) < e.share
    mean = column(rng.uniform(*e.mean, n))
    spread = column(np.exp(rng.uniform(np.log(e.spread[0]), np.log(e.spread[1]), n)))
    old, sd = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True)
    x = torch.where(new, (images - old) / sd.clamp(min=0.02) * spread + mean, images).clamp(0, 1)
    cut = np.flatnonzero(rng.random(n) < e.cutout)
    sides = rng.integers(e.cutout_px[0], e.cutout_px[1] + 1, (len(cut), 2))
    corners = rng.integers(-2, SIZE - 3, (len(cut), 2))
    for i, (h, w), (top, left), value in zip(
        cut, sides, corners, rng.random(len(cut)), strict=True
    ):
        x[i, :, max(top, 0) : top + h, max(left, 0) : left + w] = float(value)
    return x


def steepness(images: U8) -> F64:
    """Mean step between neighbouring pixels of a row, in grey levels [n]: see rule 3."""
    return np.asarray(np.abs(np.diff(images.astype(np.float64), axis=2)).mean((1, 2)))


def against_the_rule(data: Radiographs) -> npt.NDArray[np.bool_]:
    """The third of each class that looks like the other by sharpness and contrast [n].

    A network trained on the rest, where the shortcut holds, shows here what else it has learned.
    """
    steep = steepness(data.images)
    out = np.zeros(len(data), bool)
    for label in (0, 1):
        rows = data.labels == label
        edge = np.quantile(steep[rows], 2 / 3 if label else 1 / 3)
        out |= rows & ((steep >= edge) if label else (steep <= edge))
    return out


def shifted(images: F32, labels: I64, seed: int = 0) -> Mapping[str, F32]:
    """Copies of images [n, 28, 28] in [0, 1], each as another machine might have made them.

    `alike` gives all one mean and contrast; `contrary` makes normal images flat and soft and the
    others steep, against rule 3 - the only copy that knows the labels.
    """
    rng = np.random.default_rng(seed)
    mean, sd = images.mean((1, 2), keepdims=True), images.std((1, 2), keepdims=True)
    norm = (images - mean) / np.maximum(sd, 0.02)
    soft = ndimage.gaussian_filter(images, (0, 0.9, 0.9), mode="nearest")
    yes = labels[:, None, None] == 1
    contrary = np.where(yes, norm * 0.19 + mean, (soft - mean) * 0.65 + mean)
    zoomed = np.stack(
        [cv2.resize(i[2:-2, 2:-2], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for i in images]
    )
    copies = {
        "plain": images,
        "alike": norm * 0.15 + 0.55,
        "dark": images**1.8,
        "bright": images**0.55,
        "flat": (images - 0.5) * 0.5 + 0.5,
        "soft": soft,
        "noise": images + rng.normal(0, 0.06, images.shape),
        "zoomed": zoomed,
        "contrary": contrary,
    }
    return {name: np.asarray(np.clip(c, 0, 1), np.float32) for name, c in copies.items()}
