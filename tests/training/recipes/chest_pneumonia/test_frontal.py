"""What is frontal and what is not: the pictures of a body from all sides, and the figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from training.recipes.chest_pneumonia import frontal, projections  # noqa: E402
from training.recipes.chest_pneumonia import frontal_figures as figures  # noqa: E402
from training.recipes.chest_pneumonia import frontal_lessons as lessons  # noqa: E402
from training.recipes.chest_pneumonia.frontal_figures import Judged  # noqa: E402


def body(below: int = 20) -> projections.Body:
    """A cylinder of water with two lungs, the right one larger, a spine behind, and `below` slices
    under the lungs."""
    z, y, x = np.mgrid[0 : 70 + below, 0:100, 0:100].astype(float)
    dense = (((y - 50) / 30) ** 2 + ((x - 50) / 42) ** 2 < 1).astype(np.float32)
    lungs = np.zeros_like(dense)
    for middle, wide in ((30, 13), (70, 9)):
        inside = ((y - 50) / 20) ** 2 + ((x - middle) / wide) ** 2 < 1
        lungs[inside & (z >= below) & (z < 60 + below)] = 1
    dense[lungs > 0] = 0.2
    dense[(abs(y - 72) < 5) & (abs(x - 50) < 5)] = 1.8
    return projections.Body("made-up", dense, lungs)


def test_from_the_front_the_lungs_lie_beside_the_spine_and_from_the_side_over_each_other() -> None:
    front = projections.projected(body(), 0)
    row = front.picture[30]
    middle = len(row) // 2
    assert row[middle + 20] < row[middle], "a lung is darker than the spine"
    top, bottom, left, right = projections.lungs_of(front)
    assert bottom - top == 60
    assert top == 10, "head first"
    a, b = projections.lungs_of(projections.projected(body(), 90))[2:]
    assert b - a < 0.7 * (right - left)


def test_what_is_seen_from_behind_is_the_mirror_image() -> None:
    before, behind = (projections.projected(body(), d).picture for d in (10, 190))
    assert np.abs(before - behind[:, ::-1]).max() < 1e-3 * before.max()
    other = projections.projected(body(), -10).picture
    assert np.abs(before - other).max() > 0.1 * before.max()


def test_a_ct_that_ends_below_its_lungs_shows_no_abdomen() -> None:
    rng = np.random.default_rng(0)
    assert projections.abdomen(rng, projections.projected(body(0), 0)) is None
    shown = [projections.abdomen(rng, projections.projected(body(30), 0)) for _ in range(8)]
    for picture in shown:
        assert picture is not None
        assert picture.shape == (28, 28)


@pytest.mark.long
def test_a_body_gives_so_many_pictures_of_each_class() -> None:
    found = lessons.of_body(np.random.default_rng(0), body(), 20)
    assert set(found) == {lessons.FRONTAL, *lessons.OTHERS} - {"blank"}
    for images in found.values():
        assert (images.shape, images.dtype) == ((20, 28, 28), np.uint8)
        assert images.std((1, 2)).min() > 5
    again = lessons.of_body(np.random.default_rng(0), body(), 20)
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_what_is_made_of_a_frontal_image_is_what_its_class_says() -> None:
    image = np.arange(784, dtype=np.uint16).reshape(28, 28) // 4
    found = lessons.of_images(np.random.default_rng(0), np.stack([image.astype(np.uint8)] * 30))
    for turned in found["turned"]:
        assert any(np.array_equal(turned, np.rot90(found["frontal"][0], k)) for k in (1, 3))
    for over in found["upside_down"]:
        assert over[0].mean() > over[-1].mean(), "the last row comes first"
    assert np.array_equal(255 - found["inverted"], found["frontal"])


def test_blanks_are_of_every_kind_and_show_no_body() -> None:
    found = lessons.blanks(np.random.default_rng(0), 40)
    assert (found.shape, found.dtype) == ((40, 28, 28), np.uint8)
    flat = found[::4].astype(float)
    assert flat.std((1, 2)).max() < 25


def test_a_batch_is_half_frontal_and_never_of_a_ct_that_is_left_out() -> None:
    k = frontal.Knobs(batch=40, from_ct=1.0)
    mark = {name: np.full((2, 28, 28), 255, np.uint8) for name in ("frontal", *lessons.OTHERS)}
    dark = {name: np.zeros((2, 28, 28), np.uint8) for name in mark}
    shown = frontal.Shown(dark, {"a": mark, "b": dark}, dark["blank"])
    x, y = frontal.drawer(shown, k)(np.random.default_rng(0))
    assert x.shape == (40, 1, 28, 28)
    assert float((y > 0.5).float().mean()) == 0.5
    rng = np.random.default_rng(0)
    some = [shown.some(rng, "lateral", 1.0).max() for _ in range(40)]
    assert {0, 255} == set(some)
    left = shown.without(["a"])
    assert {left.some(rng, "lateral", 1.0).max() for _ in range(40)} == {0}


def test_the_threshold_keeps_the_share_that_was_asked_for() -> None:
    scores = np.arange(1000) / 1000
    for keep in (0.95, 0.99):
        cut = figures.threshold_keeping(scores, keep)
        assert (scores >= cut).mean() == pytest.approx(keep, abs=1e-9)


def test_what_is_kept_is_counted_against_the_threshold_of_other_folds() -> None:
    scores, folds = np.full(100, 0.9), np.arange(100) % 5
    scores[folds == 0] = 0.1
    kept = figures.cross_fitted(scores, folds, 0.95)
    assert not kept[folds == 0].any(), "its own threshold would keep them"
    assert kept[folds > 0].all()


def made_up() -> dict[str, Any]:
    real = Judged("val", {"frontal": np.linspace(0.5, 1, 50), "turned": np.array([0.1, 0.9])}, 0.5)
    bodies = [
        Judged("a", {"frontal": np.ones(4), "lateral": np.array([0.1, 0.1, 0.1, 0.9])}, 0.5),
        Judged("b", {"frontal": np.ones(4), "lateral": np.zeros(4)}, 0.5),
    ]
    return figures.figures(real, bodies, np.arange(50) % 2, np.arange(50) % 5, 0.95)


def test_figures_say_how_many_and_the_worst_ct() -> None:
    found = made_up()
    assert (found["val"]["turned"]["share"], found["val"]["turned"]["n"]) == (0.5, 2)
    lateral = found["left_out"]["lateral"]
    assert (lateral["share"], lateral["n"], lateral["bodies"]) == (7 / 8, 8, 2)
    assert (lateral["worst"], lateral["worst_of"]) == (0.75, "a")
    assert found["left_out"]["frontal"]["share"] == 1
    said = figures.table(found)
    assert "refused: lateral" in said
    assert "0.8750, 8 of 2 CTs, least 0.750 (a)" in said


def test_the_card_has_each_class_with_its_number() -> None:
    card = figures.card(made_up())
    lateral: Any = card["frontal_left_out_ct_refused_lateral"]
    assert (lateral.value, lateral.low, lateral.n) == (0.875, None, 8)
    assert card["frontal_left_out_ct_refused_lateral_worst_ct"] == 0.75
    turned: Any = card["frontal_val_refused_turned"]
    assert turned.low < turned.value < turned.high


def test_filled_lungs_are_denser_below_and_as_they_were_above() -> None:
    healthy = body()
    for seed in range(4):
        ill = projections.filled(np.random.default_rng(seed), healthy)
        more = ill.dense - healthy.dense
        assert more.min() >= 0
        assert more[healthy.lungs == 0].max() == 0
        assert more[20:30].max() > 0.2
        assert more[72:].max() == 0, "the tops are as they were"
        assert ill.dense[healthy.lungs > 0].max() <= 1
