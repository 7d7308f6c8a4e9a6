"""The folds of the nodule networks: every CT is left out once, and by the runs that judge it."""

from __future__ import annotations

import pytest

from training.read import left_out as nobody
from training.read.shared_series import MASSES_ONLY, NODULE_SERIES, TRAINING_SERIES
from training.recipes.lung_nodule.folds import FOLDS, folds_of, judged_runs, learned_from, left_out

ROLES = ("propose", "mass", "measure", "cube", "disease")


def test_the_folds_hold_every_ct_once_two_each() -> None:
    assert sorted(name for fold in FOLDS.values() for name in fold) == sorted(TRAINING_SERIES)
    assert {len(fold) for fold in FOLDS.values()} == {2}


@pytest.mark.parametrize("role", ROLES)
def test_no_run_learns_from_a_ct_that_it_leaves_out_and_what_ships_learns_from_all(
    role: str,
) -> None:
    for fold, names in FOLDS.items():
        learned = learned_from(role, fold).split(",")
        assert not set(learned) & set(names)
        assert set(learned) | set(names) >= set(learned_from(role).split(","))
    wanted = TRAINING_SERIES if role == "mass" else NODULE_SERIES
    assert learned_from(role).split(",") == list(wanted)


@pytest.mark.parametrize("role", ROLES)
def test_a_ct_is_judged_by_the_run_that_left_it_out(role: str) -> None:
    for name, run in judged_runs(role):
        (fold,) = (fold for fold, names in FOLDS.items() if name in names)
        assert run == f"{role}-fold-{fold}"
        assert name not in learned_from(role, fold).split(",")


def test_slices_of_8_mm_count_for_masses_alone() -> None:
    assert MASSES_ONLY == ("A0002",)
    for role in ROLES:
        judged = {name for name, _ in judged_runs(role)}
        assert ("A0002" in judged) == ("A0002" in learned_from(role)) == (role == "mass")
    assert left_out("propose", "1") == ("R01-001",)
    assert len(judged_runs("mass")) == 8


def test_measuring_and_disease_are_judged_in_two_folds_and_all_else_in_four() -> None:
    assert {role: len(folds_of(role)) for role in ROLES} == {
        "propose": 4,
        "mass": 4,
        "measure": 2,
        "cube": 4,
        "disease": 2,
    }


def test_every_lidc_host_is_left_out_of_patches_and_shapes() -> None:
    assert {name for name in TRAINING_SERIES if name.startswith("LIDC")} == set(nobody.HOSTS)
