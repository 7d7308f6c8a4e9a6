"""The recipe of masses: two steps, a resume, outlines that are learnt, an export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from scipy import ndimage  # noqa: E402

from appliance.quality.implant import Shape  # noqa: E402
from training.implant.hosts import Target  # noqa: E402
from training.implant.masses import UNKNOWN, Mass, MassHost  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.networks import DrawnMassNet, MassNet  # noqa: E402
from training.read.volume import Volume  # noqa: E402
from training.recipes.lung_nodule import bundle, mass  # noqa: E402
from training.ship.onnx_file import exported, require_parity  # noqa: E402

SHAPES = [Shape(np.full((9, 9, 9), 255, np.uint8), float(d), 1) for d in np.linspace(4, 30, 40)]


def host(masses: tuple[Target, ...] = ()) -> MassHost:
    at = np.indices((48, 48, 48)) - 23.5
    inside = np.sqrt((at**2).sum(0)) < 20
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    hu = np.where(inside, -850, 50).astype(np.float32)
    lesions = (Target((60.0, 72.0, 72.0), 19.0), Target((90.0, 72.0, 72.0), 6.0))
    volume = Volume("made-up", hu, (3.0,) * 3, (0.0,) * 3)
    return MassHost(volume, hu, np.asarray(depth * 3, np.float32), 5.0, masses, lesions)


@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_the_mass_recipe_takes_two_steps_and_resumes(tmp_path: Path, weight: float) -> None:
    small = {"batch": 1, "depth": 32, "width": 32, "warmup": 1, "body_weight": weight}
    # maps of 2 voxels a side: oneDNN sums up memory that nobody wrote there in bfloat16
    k = mass.Knobs(steps=3, bf16=False, **small)
    mass.train(replace(k, steps=2), [host()], SHAPES, tmp_path)
    model = mass.train(k, [host()], SHAPES, tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3
    assert all(bool(torch.isfinite(v).all()) for v in model.state_dict().values())
    assert isinstance(model, DrawnMassNet if weight else MassNet)


def test_a_boxed_mass_is_found_again_in_a_turned_piece() -> None:
    k = mass.Knobs(depth=48, width=48, real=1.0)
    box = Target((45.0, 100.0, 60.0), 40.0)
    marked = host((box,))
    at = (np.indices(marked.hu.shape).reshape(3, -1).T + 0.5) * 3
    near = np.linalg.norm(at - box.center_mm, axis=1).reshape(marked.hu.shape) < 15
    marked.hu[near] = 900
    rng = np.random.default_rng(2)
    for _ in range(6):
        chest, masses, unsure = mass.cut(rng, marked, k)
        seen = ndimage.center_of_mass(np.clip(chest.block.hu, 0, 900) > 500)
        assert (np.array(seen) + 0.5) * 3 == pytest.approx(masses[0].center_mm, abs=2.5)
        from_middle = np.abs(np.array(masses[0].center_mm) - 72).max()
        assert from_middle < 14 * 3 * 1.5, "its piece was cut around another place"
        assert 0.8 < masses[0].diameter_mm / 40 < 1.25
        assert len(unsure) == 1, "the lesion of 19 mm may be called a mass, that of 6 mm not"


def test_targets_of_masses_lie_where_they_are() -> None:
    sure, small = Target((90.0, 30.0, 54.0), 50.0), Target((30.0, 90.0, 90.0), 18.0)
    heat, log_mm, weight = mass.draw_targets([sure, small], (48, 48, 48), real=1)
    assert np.argwhere(heat == 1).tolist() == [[7, 2, 4]]
    assert log_mm[7, 2, 4] == pytest.approx(np.log(50))
    assert weight[7, 2, 4] == 1
    assert weight[7, 3, 4] == 0, "the edge of a box drawn by eye teaches nothing"
    assert weight[2, 7, 7] == 0, "too small to be sure"
    assert weight[0, 0, 0] == 1


# outlines


def implant(mm: float, outline: float = 1.0, start: tuple[int, int, int] = (2, 2, 2)) -> Mass:
    return Mass((0, 0, 0), mm, "wall", np.full((3, 3, 3), outline, np.float32), start)


def test_outlines_of_a_piece_are_those_of_its_implants() -> None:
    """Where two lie beside each other what is mass for sure stays so."""
    body = np.zeros((8, 8, 8), np.float32)
    mass.draw(body, implant(40.0))
    mass.draw(body, implant(40.0, UNKNOWN, (3, 2, 2)))
    mass.draw(body, implant(40.0, 0.25, (4, 2, 2)))
    assert body[:, 3, 3].tolist() == [0, 0, 1, 1, 1, 0.25, 0.25, 0]


def test_the_outline_of_an_implant_that_is_too_small_to_be_sure_is_unknown() -> None:
    body = np.zeros((8, 8, 8), np.float32)
    mass.draw(body, implant(mass.SURE_MM - 1, 0.5))
    assert np.count_nonzero(body == UNKNOWN) == np.count_nonzero(body) == 27


def test_of_a_boxed_mass_only_the_middle_is_sure() -> None:
    body = np.zeros((32, 32, 32), np.float32)
    mass.draw_boxed(body, Target((48.0, 48.0, 48.0), 40.0))
    line = body[16, 16]
    assert line[16] == line[18] == 1
    assert line[20] == line[23] == line[24] == UNKNOWN
    assert line[28] == line[2] == 0


def test_a_piece_has_outlines_where_its_masses_are() -> None:
    k = mass.Knobs(depth=48, width=48, masses=2.0, nodules=0.0, fluid=0.0)
    rng, seen = np.random.default_rng(4), 0
    for _ in range(12):
        piece = mass.sample(rng, host(), SHAPES, k)
        assert piece.body.shape == piece.image.shape
        assert np.isin(piece.body[piece.body < 0], UNKNOWN).all()
        assert piece.body.max() <= 1
        for cell in np.argwhere((piece.heat == 1) & (piece.weight == 1)):
            around = tuple(slice(4 * i, 4 * i + 4) for i in cell)
            assert piece.body[around].max() > 0.9, "the middle of a mass is mass"
            seen += 1
    assert seen >= 4


def test_the_loss_of_outlines_knows_nothing_of_what_is_unknown() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 8, 8, 8, requires_grad=True)
    body = torch.zeros(1, 1, 8, 8, 8)
    body[..., :4], body[..., 6:] = 1, UNKNOWN
    mass.outline_loss(logits, body, 5.0).backward()
    assert not logits.grad[..., 6:].any()
    assert (logits.grad[..., :4] < 0).all()
    assert (logits.grad[..., 4:6] > 0).all()
    right = torch.where(body > 0.5, 9.0, -9.0)
    assert mass.outline_loss(right, body, 5.0) < 0.01


def test_a_tiny_network_learns_to_draw_a_ball() -> None:
    torch.manual_seed(0)
    at = (np.indices((32, 32, 32)) - 15.5) * 3
    body = torch.from_numpy((np.sqrt((at**2).sum(0)) < 24).astype(np.float32))[None, None]
    image = 0.1 + 0.6 * body
    model = DrawnMassNet((4, 4, 4, 4))
    rule = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(60):
        loss = mass.outline_loss(model(image)[2], body, 5.0)
        rule.zero_grad()
        loss.backward()
        rule.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        drawn = model(image)[2] > 0
    assert (drawn == (body > 0)).float().mean() > 0.97


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, while it exports
def test_the_network_that_draws_answers_alike_in_torch_and_in_onnx() -> None:
    torch.manual_seed(0)
    model = DrawnMassNet((4, 4, 4, 4)).eval()
    names = [port.name for port in bundle.network("mass", "0" * 64, drawn=True).outputs]
    assert names == ["heat", "log_diameter", "body"]
    made = exported(model, (32, 32, 32), names)
    image = np.random.default_rng(0).random((1, 1, 32, 48, 64), dtype=np.float32)
    require_parity(model, made, image)
    with torch.no_grad():
        heat, size, body = model(torch.from_numpy(image))
    assert heat.shape == size.shape == (1, 1, 8, 12, 16)
    assert body.shape == image.shape
    assert bundle.network_of("mass", made.SerializeToString()) == bundle.network(
        "mass", "0" * 64, drawn=True
    )


def test_the_weights_of_a_network_that_draws_none_are_read_as_before() -> None:
    """Its outputs are those of the part that finds."""
    torch.manual_seed(0)
    before, after = MassNet((4, 4, 4, 4)).eval(), DrawnMassNet((4, 4, 4, 4)).eval()
    after.net.load_state_dict(before.state_dict())
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        for one, two in zip(before(image), after(image)[:2], strict=True):
            torch.testing.assert_close(one, two)
