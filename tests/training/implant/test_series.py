"""A CT with implants as a DICOM series: what is written is what is said of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from scipy import ndimage

from appliance.quality.implant import SHAPE_MM, Implant, Shape, sphere_diameter
from training.errors import DataError
from training.evaluate import known_of
from training.implant import series
from training.implant.hosts import Host, with_implants
from training.implant.series import axes_mm, read_host, write_series
from training.implant.synthetic import made_up_host
from training.read.datasets import dicom_stack, named_in, read_dicom
from training.read.study_index import patient_key
from training.read.volume import F32


def ball(diameter_mm: float) -> Shape:
    n = int(np.ceil(diameter_mm / SHAPE_MM)) + 2
    axis = (np.arange(n) - (n - 1) / 2) * SHAPE_MM
    far = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis)))
    filled = np.clip((diameter_mm / 2 - far) / SHAPE_MM + 0.5, 0, 1)
    occupied = (filled * 255).astype(np.uint8)
    exact = sphere_diameter(float(occupied.sum()) / 255 * SHAPE_MM**3)
    return Shape(occupied, exact, 1, patient_key("LIDC-IDRI-0008"))


SHAPES = [ball(d) for d in np.linspace(4, 30, 12)]


@dataclass(frozen=True)
class Case:
    """A made-up host as files, and what was made of it."""

    folder: Path
    host: Host
    hu: F32
    placed: list[Implant]


@pytest.fixture
def case(tmp_path: Path, write_ct: Any) -> Case:
    made = made_up_host(np.random.default_rng(4))
    hu = np.clip(np.rint(made.volume.hu), -1000, 3000)
    folder = write_ct(tmp_path / "host", hu, made.volume.spacing, (-60.0, -50.0, 100.0), "real-id")
    host = replace(made, volume=read_dicom(folder))
    volume, placed = with_implants(host, SHAPES, 7, each=1)
    return Case(folder, host, volume.hu, placed)


def written(case: Case, out: Path) -> Path:
    write_series(case.folder, case.host, case.hu, case.placed, 5, "val", out)
    return out


def test_the_exact_shapes_lie_where_the_implants_changed_the_host(case: Case) -> None:
    assert len(case.placed) >= 3
    for one in case.placed:
        part = tuple(slice(s, s + n) for s, n in zip(one.start, one.occupancy.shape, strict=True))
        risen = np.abs(case.hu[part] - case.host.volume.hu[part])
        assert np.median(risen[one.occupancy == 0]) < 10
        # a shift by three pixels leaves 0.8 at most, of 0.17 for the smallest
        assert np.corrcoef(risen.ravel(), one.occupancy.ravel())[0, 1] > 0.82
        assert one.patient == patient_key("LIDC-IDRI-0008")


def test_the_written_series_has_the_same_hu_through_the_appliances_line(
    case: Case, tmp_path: Path
) -> None:
    out = written(case, tmp_path / "out")
    stack = dicom_stack(out)
    read = np.stack([p.native for p in stack.planes]).astype(np.float32)
    touched = case.hu != case.host.volume.hu
    assert 0 < touched.mean() < 0.5
    assert np.array_equal(read[~touched], case.host.volume.hu[~touched])
    assert float(np.abs(read - case.hu).max()) < 0.501  # half a step of the stored values
    again = read_dicom(out)
    assert again.spacing == pytest.approx(case.host.volume.spacing)
    assert again.origin == pytest.approx((-60.0, -50.0, 100.0))
    assert stack.limitations == ()


def test_truth_and_masks_tell_the_same_places(case: Case, tmp_path: Path) -> None:
    out = written(case, tmp_path / "out")
    rows = json.loads((out / "truth.json").read_text())
    volume = read_dicom(out)
    before = case.host.volume.hu
    with np.load(out / "masks" / "implants.npz") as file:
        masks = {name: file[name] for name in file}
    assert masks["labels"].shape == volume.hu.shape
    assert len(rows) == len(case.placed)
    assert [row["whole"] for row in rows] == [True, True, True, False]  # one at the last slice
    for row in (row for row in rows if row["whole"]):
        occupancy = masks[f"occupancy_{row['label']}"] / 255
        middle = np.array(ndimage.center_of_mass(occupancy)) + masks[f"start_{row['label']}"]
        assert volume.lps(middle) == pytest.approx(row["center_lps_mm"], abs=0.1)
        volume_mm3 = occupancy.sum() * np.prod(volume.spacing)
        assert volume_mm3 == pytest.approx(row["volume_mm3"], rel=0.01)
        assert sphere_diameter(row["volume_mm3"]) == pytest.approx(row["diameter_mm"], rel=0.02)
        assert row["long_axis_mm"] == pytest.approx(row["diameter_mm"], rel=0.1, abs=0.8)
        label = masks["labels"] == row["label"]
        assert label.any()
        risen = (volume.hu - before)[label]
        assert row["kind"] == "cavity" or risen.mean() > 100
        assert row["lidc_patient"] == patient_key("LIDC-IDRI-0008")
        assert row["split"] == "val"


def test_the_hosts_own_lesions_are_in_truth_and_those_of_few_readers_are_ignored(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_SHARED", str(tmp_path / "shared"))
    marks = tmp_path / "shared" / "data" / "ct-truth"
    boxes = marks / "host-boxes"
    boxes.mkdir(parents=True)
    place = {"center_lps_mm": [-10, 5, 150], "diameter_mm": 7}
    (marks / "known-lesions.json").write_text(json.dumps({"host": [{**place, "cancer": True}]}))
    read = [{**place, "readers": 2}, {**place, "diameter_mm": 9, "readers": 3}]
    (marks / "lidc-readers.json").write_text(json.dumps({"host": read, "other": read}))
    (case.folder / "truth.json").write_text(json.dumps([{**place, "diameter_mm": 11}]))
    one = pydicom.dcmread(next(p for p in case.folder.iterdir() if p.suffix == ".dcm"))
    corners = {"xmin": 20, "ymin": 30, "xmax": 60, "ymax": 70}
    box = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
    text = f"<annotation><object><bndbox>{box}</bndbox></object></annotation>"
    (boxes / f"{one.SOPInstanceUID}.xml").write_text(text)
    out = written(case, tmp_path / "out")
    rows = json.loads((out / "truth.json").read_text())
    own = [row for row in rows if row["origin"] == "host"]
    assert [row["origin"] for row in rows[: len(case.placed)]] == ["implant"] * len(case.placed)
    assert len(own) == len(rows) - len(case.placed)
    *marked, mass = own
    assert [(row["diameter_mm"], row.get("ignore", False)) for row in marked] == [
        (11, False),
        (7, True),
        (7, True),
        (9, False),
    ]
    assert [row["cancer"] for row in marked] == [False, True, False, False]
    assert mass["ignore"]
    dy, dx = (float(v) for v in one.PixelSpacing)
    x0, y0, z0 = (float(v) for v in one.ImagePositionPatient)
    assert mass["center_lps_mm"] == pytest.approx([x0 + 40 * dx, y0 + 50 * dy, z0], abs=1.6)
    # an ellipse of 40 by 40 pixels, 5 mm high
    wanted = sphere_diameter(np.pi * 20 * dx * 20 * dy * 5)
    assert mass["diameter_mm"] == pytest.approx(wanted, rel=0.15)
    assert len(known_of(out).rows) == len(case.placed) + 2


def test_a_series_that_has_implants_is_no_host(case: Case, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it has implants already"):
        read_host(written(case, tmp_path / "out"))


def test_nothing_of_the_patient_is_in_the_files(case: Case, tmp_path: Path) -> None:
    out = written(case, tmp_path / "out")
    hosts = [pydicom.dcmread(p) for p in case.folder.iterdir()]
    old = {str(d[n].value) for d in hosts for n in pydicom.Dataset().dir("") if n in d}
    old |= {str(d.SOPInstanceUID) for d in hosts} | {"1.2.422.1", "1.2.422.2"}
    for path in out.glob("*.dcm"):
        data = path.read_bytes()
        assert not any(word in data for word in (b"Doe", b"Nowhere", b"real-id"))
        ds = pydicom.dcmread(path)
        uids = {str(e.value) for e in ds if e.VR == "UI" and e.keyword != "SOPClassUID"}
        assert len(uids) == 4
        assert not uids & old
        assert ds.SeriesDescription == "SYNTHETIC NODULES IMPLANTED, research use only"
        assert ds.PatientName == ""
    # what was made of a patient stays in the patient's split
    assert patient_key(named_in(out)[1]) == patient_key("real-id")


def test_the_same_call_makes_the_same_bytes(case: Case, tmp_path: Path) -> None:
    first, second = written(case, tmp_path / "a"), written(case, tmp_path / "b")
    for path in (p for p in first.rglob("*") if p.suffix in {".dcm", ".json"}):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


@pytest.mark.parametrize(
    ("semi", "spacing"),
    [((6, 6, 6), (1, 0.7, 0.7)), ((5, 8, 4), (2, 0.6, 0.6)), ((4, 3, 9), (1.5, 0.9, 0.9))],
)
def test_the_axes_of_an_ellipsoid_are_its_own(
    semi: tuple[float, ...], spacing: tuple[float, ...]
) -> None:
    fine = 8
    grids = [
        (np.arange(-round(14 / s) * fine, round(14 / s) * fine) + 0.5) * s / fine for s in spacing
    ]
    z, y, x = np.meshgrid(*grids, indexing="ij", sparse=True)
    inside = (z / semi[0]) ** 2 + (y / semi[1]) ** 2 + (x / semi[2]) ** 2 < 1
    n = [s // fine for s in inside.shape]
    occupancy = inside.reshape(n[0], fine, n[1], fine, n[2], fine).mean((1, 3, 5))
    # the middle section of thick slices is a little smaller than the equator
    wanted = sorted((2 * semi[1], 2 * semi[2]), reverse=True)
    assert axes_mm(occupancy.astype(np.float32), spacing) == pytest.approx(wanted, abs=0.7)


def test_a_full_disk_leaves_no_half_series(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(series, "masks_npz", full)
    with pytest.raises(DataError, match="No space left on device"):
        written(case, tmp_path / "made" / "out")
    assert list((tmp_path / "made").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        written(case, tmp_path / "file" / "out")
