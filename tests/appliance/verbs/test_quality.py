"""`scanside quality DIR`: each series, each op list of the bundle that takes it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from appliance.__main__ import app
from appliance.errors import ScansideError
from appliance.phantom import chest
from appliance.report import Status
from appliance.verbs import quality
from rigs.chests import Dicom
from rigs.device import Device

SPACING_MM = (2.5, 3.0, 3.0)


@pytest.fixture(scope="module")
def phantom() -> chest.Phantom:
    return chest.chest(spacing_mm=SPACING_MM)


@pytest.fixture
def folder(dicom: Dicom, phantom: chest.Phantom, tmp_path: Path) -> Path:
    return dicom.write(
        dicom.series(phantom, study_uid="1.2.1", series_uid="1.3.1"), tmp_path / "ct"
    )


@pytest.mark.long
def test_each_op_list_of_the_bundle_is_judged_and_nothing_is_written(
    ready_site: Device, folder: Path
) -> None:
    before = sorted(folder.parent.rglob("*"))
    (one,) = quality.examined(folder, ready_site.settings)
    assert one.status is Status.ANALYSED
    assert one.bundle is not None
    assert one.spacing_mm == SPACING_MM
    by_role = {role: of for of in one.faithful for role in of.networks}
    assert by_role["segment"].voxel_mm == (3.0, 3.0, 3.0)
    assert by_role["classify"].makes == "patches"
    for of in one.faithful:
        assert [sphere.count for sphere in of.spheres] == [4, 4, 4]
        assert not {"axes", "body", "lungs", "outline", "tissue"} & set(of.fails), of
    assert by_role["classify"].fails == ()
    again = json.loads(quality.as_json([one]))
    assert quality.Examined.stored(json.dumps(again[0])) == one
    assert sorted(folder.parent.rglob("*")) == before


def test_a_person_reads_a_table(ready_site: Device, folder: Path) -> None:
    every = quality.examined(folder, ready_site.settings)
    out = io.StringIO()
    quality.show(every, Console(file=out, width=220))
    text = out.getvalue()
    assert "segment" in text
    assert "patches" in text
    assert "Dice lungs" in text


def test_a_series_that_is_refused_says_why(
    ready_site: Device, dicom: Dicom, phantom: chest.Phantom, tmp_path: Path
) -> None:
    few = dicom.write(
        dicom.series(phantom, study_uid="1.2.3", series_uid="1.3.3")[:2], tmp_path / "few"
    )
    (one,) = quality.examined(few, ready_site.settings)
    assert one.status is Status.NOT_ANALYSED
    assert one.reasons
    assert one.measured == ()


def test_a_folder_without_images_is_one_line(ready_site: Device, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScansideError) as caught:
        quality.examined(tmp_path / "empty", ready_site.settings)
    assert caught.value.code == "no_dicom"
    usage = CliRunner().invoke(app, ["quality"])
    assert usage.exit_code == 2
