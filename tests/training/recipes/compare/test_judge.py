"""The judge: errors in mm of the earlier exam, and who ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.errors import RunError
from training.implant.pairs.fields import FIELD_MM, moved
from training.implant.pairs.pair import Chest, drawn
from training.learn.checkpoint import save_checkpoint
from training.recipes.compare import judge
from training.recipes.compare.displace import WithLungs
from training.recipes.compare.seen import seen


def test_the_exact_field_has_no_error_and_the_boxes_have(host: Chest) -> None:
    pair = drawn(np.random.default_rng(3), host, moved)
    view = seen(pair)
    exact = judge.errors(pair, view, view.truth)
    boxes = judge.errors(pair, view, judge.still(view.moving, view.fixed))
    assert len(exact) == len(boxes) > 100
    assert exact.max() < 1.0
    assert boxes.mean() > 2.0
    off = view.truth + np.array([3.0, 0, 0], np.float32)[:, None, None, None]
    scale = float(view.boxes.scale[0])
    assert float(np.median(judge.errors(pair, view, off))) == pytest.approx(3 / scale, abs=0.7)


def test_who_is_asked_again_sees_prior_as_it_was_laid_before() -> None:
    step = np.zeros((3, 8, 8, 8), np.float32)
    step[2] = FIELD_MM
    seen_priors = []

    def once(prior: np.ndarray, current: np.ndarray) -> np.ndarray:
        seen_priors.append(prior)
        return step

    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (8, 8, 8))
    field = judge.repeated(once, 3)(ramp, ramp)
    assert np.allclose(field[2], 3 * FIELD_MM)
    assert np.allclose(seen_priors[1][..., :-1], ramp[..., 1:])
    assert np.allclose(seen_priors[2][..., :-2], ramp[..., 2:])


def test_the_table_names_who_ships(host: Chest, runs: Path) -> None:
    (runs / "run").mkdir()
    save_checkpoint(runs / "run" / "last.pt", {"ema": WithLungs().state_dict()})
    figures = judge.table(["made=run"], 1, lambda _: host)
    names = {"boxes", "demons", "network x1", "network x2", "network x3"}
    assert set(figures["each"]["made"]) == names
    assert set(figures["all"]) == names | {judge.NEAR + name for name in names}
    assert figures["all"]["near: boxes"]["mean_mm"] <= judge.NEAR_MM
    assert figures["ships"] is False  # it has learned nothing
    assert figures["all"]["demons"]["p95_mm"] < figures["all"]["boxes"]["p95_mm"]
    assert figures["each"]["made"]["demons"]["seconds"] > 0
    with pytest.raises(RunError, match="8 mm"):
        judge.table(["A0002=run"], 1, lambda _: host)


def test_no_point_is_no_figure() -> None:
    with pytest.raises(RunError, match="do not overlap"):
        judge.summary([])
