"""Disease said against disease painted: the appliance's own steps, and the fit of the share."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.backend.cpu import CpuBackend
from appliance.bundle.heads import DISEASES
from appliance.report import Disease, LungDisease
from rigs.two_lungs import two_lungs
from training.errors import DataError, RunError
from training.implant.disease.chest import TRUTH_MM, chest_of
from training.implant.disease.paint import DiffuseTruth, LungTruth, Wanted, paint
from training.read.volume import F32, Volume, resample
from training.recipes.lung_nodule import bundle, judge_disease
from training.recipes.lung_nodule.judge_disease import FEW_ML, MUCH_ML, Scan, What

HOST = two_lungs()
BOTH = HOST.right | HOST.left
VOLUME = Volume("made-up", HOST.hu, HOST.spacing, (-150.0, -105.0, 20.0))
TRUTH = resample(BOTH.astype(np.float32), HOST.spacing, [TRUTH_MM] * 3) >= 0.5


def by_level(image: F32) -> dict[str, F32]:
    """A network that knows this host's lungs, and tells classes by HU alone."""
    lungs = np.full(image.shape, -5, np.float32)
    z, y, x = BOTH.shape
    lungs[0, 0, :z, :y, :x] = np.where(BOTH, 5, -5)
    hu = image[0, 0] * 1400 - 1000
    middles = {0: -860, 1: 40, 2: -600, 3: -960}
    logits = np.stack([-np.abs(hu - level) for level in middles.values()])[None]
    return {"lungs": lungs, "disease": logits.astype(np.float32)}


def backend() -> CpuBackend:
    entries = {"segment": bundle.network("segment", "0" * 64, drawn=True)}
    return CpuBackend("onnxruntime", entries, {"segment": by_level})  # type: ignore[dict-item]


@pytest.mark.long
def test_a_ct_is_judged_as_it_is_and_painted_with_few_and_with_much() -> None:
    counts: dict[What, int] = {"few": 3, "much": 3}
    scans = list(
        judge_disease.scans_of(VOLUME, TRUTH, "run", backend(), left_out=True, counts=counts)
    )
    assert [s.what for s in scans] == ["as it is", *["few"] * 3, *["much"] * 3]
    plain, *painted = scans
    assert plain.painted is None
    lungs = plain.said.left.lung_ml + plain.said.right.lung_ml
    assert lungs == pytest.approx(BOTH.sum() * 0.027, rel=0.02)
    for scan in painted:
        ml = sum(map(scan.painted_ml, DISEASES))
        assert ml > 0
        assert scan.what == "much" or FEW_ML[0] - 1 <= ml <= FEW_ML[1] + 1
    again = judge_disease.scans_of(
        VOLUME, TRUTH, "run", backend(), left_out=True, counts={"few": 1, "much": 0}
    )
    assert list(again)[1] == scans[1], "the same seed paints the same"


def test_painted_ml_are_read_back_through_the_steps_of_the_appliance() -> None:
    """By HU alone, above what vessels and rims of this host say by themselves."""
    plain, _ = judge_disease.read(VOLUME, backend())
    chest = chest_of(VOLUME, TRUTH, judge_disease.PAINTED_MM)
    sick = paint(np.random.default_rng(0), chest, [Wanted("consolidation", 200, "left")])
    said, _ = judge_disease.read(judge_disease.on_grid(VOLUME, sick.hu), backend())
    more = said.left.consolidated_ml - plain.left.consolidated_ml
    assert more == pytest.approx(200, rel=0.25)
    assert abs(said.right.consolidated_ml - plain.right.consolidated_ml) < 5


def a_scan(what: What, share: float, ml: float = 0.0, said: int = 0, *, out: bool = False) -> Scan:
    """`ml` ml of ground glass painted into the left lung, and `said` ml said."""
    none = LungTruth(consolidated_ml=0, ground_glass_ml=0, emphysema_ml=0)
    left = none.model_copy(update={"ground_glass_ml": ml})
    lung = LungDisease(lung_ml=2000, consolidated_ml=0, ground_glass_ml=0, emphysema_ml=0)
    found = Disease(right=lung, left=lung.model_copy(update={"ground_glass_ml": said}))
    painted = None if what == "as it is" else DiffuseTruth(right=none, left=left)
    return Scan("h", "r", out, what, (), painted, found, share)


def test_the_share_lies_above_what_is_to_be_no_limitation_and_below_much_disease() -> None:
    little = [a_scan("few", i / 1000, 20) for i in range(20)]  # 1 in 20 may lie above
    scans = [a_scan("as it is", 0.012), *little, *[a_scan("much", 0.08, 300)] * 10]
    share = judge_disease.fitted(scans)
    assert share == pytest.approx((0.019 * 0.08) ** 0.5, abs=0.001)
    limits = judge_disease.limited(scans, share)
    assert (limits["as it is"]["limited"], limits["few"]["limited"]) == (0, 0)
    assert limits["much"]["limited"] == limits["much"]["of"] == 10


def test_where_much_cannot_be_told_from_little_no_healthy_ct_is_limited_all_the_same() -> None:
    scans = [a_scan("as it is", 0.04), a_scan("few", 0.01, 20), a_scan("much", 0.03, MUCH_ML)]
    assert judge_disease.fitted(scans) == pytest.approx(0.05, abs=0.0011)
    silent = [a_scan("as it is", 0.0), a_scan("few", 0.0, 20), a_scan("much", 0.0, 500)]
    with pytest.raises(RunError, match="says nothing of 1 scans with 150 ml"):
        judge_disease.fitted(silent)
    with pytest.raises(RunError, match="painted ones of both kinds"):
        judge_disease.fitted(scans[:1])


def test_ml_said_are_compared_class_by_class_and_left_out_apart() -> None:
    scans = [
        a_scan("much", 0.1, 200, 180, out=True),
        a_scan("much", 0.1, 100, 60, out=True),
        a_scan("few", 0.1, 10, 400, out=True),
        a_scan("as it is", 0.0, said=7, out=True),
        a_scan("much", 0.1, 300, 3),
    ]
    found = judge_disease.summary(scans, 0.05)
    glass = found["left_out"]["classes"]["ground_glass"]
    assert glass["painted_scans"] == 2
    assert glass["said_over_painted_10_50_90"][1] == pytest.approx(0.75)
    assert glass["median_error_ml"] == 30.0
    assert glass["said_of_none_ml_50_90_100"] == [7, 7, 7]
    assert found["left_out"]["classes"]["emphysema"]["painted_scans"] == 0
    assert found["learned_from"]["classes"]["ground_glass"]["painted_scans"] == 1
    assert found["left_out"]["limited"]["few"]["limited"] == 1


def test_a_ct_for_masses_alone_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["judge_disease", "--fold", "A0002=disease-fold-1"])
    with pytest.raises(DataError, match="A0002 has slices of 8 mm"):
        judge_disease.main()
