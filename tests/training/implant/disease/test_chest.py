"""A host's lungs: which is which, how deep a voxel lies, what a frame turns."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from rigs.two_lungs import NOISE_HU, two_lungs
from training.implant.disease.chest import Frame, chest_of, make_chest, parted
from training.read.volume import Volume


def test_the_right_lung_lies_at_low_x_also_where_the_lungs_touch() -> None:
    host = two_lungs()
    both = host.right | host.left
    right, left = parted(both, 3.0)
    assert np.array_equal(right, host.right)
    assert np.array_equal(left, host.left)
    middle = both.shape[2] // 2
    both[40:44, 40:46, middle - 12 : middle + 12] = True  # a bridge of 12 mm
    right, left = parted(both, 3.0)
    assert (right & host.right).sum() > 0.99 * host.right.sum()
    assert (left & host.left).sum() > 0.99 * host.left.sum()
    assert np.array_equal(right | left, both)
    assert not (right & left).any()


def test_one_lung_alone_is_on_its_own_side() -> None:
    host = two_lungs()
    narrow = host.left.copy()
    narrow[34:46] &= np.indices(narrow.shape)[1][34:46] < 22  # it breaks in two when it shrinks
    for lung in (host.left, narrow):
        right, left = parted(lung, 3.0)
        assert not right.any()
        assert np.array_equal(left, lung)
    assert not any(m.any() for m in parted(np.zeros_like(host.left), 3.0))


def test_depth_is_in_mm_from_the_surface_on_any_slices() -> None:
    host = two_lungs((6.0, 2.0, 2.0))
    lung = host.chest().lungs[0]
    assert lung.side == "right"
    assert lung.depth_mm.max() == pytest.approx(44, abs=3)  # 48 less what the heart takes
    assert lung.depth_mm[lung.inside].min() == pytest.approx(1.0)
    assert lung.depth_mm[~lung.inside].max() == pytest.approx(-1.0)
    assert (lung.takes >= lung.inside).all()
    assert lung.depth_mm[lung.takes].min() >= -3.0


@pytest.mark.long
def test_a_scan_becomes_a_chest_on_its_own_grid_and_on_a_coarse_one() -> None:
    host = two_lungs((1.5, 1.5, 1.5))
    volume = Volume("made-up", host.hu, host.spacing, (0.0, 0.0, 0.0))
    own, coarse = (
        chest_of(volume, host.right | host.left),
        chest_of(volume, host.right | host.left, 3.0),
    )
    assert own.hu.shape == host.hu.shape
    assert coarse.spacing == (3.0, 3.0, 3.0)
    for fine, rough in zip(own.lungs, coarse.lungs, strict=True):
        ml = fine.inside.sum() * own.voxel_ml
        assert rough.inside.sum() * coarse.voxel_ml == pytest.approx(ml, rel=0.03)


def test_the_noise_of_a_coarse_grid_is_that_of_its_calm_tissue() -> None:
    assert two_lungs().chest().noise_hu == pytest.approx(NOISE_HU, rel=0.3)


def test_a_frame_turns_there_and_back() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    frame = Frame((2, 0, 1), (True, False, True))
    turned = frame.turned(array)
    assert turned.shape == (4, 2, 3)
    assert np.array_equal(frame.upright(turned), array)


def test_no_lung_or_another_shape_is_refused() -> None:
    host = two_lungs()
    none = np.zeros_like(host.right)
    with pytest.raises(ValueError, match="no lung in the masks"):
        make_chest(host.hu, host.spacing, none, none)
    with pytest.raises(ValueError, match="differ in shape"):
        make_chest(host.hu, host.spacing, none[1:], none)
