"""Data sets in their own layouts -> the same canonical volume, or one line why not."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from training.errors import DataError
from training.read.datasets import (
    Mark,
    negatives,
    read,
    read_annotations,
    read_candidates,
    read_medmnist,
)

HU = np.random.default_rng(0).integers(-1000, 1500, (4, 5, 6)).astype(np.int16)  # z y x
SPACING = (2.5, 0.7, 0.8)  # z y x
ORIGIN = (-10.0, 20.0, -300.0)  # x y z
FAR = (ORIGIN[0] + 5 * 0.8, ORIGIN[1] + 4 * 0.7, ORIGIN[2])  # of the last column and row


def metaimage(folder: Path, hu: np.ndarray = HU, name: str = "a", **changes: str | None) -> Path:
    said: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "{} {} {}".format(*ORIGIN),
        "ElementSpacing": "{} {} {}".format(*SPACING[::-1]),
        "DimSize": "{} {} {}".format(*hu.shape[::-1]),
        "AnatomicalOrientation": "RAI",
        "ElementType": "MET_SHORT",
        **changes,
        "ElementDataFile": changes.get("ElementDataFile", f"{name}.raw"),
    }
    path = folder / f"{name}.mhd"
    path.write_text("".join(f"{k} = {v}\n" for k, v in said.items() if v is not None))
    (folder / f"{name}.raw").write_bytes(hu.astype("<i2").tobytes())
    return path


def nifti(hu: np.ndarray = HU, order: str = "<", code: int = 4, **changes: Any) -> bytes:
    """A NIfTI-1 file; its sform has x to the right and y to the front, as RAS numbers of LPS."""
    at = {
        "units": 2,
        "sform": [-0.8, 0, 0, -ORIGIN[0], 0, -0.7, 0, -ORIGIN[1], 0, 0, 2.5, ORIGIN[2]],
        "forms": (0, 1),
        "scale": (1.0, 0.0),
        "quatern": [0.0] * 6,
        "pixdim": [1.0, 0.8, 0.7, 2.5],
        **changes,
    }
    head = bytearray(352)
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, 3, *hu.shape[::-1], 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", head, 70, code, 16)
    struct.pack_into(f"{order}4f", head, 76, *at["pixdim"])
    struct.pack_into(f"{order}3f", head, 108, 352, *at["scale"])
    head[123] = at["units"]
    struct.pack_into(f"{order}2h", head, 252, *at["forms"])
    struct.pack_into(f"{order}6f", head, 256, *at["quatern"])
    struct.pack_into(f"{order}12f", head, 280, *at["sform"])
    head[344:348] = b"n+1\0"
    return bytes(head) + hu.astype(f"{order}i2").tobytes()


def is_the_scan(path: Path) -> None:
    volume = read(path)
    assert volume.hu.dtype == np.float32
    assert np.array_equal(volume.hu, HU)
    assert volume.spacing == pytest.approx(SPACING)
    assert volume.origin == pytest.approx(ORIGIN)


def refused(path: Path, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        read(path)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dicom_folder_is_read_by_position_beside_other_files(
    tmp_path: Path, write_ct: Any
) -> None:
    folder = write_ct(tmp_path / "ct", HU, SPACING, ORIGIN)
    (folder / "truth.json").write_text("[]")
    is_the_scan(folder)


def test_a_media_directory_is_left_out_by_its_class_and_not_by_its_name(
    tmp_path: Path, write_ct: Any
) -> None:
    folder = write_ct(tmp_path / "ct", HU, SPACING, ORIGIN)
    sorted(folder.iterdir())[0].rename(folder / "DICOMDIR")
    index = pydicom.Dataset()
    index.FileSetID = "DISC"
    index.file_meta = pydicom.dataset.FileMetaDataset()
    index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    index.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    index.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    index.save_as(folder / "DIRFILE", enforce_file_format=True)
    is_the_scan(folder)


def test_a_metaimage_as_luna16_ships_it_is_read(tmp_path: Path) -> None:
    is_the_scan(metaimage(tmp_path))


def test_a_metaimage_in_the_other_order_of_bytes_is_read(tmp_path: Path) -> None:
    path = metaimage(tmp_path, BinaryDataByteOrderMSB="True")
    (tmp_path / "a.raw").write_bytes(HU.astype(">i2").tobytes())
    is_the_scan(path)


def test_a_deflated_metaimage_is_read(tmp_path: Path) -> None:
    path = metaimage(tmp_path, CompressedData="True", ElementDataFile="a.zraw")
    (tmp_path / "a.zraw").write_bytes(zlib.compress(HU.astype("<i2").tobytes()))
    is_the_scan(path)


def test_a_metaimage_in_one_file_is_read(tmp_path: Path) -> None:
    head = metaimage(tmp_path, ElementDataFile="LOCAL").read_bytes()
    path = tmp_path / "b.mha"
    path.write_bytes(head + HU.astype("<i2").tobytes())
    is_the_scan(path)


def test_a_flipped_metaimage_is_turned_with_its_origin(tmp_path: Path) -> None:
    turned = "-1 0 0 0 -1 0 0 0 1"
    offset = "{} {} {}".format(*FAR)
    is_the_scan(metaimage(tmp_path, HU[:, ::-1, ::-1], TransformMatrix=turned, Offset=offset))


def test_a_metaimage_with_other_axes_first_is_turned(tmp_path: Path) -> None:
    # index 0 runs along z, 1 along x, 2 along y
    path = metaimage(
        tmp_path,
        np.transpose(HU, (1, 2, 0)),
        TransformMatrix="0 0 1 1 0 0 0 1 0",
        ElementSpacing="2.5 0.8 0.7",
    )
    is_the_scan(path)


def test_hu_below_any_matter_are_air(tmp_path: Path) -> None:
    dark = HU.copy()
    dark[0, 0, 0] = -3024
    assert read(metaimage(tmp_path, dark)).hu[0, 0, 0] == -1000


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"TransformMatrix": "1 0 0 0 .98 .2 0 -.2 .98"}, "not parallel"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "not parallel"),
        ({"TransformMatrix": "1 0 0 0 1 0"}, "not 9 numbers"),
        ({"ElementSpacing": "0 1 1"}, "no possible number"),
        ({"ElementSpacing": None}, "ElementSpacing is missing"),
        ({"Offset": "nan 0 0"}, "no possible number"),
        ({"DimSize": "6 5 40"}, "half-written"),
        ({"DimSize": "6 5 3"}, "wrong header"),
        ({"DimSize": "6 -5 -4"}, "a size of"),
        ({"DimSize": "99999 99999 99999"}, "a size of"),
        ({"ElementType": "MET_LONG_DOUBLE"}, "ElementType is MET_LONG_DOUBLE"),
        ({"ElementDataFile": "gone.raw"}, "gone.raw: No such file"),
        ({"ElementDataFile": "../a.raw"}, "no file beside it"),
        ({"NDims": "2"}, "not three axes"),
        ({"CompressedData": "True"}, "compressed pixels are broken"),
    ],
)
def test_a_metaimage_with_a_wrong_header_is_refused(
    tmp_path: Path, changes: dict[str, str | None], text: str
) -> None:
    refused(metaimage(tmp_path, **changes), text)


def test_a_half_written_metaimage_is_refused(tmp_path: Path) -> None:
    path = metaimage(tmp_path, CompressedData="True")
    (tmp_path / "a.raw").write_bytes(zlib.compress(HU.astype("<i2").tobytes())[:-9])
    refused(path, r"cut: half-written\?")
    path.write_text("ObjectType = Image\nNDims = 3\n")
    refused(path, r"half-written\?")


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_nifti_file_is_turned_from_ras(tmp_path: Path, order: str) -> None:
    (tmp_path / "a.nii").write_bytes(nifti(order=order))
    is_the_scan(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(nifti(order=order)))
    is_the_scan(tmp_path / "b.nii.gz")
    assert read(tmp_path / "b.nii.gz").name == "b"


def test_a_nifti_file_in_ras_order_is_flipped(tmp_path: Path) -> None:
    sform = [0.8, 0, 0, -FAR[0], 0, 0.7, 0, -FAR[1], 0, 0, 2.5, ORIGIN[2]]
    (tmp_path / "a.nii").write_bytes(nifti(HU[:, ::-1, ::-1], sform=sform))
    is_the_scan(tmp_path / "a.nii")


def test_a_nifti_file_with_a_quaternion_only_is_read(tmp_path: Path) -> None:
    # half a turn around z: x to the right and y to the front become left and back
    quatern = [0, 0, 1, -ORIGIN[0], -ORIGIN[1], ORIGIN[2]]
    (tmp_path / "a.nii").write_bytes(nifti(forms=(1, 0), quatern=quatern))
    is_the_scan(tmp_path / "a.nii")


def test_a_nifti_file_is_rescaled(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(nifti(HU + 1024, scale=(1.0, -1024.0)))
    is_the_scan(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"forms": (0, 0)}, "neither sform nor qform"),
        ({"units": 1}, "not in millimetres"),
        ({"code": 128}, "data type 128"),
        ({"sform": [0.0] * 12}, "spacing is zero"),
        ({"sform": [0.7, 0.4, 0, 0, -0.4, 0.7, 0, 0, 0, 0, 2.5, 0]}, "not parallel"),
    ],
)
def test_a_nifti_file_that_lies_nowhere_is_refused(
    tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    (tmp_path / "a.nii").write_bytes(nifti(**changes))
    refused(tmp_path / "a.nii", text)


@pytest.mark.parametrize("keep", [20, 360, -1])
def test_a_half_written_nifti_file_is_refused(tmp_path: Path, keep: int) -> None:
    (tmp_path / "a.nii").write_bytes(nifti()[:keep])
    refused(tmp_path / "a.nii", "half-written")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(nifti())[:-12])
    refused(tmp_path / "b.nii.gz", "half-written")


def test_a_dicom_folder_that_the_appliance_refuses_is_refused(
    tmp_path: Path, write_ct: Any
) -> None:
    refused(write_ct(tmp_path / "one", HU[:1], SPACING, ORIGIN), "1 ")
    folder = write_ct(tmp_path / "gap", HU, SPACING, ORIGIN)
    (folder / "002.dcm").unlink()
    refused(folder, "not even")
    cut = write_ct(tmp_path / "cut", HU, SPACING, ORIGIN)
    (cut / "001.dcm").write_bytes((cut / "001.dcm").read_bytes()[:-9])
    refused(cut, "001.dcm")
    tilted = write_ct(tmp_path / "tilted", HU, SPACING, ORIGIN)
    for path in tilted.iterdir():
        ds = pydicom.dcmread(path)
        ds.ImageOrientationPatient = [1, 0, 0, 0, 0.98, 0.199]
        ds.save_as(path)
    refused(tilted, "degrees off")


def test_two_series_in_one_folder_are_refused(tmp_path: Path, write_ct: Any) -> None:
    folder = write_ct(tmp_path / "first", HU, SPACING, ORIGIN)
    for path in write_ct(tmp_path / "second", HU, SPACING, ORIGIN).iterdir():
        path.rename(folder / f"second-{path.name}")
    refused(folder, "2 studies in one series")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    refused(tmp_path / "gone", "not there")
    refused(tmp_path / "gone.mhd", "No such file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no DICOM file")


HEAD = "seriesuid,coordX,coordY,coordZ,"


def test_luna16_tables_are_read_by_series(tmp_path: Path) -> None:
    table = tmp_path / "annotations.csv"
    table.write_text(f"{HEAD}diameter_mm\n1.2,-1.5,2,3,5.65\n1.3,0,0,0,4\n1.2,9,9,9,7\n")
    found = read_annotations(table)
    assert found["1.2"] == [
        Mark((-1.5, 2.0, 3.0), 5.65, True),
        Mark((9.0, 9.0, 9.0), 7.0, True),
    ]
    table.write_text(f"{HEAD}class\n1.2,1,2,3,0\n1.2,4,5,6,1\n")
    assert [m.nodule for m in read_candidates(table)["1.2"]] == [False, True]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("seriesuid,coordX\n1,2\n", "no column coordY, coordZ, diameter_mm"),
        (f"{HEAD}diameter_mm\n1.2,1,2,3,5\n1.2,1,2\n", "line 3 does not hold numbers"),
        (f"{HEAD}diameter_mm\n1.2,1,2,3,-5\n", "line 2 holds an impossible value"),
        (f"{HEAD}diameter_mm\n1.2,1,2,nan,5\n", "line 2 holds an impossible value"),
        (f"{HEAD}diameter_mm\n1.2,1,2,3,5", "half-written"),
        (f"{HEAD}diameter_mm\n", "not one row"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, text: str, wanted: str) -> None:
    (tmp_path / "annotations.csv").write_text(text)
    with pytest.raises(DataError, match=wanted):
        read_annotations(tmp_path / "annotations.csv")


def test_a_known_lesion_is_never_a_negative() -> None:
    nodule = Mark((0.0, 0.0, 0.0), 20.0, True)
    inside, beside = Mark((0.0, 0.0, 12.9), None, False), Mark((0.0, 0.0, 13.1), None, False)
    positive = Mark((90.0, 0.0, 0.0), None, True)
    assert negatives([inside, beside, positive], [nodule]) == [beside]


def test_the_splits_of_a_medmnist_file_are_read(tmp_path: Path) -> None:
    images, labels = np.zeros((3, 28, 28), np.uint8), np.array([[1], [0], [1]], np.uint8)
    np.savez(tmp_path / "m.npz", train_images=images, train_labels=labels)
    found = read_medmnist(tmp_path / "m.npz")
    assert list(found) == ["train"]
    assert found["train"].labels.tolist() == [1, 0, 1]


def test_a_broken_medmnist_file_is_refused(tmp_path: Path) -> None:
    images, path = np.zeros((3, 28, 28), np.uint8), tmp_path / "m.npz"
    for arrays, text in (
        ({"train_images": images}, "train_images without its counterpart"),
        ({"train_images": images, "train_labels": np.zeros(2, np.uint8)}, "3 train_images, 2"),
        ({"train_images": images, "train_labels": np.zeros(3)}, "not one whole number"),
        ({"train_images": images / 2, "train_labels": np.zeros(3, int)}, "not of uint8"),
        ({"val_images": images, "val_labels": np.zeros(3, int)}, "no train_images"),
        ({"train_images": images, "train_labels": np.array([{}] * 3)}, "cannot be read"),
    ):
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=text):
            read_medmnist(path)
    np.savez(path, train_images=images, train_labels=np.zeros(3, int))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="half-written"):
        read_medmnist(path)
    with pytest.raises(DataError, match="No such file"):
        read_medmnist(tmp_path / "gone.npz")
