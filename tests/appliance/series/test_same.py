"""Whether two files are one image, whatever its modality and encoding."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from appliance.series import same

MR, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
ENCODED = ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90")


def mr(make: Any, **tags: Any) -> Dataset:
    ds: Dataset = make.ct(5, **{"SOPClassUID": MR, "Modality": "MR", **tags})
    return ds


def table(first: int) -> dict[str, Any]:
    lut = Dataset()
    lut.LUTDescriptor = [4, 0, 16]
    lut.add_new(0x00283006, "US", [first, 2, 3, 400])
    return {"VOILUTSequence": [lut]}


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_native_transfer_syntax_shows_the_same(make: Any, syntax: str) -> None:
    tags = {**table(1), "WindowCenter": 40, "WindowWidth": 400}
    plain = same.shown(make.bytes(mr(make, **tags)))
    assert plain is not None
    assert same.shown(make.bytes(mr(make, **tags), syntax)) == plain


@pytest.mark.parametrize("syntax", ENCODED)
def test_a_lossless_transfer_syntax_shows_the_same(make: Any, syntax: str) -> None:
    plain = same.shown(make.bytes(mr(make)))
    assert plain is not None
    assert same.shown(make.compressed(mr(make), syntax)) == plain


def test_an_image_is_told_apart_by_pixels_place_and_meaning(make: Any) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"ImagePositionPatient": [-12, -16, 5.5]},
        {"PixelSpacing": [0.75, 0.8]},
        {"RescaleSlope": "2"},
        {"WindowCenter": 40, "WindowWidth": 400},
        {"PhotometricInterpretation": "MONOCHROME1"},
        table(1),
        table(2),
        {"stored": make.stored(seed=1)},
    ]
    digests = {same.shown(make.bytes(mr(make, **tags))) for tags in changes}
    assert None not in digests
    assert len(digests) == len(changes)


def test_a_frame_is_told_apart_by_its_place(make: Any) -> None:
    def enhanced(z: float) -> Dataset:
        ds: Dataset = make.enhanced(3, SOPClassUID=ENHANCED_MR, Modality="MR")
        group = ds.PerFrameFunctionalGroupsSequence[1]
        group.PlanePositionSequence[0].ImagePositionPatient = [-12, -16, z]
        return ds

    plain = same.shown(make.bytes(enhanced(2.0)))
    moved = same.shown(make.bytes(enhanced(2.5)))
    assert plain is not None
    assert moved is not None
    assert [a == b for a, b in zip(plain, moved, strict=True)] == [True, False, True]
    assert same.shown(make.compressed(enhanced(2.0), ENCODED[0])) == plain


def test_a_name_makes_no_other_image(make: Any) -> None:
    assert same.shown(make.bytes(mr(make, PatientName="Roe"))) == same.shown(make.bytes(mr(make)))


def test_what_shows_no_grey_pixels_has_no_digest(make: Any) -> None:
    assert same.shown(make.bytes(mr(make, PixelData=None))) is None
    assert same.shown(make.bytes(mr(make, PhotometricInterpretation="RGB"))) is None
    assert same.shown(b"no DICOM") is None
