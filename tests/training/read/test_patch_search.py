"""A patch that was cut from a CT is found in it, and no other is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from training.read.patch_search import places_of
from training.read.volume import Volume


def scan(seed: int) -> Volume:
    """Lung with vessels of its own, in slices of 160 x 160."""
    rng = np.random.default_rng(seed)
    grain = ndimage.gaussian_filter(rng.standard_normal((6, 160, 160)), (0, 3, 3))
    hu = (
        -850
        + 9000 * np.maximum(grain / grain.std() * 0.1 - 0.08, 0)
        + rng.normal(0, 15, grain.shape)
    )
    return Volume(
        f"ct-{seed}", np.clip(hu, -1000, 300).astype(np.float32), (2.0, 0.7, 0.7), (0, 0, 0)
    )


def cut(volume: Volume, number: int, y: int, x: int) -> np.ndarray:
    """A patch as LUNA16's are: windowed, in JPEG once."""
    part = volume.hu[number, y : y + 50, x : x + 50]
    grey = np.rint((np.clip(part, -1000, 400) + 1000) / 1400 * 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", grey)[1], cv2.IMREAD_GRAYSCALE)


PLACES = [(0, 11, 30), (3, 57, 102), (5, 90, 1)]


def test_patches_are_found_where_they_were_cut_whichever_way_they_lie() -> None:
    ct = scan(1)
    patches = np.stack([cut(ct, *at) for at in PLACES])
    turns = [(1, 1, ""), (-1, 1, "upside down"), (1, -1, "mirrored")]
    turns.append((-1, -1, "turned by 180 degrees"))
    for down, right, how in turns:
        found = places_of(patches[:, ::down, ::right], ct)
        assert [(p.patch, p.slice, p.how) for p in found] == [(0, 0, how), (1, 3, how), (2, 5, how)]


def test_a_patch_of_another_ct_is_not_found() -> None:
    ct, other = scan(1), scan(2)
    patches = np.stack([cut(other, *at) for at in PLACES] + [cut(ct, 2, 40, 40)])
    assert [p.patch for p in places_of(patches, ct)] == [3]


@pytest.mark.parametrize("flat", [0, 255])
def test_what_is_flat_resembles_nothing(flat: int) -> None:
    ct = scan(1)
    ct.hu[:, 80:] = -1000
    assert places_of(np.full((1, 50, 50), flat, np.uint8), ct) == []
    assert places_of(np.stack([cut(scan(2), *PLACES[0])]), ct) == []
