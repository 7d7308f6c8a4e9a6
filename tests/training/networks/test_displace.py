"""The network of displacements: what it is exported as, and that both ways of meeting are one."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from training.networks.blocks import parameter_count  # noqa: E402
from training.networks.displace import DisplaceNet, Meet  # noqa: E402
from training.ship.onnx_file import exported_volumes, folded, require_parity  # noqa: E402

OPS = {"Add", "Concat", "Conv", "Mul", "Relu", "Resize"}
"""Those that every backend has in three dimensions (rule 3 of the network)."""


@pytest.fixture(scope="module")
def net() -> DisplaceNet:
    """Untrained, with statistics of batches that are not those it began with."""
    torch.manual_seed(4)
    made = DisplaceNet()
    for _ in range(3):
        made(torch.rand(2, 1, 16, 16, 24), torch.rand(2, 1, 16, 16, 24))
    return made.eval()


def test_slices_and_convolutions_meet_alike() -> None:
    torch.manual_seed(1)
    meet = Meet(6, 4).eval()
    current, prior = torch.rand(2, 6, 3, 4, 5), torch.rand(2, 6, 3, 4, 5)
    by_slices = meet(current, prior)
    here, there = meet.project(current), meet.project(prior)
    assert by_slices.shape == (2, 27, 3, 4, 5)
    assert torch.allclose(by_slices, meet.by_convolutions(here, there), atol=1e-6)


def test_what_meets_names_the_place_where_it_is_alike() -> None:
    meet = Meet(24, 24).eval()
    with torch.no_grad():
        meet.project[0].weight.copy_(torch.eye(24).reshape(24, 24, 1, 1, 1))
    torch.manual_seed(2)
    current = torch.randn(1, 24, 6, 6, 6)
    moved = torch.roll(current, (1, 0, -1), (2, 3, 4))  # one up along z, one back along x
    best = meet(current, moved)[:, :, 1:-1, 1:-1, 1:-1].argmax(1)
    assert (best == 2 * 9 + 1 * 3 + 0).float().mean() > 0.8


@pytest.mark.long
def test_it_is_exported_with_few_ops_for_any_size_and_answers_like_torch(net: DisplaceNet) -> None:
    made = exported_volumes(folded(net), ["prior", "current"], ["field"], 8)
    assert {node.op_type for node in made.graph.node} == OPS
    assert len(made.SerializeToString()) < 3_000_000
    assert 400_000 < parameter_count(net) < 700_000
    rng = np.random.default_rng(0)
    for size in ((8, 8, 16), (24, 16, 32)):
        images = {n: rng.random((1, 1, *size), np.float32) for n in ("prior", "current")}
        gaps = require_parity(net, made, images)
        assert set(gaps) >= {"onnxruntime"}


def test_its_field_has_a_vector_a_cell_and_a_coarse_field_doubles_linearly(
    net: DisplaceNet,
) -> None:
    image = torch.rand(1, 1, 16, 8, 24)
    with torch.no_grad():
        assert net(image, image).shape == (1, 3, 16, 8, 24)
        assert [tuple(f.shape[2:]) for f in net.pyramid(image, image)] == [
            (2, 1, 3), (4, 2, 6), (8, 4, 12),
        ]  # fmt: skip
        ramp = torch.arange(6.0).reshape(1, 1, 6, 1, 1).expand(1, 3, 6, 4, 4)
        fine = net.doubled(ramp)[0, 0, 2:-2, 3, 3]
    assert torch.allclose(fine, torch.arange(0.75, 4.5, 0.5)[: len(fine)], atol=1e-5)
