"""Findings in painted lungs: what counts as a nodule, as false, as inside disease, and as sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.report import Finding
from rigs.two_lungs import two_lungs
from training.implant.disease.chest import TRUTH_MM, chest_of
from training.implant.disease.paint import Wanted, paint
from training.implant.hosts import Host, Target
from training.implant.nodules import find_places
from training.read.volume import Bool, Volume, resample
from training.recipes.lung_nodule import judge_sick
from training.recipes.lung_nodule.judge_sick import CASES, PAINTED_MM, Counts

MADE = two_lungs()
VOLUME = Volume("made-up", MADE.hu, MADE.spacing, (-150.0, -105.0, 20.0))
LUNGS: Bool = (
    resample((MADE.right | MADE.left).astype(np.float32), MADE.spacing, [TRUTH_MM] * 3) >= 0.5
)


def host(**more: Any) -> Host:
    fine = resample(VOLUME.hu, VOLUME.spacing, [1.5] * 3)
    places = find_places(LUNGS, fine, 1.5, np.zeros_like(LUNGS))
    usual = {"lesions": (), "ignored": np.zeros_like(LUNGS)}
    return Host(VOLUME, 15.0, places, **{**usual, **more})


def a_finding(center_mm: tuple[float, float, float], *, sure: bool = True) -> Finding:
    """`center_mm`: z y x from the outer edge of the volume."""
    at = VOLUME.lps(np.asarray(center_mm) / VOLUME.spacing - 0.5)
    return Finding(
        id=1,
        tracking_uid="",
        kind="nodule",
        score=0.9,
        threshold=0.5,
        center_lps_mm=(float(at[0]), float(at[1]), float(at[2])),
        box_lps_mm=(0.0,) * 6,
        diameter_mm=8.0,
        key_image=0,
        certainty="sure" if sure else "unsure",
        unsure_why=() if sure else ("inside disease",),
    )


def sick_above(z_mm: float) -> Bool:
    """Diseased is all that lies above a height."""
    where = np.zeros(LUNGS.shape, np.bool_)
    where[int(z_mm / PAINTED_MM) :] = True
    return where


NODULE, OTHER, ILL = (60.0, 100.0, 80.0), (60.0, 100.0, 220.0), (180.0, 100.0, 80.0)


def test_nodules_are_found_or_not_and_sure_or_not_inside_disease_and_outside() -> None:
    put = [(NODULE, 10.0), (OTHER, 10.0), (ILL, 10.0)]
    said = [a_finding((63.0, 100.0, 80.0)), a_finding(ILL, sure=False)]
    found = judge_sick.counted(host(), put, sick_above(120), said)
    assert found == ((2, 1, 1), (1, 1, 0), (0, 0), (0, 0))


@pytest.mark.long
def test_what_is_no_nodule_and_no_lesion_of_the_host_is_false() -> None:
    lesion = Target((150.0, 100.0, 220.0), 12.0)
    said = [
        a_finding((150.0, 103.0, 220.0)),
        a_finding(NODULE),
        a_finding(OTHER, sure=False),
        a_finding(ILL),
    ]
    marked = host(lesions=(lesion,))
    assert judge_sick.counted(marked, [], sick_above(120), said)[2:] == ((2, 1), (1, 1))
    unsure = host(unsure=(lesion,))
    assert judge_sick.counted(unsure, [], sick_above(120), said)[2:] == ((2, 1), (1, 1))
    assert judge_sick.counted(host(), [], sick_above(120), said)[2:] == ((2, 1), (2, 2))
    mass = np.ones_like(LUNGS)
    assert judge_sick.counted(host(ignored=mass), [], sick_above(120), said)[2:] == ((0, 0), (0, 0))


def test_nothing_said_leaves_every_nodule_missed() -> None:
    put = [(NODULE, 10.0), (ILL, 10.0)]
    found = judge_sick.counted(host(), put, sick_above(120), [])
    assert found == ((1, 0, 0), (1, 0, 0), (0, 0), (0, 0))


def test_disease_is_added_to_the_hosts_own_slices_where_it_was_painted_and_nowhere_else() -> None:
    chest = chest_of(VOLUME, LUNGS, PAINTED_MM)
    sick = paint(np.random.default_rng(3), chest, [Wanted("consolidation", 150, "left")])
    scan, where = judge_sick.painted(VOLUME, chest, sick)
    assert where.sum() * chest.voxel_ml == pytest.approx(150, rel=0.02)
    coarse = resample(where.astype(np.float32), [PAINTED_MM] * 3, VOLUME.spacing)
    added = scan.hu - VOLUME.hu
    assert np.median(added[coarse > 0.99]) > 700, "aerated lung became tissue"
    assert np.abs(added[~judge_sick.near(coarse > 0.01)]).max() < 1
    untouched, nowhere = judge_sick.painted(
        VOLUME, chest, paint(np.random.default_rng(3), chest, [])
    )
    assert np.array_equal(untouched.hu, VOLUME.hu)
    assert not judge_sick.near(nowhere).any()


def test_scans_of_a_case_are_added_up() -> None:
    one = Counts((8, 5, 4), (1, 1, 0), (2, 2), (7, 1), diffuse=True)
    other = Counts((8, 6, 6), (0, 0, 0), (1, 0), (0, 0), diffuse=False)
    found = judge_sick.total([one, other])
    assert found["scans"] == 2
    assert found["nodules_put_found_sure"] == [16, 11, 10]
    assert found["false_all_sure"] == [3, 2]
    assert found["false_in_disease_all_sure"] == [7, 1]
    assert found["diffuse_disease"] == 1


@pytest.mark.long
def test_every_case_can_be_painted() -> None:
    chest = chest_of(VOLUME, LUNGS, PAINTED_MM)
    for case, wanted in CASES.items():
        sick = paint(np.random.default_rng(1), chest, wanted)
        assert bool(sick.masks) == (case != "healthy")
