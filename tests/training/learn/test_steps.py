"""What a loop does around its steps: the average follows, the rate rises and falls."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.learn.steps import Ema, cosine_rate  # noqa: E402


def test_the_moving_average_follows_the_model() -> None:
    model = torch.nn.Linear(1, 1)
    ema = Ema(model, decay=0.5)
    with torch.no_grad():
        model.weight += 1
    before = ema.shadow["weight"].item()
    ema.update(model)
    # the first update's decay is 2 / 11
    assert ema.shadow["weight"].item() == pytest.approx(before + 9 / 11)


def test_the_rate_rises_then_falls_to_a_hundredth() -> None:
    rates = [cosine_rate(s, 100, 1.0, 10) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert cosine_rate(100, 100, 1.0, 10) == pytest.approx(0.01)
