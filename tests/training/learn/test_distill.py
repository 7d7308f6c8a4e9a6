"""Distillation: each loss against a case reckoned by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.learn.distill import (  # noqa: E402
    attention,
    attention_loss,
    feature_loss,
    logit_loss,
    projection,
)


def entropy_gap(p: float, q: float) -> float:
    """KL(p || q) of two Bernoulli distributions."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_the_logit_loss_is_the_divergence_at_the_temperature_times_its_square() -> None:
    student, teacher = torch.tensor([0.0, 0.0]), torch.tensor([4 * math.log(3), 0.0])
    # at T 4 the teacher says 3/4 and 1/2, the student 1/2 twice
    assert logit_loss(student, teacher, 4.0).item() == pytest.approx(
        16 * (entropy_gap(0.75, 0.5) + 0) / 2, rel=1e-5
    )


def test_more_classes_are_a_softmax() -> None:
    student = torch.zeros(1, 3)
    teacher = torch.tensor([[math.log(2), 0.0, 0.0]])  # 1/2, 1/4, 1/4
    wanted = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.25 * 3)
    assert logit_loss(student, teacher).item() == pytest.approx(wanted, rel=1e-5)


def test_the_logit_losss_gradient_keeps_its_size_at_high_temperatures() -> None:
    sizes = []
    for temperature in (20.0, 40.0):
        student = torch.tensor([1.0], requires_grad=True)
        logit_loss(student, torch.tensor([2.0]), temperature).backward()
        sizes.append(student.grad.item())
    # of sigmoid'(0) (z - v): 1/4 of the difference (arXiv:1503.02531, eq. 4)
    assert sizes[0] == pytest.approx(-0.25, rel=0.01)
    assert sizes[1] == pytest.approx(-0.25, rel=0.01)


def test_a_teacher_gets_no_gradient() -> None:
    teacher = torch.randn(4, 2, 3, 3, requires_grad=True)
    student = torch.randn(4, 2, 3, 3, requires_grad=True)
    total = feature_loss(student, teacher) + attention_loss(student, teacher)
    total = total + logit_loss(student[:, 0, 0, 0], teacher[:, 0, 0, 0], 2.0)
    total.backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_the_feature_loss_is_half_the_mean_square() -> None:
    student, teacher = torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    teacher[0, 0, 0, 0] = 3.0
    # seven ones and one (1 - 3)^2
    assert feature_loss(student, teacher).item() == pytest.approx(0.5 * (7 + 4) / 8)


def test_larger_maps_are_averaged_to_the_smaller() -> None:
    teacher = torch.arange(16.0).reshape(1, 1, 4, 4)
    # the means of its four quarters
    student = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])
    assert feature_loss(student, teacher).item() == pytest.approx(0.0, abs=1e-12)
    assert attention_loss(student, teacher).item() < 1e-3


def test_channels_that_differ_want_a_projection() -> None:
    student, teacher = torch.ones(1, 2, 2, 2, 2), torch.ones(1, 3, 2, 2, 2)
    with pytest.raises(ValueError, match="project to the teacher's channels"):
        feature_loss(student, teacher)
    assert feature_loss(projection(2, 3, dims=3)(student), teacher).ndim == 0


def test_attention_sums_squares_over_channels_and_has_length_1() -> None:
    maps = torch.zeros(1, 2, 1, 2)
    maps[0, :, 0, 0] = torch.tensor([1.0, 1.0])  # 2
    maps[0, :, 0, 1] = torch.tensor([0.0, 1.0])  # 1
    assert attention(maps)[0].tolist() == pytest.approx([2 / 5**0.5, 1 / 5**0.5])


def test_the_attention_loss_is_the_distance_whatever_the_channels_and_the_scale() -> None:
    student, teacher = torch.zeros(1, 1, 1, 2), torch.zeros(1, 5, 1, 2)
    student[0, 0, 0, 0] = 7.0
    teacher[0, 3, 0, 1] = -2.0
    assert attention_loss(student, teacher).item() == pytest.approx(2**0.5, rel=1e-4)
    teacher = teacher.flip(3)
    assert attention_loss(student, teacher).item() < 1e-3


def test_where_student_and_teacher_agree_the_gradient_is_finite() -> None:
    student = torch.ones(1, 1, 2, 2, requires_grad=True)
    attention_loss(student, torch.ones(1, 4, 2, 2)).backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(
    ("student", "teacher", "temperature", "says"),
    [
        (torch.zeros(2), torch.zeros(3), 1.0, "logits"),
        (torch.zeros(2), torch.zeros(2), 0.0, "temperature"),
        (torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), 1.0, "logits"),
    ],
)
def test_what_means_nothing_is_refused(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        logit_loss(student, teacher, temperature)
