"""Which shapes a bundle carries: of each size so many, and of no patient more than must be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.quality import shapes as files
from appliance.quality.implant import Shape
from rigs.donated import ball, donated
from training.errors import DataError
from training.ship import shapes

SMALL = ball(4.0)


def of(patient: int, diameter: float) -> Shape:
    """Small in memory, whatever its size."""
    return replace(SMALL, diameter_mm=diameter, patient=f"p{patient}")


def many(each: int = 3) -> list[Shape]:
    """Of 60 patients, in each class."""
    middles = [(low + high) / 2 for low, high, _ in shapes.CLASSES]
    return [of(p, mm + n / 100) for mm in middles for p in range(60) for n in range(each)]


def test_of_each_class_as_many_as_it_says_each_of_another_patient() -> None:
    chosen = shapes.chosen(many())
    for low, high, count in shapes.CLASSES:
        those = [one.patient for one in chosen if low <= one.diameter_mm < high]
        assert len(those) == count
        assert max(Counter(those).values()) == 1
    assert [one.diameter_mm for one in chosen] == sorted(one.diameter_mm for one in chosen)


def test_a_patient_gives_a_second_one_only_when_each_has_given_one() -> None:
    few = [one for one in many(20) if int(one.patient[1:]) < 8]
    chosen = shapes.chosen(few)
    for low, high, count in shapes.CLASSES:
        given = Counter(one.patient for one in chosen if low <= one.diameter_mm < high)
        assert max(given.values()) - min(given.values()) <= 1
        assert sum(given.values()) == count


def test_too_few_shapes_are_an_error() -> None:
    with pytest.raises(DataError, match=r"20 shapes of 3\.5 to 6 mm; 40 are wanted"):
        shapes.chosen(many()[:20])


def test_a_source_folder_gets_the_file_and_says_what_it_is(tmp_path: Path) -> None:
    file, out = tmp_path / "given.npz", tmp_path / "out"
    out.mkdir()
    file.write_bytes(files.packed(donated()))
    said = shapes.beside(out, file, {"requires_appliance": "0.1.0"})
    assert (out / files.FILE).read_bytes() == file.read_bytes()
    assert said["requires_appliance"] == "0.2.0"
    assert said["shapes"] == {
        "file": files.FILE, "count": 4, "source": "balls of a test", "licence": "CC0-1.0",
    }  # fmt: skip
    assert (
        shapes.beside(out, file, {"requires_appliance": "1.0.0"})["requires_appliance"] == "1.0.0"
    )
    file.write_bytes(b"none")
    with pytest.raises(DataError, match=r"given\.npz"):
        shapes.beside(out, file, {})
