"""The proposal recipe: it learns as it did, and neither a break nor a broken file changes that."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from appliance.quality.implant import Shape  # noqa: E402
from training.errors import RunError  # noqa: E402
from training.implant.hosts import Host  # noqa: E402
from training.implant.synthetic import made_up_host  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.networks import Outlined, ProposeNet  # noqa: E402
from training.recipes.lung_nodule import propose  # noqa: E402

SHAPES = [Shape(np.full((9, 9, 9), 255, np.uint8), float(d), 1) for d in np.linspace(4, 30, 40)]
TINY = propose.Knobs(
    steps=4, batch=2, warmup=2, bf16=False, save_every=2, kept=4, echo=0.5, made_up=0.5
)


def two_hosts() -> list[Host]:
    return [made_up_host(np.random.default_rng(seed)) for seed in (1, 2)]


@pytest.mark.long
def test_it_learns_what_it_learned_in_a_loop_of_its_own(tmp_path: Path) -> None:
    """The figures are of the recipe before it came into `training.learn.loop`, same knobs."""
    host, other = two_hosts()
    propose.train(TINY, [host], [other], SHAPES, tmp_path)
    torch.manual_seed(TINY.seed)
    net = ProposeNet()
    before = {"model": Outlined(net).state_dict(), "ema": net.state_dict()}
    state = load_checkpoint(tmp_path / "last.pt")

    def moved(of: str, names: list[str]) -> float:
        steps = (float((state[of][n] - before[of][n]).double().square().sum()) for n in names)
        return float(sum(steps)) ** 0.5

    every = {of: [n for n, v in b.items() if v.is_floating_point()] for of, b in before.items()}
    with (tmp_path / "log.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["step"], row["skipped"]) == ("4", "0")
    # another processor adds in another order: 5.25285 with AVX2, 5.254433 with AVX-512
    assert float(row["loss"]) == pytest.approx(5.254433, rel=1e-3)
    assert moved("model", every["model"]) == pytest.approx(8.791940, rel=1e-3)
    assert moved("ema", every["ema"]) == pytest.approx(7.797750, rel=1e-3)
    assert moved("model", ["net.stem.0.weight"]) == pytest.approx(0.153183, rel=1e-2)
    assert moved("model", ["body.weight"]) == pytest.approx(0.023846, rel=1e-2)


@pytest.mark.long
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    host, other = two_hosts()
    k = replace(TINY, steps=3, save_every=2)
    whole = propose.train(k, [host], [other], SHAPES, tmp_path / "whole").state_dict()
    drawn = 0
    draw = propose.Patches.draw

    def breaks(self: propose.Patches, rng: np.random.Generator) -> propose.Patch:
        nonlocal drawn
        drawn += 1
        if drawn == 6:
            raise KeyboardInterrupt
        return draw(self, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(propose.Patches, "draw", breaks)
        with pytest.raises(RunError, match="goes on from step 2"):
            propose.train(k, [host], [other], SHAPES, tmp_path / "cut")
    cut = propose.train(k, [host], [other], SHAPES, tmp_path / "cut").state_dict()
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_a_checkpoint_of_other_knobs_is_refused(tmp_path: Path) -> None:
    host, _ = two_hosts()
    k = replace(TINY, steps=1, batch=1)
    propose.train(k, [host], [], SHAPES, tmp_path)
    with pytest.raises(RunError, match=r"with --hosts R01\S+, not A0001, with --echo 0\.5, not 0"):
        propose.train(replace(k, hosts="A0001", echo=0.1), [host], [], SHAPES, tmp_path)


@pytest.mark.long
def test_a_run_begins_with_the_weights_of_another_on_the_same_hosts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    host, _ = two_hosts()
    k = propose.Knobs(steps=1, batch=1, warmup=1, hosts="a")
    first = propose.train(k, [host], [], SHAPES, tmp_path / "first")
    still = replace(k, name="second", begin="first", rate=0.0)
    again = propose.train(still, [host], [], SHAPES, tmp_path / "second")
    assert torch.equal(first.stem[0].weight, again.stem[0].weight)
    with pytest.raises(RunError, match="trained on other hosts"):
        propose.train(replace(still, hosts="b"), [host], [], SHAPES, tmp_path / "third")


@pytest.mark.long
def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    host, _ = two_hosts()
    k = propose.Knobs(steps=3, batch=1, warmup=1, save_every=1, rate=1e30)
    with pytest.raises(RunError, match=r"are no numbers|is no number .* is of step 1") as ended:
        propose.train(k, [host], [], SHAPES, tmp_path)
    assert "\n" not in str(ended.value)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 1


def test_some_patches_come_again_mirrored_anew_and_those_of_a_resumed_run_too() -> None:
    host, other = two_hosts()
    k = propose.Knobs(kept=4, echo=0.6, made_up=0.3)
    first, second = (propose.Patches([host], [other], SHAPES, k) for _ in range(2))
    rng = np.random.default_rng(2)
    sums = [round(float(first.draw(rng).image.sum(dtype=np.float64)), 3) for _ in range(16)]
    assert 4 <= len(set(sums)) < 16
    assert len(first.kept()) == 4
    second.recall(first.kept())
    again = np.random.default_rng()
    again.bit_generator.state = rng.bit_generator.state
    for _ in range(6):
        assert np.array_equal(first.draw(rng).image, second.draw(again).image)
    assert first.kept() == second.kept()
