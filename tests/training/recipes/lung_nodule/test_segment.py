"""The lung recipe: diseased lung is lung and weighs more; a break changes nothing, and what is
broken ends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.errors import DataError, RunError  # noqa: E402
from training.implant.disease.chest import chest_of  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.read.lung_truth import lung_truth  # noqa: E402
from training.read.volume import Volume, resample  # noqa: E402
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
    volume = Volume("made-up", hu, (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    painted = chest_of(volume, truth > 0.5, 3.0)
    return segment.Host("made-up", {1.5: fine, 3.0: hu}, {1.5: truth, 3.0: coarse}, painted)


def test_lung_that_looks_like_tissue_weighs_more_than_lung_and_than_tissue() -> None:
    """What a mask costs that leaves out a box: of air in the lungs, of consolidated lung."""
    image, mask = torch.full((1, 1, 16, 32, 32), 0.1), torch.zeros(1, 1, 16, 32, 32)
    mask[..., 4:12, 8:24, 8:24] = 1
    image[..., 18:24] = 0.7  # tissue: in the lungs and beside them
    right = mask * 20 - 10

    def cost(box: tuple[slice, slice]) -> float:
        wrong = right.clone()
        wrong[..., 4:12, box[0], box[1]] *= -1
        return float(segment.loss_of(wrong, mask, image))

    consolidated, airy = (cost((slice(8, 24), slice(a, a + 4))) for a in (19, 9))
    assert consolidated > 2 * airy
    beside = cost((slice(0, 8), slice(19, 23)))
    assert beside < 2 * airy


def test_most_lessons_are_of_painted_hosts_and_their_mask_is_that_of_the_healthy_one() -> None:
    host, k = chest(), replace(TINY, empty=0.0, repaint=0.0, masses=0.0, gas=0.0)
    for disease in (0.0, 1.0):
        rng = np.random.default_rng(4)
        drawn = [segment.lesson(rng, host, replace(k, disease=disease)) for _ in range(8)]
        dense = np.mean([(hu[mask > 0.9] > -700).mean() for hu, mask in drawn])
        assert dense > 0.02 if disease else dense < 0.01


@pytest.mark.long
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
