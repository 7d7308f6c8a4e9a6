"""Painted disease as a lesson: what is drawn can be painted, classes are the device's, each of them
is seen often, and the loss looks at the lungs alone."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

import torch

from appliance.bundle.heads import DISEASES
from rigs.two_lungs import two_lungs
from training.implant.disease.paint import COUNTS, RANGE_ML, LungTruth, Wanted, diffuse_truth, paint
from training.recipes.lung_nodule import sick_lungs
from training.recipes.lung_nodule.sick_lungs import KINDS_ML


def test_every_kind_is_drawn_within_what_the_painter_takes() -> None:
    assert set(KINDS_ML) == set(RANGE_ML)
    assert sum(odds for *_, odds in KINDS_ML.values()) == pytest.approx(1)
    for kind, (low, high, _) in KINDS_ML.items():
        assert RANGE_ML[kind][0] <= low < high <= RANGE_ML[kind][1]


def test_what_is_drawn_never_runs_out_of_room() -> None:
    """In lungs of a fifth of a usual chest, where room is short."""
    chest, seen, numbers = two_lungs().chest(), set(), set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        wanted = sick_lungs.drawn(rng, chest)
        sick = paint(rng, chest, wanted)
        assert {one.kind for one in wanted} <= set(sick.ml)
        seen |= set(sick.ml)
        numbers.add(len(wanted))
    assert numbers == {0, 1, 2, 3}
    assert len(seen) >= 9


def test_classes_have_the_names_and_the_volume_of_the_truth() -> None:
    assert set(COUNTS) == {f"{name}_ml" for name in DISEASES} == set(LungTruth.model_fields)
    chest = two_lungs().chest()
    wanted = [Wanted("consolidation", 60, "left"), Wanted("bulla", 20, "right")]
    wanted += [Wanted("effusion", 60, "right"), Wanted("multifocal", 30, "left")]
    sick = paint(np.random.default_rng(0), chest, wanted)
    shares, truth = sick_lungs.shares_of(sick), diffuse_truth(sick)
    for i, name in enumerate(DISEASES):
        ml = sum(getattr(lung, f"{name}_ml") for lung in (truth.left, truth.right))
        assert shares[i].sum() * chest.voxel_ml == pytest.approx(ml, rel=1e-3)
        assert ml > 0
    assert shares.sum(0).max() == 1
    assert not shares[:, sick.masks["effusion"]].any()


def lesson() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right logits, shares of DISEASES and lungs: a box of lung, in it a box of each class."""
    lungs, shares = torch.zeros(2, 1, 16, 16, 48), torch.zeros(2, 3, 16, 16, 48)
    lungs[..., 4:12, 4:12, 4:44] = 1
    for i in range(3):
        shares[:, i, 5:11, 5:11, 6 + 12 * i : 14 + 12 * i] = 1
    right = torch.cat([1 - shares.sum(1, keepdim=True), shares], 1) * 20 - 10
    return right, shares, lungs


def test_the_right_classes_cost_nothing_and_any_two_confused_cost_much() -> None:
    right, shares, lungs = lesson()
    assert float(sick_lungs.loss_of(right, shares, lungs)) < 0.02
    for a, b in ((0, 1), (1, 2), (2, 3), (0, 3)):
        order = list(range(4))
        order[a], order[b] = order[b], order[a]
        assert float(sick_lungs.loss_of(right[:, order], shares, lungs)) > 0.5


def test_only_what_is_near_the_lungs_is_learned() -> None:
    right, shares, lungs = lesson()
    logits = torch.randn(right.shape, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    sick_lungs.loss_of(logits, shares, lungs).backward()
    assert logits.grad is not None
    band = sick_lungs.BAND
    assert logits.grad[0, :, 4 - band, 4, 4].any()
    assert not logits.grad[0, :, 4 - band - 1].any()


def test_pieces_show_each_class_in_a_good_part_of_them_and_healthy_lung_in_most() -> None:
    """So much that a network learns of it: of a class that lies in one piece of sixteen it did
    not."""
    host, rng = two_lungs(), np.random.default_rng(1)
    lungs = (host.right | host.left).astype(np.float32)
    chest, drawn = host.chest(), []
    for _ in range(20):
        sick = paint(rng, chest, sick_lungs.drawn(rng, chest))
        drawn.append(sick_lungs.pieces(rng, sick, lungs, 4, (16, 32, 32)))
    images, inside, shares = (np.concatenate(part) for part in zip(*drawn, strict=True))
    assert images.shape == inside.shape == (80, 1, 16, 32, 32)
    assert 0 <= images.min() < images.max() <= 1
    assert shares.sum(1).max() <= 1 + 1e-5
    assert not shares[np.broadcast_to(inside == 0, shares.shape)].any(), "it lies in the lungs"
    lung = inside.sum((1, 2, 3, 4))
    sick = shares.sum((2, 3, 4)) / np.maximum(lung, 1)[:, None]
    assert ((sick > 0.05).mean(0) > 0.12).all()
    assert (sick.sum(1) < 0.5).mean() > 0.5
    level = {n: (images * shares[:, i : i + 1]).sum() / shares[:, i].sum() * 1400 - 1000
             for i, n in enumerate(DISEASES)}  # fmt: skip
    assert level["emphysema"] < -850 < -700 < level["ground_glass"] < -400 < level["consolidated"]
