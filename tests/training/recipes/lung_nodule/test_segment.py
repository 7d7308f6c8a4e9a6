"""The lung recipe: it learns as it did; a break changes nothing, and what is broken ends it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.errors import DataError, RunError  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.networks import LungNet  # noqa: E402
from training.read.lung_truth import lung_truth  # noqa: E402
from training.read.volume import resample  # noqa: E402
from training.recipes.lung_nodule import segment  # noqa: E402

TINY = segment.Knobs(steps=4, batch=2, depth=32, width=48, warmup=2, bf16=False, save_every=2)


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
    return segment.Host("made-up", {1.5: fine, 3.0: hu}, {1.5: truth, 3.0: coarse})


def test_it_learns_what_it_learned_in_a_loop_of_its_own(tmp_path: Path) -> None:
    """The figures are of the recipe before it came into `training.learn.loop`, same knobs."""
    segment.train(TINY, [chest()], tmp_path)
    torch.manual_seed(TINY.seed)
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
