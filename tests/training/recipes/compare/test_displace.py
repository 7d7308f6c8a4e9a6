"""The recipe of the network of displacements: it learns a pair, goes on, begins with another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.errors import RunError
from training.implant.pairs.pair import Chest
from training.learn.checkpoint import load_checkpoint
from training.recipes.compare import displace, lessons
from training.recipes.compare.displace import WithLungs

TINY = displace.Knobs(
    hosts="made", pairs=2, steps=4, coarse=True, batch=2, warmup=1, ema=0.5, save_every=2
)


@pytest.fixture(scope="module")
def files(host: Chest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pool")
    found = lessons.pool(folder, ["made"], 5, 3, lambda _: host)
    assert found
    return found


@pytest.mark.long
def test_it_learns_a_pair_by_heart(files: list[Path]) -> None:
    k = replace(TINY, twice=0.0)
    torch.manual_seed(0)
    model = WithLungs()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    lesson = lessons.halved(lessons.read(files[0]))
    batch = (*lessons.batch_of([lesson, lesson]), torch.zeros(2))
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = displace.loss_of(k, model, *batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"field": 0.0, "ncc": 1.0, "masks": False},
        {"field": 0.0, "ncc": 0.0, "mi": 1.0},
        {"lungs": 0.5},
        {"twice": 1.0},
    ],
)
def test_every_loss_of_the_study_teaches_the_network(
    files: list[Path], changes: dict[str, float]
) -> None:
    k = replace(TINY, **changes)  # type: ignore[arg-type]
    model = WithLungs()
    batch = displace.draw(np.random.default_rng(0), files, k)
    displace.loss_of(k, model, *batch).backward()
    told = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.draw.parameters()]
    assert all(told) == bool(k.lungs)
    first = model.displace.stem[0].weight.grad
    assert first is not None
    assert torch.isfinite(first).all()
    assert first.abs().sum() > 0


def test_a_run_goes_on_and_another_begins_with_its_network(files: list[Path], runs: Path) -> None:
    displace.train(replace(TINY, name="first"), files, runs / "first")
    state = load_checkpoint(runs / "first" / "last.pt")
    assert state["step"] == 4
    displace.train(replace(TINY, name="first", steps=6), files, runs / "first")
    assert load_checkpoint(runs / "first" / "last.pt")["step"] == 6
    with pytest.raises(RunError, match="has this run been trained"):
        displace.train(replace(TINY, name="third", start="other"), files, runs / "third")
    k = replace(TINY, name="second", start="first", rate=1e-9, steps=1, ema=0.0)
    began = displace.train(k, files, runs / "second")
    ended = load_checkpoint(runs / "first" / "last.pt")["ema"]
    weight = ended["displace.coarsest.join.0.weight"]
    assert torch.allclose(began.coarsest.join[0].weight, weight, atol=1e-5)
