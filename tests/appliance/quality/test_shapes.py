"""Shapes of a bundle come back as they were packed, and what is none is refused."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from appliance.quality import shapes
from appliance.quality.shapes import Donated
from rigs.donated import ball, donated


def arrays(**changed: Any) -> bytes:
    with np.load(io.BytesIO(shapes.packed(donated())), allow_pickle=False) as file:
        there = {name: file[name] for name in file.files}
    out = io.BytesIO()
    kept = {name: value for name, value in {**there, **changed}.items() if value is not None}
    np.savez_compressed(out, **kept)
    return out.getvalue()


def test_what_was_packed_is_read_again_in_order_of_size() -> None:
    given = Donated((ball(9.0), ball(5.0)), "somewhere", "CC0")
    read = shapes.read(shapes.packed(given))
    assert [one.diameter_mm for one in read.shapes] == [5.0, 9.0]
    assert (read.shapes[1].occupancy == given.shapes[0].occupancy).all()
    assert (read.source, read.licence) == ("somewhere", "CC0")


def test_the_same_shapes_have_the_same_bytes() -> None:
    assert shapes.packed(donated()) == shapes.packed(donated())


def test_no_patient_is_named_in_it() -> None:
    assert b"patient" not in shapes.packed(donated())


def test_too_many_are_not_packed() -> None:
    rng = np.random.default_rng(0)
    noise = ball(20.0)
    loud = [type(noise)(rng.integers(0, 255, (60, 60, 60), np.uint8), 20.0, 1) for _ in range(3)]
    with pytest.raises(ValueError, match="at most 300000"):
        shapes.packed(Donated(tuple(loud), "", ""))
    with pytest.raises(ValueError, match="no shape"):
        shapes.packed(Donated((), "", ""))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        shapes.packed(donated())[:-30],
        arrays(sizes=None),
        arrays(more=np.zeros(1)),
        arrays(sizes=np.zeros((2, 2), np.uint8)),
        arrays(sizes=np.array([[200, 200, 200]] * 4, np.uint8)),
        arrays(sizes=np.array([[1, 1, 1]] * 4, np.uint8)),
        arrays(diameters=np.array([9, 5, 6, 7], np.float32)),
        arrays(diameters=np.array([np.nan] * 4, np.float32)),
        arrays(diameters=np.array([1.0], np.float32)),
        arrays(voxels=np.zeros((40, 1_000_000), np.uint8)),
        arrays(voxels=np.array([{}], object)),
        arrays(voxels=np.zeros(3, np.float32)),
    ],
    ids=str,
)
def test_what_is_no_set_of_shapes_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"shapes|arrays|pickle"):
        shapes.read(data)


def test_a_file_that_unpacks_to_more_than_it_may_is_not_unpacked() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("voxels", "sizes", "diameters", "spiculation", "source", "licence"):
            archive.writestr(f"{name}.npy", b"\0" * 8_000_000)
    with pytest.raises(ValueError, match="unpack to more"):
        shapes.read(out.getvalue())
