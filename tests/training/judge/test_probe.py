"""A changed scanner is painted as it would deliver, and the same implants lie in DICOM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from appliance.bundle.trust import check
from appliance.lines.kind import Analysis
from appliance.preprocess import plan
from appliance.probe.line import stack_of, with_implants
from appliance.quality.probed import Ball
from appliance.records import Mask, Stack
from rigs.chests import Dicom
from rigs.donated import donated
from training.judge import probe
from training.judge.probe import Subject


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    made = Dicom().chest(finer=3)
    for one in made:
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    return [Dicom().bytes(one) for one in made]


@pytest.fixture(scope="module")
def stack(images: list[bytes], tiny_bytes: bytes) -> Stack:
    found = stack_of(images, check(tiny_bytes).manifest)
    assert found is not None
    return found


def spread(stack: Stack) -> float:
    """SD of the body's noise."""
    return float(np.std([p.native[115:125, 100:140] for p in stack.planes[:4]]))


def test_a_blurred_scanner_has_less_noise_and_a_sharper_one_more(stack: Stack) -> None:
    assert spread(probe.faulty(stack, "blur:1")) < 0.5 * spread(stack)
    assert spread(probe.faulty(stack, "sharpen:2")) > 1.5 * spread(stack)
    assert probe.faulty(stack, "") is stack


def test_thick_slices_are_means_at_their_middle(stack: Stack) -> None:
    thick = probe.faulty(stack, "thick:5")
    assert plan.distance(thick.z_mm) == pytest.approx(5.0)
    mean = np.mean([one.native for one in stack.planes[:3]], axis=0)
    assert np.abs(thick.planes[0].native - mean).max() <= 0.5
    middle = stack.planes[1].geometry.position_lps_mm
    assert thick.planes[0].geometry.position_lps_mm == pytest.approx(middle)


@pytest.mark.parametrize("fault", ["warp:1", "blur:much", "blur"])
def test_a_fault_that_is_none_is_refused(stack: Stack, fault: str) -> None:
    with pytest.raises(SystemExit, match="error: "):
        probe.faulty(stack, fault)


def test_the_same_implants_lie_in_the_dicom_that_is_written(
    stack: Stack, images: list[bytes], tmp_path: Path, tiny_bytes: bytes
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    for number, data in enumerate(images):
        (host / f"{number:03d}.dcm").write_bytes(data)
    grid = plan.grid_of(stack)
    hu = np.stack([one.native for one in stack.planes])
    made = with_implants(stack, Mask("lungs", hu < -700, grid), (), donated().shapes, 3)
    assert made is not None
    subject = Subject("one", host, stack, *made, Analysis())
    probe.write(subject, tmp_path / "out")
    written = sorted((tmp_path / "out" / "one").glob("*.dcm"))
    read = stack_of((path.read_bytes() for path in written), check(tiny_bytes).manifest)
    assert read is not None
    for there, meant in zip(read.planes, made[0].planes, strict=True):
        assert (there.native == meant.native).all()
    truth = json.loads((tmp_path / "out" / "one" / "truth.json").read_text())
    assert [Ball(tuple(t["center_lps_mm"]), t["diameter_mm"]) for t in truth] == list(made[1])
