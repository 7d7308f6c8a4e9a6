"""Losses against cases worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.learn.losses import (  # noqa: E402
    GradientHarmonizing,
    WeightedSum,
    centernet_focal,
    centre_l1,
    class_weights,
    focal,
    ghm,
    soft_dice,
    weight_of_class,
    weighted_bce,
)

LOSSES = {
    "centernet_focal": centernet_focal,
    "centre_l1": centre_l1,
    "soft_dice": soft_dice,
    "weighted_bce": weighted_bce,
    "focal": focal,
    "focal_root": partial(focal, gamma=0.5),
    "ghm": ghm,
    "sum": WeightedSum(
        {"dice": (1.0, soft_dice), "focal": (0.5, focal), "ghm": (2.0, GradientHarmonizing())}
    ).eval(),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


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


def test_dice_reads_weights_as_parts_of_voxels() -> None:
    truth, answer = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[50.0, -50.0, 50.0]])
    # overlap 0.5, answer 0.5 + 1, truth 0.5 + 1: Dice 1 / 3
    loss = soft_dice(answer, truth, smooth=0.0, weight=torch.tensor([[0.5, 1.0, 1.0]]))
    assert loss.item() == pytest.approx(1 - 1 / 3)


def test_focal_loss_at_even_odds_weighs_the_classes_by_alpha() -> None:
    loss = focal(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(0.25 * 0.5**2 * math.log(2))
    loss = focal(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert loss.item() == pytest.approx(0.75 * 0.5**2 * math.log(2))


def test_focal_loss_falls_with_the_power_gamma_of_what_is_missing() -> None:
    sure = torch.tensor([math.log(3)])  # p = 3/4
    loss = focal(sure, torch.ones(1), gamma=1.5, alpha=None)
    assert loss.item() == pytest.approx(0.25**1.5 * math.log(4 / 3))
    loss = focal(sure, torch.zeros(1), gamma=1.5, alpha=None)
    assert loss.item() == pytest.approx(0.75**1.5 * math.log(4))


def test_focal_loss_with_gamma_0_is_the_cross_entropy() -> None:
    logits, target = torch.linspace(-4, 4, 9), torch.linspace(0, 1, 9)
    loss = focal(logits, target, gamma=0.0, alpha=None)
    assert loss.item() == pytest.approx(weighted_bce(logits, target, torch.ones(9)).item())


def test_ghm_divides_each_position_by_how_many_have_its_gradient() -> None:
    far = math.log(19)  # p = 0.95: a gradient of 0.05 where right, 0.95 where wrong
    logits, target = torch.tensor([far, -far, -far, far]), torch.tensor([1.0, 0.0, 0.0, 0.0])
    # two bins in use: three easy ones weigh 4 / (3 * 2), the wrong one 4 / (1 * 2)
    expected = (3 * (2 / 3) * math.log(1 / 0.95) + 2 * math.log(20)) / 4
    assert ghm(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_ghm_does_not_count_what_has_no_weight() -> None:
    far = math.log(19)
    logits, target = torch.tensor([far, far, far]), torch.tensor([1.0, 1.0, 0.0])
    loss = ghm(logits, target, torch.tensor([1.0, 0.0, 1.0]))
    assert loss.item() == pytest.approx((math.log(1 / 0.95) + math.log(20)) / 2, rel=1e-5)


def test_ghm_counts_a_gradient_of_1_in_the_last_bin() -> None:
    far = math.log(19)
    logits, expected = torch.tensor([100.0, far, -far]), [100, math.log(20), math.log(1 / 0.95)]
    # two in the last bin weigh 3 / (2 * 2), the easy one 3 / (1 * 2)
    mean = (0.75 * expected[0] + 0.75 * expected[1] + 1.5 * expected[2]) / 3
    assert ghm(logits, torch.zeros(3)).item() == pytest.approx(mean)


def test_ghm_of_even_gradients_is_the_cross_entropy() -> None:
    logits = torch.logit((torch.arange(10) + 0.5) / 10)
    target = torch.zeros(10)
    expected = weighted_bce(logits, target, torch.ones(10)).item()
    assert ghm(logits, target).item() == pytest.approx(expected)


def test_the_density_moves_by_a_quarter_of_each_batch_and_only_in_training() -> None:
    loss = GradientHarmonizing(bins=2, momentum=0.75)
    easy, hard = torch.full((4,), -5.0), torch.full((4,), 5.0)
    loss(easy, torch.zeros(4))
    assert loss.density.tolist() == [4, 0]
    # the wrong ones make up 1 of 4 counts now: each weighs 4 / (1 * 2)
    value = loss(hard, torch.zeros(4)).item()
    assert loss.density.tolist() == [3, 1]
    assert value == pytest.approx(2 * math.log1p(math.exp(5)))
    loss.eval()
    loss(hard, torch.zeros(4))
    assert loss.density.tolist() == [3, 1]
    again = GradientHarmonizing(bins=2)
    again.load_state_dict(loss.state_dict())
    assert again.density.tolist() == [3, 1]


def test_a_weighted_sum_keeps_its_terms_and_their_state() -> None:
    logits, target = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    total = WeightedSum(
        {"dice": (2.0, soft_dice), "ghm": (0.5, GradientHarmonizing()), "off": (0.0, focal)}
    )
    expected = 2 * soft_dice(logits, target) + 0.5 * ghm(logits, target)
    assert total(logits, target).item() == pytest.approx(expected.item())
    assert {k: v.item() for k, v in total.last.items()} == pytest.approx(
        {"dice": soft_dice(logits, target).item(), "ghm": ghm(logits, target).item()}
    )
    assert list(total.state_dict()) == ["ghm.density"]


@pytest.mark.parametrize("factor", [-1.0, 0.0, math.nan, math.inf])
def test_a_weighted_sum_refuses_factors_that_mean_nothing(factor: float) -> None:
    with pytest.raises(ValueError, match="factors"):
        WeightedSum({"dice": (factor, soft_dice)})


def test_class_weights_are_inverse_to_the_share_of_a_class() -> None:
    # 8 / (2 * 6) and 8 / (2 * 2)
    assert class_weights([6, 2]).tolist() == pytest.approx([2 / 3, 2.0])


def test_class_weights_by_the_effective_number() -> None:
    # beta 1/2: 1 - beta^n is 1/2 and 3/4, so the weights are as 3 to 2; 1 * 3k + 2 * 2k = 3
    assert class_weights([1, 2], beta=0.5).tolist() == pytest.approx([9 / 7, 6 / 7])
    assert class_weights([6, 2], beta=0.0).tolist() == pytest.approx([1, 1])


def test_a_class_without_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="every class"):
        class_weights([5, 0])


def test_a_soft_target_takes_part_of_both_class_weights() -> None:
    weights = weight_of_class(torch.tensor([0.0, 1.0, 0.25]), torch.tensor([1.0, 5.0]))
    assert weights.tolist() == pytest.approx([1, 5, 2])


@every_loss
def test_the_gradient_is_the_one_of_finite_differences(loss: Callable[..., torch.Tensor]) -> None:
    maker = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(3, 7, generator=maker, dtype=torch.float64)
    target = torch.rand(3, 7, generator=maker, dtype=torch.float64)
    target[:, :2] = torch.tensor([0.0, 1.0], dtype=torch.float64)
    weight = torch.rand(3, 7, generator=maker, dtype=torch.float64)

    def of(x: torch.Tensor) -> torch.Tensor:
        return loss(x, target, weight=weight)

    assert of(logits).dtype == torch.float64
    assert torch.autograd.gradcheck(of, logits.requires_grad_())


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_saturated_logits_give_finite_losses_and_gradients(
    loss: Callable[..., torch.Tensor], dtype: torch.dtype
) -> None:
    logits = torch.tensor([6e4, -6e4, 100.0, -100.0, 0.0]).to(dtype)
    for truth in (0.0, 0.5, 1.0):
        x = logits[None].clone().requires_grad_()
        value = loss(x, torch.full((1, 5), truth), weight=torch.ones(1, 5))
        value.backward()
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert x.grad is not None
        assert x.grad.isfinite().all()


@every_loss
def test_what_has_no_weight_has_no_gradient(loss: Callable[..., torch.Tensor]) -> None:
    x = torch.tensor([[0.5, -2.0, 3.0, 1.0]], requires_grad=True)
    loss(x, torch.tensor([[1.0, 0.0, 0.0, 1.0]]), weight=torch.tensor([[1.0, 0, 1, 0]])).backward()
    assert x.grad is not None
    assert (x.grad != 0).tolist() == [[True, False, True, False]]
    empty = loss(x, torch.zeros(1, 4), weight=torch.zeros(1, 4))
    assert empty.item() == pytest.approx(0)


@every_loss
def test_a_nan_shows_in_the_loss(loss: Callable[..., torch.Tensor]) -> None:
    x = torch.tensor([[0.5, math.nan]])
    assert loss(x, torch.zeros(1, 2), weight=torch.ones(1, 2)).isnan()
