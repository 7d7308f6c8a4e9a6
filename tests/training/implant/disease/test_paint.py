"""Painted disease: its volume, where it lies, and what holds for every kind."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from rigs.two_lungs import TwoLungs, two_lungs
from training.errors import DataError
from training.implant.disease import lines
from training.implant.disease.chest import Frame, Side, make_chest
from training.implant.disease.layers import Kind, Site
from training.implant.disease.paint import (
    KINDS,
    PAINTERS,
    RANGE_ML,
    Sick,
    Wanted,
    diffuse_truth,
    paint,
)

ML: dict[Kind, float] = {**dict.fromkeys(KINDS, 80.0), "scar": 12.0, "metal": 1.0}


def painted(host: TwoLungs, *wanted: Wanted, seed: int = 3) -> Sick:
    return paint(np.random.default_rng(seed), host.chest(), wanted)


def in_both(sick: Sick, kind: Kind) -> float:
    return sum(sick.ml[kind].values())


@pytest.fixture(scope="module")
def host() -> TwoLungs:
    return two_lungs()


@pytest.mark.parametrize("kind", KINDS)
def test_each_lung_gets_the_volume_that_was_asked_for(host: TwoLungs, kind: Kind) -> None:
    low, high = RANGE_ML[kind]
    voxel = 0.027
    for ml in (low, ML[kind], min(high, 1500.0)):
        sick = painted(host, Wanted(kind, ml))
        assert in_both(sick, kind) == pytest.approx(ml, abs=0.02 * ml + 2 * voxel)
        counted = {"right": sick.masks[kind] & host.right, "left": sick.masks[kind] & host.left}
        for side, volume in sick.ml[kind].items():
            assert volume == pytest.approx(counted[side].sum() * voxel)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_nothing_is_painted_outside_the_thorax_or_in_the_heart(host: TwoLungs, kind: Kind) -> None:
    sick = painted(host, Wanted(kind, ML[kind]))
    changed = sick.hu != host.hu
    chest = host.chest()
    allowed = np.zeros(changed.shape, bool)
    for lung in chest.lungs:
        allowed[lung.part] |= lung.depth_mm > -3.0
    if kind == "metal":  # its rays cross the slice between the lungs
        columns = (host.right | host.left).any(0)
        assert not (changed & ~allowed)[:, ~columns.any(1), :].any()
        assert not (changed & ~allowed)[:, :, : np.argmax(columns.any(0))].any()
    else:
        assert not (changed & ~allowed).any()
        deep_in_heart = host.heart & ~allowed
        assert deep_in_heart.sum() > 5000
        assert not changed[deep_in_heart].any()
    for mask in sick.masks.values():
        assert not (mask & ~(host.right | host.left)).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_the_same_seed_paints_the_same_bytes(host: TwoLungs, kind: Kind) -> None:
    before = host.hu.copy()
    one, same = (painted(host, Wanted(kind, ML[kind]), seed=8) for _ in range(2))
    assert one.hu.tobytes() == same.hu.tobytes()
    assert one.masks[kind].tobytes() == same.masks[kind].tobytes()
    assert painted(host, Wanted(kind, ML[kind]), seed=9).hu.tobytes() != one.hu.tobytes()
    assert np.array_equal(host.hu, before), "the host stays as it was"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slice_mm", [1.0, 8.0])
@pytest.mark.long
def test_thin_and_thick_slices_hold_the_same_volume(kind: Kind, slice_mm: float) -> None:
    spacing = (slice_mm, 3.0, 3.0)
    sick = painted(two_lungs(spacing), Wanted(kind, ML[kind]))
    voxel = float(np.prod(spacing)) / 1000
    assert in_both(sick, kind) == pytest.approx(ML[kind], abs=0.02 * ML[kind] + 2 * voxel)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "frame",
    [
        Frame(flip=(True, False, True)),
        Frame((2, 0, 1), (True, True, False)),
    ],
)
@pytest.mark.long
def test_a_turned_host_gets_the_same_disease_turned(
    host: TwoLungs, kind: Kind, frame: Frame
) -> None:
    upright = painted(host, Wanted(kind, ML[kind]))
    hu, right, left = (frame.turned(a) for a in (host.hu, host.right, host.left))
    dz, dy, dx = (host.spacing[i] for i in frame.order)
    chest = make_chest(hu, (dz, dy, dx), right, left, frame)
    turned = paint(np.random.default_rng(3), chest, [Wanted(kind, ML[kind])])
    assert np.array_equal(turned.hu, frame.turned(upright.hu))
    assert np.array_equal(turned.masks[kind], frame.turned(upright.masks[kind]))
    assert turned.ml == upright.ml


@pytest.mark.parametrize("side", ["right", "left"])
def test_one_lung_may_be_ill_alone(host: TwoLungs, side: Side) -> None:
    sick = painted(host, Wanted("consolidation", 90, side))
    other: Side = "left" if side == "right" else "right"
    assert sick.ml["consolidation"][side] == pytest.approx(90, rel=0.01)
    assert sick.ml["consolidation"][other] == 0


def test_diseases_share_no_voxel_and_each_keeps_its_volume(host: TwoLungs) -> None:
    wanted = [Wanted(kind, ML[kind]) for kind in KINDS]
    sick = painted(host, *wanted)
    assert set(sick.masks) == set(KINDS)
    assert np.sum(list(sick.masks.values()), axis=0).max() == 1
    for want in wanted:
        if want.kind != "atelectasis":  # effusion brings some of its own
            assert in_both(sick, want.kind) == pytest.approx(want.ml, rel=0.05)


def test_more_than_the_lungs_hold_is_refused_with_what_they_hold(host: TwoLungs) -> None:
    full = Wanted("consolidation", 1400)
    with pytest.raises(DataError, match=r"room for \d+ ml"):
        painted(host, full, full)
    with pytest.raises(DataError, match="ask for 5 to 1500 ml"):
        painted(host, Wanted("effusion", 4))
    with pytest.raises(DataError, match="ask for 2 to 60 ml"):
        painted(host, Wanted("scar", 61))


def test_a_disease_without_a_place_left_says_so(host: TwoLungs) -> None:
    lung = host.chest().lungs[0]
    deep = lung.inside & (lung.depth_mm > 8)  # no pleura is free
    site = Site(lung, host.hu[lung.part], deep, host.spacing)
    with pytest.raises(DataError, match="no place of the lung is left"):
        lines.scar(np.random.default_rng(1), site, 5)
    few = Site(lung, host.hu[lung.part], deep & (lung.depth_mm > 40), host.spacing)
    for painter in PAINTERS.values():
        with pytest.raises(DataError, match="ask for less"):
            painter(np.random.default_rng(1), few, 800)


def test_all_goes_to_the_one_lung_that_there_is(host: TwoLungs) -> None:
    none = np.zeros_like(host.left)
    chest = make_chest(host.hu, host.spacing, host.right, none)
    sick = paint(np.random.default_rng(1), chest, [Wanted("effusion", 200)])
    assert sick.ml["effusion"] == {"right": pytest.approx(200, rel=0.01)}
    with pytest.raises(DataError, match="room for 0 ml"):
        paint(np.random.default_rng(1), chest, [Wanted("effusion", 200, "left")])


def test_the_truth_of_diffuse_disease_counts_what_a_report_counts(host: TwoLungs) -> None:
    sick = painted(
        host,
        Wanted("consolidation", 60, "right"),
        Wanted("atelectasis", 40, "right"),
        Wanted("ground_glass", 70, "left"),
        Wanted("multifocal", 30, "left"),
        Wanted("emphysema", 50, "left"),
        Wanted("bulla", 20, "left"),
        Wanted("cavity", 25, "left"),
    )
    truth = diffuse_truth(sick)
    assert truth.right.consolidated_ml == pytest.approx(100, rel=0.01)
    assert truth.right.ground_glass_ml == truth.right.emphysema_ml == 0
    assert truth.left.consolidated_ml == 0
    assert truth.left.ground_glass_ml == pytest.approx(100, rel=0.01)
    assert truth.left.emphysema_ml == pytest.approx(70, rel=0.01)
    healthy = diffuse_truth(painted(host))
    assert healthy.right == healthy.left
    assert healthy.right.consolidated_ml == healthy.right.emphysema_ml == 0
