"""`scanside analyze --dicom`: what an archive would get, as files."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from appliance.errors import ScansideError
from appliance.verbs import analyze, objects
from rigs.chests import Dicom
from rigs.device import Device


def test_an_analysis_becomes_a_report_a_segmentation_and_a_picture(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    slices = dicom.chest()
    folder = dicom.write(slices, tmp_path / "in")
    found = analyze.analysed(folder, ready_site.settings)
    out = tmp_path / "out"
    lines = list(objects.write(found, ready_site.settings, out))
    assert str(out / "report-1-sr.dcm") in lines
    document = pydicom.dcmread(out / "report-1-sr.dcm")
    assert document.StudyInstanceUID == slices[0].StudyInstanceUID
    places = [i for i in document.ContentSequence if i.ValueType == "CONTAINER"]
    (groups,) = (
        i.ContentSequence for i in places if i.ConceptNameCodeSequence[0].CodeValue == "126010"
    )
    planar = [g for g in groups if any(c.ValueType == "SCOORD" for c in g.ContentSequence)]
    assert len(planar) == len(found[0].report.findings) > 0
    picture = pydicom.dcmread(out / "report-1-sc.dcm")
    assert picture.pixel_array.shape[2] == 3


def test_a_refusal_becomes_a_text_and_a_picture(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    folder = dicom.write(dicom.chest()[:3], tmp_path / "in")
    out = tmp_path / "out"
    lines = list(
        objects.write(analyze.analysed(folder, ready_site.settings), ready_site.settings, out)
    )
    assert sorted(path.name for path in out.iterdir()) == ["report-1-sc.dcm", "report-1-sr.dcm"]
    assert "report 1: no seg: no mask shows anything on an image" in lines
    conclusion = pydicom.dcmread(out / "report-1-sr.dcm").ContentSequence[0].ContentSequence[0]
    assert conclusion.TextValue.startswith("NOT ANALYSED")


def test_nothing_is_overwritten(ready_site: Device, dicom: Dicom, tmp_path: Path) -> None:
    found = analyze.analysed(dicom.write(dicom.chest(), tmp_path / "in"), ready_site.settings)
    out = tmp_path / "out"
    out.mkdir()
    (out / "report-1-sc.dcm").write_bytes(b"mine")
    with pytest.raises(ScansideError, match="there already"):
        list(objects.write(found, ready_site.settings, out))
    assert [path.name for path in out.iterdir()] == ["report-1-sc.dcm"]


def test_what_no_reader_understands_is_said_and_the_others_are_written(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    folder = dicom.write(dicom.chest(), tmp_path / "in")
    (folder / "broken").mkdir()
    (folder / "broken" / "cut.dcm").write_bytes(bytes(128) + b"DICM" + b"?" * 40)
    found = analyze.analysed(folder, ready_site.settings)
    lines = list(objects.write(found, ready_site.settings, tmp_path / "out"))
    said = [line for line in lines if "no image of the series can be read" in line]
    assert len(said) == 1
    assert len(found) == 2
