"""The fit on real nodules of scans: the threshold, the figures, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.errors import DataError, RunError
from training.judge.froc import NOWHERE, Places
from training.learn.checkpoint import save_checkpoint
from training.read import origin
from training.read.folders import work_folder
from training.recipes.lung_nodule import calibrate_scans, figures
from training.recipes.lung_nodule.calibrate_scans import Judged


def scan(seed: int, knows: float = 3.0) -> Judged:
    """Forty candidates 30 mm apart; every fourth hits a nodule, one is at an ignored mark."""
    rng = np.random.default_rng(seed)
    at = np.column_stack([np.arange(40) * 30.0, np.zeros((40, 2))])
    hits = np.arange(40) % 4 == 0
    logit = rng.normal(size=40) + np.where(hits, knows, 0)
    truth = Places(at[hits], np.full(hits.sum(), 8.0))
    return Judged(f"scan {seed}", logit, at, truth, Places(at[1:2], np.array([5.0])))


def test_the_threshold_lets_through_no_more_false_findings_than_asked_for() -> None:
    scans = [scan(seed) for seed in range(4)]
    marks = calibrate_scans.marks_of(scans, calibrate_scans.fitted(scans))
    strict, loose = (calibrate_scans.threshold_of(marks, rate) for rate in (0.25, 2.0))
    assert 0 < loose < strict <= 1
    for threshold, rate in ((strict, 0.25), (loose, 2.0)):
        at = calibrate_scans.published(scans, marks, threshold)["at_threshold"]
        assert at["fp_per_scan"] <= rate
        assert at["by_size"]["8-15 mm"]["of"] == 40


def test_what_is_at_an_ignored_mark_counts_neither_way() -> None:
    one = scan(1)
    assert one.verdicts(one.logit)[1] == -2
    without = Judged(one.name, one.logit, one.center_lps_mm, one.truth, NOWHERE)
    assert without.verdicts(without.logit)[1] == -1


def test_the_figures_are_named_for_real_nodules_and_for_nothing_else() -> None:
    scans = [scan(seed) for seed in range(4)]
    marks = calibrate_scans.marks_of(scans, calibrate_scans.fitted(scans))
    told = {"of_scans": calibrate_scans.published(scans, marks, 0.5)}
    found = figures.of_scans(told)
    assert all(name.startswith(calibrate_scans.NAME) for name in found)
    assert found[f"{calibrate_scans.NAME}: sensitivity at 1 false a scan"].n == 40
    assert figures.of_implants(told) == {}
    assert figures.of_scans({"froc": []}) == {}


def test_networks_that_hit_nothing_cannot_be_fitted() -> None:
    one = scan(1)
    nowhere = Judged(one.name, one.logit, one.center_lps_mm + 900, one.truth, NOWHERE)
    with pytest.raises(RunError, match="no candidate of 1 scans hits one of their 10 nodules"):
        calibrate_scans.fitted([nowhere])


def test_a_scan_of_train_and_one_that_a_network_saw_are_refused(work: Path) -> None:
    for name, split in (("val/1.2.3", "val"), ("train/1.2.4", "train")):
        folder = work / name
        folder.mkdir(parents=True)
        (folder / origin.FILE).write_text(origin.Origin("LUNA16", "CC BY 4.0", split).text())
    knobs = {"hosts": f"{work}/elsewhere/1.2.3,{work}/train/1.2.4"}
    save_checkpoint(work_folder("propose") / "last.pt", {"recipe": "x", "knobs": knobs})
    with pytest.raises(DataError, match="it is of split train; only val calibrates"):
        calibrate_scans.scans_of(work / "train", [])
    assert [path.name for path in calibrate_scans.scans_of(work / "val", [])] == ["1.2.3"]
    with pytest.raises(RunError, match=r"propose learned from 1\.2\.3"):
        calibrate_scans.scans_of(work / "val", ["propose"])
    with pytest.raises(DataError, match="no scan in it"):
        calibrate_scans.scans_of(work / "none", [])
