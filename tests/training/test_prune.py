"""Structured pruning: what goes, what stays, and that zero channels are not missed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from training import prune  # noqa: E402
from training.networks import (  # noqa: E402
    CubeNet,
    LungNet,
    PatchNet,
    ProposeNet,
    parameter_count,
)
from training.networks.efficientnet import Inverted  # noqa: E402

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "patches": (PatchNet, (2, 1, 48, 48)),
    "cubes": (CubeNet, (2, 1, 32, 32, 32)),
    "lungs": (LungNet, (2, 1, 16, 16, 16)),
    "proposals": (ProposeNet, (2, 1, 16, 16, 16)),
    "inverted residuals": (
        lambda: nn.Sequential(
            Inverted(1, 16, 16, 3, 2), Inverted(16, 16, 4, 5, 1), nn.Conv2d(16, 1, 1)
        ),
        (2, 1, 16, 16),
    ),
}


class Small(nn.Module):
    """Two convolutions that an addition joins, a third after a concatenation with the first."""

    def __init__(self) -> None:
        """4, 4 and 2 channels."""
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, 1, 1, bias=False)
        self.b = nn.Conv2d(4, 4, 1, bias=False)
        self.c = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,1,Y,X] -> [N,2,Y,X]."""
        first = functional.relu(self.a(x))
        return self.c(torch.cat([first + self.b(first), first], 1))


def odd_channels_zeroed(model: nn.Module) -> None:
    """Every odd channel inside is 0 whatever comes in."""
    for layer in model.modules():
        if isinstance(layer, prune.NORMS):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
        with torch.no_grad():
            rows = isinstance(layer, prune.NORMS) or (
                isinstance(layer, prune.CONVOLUTIONS) and layer.out_channels > 1
            )
            if rows:
                layer.weight[1::2] = 0
                if layer.bias is not None:
                    layer.bias[1::2] = 0


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        out = model.eval()(x)
    return list(out) if isinstance(out, tuple) else [out]


@pytest.mark.parametrize(
    ("name", "by"), [*[(name, "scale") for name in NETWORKS], ("patches", "l1"), ("cubes", "l2")]
)
def test_channels_that_are_zero_are_not_missed(name: str, by: prune.By) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = make()
    odd_channels_zeroed(model)
    x = torch.rand(shape)
    done = prune.prune(model, x, 0.5, by, multiple=1)
    assert parameter_count(done.model) < 0.6 * parameter_count(model)
    for before, after in zip(outputs(model, x), outputs(done.model, x), strict=True):
        assert before.std() > 0 or before.numel() == 1
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pruned_network_runs_trains_and_comes_back_from_its_state(name: str) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x = make(), torch.rand(shape)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    done = prune.prune(model, x, 0.6, "l1")
    assert done.macs_before == prune.macs(model, x)
    assert done.macs_after == prune.macs(done.model, x) < 0.75 * done.macs_before
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    again = prune.load_pruned(make(), done.model.state_dict())
    for a, b in zip(outputs(done.model, x), outputs(again, x), strict=True):
        assert torch.equal(a, b)
    done.model.train()
    out = done.model(x)
    (out[0] if isinstance(out, tuple) else out).sum().backward()


def test_what_is_left_is_a_multiple_and_the_lowest_go() -> None:
    model = nn.Sequential(nn.Conv2d(1, 16, 1, bias=False), nn.BatchNorm2d(16), nn.Conv2d(16, 1, 1))
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(16.0).roll(3))  # 13 14 15 0 1 ... 12
    done = prune.prune(model, torch.rand(1, 1, 4, 4), 0.7, "scale", multiple=4)
    assert done.removed == {"0": 8}
    assert done.model[1].weight.tolist() == [13, 14, 15, 8, 9, 10, 11, 12]


def test_an_addition_ties_and_a_concatenation_keeps_the_order() -> None:
    model = Small()
    with torch.no_grad():
        model.a.weight[0] = 0
        model.b.weight[0] = 0
        model.a.weight[3] = 0  # of the two joined layers in one alone
    x = torch.rand(1, 1, 5, 5)
    before = model(x)
    done = prune.prune(model, x, 0.25, "l1", multiple=1)
    assert done.removed == {"a": 1, "b": 1}
    assert tuple(done.model.c.weight.shape) == (2, 6, 1, 1)
    torch.testing.assert_close(done.model(x), before)
    assert torch.equal(done.model.a.weight, model.a.weight[1:])


def test_multiply_accumulates_are_those_reckoned_by_hand() -> None:
    x = torch.rand(2, 1, 5, 5)
    # a: 2 x 4 x 25 places x 9 taps; b: 2 x 4 x 25 x 4; c: 2 x 2 x 25 x 8
    assert prune.macs(Small(), x) == 1800 + 800 + 800
    upward = nn.ConvTranspose2d(3, 2, 2, 2)
    # 3 x 5 x 5 inputs, each to 2 channels of 2 x 2
    assert prune.macs(upward, torch.rand(1, 3, 5, 5)) == 75 * 2 * 4
    # one depthwise channel reads one channel
    assert prune.macs(nn.Conv2d(4, 4, 3, 1, 1, groups=4), torch.rand(1, 4, 5, 5)) == 4 * 25 * 9


def test_inputs_and_outputs_and_what_is_not_understood_stay() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.cumsum(self.a(x), 1))

    done = prune.prune(Odd(), torch.rand(1, 3, 4, 4), 0.5, "l1", multiple=1)
    assert done.removed == {}
    assert done.macs_after == done.macs_before


def test_a_share_of_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        prune.prune(Small(), torch.rand(1, 1, 5, 5), 1.0)
