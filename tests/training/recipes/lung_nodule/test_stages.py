"""The folds of the nodule networks."""

from __future__ import annotations

from training.recipes.lung_nodule.stages import FOLDS


def test_no_fold_trains_on_the_scan_it_leaves_out() -> None:
    for left_out, hosts in FOLDS.items():
        assert left_out not in hosts.split(",")
