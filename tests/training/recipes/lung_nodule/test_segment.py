"""The lung recipe: it learns as it did, and disease besides; a break changes nothing, and what is
broken ends it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from training.errors import DataError, RunError  # noqa: E402
from training.implant.disease.chest import chest_of  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.networks import LungNet, SickLungNet  # noqa: E402
from training.read.lung_truth import lung_truth  # noqa: E402
from training.read.volume import Volume, resample  # noqa: E402
from training.recipes.lung_nodule import bundle, segment  # noqa: E402
from training.recipes.lung_nodule.sick_lungs import UNKNOWN  # noqa: E402
from training.ship.onnx_file import exported, require_parity  # noqa: E402

TINY = segment.Knobs(
    steps=4, batch=2, depth=32, width=48, warmup=2, bf16=False, save_every=2, disease_weight=0.5
)
BEFORE = replace(TINY, disease_weight=0.0)


def chest() -> segment.Host:
    hu = np.full((40, 48, 48), -1000, np.float32)
    z, y, x = np.ogrid[:40, :48, :48]
    hu[np.broadcast_to((y - 24) ** 2 + (x - 24) ** 2 < 22**2, hu.shape)] = 40
    for side in (15, 33):
        hu[((z - 20) / 15) ** 2 + ((y - 24) / 14) ** 2 + ((x - side) / 7) ** 2 < 1] = -850
    fine = resample(hu, [3.0] * 3, [1.5] * 3)
    truth = lung_truth(fine, 1.5).astype(np.float32)
    assert truth.any()
    coarse = resample(truth, [1.5] * 3, [3.0] * 3)
    volume = Volume("made-up", hu, (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    painted = chest_of(volume, truth > 0.5, 3.0)
    return segment.Host("made-up", {1.5: fine, 3.0: hu}, {1.5: truth, 3.0: coarse}, painted)


def test_it_learns_what_it_learned_in_a_loop_of_its_own(tmp_path: Path) -> None:
    """The figures are of the recipe before it came into `training.learn.loop`, same knobs."""
    segment.train(BEFORE, [chest()], tmp_path)
    torch.manual_seed(BEFORE.seed)
    before, state = LungNet().state_dict(), load_checkpoint(tmp_path / "last.pt")

    def moved(of: str, names: list[str]) -> float:
        steps = (float((state[of][n] - before[n]).double().square().sum()) for n in names)
        return float(sum(steps)) ** 0.5

    every = [n for n, v in before.items() if v.is_floating_point()]
    with (tmp_path / "log.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["step"], row["skipped"]) == ("4", "0")
    assert float(row["loss"]) == pytest.approx(1.544894, rel=1e-4)
    assert moved("model", every) == pytest.approx(6.413294, rel=1e-3)
    assert moved("ema", every) == pytest.approx(5.798042, rel=1e-3)
    assert moved("model", ["stem.0.weight"]) == pytest.approx(0.213150, rel=3e-3)
    assert moved("model", ["head.weight"]) == pytest.approx(0.095088, rel=3e-3)


def test_the_network_that_knows_disease_draws_lungs_as_the_other_does() -> None:
    torch.manual_seed(1)
    sick, plain = SickLungNet().eval(), LungNet().eval()
    own = plain.state_dict()
    plain.load_state_dict({n: v for n, v in sick.state_dict().items() if n in own})
    image = torch.rand(1, 1, 16, 32, 48)
    lungs, classes = sick(image)
    assert torch.equal(lungs, plain(image))
    assert classes.shape == (1, 4, 16, 32, 48)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, while it exports
def test_the_network_that_knows_disease_answers_alike_in_torch_and_in_onnx() -> None:
    torch.manual_seed(0)
    model = SickLungNet((4, 4, 4, 4)).eval()
    entry = bundle.network("segment", "0" * 64, drawn=True)
    made = exported(model, (32, 32, 32), [port.name for port in entry.outputs])
    image = np.random.default_rng(0).random((1, 1, 32, 48, 64), dtype=np.float32)
    require_parity(model, made, image)
    assert bundle.network_of("segment", made.SerializeToString()) == entry


def test_disease_is_known_where_it_was_painted_or_nothing_was_done_and_nowhere_else() -> None:
    host, rng = chest(), np.random.default_rng(4)
    quiet = replace(TINY, empty=0.0, repaint=0.0, disease=0.0, gas=0.0, painted=1.0)
    drawn = [segment.sample(rng, [host], quiet) for _ in range(24)]
    seen = np.zeros(3)
    for image, mask, classes in drawn:
        assert image.shape == mask.shape == classes.shape[1:] == (32, 48, 48)
        assert classes.min() >= 0
        assert classes.sum(0).max() <= 1 + 1e-5
        assert not classes[:, mask == 0].any(), "disease lies in the lungs"
        seen += classes.sum((1, 2, 3)) > 5
    assert (seen >= 1).all(), "of every class something"
    healthy = replace(quiet, painted=0.0)
    assert not np.any(segment.sample(rng, [host], healthy)[2])
    for unknown in ({"repaint": 1.0}, {"disease": 1.0}, {"empty": 1.0}):
        _, _, classes = segment.sample(rng, [host], replace(healthy, **unknown))
        assert (classes[:, 8, 20:30, 20:30] == UNKNOWN).all()


def test_it_learns_disease_beside_the_lungs(tmp_path: Path) -> None:
    """Ten steps on one batch lower both losses; a run of the mask alone is not gone on from."""
    host, rng = chest(), np.random.default_rng(2)
    k = replace(TINY, empty=0.0, painted=1.0, disease=0.0)
    model = segment.network(k)
    assert isinstance(model, SickLungNet)
    image, mask, ill = segment.batch_of(rng, [host], k)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = segment.loss_of(model(image), mask, ill, k)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    segment.train(replace(BEFORE, steps=1), [host], tmp_path)
    with pytest.raises(RunError, match=r"made with --disease_weight 0\.0, not 0\.5"):
        segment.train(replace(TINY, steps=1), [host], tmp_path)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    host = chest()
    whole = segment.train(TINY, [host], tmp_path / "whole").state_dict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "batch_of", broken_off(segment.batch_of, at=4))
        with pytest.raises(RunError, match="goes on from step 2"):
            segment.train(TINY, [host], tmp_path / "cut")
    cut = segment.train(TINY, [host], tmp_path / "cut").state_dict()
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def broken_off(draw, at: int):  # type: ignore[no-untyped-def]
    """`draw`, stopped by a person at its call number `at`."""
    calls = 0

    def of(*given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return draw(*given)

    return of


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_host_that_holds_no_numbers_ends_the_run_and_leaves_the_checkpoint(
    tmp_path: Path,
) -> None:
    host = chest()
    segment.train(replace(TINY, steps=2), [host], tmp_path)
    spoiled = replace(host, hu={mm: hu.copy() for mm, hu in host.hu.items()})
    for hu in spoiled.hu.values():
        hu[:, ::4] = np.nan
    with pytest.raises(RunError, match=r"step [34] holds values that are no numbers") as ended:
        segment.train(TINY, [spoiled], tmp_path)
    assert "\n" not in str(ended.value)
    empty = replace(host, hu={mm: hu * np.float32("nan") for mm, hu in host.hu.items()})
    with pytest.raises(DataError, match="made-up: no body in its middle slice"):
        segment.train(TINY, [empty], tmp_path)
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 2
    assert all(bool(torch.isfinite(v).all()) for v in state["ema"].values())


def test_a_checkpoint_of_other_knobs_or_of_another_recipe_is_refused(tmp_path: Path) -> None:
    host, short = chest(), replace(TINY, steps=1)
    segment.train(short, [host], tmp_path)
    with pytest.raises(RunError, match=r"made with --gas 0\.45, not 0\.9: give another --name"):
        segment.train(replace(short, gas=0.9), [host], tmp_path)
    state = load_checkpoint(tmp_path / "last.pt")
    torch.save({**state, "recipe": "lung_nodule_mass"}, tmp_path / "last.pt")
    with pytest.raises(RunError, match="by lung_nodule_mass, not by lung_nodule_segment"):
        segment.train(short, [host], tmp_path)
