"""The fit of the score, its threshold and its figures, on candidates that can be counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.bundle.heads import Calibration
from appliance.interpret import classify
from appliance.records import Candidate
from training.recipes.lung_nodule import calibrate
from training.recipes.lung_nodule.calibrate import (
    SPOTS,
    Judged,
    fitted,
    lesions_of,
    marks_of,
    others,
    published,
    scores,
    threshold_of,
)
from training.recipes.lung_nodule.figures import of_implants
from training.recipes.lung_nodule.fold_candidates import Fold, Kept


def row(x: float, diameter: float = 8.0) -> dict[str, Any]:
    kind = {"kind": "solid", "place": "isolated", "size": "8-15 mm"}
    return {"center_lps_mm": [x, 0.0, 0.0], "diameter_mm": diameter, **kind}


def fold(
    candidates: list[tuple[int, float, float]], truth: list[list[dict[str, Any]]], **more: Any
) -> Judged:
    """(scan, x, logit of heat) each; the last scan is the unaltered host."""
    scan, x, heat = (np.array(v) for v in zip(*candidates, strict=True))
    n = len(candidates)
    kept = Kept(
        scan.astype(np.int64),
        np.stack([x, 0 * x, 0 * x], 1).astype(np.float64),
        np.full(n, 8.0),
        heat.astype(np.float64),
        np.zeros((n, 1, 1), np.float16),
        np.zeros((n, 1, 1, 1), np.float16),
        np.asarray(more.get("aside", np.zeros(n, bool))),
        truth,
        more.get("lesions", []),
        more.get("unsure", []),
    )
    verdicts = np.concatenate([kept.verdicts(s) for s in range(len(truth))])
    own = kept.scan == len(truth) - 1
    near = np.abs(x[:, None] - [r["center_lps_mm"][0] for r in kept.lesions]) < 5
    lesion = np.where(own & near.any(1), near.argmax(1) if kept.lesions else 0, -1)
    features = np.stack([heat, heat], 1).astype(np.float64)
    return Judged(Fold("host", "run", top=4), kept, features, verdicts, lesion)


def test_the_device_gives_the_score_of_the_fit() -> None:
    rng = np.random.default_rng(3)
    heat, patch = rng.normal(size=(2, 12)).astype(np.float32).astype(np.float64)
    figures = np.array([1.3, -0.4])
    calibration = Calibration(propose=1.3, classify=1.3, bias=-0.4, threshold=0.5)
    candidates = [
        Candidate((float(i), 0.0, 0.0), 6.0, {"propose": float(h)}, 0.5) for i, h in enumerate(heat)
    ]
    on_device = classify.scored(candidates, patch.astype(np.float32), calibration)
    assert [c.score for c in sorted(on_device, key=lambda c: c.center_lps_mm)] == pytest.approx(
        scores(heat + patch, figures).tolist(), abs=1e-5
    )


def test_a_patch_counts_half_beside_the_heat() -> None:
    one = fold([(0, 0, 2.0), (0, 30, -1.0), (1, 50, 0.0)], [[row(0)], []])
    assert one.logit.tolist() == [3.0, -1.5, 0.0]  # both columns are the heat here
    three = replace(one, features=np.column_stack([one.features, [1.0, 1.0, 1.0]]))
    assert three.logit.tolist() == [4.0, -0.5, 1.0]


def test_a_spot_counts_as_false_and_in_the_curve_beside_it_not_at_all() -> None:
    one = fold([(0, 0, 0), (0, 95, 0), (0, 60, 0), (1, 50, 0)], [[row(0)], []])
    one = replace(one, fold=replace(one.fold, host="R01-001"))
    one.of.center_lps_mm[1] = SPOTS["R01-001"][0]
    score = np.array([0.5, 0.9, 0.3, 0.1])
    assert marks_of(one, score)[0].verdicts.tolist() == [0, -1, -1]
    assert marks_of(one, score, spots=False)[0].verdicts.tolist() == [0, -2, -1]


def test_the_hosts_own_lesion_and_mass_are_neither_hit_nor_false_in_an_implanted_scan() -> None:
    one = fold(
        [(0, 0, 3.0), (0, 50, 2.0), (0, 80, 1.0), (0, 99, 0.0), (1, 50, 1.0)],
        [[row(0)], []],
        lesions=[row(50)],
        aside=[False, False, True, False, False],
    )
    assert one.verdicts.tolist() == [0, -2, -2, -1, -2]
    assert one.lesion.tolist() == [-1, -1, -1, -1, 0]


def test_a_mark_of_too_few_radiologists_counts_nowhere() -> None:
    one = fold(
        [(0, 0, 3.0), (0, 50, 2.0), (1, 50, 1.0), (1, 80, 0.0)],
        [[row(0)], []],
        unsure=[row(50)],
    )
    score = np.array([0.9, 0.8, 0.7, 0.6])
    assert one.verdicts.tolist() == [0, -2, -2, -1]
    assert marks_of(one, score)[0].verdicts.tolist() == [0, -2]
    assert others(one, score).tolist() == [0.6]
    assert lesions_of(one, score, 0.5) == {"lesions": [], "others": 1}
    assert published([one], [score], 0.5)["real_lesions"] == {}


def test_real_lesions_are_counted_apart_by_who_marked_them() -> None:
    own = [row(0), {**row(50), "by_eye": True}, row(90)]
    one = fold([(0, 200, 9.0), (1, 0, 3.0), (1, 50, 2.0)], [[row(200)], []], lesions=own)
    figures = published([one], [np.array([0.95, 0.9, 0.4])], 0.5)
    told = {who: (r["found"], r["of"]) for who, r in figures["real_lesions"].items()}
    assert told == {"radiologists": (1, 2), "engineers": (0, 1)}
    assert figures["implants"] == 1
    named = of_implants(figures)
    share = named[
        "real lesions marked by radiologists, scan left out, operating point: sensitivity"
    ]
    assert (share.value, share.n) == (0.5, 2)
    assert named["host left out: rank of its largest nodule"].value == 1


def test_the_unaltered_host_teaches_by_its_lesions_alone() -> None:
    candidates = [(0, 0, 2.0), (0, 30, -2.0), (1, 50, 1.0), (1, 70, 5.0)]
    with_lesion = fold(candidates, [[row(0)], []], lesions=[row(50)])
    without = fold(candidates[:2] + candidates[3:], [[row(0)], []], lesions=[row(50)])
    figures = fitted([with_lesion], 8.0)
    assert np.isfinite(figures).all()
    assert not np.allclose(figures, fitted([without], 8.0))
    # x 70 is no lesion: whatever its score, it changes nothing
    moved = fold([*candidates[:3], (1, 70, -5.0)], [[row(0)], []], lesions=[row(50)])
    assert np.allclose(figures, fitted([moved], 8.0))


def test_the_threshold_lets_through_the_asked_rate() -> None:
    one = fold(
        [(0, 0, 0), (0, 30, 0), (0, 40, 0), (1, 0, 0), (1, 60, 0), (2, 90, 0)],
        [[row(0)], [row(0)], []],
    )
    score = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1])
    assert threshold_of([one], [score], 0.5) == 0.7
    assert threshold_of([one], [score], 1.0) == 0.3
    assert threshold_of([one], [score], 2.0) == 0.2


def test_the_threshold_leaves_few_other_findings_in_every_unaltered_host() -> None:
    rest = [(1, 20.0 * i, 0.0) for i in range(6)]
    one = fold([(0, 0, 0), *rest], [[row(0)], []], lesions=[row(0)])
    score = np.array([0.1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    least = threshold_of([one], [score], 4)
    # of six findings one is the lesion and five are others: the fifth is one too many
    assert 0.4 < least <= 0.5
    real = lesions_of(one, score, least)
    assert real["others"] == calibrate.MOST_OTHER
    assert real["lesions"][0]["rank"] == 1


def test_what_is_sure_is_fitted_on_the_other_hosts_and_told_of_each() -> None:
    right = [(0, 40.0 * i, 0.0) for i in range(20)]
    wrong = [(0, 1000.0 + 40.0 * i, 0.0) for i in range(20)]
    truth = [[row(x) for _, x, _ in right], []]
    one = fold([*right, *wrong, (1, 5000, 0.0)], truth)
    one, two = (replace(one, fold=replace(one.fold, host=name)) for name in ("one", "two"))
    score = np.array([*np.linspace(0.8, 0.99, 20), *np.linspace(0.4, 0.79, 20), 0.1])
    found = calibrate.doubt_of([one, two], [score, score], 0.5)
    assert found["sure_from"] == 0.8
    assert found["left_out"]["one"] == {
        "reported": 20 + int((score[20:40] >= 0.5).sum()),
        "sure": 20,
        "right_of_sure": 1.0,
        "right_of_unsure": 0.0,
    }
    worse = np.where(score > 0.9, score - 0.5, score)  # half of what is right looks like a spot
    assert calibrate.doubt_of([one, two], [score, worse], 0.5)["left_out"]["two"]["sure"] == 11


def test_nothing_is_sure_below_the_threshold() -> None:
    one = fold([(0, 0, 0.0), (0, 40, 0.0), (1, 90, 0.0)], [[row(0), row(40)], []])
    score = np.array([0.6, 0.3, 0.1])
    two = replace(one, fold=replace(one.fold, host="another"))
    assert calibrate.doubt_of([one, two], [score, score], 0.5)["sure_from"] == 0.5


def test_the_published_figures_count_what_was_found() -> None:
    one = fold(
        [(0, 0, 0), (0, 30, 0), (1, 0, 0), (1, 60, 0), (2, 90, 0)],
        [[row(0), row(200)], [row(0)], []],
        lesions=[row(90)],
    )
    score = np.array([0.9, 0.8, 0.1, 0.05, 0.6])
    figures = published([one], [score], 0.5)
    assert (figures["scans"], figures["implants"]) == (2, 3)
    at = figures["at_threshold"]
    assert at["sensitivity"] == pytest.approx(1 / 3, abs=1e-4)
    assert at["fp_per_scan"] == 0.5
    assert (at["by_size"]["8-15 mm"]["found"], at["by_size"]["8-15 mm"]["of"]) == (1, 3)
    assert figures["among_candidates"]["sensitivity"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["real"]["host"]["others"] == 0
