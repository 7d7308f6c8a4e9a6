"""The radiograph network: its logit is the mean of a map, and it is small."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.networks import parameter_count  # noqa: E402
from training.networks.radiograph import RadiographNet  # noqa: E402


def test_the_logit_is_the_mean_of_the_map_and_a_bias() -> None:
    model = RadiographNet((4, 8, 8)).eval()
    with torch.no_grad():
        model.bias.fill_(0.75)
        logit, activation = model(torch.rand(3, 1, 28, 28))
    assert activation.shape == (3, 1, 7, 7)
    assert torch.allclose(logit, activation.mean((1, 2, 3)) + 0.75)


def test_the_student_is_small() -> None:
    assert parameter_count(RadiographNet((16, 32, 96))) <= 600_000
