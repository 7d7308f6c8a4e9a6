"""Losses against cases worked by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.losses import centernet_focal, centre_l1, soft_dice, weighted_bce  # noqa: E402


def test_focal_loss_of_one_centre_and_one_background_cell() -> None:
    logits = torch.tensor([0.0, 0.0])
    target = torch.tensor([1.0, 0.0])
    # centre: -ln(.5) * .5^2; background: -ln(.5) * .5^2 * 1^4; one centre
    expected = 2 * math.log(2) * 0.25
    assert centernet_focal(logits, target, torch.ones(2)).item() == pytest.approx(expected)


def test_focal_loss_forgives_cells_beside_a_centre() -> None:
    logits, weight = torch.tensor([9.0, 0.0]), torch.ones(2)
    near = centernet_focal(logits, torch.tensor([1.0, 0.8]), weight).item()
    assert near == pytest.approx(math.log(2) * 0.25 * 0.2**4, abs=1e-6)


def test_focal_loss_of_a_cell_without_weight_has_no_gradient() -> None:
    logits = torch.tensor([0.0, 3.0], requires_grad=True)
    centernet_focal(logits, torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])).backward()
    assert logits.grad is not None
    assert logits.grad[1].item() == 0
    assert logits.grad[0].item() < 0


def test_focal_loss_without_a_centre_is_divided_by_one() -> None:
    loss = centernet_focal(torch.zeros(4), torch.zeros(4), torch.ones(4)).item()
    assert loss == pytest.approx(4 * math.log(2) * 0.25)


def test_centre_l1_counts_only_where_there_is_weight() -> None:
    loss = centre_l1(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(1.0)
    assert centre_l1(torch.ones(2), torch.zeros(2), torch.zeros(2)).item() == 0


def test_dice_is_zero_for_a_perfect_mask_and_for_an_empty_answer_to_an_empty_truth() -> None:
    truth = torch.zeros(1, 1, 4, 4, 4)
    assert soft_dice(torch.full_like(truth, -50.0), truth).item() == pytest.approx(0, abs=1e-6)
    truth[..., :2] = 1
    assert soft_dice((truth - 0.5) * 100, truth).item() == pytest.approx(0, abs=1e-6)


def test_dice_of_half_an_overlap() -> None:
    truth = torch.zeros(1, 8)
    truth[0, :4] = 1
    answer = torch.full((1, 8), -50.0)
    answer[0, 2:6] = 50
    assert soft_dice(answer, truth, smooth=0.0).item() == pytest.approx(0.5)


def test_weighted_bce_of_even_odds() -> None:
    loss = weighted_bce(
        torch.zeros(3), torch.tensor([1.0, 0.0, 0.3]), torch.tensor([1.0, 1.0, 1.0])
    )
    assert loss.item() == pytest.approx(math.log(2))
