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
    shown = frontal.Shown(dark, np.array([0, 1]), {"a": mark, "b": dark}, dark["blank"])
    x, y = frontal.drawer(shown, k)(np.random.default_rng(0))
    assert x.shape == (40, 1, 28, 28)
    assert float((y > 0.5).float().mean()) == 0.5
    rng = np.random.default_rng(0)
    some = [shown.some(rng, "lateral", k).max() for _ in range(40)]
    assert {0, 255} == set(some)
    left = shown.without(["a"])
    assert {left.some(rng, "lateral", k).max() for _ in range(40)} == {0}


def test_frontal_images_with_pneumonia_are_drawn_as_often_as_was_asked_for() -> None:
    labels = np.array([0, 1, 0, 0])
    grey = np.where(labels, 255, 0).astype(np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    shown = frontal.Shown({"frontal": grey, "turned": grey}, labels, {}, grey)
    rng, k = np.random.default_rng(0), frontal.Knobs(ill=0.9)
    drawn = [shown.some(rng, "frontal", k).max() == 255 for _ in range(1000)]
    assert np.mean(drawn) == pytest.approx(0.9, abs=0.03)
    turned = [shown.some(rng, "turned", k).max() == 255 for _ in range(1000)]
    assert np.mean(turned) == pytest.approx(0.25, abs=0.04), "of other classes each as often"


def test_the_threshold_keeps_the_share_that_was_asked_for() -> None:
    scores = np.arange(1000) / 1000
    for keep in (0.95, 0.99):
        cut = figures.keeping(keep)({"frontal": scores})
        assert (scores >= cut).mean() == pytest.approx(keep, abs=1e-9)


def test_what_ships_keeps_more_as_far_as_the_others_of_val_stay_refused() -> None:
    low = np.linspace(0, 0.2, 1000)
    scores = {"frontal": np.linspace(0.5, 1, 100), **dict.fromkeys(figures.AGAINST, low)}
    assert figures.shipping(0.95)(scores) == pytest.approx(0.19, abs=1e-3)
    one = {**scores, "blank": np.linspace(0, 0.4, 1000)}
    assert figures.shipping(0.95)(one) == pytest.approx(0.38, abs=1e-3), "the worst class counts"
    high = {**scores, "turned": np.linspace(0, 1, 1000)}
    assert figures.shipping(0.95)(high) == figures.keeping(0.95)(high), "and never keeps less"
    few = {"frontal": np.ones(4), **dict.fromkeys(figures.AGAINST, np.array([0.1, 0.2]))}
    assert figures.shipping(0.95)(few) == 0.2


def test_what_is_kept_is_counted_against_the_threshold_of_other_folds() -> None:
    scores, folds = np.full(100, 0.9), np.arange(100) % 5
    scores[folds == 0] = 0.1
    both = {"frontal": scores, "turned": scores, "blank": np.full(7, 0.5)}
    kept = figures.cross_fitted(both, folds, figures.keeping(0.95))
    for name in ("frontal", "turned"):
        assert not kept[name][folds == 0].any(), "its own threshold would keep them"
        assert kept[name][folds > 0].sum() == 0 or kept[name][folds > 0].all()
    assert kept["frontal"][folds > 0].all()
    assert kept["blank"].tolist() == [False, True, True, True, True, False, True]


def made_up(**drawn: float) -> dict[str, Any]:
    others = ("abdomen", "turned", "upside_down", "inverted")
    val = {"frontal": np.linspace(0.5, 1, 50), "turned": np.array([0.1, 0.9])}
    val |= dict.fromkeys(("upside_down", "inverted", "blank"), np.zeros(5))
    zero = np.zeros(4)
    bodies = [
        Judged(
            name, {"frontal": np.ones(4), "lateral": lateral, **dict.fromkeys(others, zero)}, val
        )
        for name, lateral in (("a", np.array([0.1, 0.1, 0.1, 0.9])), ("b", zero))
    ]
    real = Judged("val", val, val)
    labels, folds = np.arange(50) % 2, np.arange(50) % 5
    return figures.figures(real, bodies, labels, folds, 0.95, drawn or {"demo": 0.9})


def test_figures_say_how_many_and_the_worst_ct() -> None:
    found = made_up()
    assert found["threshold"] == pytest.approx(0.52, abs=0.01)
    assert (found["val"]["turned"]["share"], found["val"]["turned"]["n"]) == (0.5, 2)
    lateral = found["left_out"]["lateral"]
    assert (lateral["share"], lateral["n"], lateral["bodies"]) == (7 / 8, 8, 2)
    assert (lateral["worst"], lateral["worst_of"]) == (0.75, "a")
    assert found["left_out"]["frontal"]["share"] == 1
    said = figures.table(found)
    assert "refused: lateral" in said
    assert "0.8750, 8 of 2 CTs, least 0.750 (a)" in said


def test_other_shares_of_val_stand_beside_with_ill_and_well_apart() -> None:
    found = made_up()["by_share"]
    assert list(found) == ["0.95", "0.99", "0.995"]
    assert found["0.95"]["threshold"] > found["0.995"]["threshold"]
    kept = [one["val"]["kept"]["share"] for one in found.values()]
    assert kept[0] < kept[-1]
    ill, well = (found["0.95"]["val"][f"kept_{w}"] for w in ("with_pneumonia", "without_it"))
    assert (ill["n"], well["n"]) == (25, 25)


def test_a_ct_is_held_against_the_threshold_of_its_own_network() -> None:
    scores = {"frontal": np.array([0.3]), "lateral": np.array([0.3])}
    one = Judged("a", scores, {"frontal": np.array([0.4])})
    rule = figures.keeping(0.95)
    assert (one.share("frontal", rule), one.share("lateral", rule)) == (0, 1)


def test_the_card_has_each_class_with_its_number() -> None:
    card = figures.card(made_up(well=0.9, ill=0.7))
    lateral: Any = card["frontal_left_out_ct_refused_lateral"]
    assert (lateral.value, lateral.low, lateral.n) == (0.875, None, 8)
    assert card["frontal_left_out_ct_refused_lateral_worst_ct"] == 0.75
    turned: Any = card["frontal_val_refused_turned"]
    assert turned.low < turned.value < turned.high
    assert card["frontal_lowest_score_of_2_drawn_chests"] == 0.7


def test_filled_lungs_are_dense_to_their_rim_and_nothing_else_is() -> None:
    healthy = body()
    rim = healthy.lungs
    rim[20:22] *= 0.5
    tops, sides = set(), set()
    for seed in range(24):
        ill = projections.filled(np.random.default_rng(seed), healthy)
        more = ill.dense - healthy.dense
        assert more.min() >= 0
        assert more[rim == 0].max() == 0
        assert ill.dense[rim > 0].max() <= projections.FULL + 1e-6
        assert more[20].max() > 0.5 * more[30].max(), "where a voxel is half a lung, too"
        tops.add(bool(more[75].max() > 0))
        at = (bool(more[30, :, :50].max() > 0), bool(more[30, :, 50:].max() > 0))
        sides.add(at)
        if at == (True, True) and more[75].max() > 0:
            assert ill.dense[30][rim[30] > 0].max() < 0.9, "two whole lungs keep some air"
    assert tops == {False, True}, "lower zones and whole lungs"
    assert sides == {(True, True), (True, False), (False, True)}
