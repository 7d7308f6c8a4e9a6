"""What teaches a network of displacements: warps, composition, and how alike two images are."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.learn import registration  # noqa: E402
from training.learn.registration import CELL_MM  # noqa: E402


def constant(z: float, y: float, x: float) -> torch.Tensor:
    return torch.tensor([z, y, x]).reshape(1, 3, 1, 1, 1).expand(1, 3, 8, 9, 10).clone()


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 1, 8, 9, 10)


def test_a_field_of_one_cell_reads_the_next_cell(image: torch.Tensor) -> None:
    got = registration.warped(image, constant(CELL_MM, 0, -2 * CELL_MM))
    assert torch.allclose(got[:, :, :-1, :, 2:], image[:, :, 1:, :, :-2], atol=1e-5)


def test_two_warps_are_one_of_the_composed_field(image: torch.Tensor) -> None:
    first, second = constant(4.0, 8.0, 0.0), constant(8.0, -4.0, 2.0)
    both = registration.composed(first, second)
    assert torch.allclose(both, first + second, atol=1e-4)
    coarse = registration.composed(first, second, 16.0)
    assert torch.allclose(coarse, first + second, atol=1e-4)


def test_the_composed_field_is_read_where_the_second_leads() -> None:
    ramp = torch.arange(8.0).reshape(1, 1, 8, 1, 1).expand(1, 3, 8, 9, 10)
    both = registration.composed(ramp, constant(CELL_MM, 0, 0))
    assert torch.allclose(both[0, 1, :-1], ramp[0, 1, 1:], atol=1e-4)


def test_what_is_equal_is_nearer_smoother_and_more_alike(image: torch.Tensor) -> None:
    weight, other = torch.ones_like(image), torch.rand_like(image)
    still = constant(0, 0, 0)
    assert registration.apart(still, still, weight) == pytest.approx(0.01, abs=1e-4)
    assert registration.apart(constant(CELL_MM, 0, 0), still, weight) == pytest.approx(1, abs=0.01)
    assert registration.roughness(constant(3, 2, 1)) == 0
    assert registration.roughness(torch.rand(1, 3, 8, 9, 10)) > 0
    # NCC does not see brightness, mutual information not even which is bright
    dim, turned = image * 0.5 + 0.2, 1 - image
    assert registration.unlike(image, dim, weight) < 0.1
    assert registration.unlike(image, other, weight) > 0.5
    same, inverse, none = (
        registration.unshared(image, second, weight) for second in (image, turned, other)
    )
    assert inverse == pytest.approx(float(same), abs=0.05)
    assert same < none - 0.5


def test_only_what_has_weight_counts(image: torch.Tensor) -> None:
    weight = torch.zeros_like(image)
    weight[:, :, :4] = 1
    off = constant(0, 0, 0)
    off[:, :, 4:] = 50.0
    assert registration.apart(off, constant(0, 0, 0), weight) == pytest.approx(0.01, abs=1e-4)
