"""The card shows what taught a patch network beside what the network reached alone."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from appliance.bundle.manifest import Figure
from training.recipes.lung_nodule.figures import of_disease, of_implants, of_masses, of_patches


def test_the_card_shows_the_teachers_and_the_student_alone() -> None:
    compared = {
        "student": [0.99, 0.98, 0.995],
        "teacher": [0.9914, 0.985, 0.996],
        "alone": [0.989, 0.98, 0.99],
        "teacher minus alone": [0.0024, 0.0001, 0.0045, 0.04],
        "student minus alone": [0.001, -0.0004, 0.0018, 0.3],
    }
    runs = {
        "student": {"val_auc": 0.99, "val_auc_interval": [0.98, 0.995], "val_n": 9,
                    "compared": compared},
        "alone": {"val_auc": 0.989, "compared": {"student": [0.989, 0.98, 0.99]}},
        "never-judged": {},
    }  # fmt: skip
    start = "patches, val split: "
    assert of_patches(runs) == {
        f"{start}AUC of student": Figure(value=0.99, low=0.98, high=0.995, n=9),
        f"{start}AUC of what taught student": Figure(value=0.9914, low=0.985, high=0.996, n=9),
        f"{start}what taught student, above it alone": Figure(
            value=0.0024, low=0.0001, high=0.0045, n=9
        ),
        f"{start}student, above it alone": Figure(value=0.001, low=-0.0004, high=0.0018, n=9),
        f"{start}AUC of alone": Figure(value=0.989, low=None, high=None, n=None),
    }


def test_the_curve_without_spots_stands_beside_the_strict_one() -> None:
    row = {"fp_per_scan": 1.0, "sensitivity": 0.7, "interval": [0.6, 0.8]}
    found = of_implants({"froc": [row], "froc_without_spots": [{**row, "sensitivity": 0.8}]})
    strict, without = sorted(found, key=len)
    assert found[strict].value == 0.7
    assert "unmarked spots set aside" in without
    assert found[without].value == 0.8


def test_the_card_says_how_masses_are_sized() -> None:
    row = {"n": 14, "median": 0.07, "90_percent": 0.2, "bias": -0.02}
    found = of_masses({"sizes": {"with_a_body": "12 of 14", "mean_axis_off": {"wall": row}}})
    name = "implanted masses, scan left out, wall: median error of the mean axis, as a share"
    assert found == {name: Figure(value=0.07, n=14)}


def test_the_card_says_what_disease_was_judged_on_scans_left_out_alone() -> None:
    row = {"limited": 1, "of": 14, "interval": [0.01, 0.3]}
    ratio = {"painted_scans": 5, "said_over_painted_10_50_90": [0.6, 0.9, 1.2]}
    part = {"limited": {"few": row, "much": {**row, "of": 0}}, "classes": {"emphysema": ratio}}
    worse = {"limited": {"few": {**row, "limited": 9}}, "classes": {}}
    start = "disease, scan left out, "
    assert of_disease({"left_out": part, "learned_from": worse}) == {
        f"{start}painted with under 50 ml: share with the limitation": Figure(
            value=0.0714, low=0.01, high=0.3, n=14
        ),
        f"{start}emphysema: median of ml said over ml painted": Figure(value=0.9, n=5),
    }
    assert of_disease({}) == {}
