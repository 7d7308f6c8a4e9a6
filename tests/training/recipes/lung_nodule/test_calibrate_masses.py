"""The mass score: what counts as found, and which threshold follows from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.backend.cpu import CpuBackend
from appliance.interpret.mass import Measured
from appliance.interpret.measure import Body
from appliance.preprocess import plan
from appliance.records import Candidate, Grid, Mask
from training.implant.hosts import Target
from training.implant.masses import UNKNOWN, Mass, MassHost
from training.read.volume import Volume, stack_of
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.calibrate_masses import (
    Judged,
    Truth,
    false_marks,
    false_masses,
    fitted,
    judged,
    lesions_called,
    marks_of,
    mean_axis,
    real_masses,
    sensitivity,
    sizes,
)

HEAD = bundle.mass_head(1.0, 0.0, 0.5)
GRID = np.zeros((4, 4, 4), np.float32)
HOST = MassHost(Volume("made-up", GRID, (3.0,) * 3, (1.5,) * 3), GRID, GRID, 5.0, (), ())


def mark(
    zyx: tuple[float, float, float], logit: float, diameter_mm: float = 40.0, **drawn: Any
) -> Measured:
    z, y, x = zyx
    return Measured(Candidate((x, y, z), diameter_mm, {"propose": logit}, 0.5), **drawn)


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


def body(mean_mm: float) -> Body:
    grid = Grid((1, 1, 1), (3.0,) * 3, np.eye(4))
    return Body(
        mean_mm + 5, mean_mm - 5, 9000.0, (0,) * 6, None, Mask("", np.ones((1, 1, 1), bool), grid)
    )


def test_sizes_are_those_of_the_body_and_else_of_the_detector() -> None:
    truth = [
        Truth(Target((50, 50, 50), 60), "wall", 50.0),
        Truth(Target((50, 50, 200), 40), "isolated", 40.0),
        Truth(Target((200, 50, 50), 40), "real"),
    ]
    why = "its outline measures 90 mm in the mean, the detector says 44 mm"
    marks = [
        mark((50, 50, 50), 3.0, 99.0, body=body(45.0)),
        mark((50, 50, 200), 2.0, 44.0, why=why),
        mark((200, 50, 50), 2.0, 99.0, body=body(44.0)),
        mark((150, 150, 150), 1.0, 99.0, body=body(70.0)),
    ]
    scan = judged(HOST, "plain", marks, truth, [])
    assert sizes([scan], HEAD) == {
        "with_a_body": "1 of 2",
        "without_because": {"its outline measures 90 mm in the mean": 1},
        "mean_axis_off": {
            "all": {"n": 2, "median": 0.1, "90_percent": 0.1, "bias": 0.0},
            "isolated": {"n": 1, "median": 0.1, "90_percent": 0.1, "bias": 0.1},
            "wall": {"n": 1, "median": 0.1, "90_percent": 0.1, "bias": -0.1},
        },
    }
    assert real_masses([scan], HEAD)[2]["body"] == {
        "mean_axis_mm": 44.0,
        "long_axis_mm": 49.0,
        "volume_ml": 9.0,
    }


def test_the_mean_axis_of_an_implant_is_that_of_what_can_be_seen() -> None:
    spacing = (4.0, 2.0, 3.0)
    at = np.moveaxis(np.indices((20, 30, 30)), 0, -1) * spacing - (38.0, 30.0, 44.0)
    share = np.clip((24 - np.linalg.norm(at, axis=-1)) / 3 + 0.5, 0, 1).astype(np.float32)
    whole = Mass((0, 0, 0), 48.0, "isolated", share)
    assert mean_axis(whole, spacing) == pytest.approx(48, abs=0.6)
    hidden = np.where(at[..., 2] > 0, np.float32(UNKNOWN), share)
    assert mean_axis(Mass((0, 0, 0), 38.0, "wall", hidden), spacing) == pytest.approx(36, abs=1.5)


@pytest.mark.parametrize("drawn", [False, True])
def test_marks_have_the_bodies_that_a_device_would_give_them(drawn: bool) -> None:
    """Two marks in one ball of 60 mm: on a device they are one where the ball is drawn."""
    hu = np.full((48, 64, 64), -850, np.float32)
    volume = Volume("v", hu, (3.0, 3.0, 3.0), (-100.0, -50.0, 7.0))
    grid = plan.grid_of(stack_of(volume), (3.0, 3.0, 3.0))
    center = plan.to_lps(grid, (24.0, 32.0, 32.0))
    at = plan.to_lps(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
    ball = (30 - np.linalg.norm(at - center, axis=-1)).astype(np.float32)[None, None]
    heat = np.full((1, 1, 12, 16, 16), -9.0, np.float32)
    heat[0, 0, 5, 7, 7], heat[0, 0, 7, 7, 7] = 4, 3
    size = np.full_like(heat, np.log(34.0))

    def masses(image: np.ndarray) -> dict[str, np.ndarray]:
        return {"heat": heat, "log_diameter": size, **({"body": ball} if drawn else {})}

    runs = {"segment": lambda image: {"lungs": np.ones_like(image)}, "mass": masses}
    entries = {
        "segment": bundle.network("segment", "0" * 64),
        "mass": bundle.network("mass", "0" * 64, drawn=drawn),
    }
    backend = CpuBackend("onnxruntime", entries, runs)  # type: ignore[arg-type]
    marks = marks_of(volume, backend, HEAD)
    assert len(marks) == (1 if drawn else 2)
    assert [m.body is not None for m in marks] == [drawn] * len(marks)
    assert not drawn or marks[0].body.mean_mm == pytest.approx(60, abs=0.5)
