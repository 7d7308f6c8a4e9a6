"""A series in memory gets implants and is looked at as any other, with and without a tuning."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from appliance.backend.protocol import Backend
from appliance.bundle.trust import Bundle
from appliance.probe import line
from appliance.probe.line import Prober
from appliance.quality.trial import IMPLANTS
from appliance.reasons import Code
from appliance.records import Stack
from appliance.report import Reason
from rigs.chests import Dicom
from rigs.donated import donated


@pytest.fixture(scope="module")
def prober(tiny: Bundle, tiny_backend: Backend) -> Prober:
    return Prober(tiny.manifest, tiny_backend, donated().shapes)


@pytest.fixture(scope="module")
def stack(prober: Prober, dicom: Dicom) -> Stack:
    images = (dicom.bytes(one) for one in dicom.chest(finer=3))
    found = line.stack_of(images, prober.manifest)
    assert found is not None
    return found


def test_the_implants_of_a_trial_are_looked_for_with_each_tuning_too(
    prober: Prober, stack: Stack
) -> None:
    before = [one.native.copy() for one in stack.planes]
    found = line.probe(prober, stack, 5, (0.4, 4.0))
    assert found is not None
    assert len(found.found) == IMPLANTS, "there is room for all of them"
    weak, strong = found.tuned
    assert (weak.soften_mm, strong.soften_mm) == (0.4, 4.0)
    assert sum(found.found) > 0
    assert sum(strong.found) < sum(found.found), "4 mm wipe out what has 4 to 15"
    assert all((one.native == was).all() for one, was in zip(stack.planes, before, strict=True))
    assert line.probe(prober, stack, 5, (0.4, 4.0)) == found, "the same every time"


def test_a_series_without_room_for_all_implants_is_part_of_no_trial(
    prober: Prober, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "IMPLANTS", 11)  # one more than there are sizes
    monkeypatch.setattr(line, "sizes", lambda _: (5.0, 6.5))
    found = line.probe(prober, stack, 5, (0.4,))
    assert found is not None
    assert found.tuned == ()


def test_what_is_looked_at_for_masses_alone_gets_none(prober: Prober, stack: Stack) -> None:
    masses = Reason(code=Code.MASSES_ONLY, text="slices of 8 mm", where="series")
    assert line.probe(prober, replace(stack, limitations=(masses,)), 5) is None


def test_a_chest_without_lungs_gets_none(prober: Prober, dicom: Dicom) -> None:
    images = (dicom.bytes(one) for one in dicom.chest(lungs=False))
    airless = line.stack_of(images, prober.manifest)
    assert airless is not None
    assert line.probe(prober, airless, 5) is None


def test_images_that_are_no_volume_are_none(prober: Prober, dicom: Dicom) -> None:
    images = [dicom.bytes(one) for one in dicom.chest()]
    assert line.stack_of(images[:2], prober.manifest) is None


def test_a_series_for_which_there_is_no_memory_gets_none(prober: Prober, stack: Stack) -> None:
    assert line.probe(replace(prober, memory_bytes=1 << 20), stack, 5) is None


def test_sizes_are_of_each_class_in_turn() -> None:
    sizes = line.sizes(9)
    assert Counter((mm >= 6) + (mm >= 8) for mm in sizes) == {0: 4, 1: 3, 2: 3}
    assert all(4 <= mm < 15 for mm in sizes)
    assert sizes == line.sizes(9) != line.sizes(10)
