"""The mass score: what counts as found, and which threshold follows from it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.records import Candidate
from training.implant.hosts import Target
from training.implant.masses import MassHost
from training.read.volume import Volume
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.calibrate_masses import (
    Judged,
    Truth,
    false_marks,
    false_masses,
    fitted,
    judged,
    lesions_called,
    real_masses,
    sensitivity,
)

HEAD = bundle.mass_head(1.0, 0.0, 0.5)
GRID = np.zeros((4, 4, 4), np.float32)
HOST = MassHost(Volume("made-up", GRID, (3.0,) * 3, (1.5,) * 3), GRID, GRID, 5.0, (), ())


def mark(zyx: tuple[float, float, float], logit: float, diameter_mm: float = 40.0) -> Candidate:
    z, y, x = zyx
    return Candidate((x, y, z), diameter_mm, {"propose": logit}, 0.5)


def test_a_mark_within_a_mass_hits_it_once_and_small_ones_count_neither_way() -> None:
    truth = [
        Truth(Target((50, 50, 200), 26), "isolated"),
        Truth(Target((50, 50, 50), 60), "wall"),
        Truth(Target((200, 50, 50), 40), "mediastinum"),
    ]
    lesion = Target((90.0, 200.0, 200.0), 19.0)
    marks = [
        mark((50, 50, 70), 3.0),
        mark((50, 55, 60), 2.0),
        mark((50, 50, 204), 1.0),
        mark((90, 205, 200), 0.0),
        mark((150, 150, 150), -1.0),
    ]
    scan = judged(HOST, "masses", marks, truth, [lesion])
    assert scan.verdicts == [1, -2, -2, -2, -1]
    assert scan.errors_mm[0] == pytest.approx(20)
    assert sensitivity([scan], HEAD) == {
        "24-30 mm": "0/1 (0.00-0.79)",
        "30-45 mm": "0/1 (0.00-0.79)",
        "45-65 mm": "1/1 (0.21-1.00)",
        "all": "1/2 (0.09-0.91)",
        "mediastinum": "0/1 (0.00-0.79)",
        "wall": "1/1 (0.21-1.00)",
    }


def scans(hits: list[float], false: list[float]) -> list[Judged]:
    """Ten scans of one mass each; the first holds every false mark."""
    out = []
    for n in range(10):
        marks = [mark((0, 0, 0), hits[n])]
        verdicts = [0]
        if n == 0:
            marks += [mark((90, 0, 0), logit) for logit in false]
            verdicts += [-1] * len(false)
        truth = [Truth(Target((0, 0, 0), 50), "wall")]
        errors = [0.0] + [float("nan")] * (len(marks) - 1)
        out.append(Judged("made-up", "masses", marks, verdicts, truth, errors))
    return out


@pytest.mark.parametrize(("rate", "allowed"), [(0.0, 0), (0.1, 1), (0.2, 2), (0.9, 6)])
def test_the_threshold_lets_through_as_many_false_masses_as_allowed(
    rate: float, allowed: int
) -> None:
    ten = scans(list(np.linspace(-2.5, 4, 10)), [2.0, 1.0, -1.0, -2.0, -3.0, -4.0])
    head = fitted(HEAD, ten, rate)
    assert head.scale > 0
    assert false_masses(ten, head)["all"] == f"{allowed} in 10 scans"
    assert [m["center_lps_mm"] for m in false_marks(ten, head)] == [[0, 0, 90]] * allowed
    wanted = {0: 3, 1: 5, 2: 7, 6: 10}[allowed]
    assert sensitivity(ten, head)["all"].startswith(f"{wanted}/10 ")


def test_the_boxed_mass_of_a_host_is_told_apart_from_implants() -> None:
    truth = [Truth(Target((50.0, 50.0, 50.0), 64.0), "real")]
    marks = [mark((200, 50, 50), 2.5), mark((50, 50, 58), 1.5, 48.0), mark((90, 90, 90), 1.0)]
    plain = judged(HOST, "plain", marks, truth, [Target((90.0, 90.0, 90.0), 19.0)])
    assert real_masses([plain], HEAD) == [
        {
            "host": "made-up",
            "diameter_mm": 64.0,
            "rank": 2,
            "score": 0.818,
            "off_mm": 8.0,
            "found_mm": 48.0,
        }
    ]
    assert lesions_called([plain], HEAD) == {"made-up": 1}
    assert sensitivity([plain], HEAD) == {}
