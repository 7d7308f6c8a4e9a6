"""What the measuring network learns from: cubes whose truth is where it should be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")


from scipy import ndimage  # noqa: E402

from appliance.bundle.heads import DENSITIES  # noqa: E402
from appliance.quality.implant import KINDS, SHAPE_MM, Shape, sphere_diameter  # noqa: E402
from training.implant.hosts import Host  # noqa: E402
from training.implant.nodules import Places  # noqa: E402
from training.implant.shapes import shape_of  # noqa: E402
from training.implant.synthetic import made_up_host  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.networks import MeasureNet  # noqa: E402
from training.read.volume import Volume  # noqa: E402
from training.recipes.lung_nodule import measure  # noqa: E402
from training.recipes.lung_nodule.bundle import CUBE_MM, MEASURE  # noqa: E402
from training.recipes.lung_nodule.measure import (  # noqa: E402
    DENSITY_OF,
    SHARES,
    Knobs,
    draw,
    loss_of,
    mirrored,
    occupancy,
)
from training.ship.onnx_file import exported, parity  # noqa: E402

PLAIN = Knobs(stretch=1.0, thin=0.0, thick=0.0, vary=False, smallest_mm=8.0, largest_mm=20.0)


def ball(diameter_mm: float) -> Shape:
    n = int(np.ceil(diameter_mm / SHAPE_MM)) + 2
    axis = (np.arange(n) - (n - 1) / 2) * SHAPE_MM
    far = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis)))
    shape = shape_of(np.clip((diameter_mm / 2 - far) / SHAPE_MM + 0.5, 0, 1).astype(np.float32), 1)
    assert shape is not None
    return shape


SHAPES = [ball(d) for d in (6.0, 9.0, 13.0, 19.0)]


def host(spacing: tuple[float, float, float] = (1.5, 0.8, 0.8)) -> Host:
    """Nothing but lung, with one place in its middle."""
    size = [round(80 / s) for s in spacing]
    hu = np.full(size, -850, np.float32)
    middle = np.array([[40.0, 40.0, 40.0]])
    places = Places(np.repeat(middle, 40, 0), np.linspace(0.5, 30, 40), np.zeros((0, 3)))
    volume = Volume("made-up", hu, spacing, (0.0, 0.0, 0.0))
    return Host(volume, 0.0, places, (), np.zeros((1, 1, 1), bool))


@pytest.mark.parametrize("spacing_mm", [CUBE_MM, CUBE_MM / 2])
def test_occupancy_keeps_volume_and_place_on_any_grid(spacing_mm: float) -> None:
    body = SHAPES[2].occupancy.astype(np.float32) / 255
    cell, offset = SHAPE_MM * 11.0 / SHAPES[2].diameter_mm, np.array([2.1, -0.7, 1.3])
    filled = occupancy(body, cell, offset, spacing_mm)
    assert len(filled) * spacing_mm == pytest.approx(MEASURE * CUBE_MM)
    assert sphere_diameter(float(filled.sum()) * spacing_mm**3) == pytest.approx(11, rel=0.01)
    at = (np.array(ndimage.center_of_mass(filled)) + 0.5) * spacing_mm - MEASURE * CUBE_MM / 2
    assert at == pytest.approx(offset, abs=0.05)


@pytest.mark.parametrize("spacing", [(1.5, 0.8, 0.8), (2.0, 0.6, 0.6), (5.0, 0.8, 0.8)])
def test_the_body_lies_where_the_image_shows_it(spacing: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(4):
        one = draw(rng, host(spacing), SHAPES, PLAIN, "calcified")
        shown = np.clip((one.image - one.image.min()) / np.ptp(one.image), 0, 1)
        seen, true = (np.array(ndimage.center_of_mass(v)) for v in (shown, one.body))
        assert (seen - true) * CUBE_MM == pytest.approx(0, abs=0.9)
        middle = (true + 0.5) * CUBE_MM - MEASURE * CUBE_MM / 2
        assert middle == pytest.approx(one.offset_mm, abs=0.2)
        assert np.linalg.norm(one.offset_mm) <= 3.01


def test_the_body_is_turned_like_the_implant() -> None:
    filled = np.zeros((16, 16, 24), np.float32)
    filled[:6, :6] = filled[:, :6, :6] = 1
    bent = shape_of(filled, 1)
    assert bent is not None
    rng = np.random.default_rng(6)
    for _ in range(4):
        one = draw(rng, host((0.8, 0.8, 0.8)), [bent], PLAIN, "ground_glass")
        shown, body = one.image > one.image.min() + 0.06, one.body > 0.5
        assert (shown & body).sum() > 0.85 * body.sum()
        assert (shown & body).sum() > 0.6 * shown.sum()


def test_another_slice_thickness_moves_nothing() -> None:
    rng = np.random.default_rng(2)
    for k in (dataclasses.replace(PLAIN, thick=1.0), dataclasses.replace(PLAIN, thin=1.0)):
        one = draw(rng, host(), SHAPES, k, "calcified")
        shown = np.clip((one.image - one.image.min()) / np.ptp(one.image), 0, 1)
        seen, true = (np.array(ndimage.center_of_mass(v)) for v in (shown, one.body))
        assert (seen - true) * CUBE_MM == pytest.approx(0, abs=0.9)


def test_every_kind_has_its_density_and_shares_are_whole() -> None:
    assert set(SHARES) == set(KINDS) == set(DENSITY_OF)
    assert sum(SHARES.values()) == pytest.approx(1)
    assert set(DENSITY_OF.values()) == set(DENSITIES)
    one = draw(np.random.default_rng(3), host(), SHAPES, PLAIN, "cavity")
    assert DENSITIES[one.density] == "solid"
    middle = tuple(np.round(ndimage.center_of_mass(one.body)).astype(int))
    assert one.body[middle] > 0.9, "a cavity is part of its body"


def test_image_and_body_are_mirrored_alike() -> None:
    rng = np.random.default_rng(4)
    image = rng.random((6, 7, 7)).astype(np.float32)
    seen = set()
    for _ in range(300):
        a, b = mirrored(rng, image, image * 2)
        assert np.array_equal(a * 2, b)
        seen.add(a.tobytes())
    assert len(seen) == 16


def test_the_loss_is_least_where_body_and_density_are_right() -> None:
    one = draw(np.random.default_rng(5), host(), SHAPES, PLAIN, "solid")
    body = torch.from_numpy(one.body)[None, None]
    sure = torch.logit(body.clamp(1e-4, 1 - 1e-4))
    named = torch.full((1, 4), -8.0)
    named[0, one.density] = 8
    truth = torch.tensor([one.density])
    best = float(loss_of((sure, named), body, truth, PLAIN))
    assert best < 0.25
    assert float(loss_of((torch.roll(sure, 3, 2), named), body, truth, PLAIN)) > best + 0.3
    assert float(loss_of((sure, torch.roll(named, 1, 1)), body, truth, PLAIN)) > best + 1


@pytest.mark.long
def test_the_measure_recipe_takes_two_steps(tmp_path: Path) -> None:
    made_up = made_up_host(np.random.default_rng(1))
    k = measure.Knobs(steps=2, batch=2, warmup=1, largest_mm=12.0)
    measure.train(k, [made_up], [made_up], SHAPES, tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 2


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_the_exported_measuring_network_answers_like_torch_for_any_number_of_cubes() -> None:
    model = MeasureNet((4, 4, 8, 8)).eval()
    file = exported(model, (48, 48, 48), ["body", "density"], many=True)
    cubes = np.random.default_rng(0).random((3, 1, 48, 48, 48), dtype=np.float32)
    assert max(parity(model, file, cubes).values()) < 1e-4
