"""The in-room check on the phantom: usable as it is, and every painted fault is caught."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.phantom import chest, instances
from appliance.reasons import Code
from appliance.records import Image
from appliance.room.codes import FlagCode
from rigs.bundles import Bundles
from training.judge import room
from training.judge.opened import Opened, open_bundle

LOW_DOSE_HU = 34.0
"""Noise of the phantom: more than half of what it takes to be a flag."""


@pytest.fixture(scope="module")
def opened(bundles: Bundles) -> Iterator[Opened]:
    found = open_bundle(bundles.usual, threads=2)
    yield found
    found.backend.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    folder = tmp_path_factory.mktemp("phantom")
    body = chest.chest(spacing_mm=(5.0, 1.2, 1.2), noise_hu=LOW_DOSE_HU, nodules=())
    for number, image in enumerate(instances.series(body)):
        (folder / f"{number:04d}.dcm").write_bytes(instances.packed(image))
    return room.read(folder)


@pytest.fixture(scope="module")
def as_it_is(images: list[Image], opened: Opened) -> room.Seen:
    return room.seen(images, opened)


def test_the_phantom_is_usable_and_says_what_it_is(as_it_is: room.Seen) -> None:
    assert as_it_is.check.verdict == "usable"
    values = as_it_is.values
    assert (values.lungs_head_cm2, values.lungs_feet_cm2) == (0.0, 0.0)
    assert values.air_hu == pytest.approx(-1000, abs=5)
    assert values.tissue_hu == pytest.approx(50, abs=10)
    assert values.contrast == "no"


@pytest.mark.parametrize("fault", room.painted(), ids=lambda fault: fault.name)
def test_every_painted_fault_is_caught(
    fault: room.Fault, images: list[Image], as_it_is: room.Seen, opened: Opened
) -> None:
    assert not room.caught(fault, as_it_is)
    found = room.seen(fault.paint(images, as_it_is), opened)
    assert room.caught(fault, found), found.check


def test_a_refused_series_is_told_to_be_looked_at(images: list[Image], opened: Opened) -> None:
    found = room.seen(images[:3], opened)
    assert found.check.verdict == "look"
    assert found.check.flags[0].code is FlagCode.NOT_ANALYSED
    assert found.check.flags[0].reason is Code.TOO_FEW_SLICES


def test_the_table_counts_false_flags_and_names_what_was_missed(
    images: list[Image], as_it_is: room.Seen, opened: Opened
) -> None:
    noisy = next(fault for fault in room.painted() if fault.name == "noise x 2")
    rows = [("phantom", "as it is", as_it_is)]
    rows += [("phantom", fault.name, as_it_is) for fault in room.painted() if fault != noisy]
    rows.append(("phantom", noisy.name, room.seen(noisy.paint(images, as_it_is), opened)))
    text = room.table(rows)
    assert "False: 0 of 1." in text
    assert "| noise x 2 | caught |" in text
    assert "| HU +60 | missed |" in text


def test_a_folder_is_read_in_order_of_height(images: list[Image], tmp_path: Path) -> None:
    heights = [one.geometry.position_lps_mm[2] for one in images]
    assert heights == sorted(heights)
    assert room.read(tmp_path) == []
