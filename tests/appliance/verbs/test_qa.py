"""`scanside qa`: a phantom from disk, the trend, the reminder of the doctor, and exit codes."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from appliance.__main__ import app
from appliance.errors import ScansideError
from appliance.phantom.water import Water
from appliance.settings import Settings
from appliance.settings.sections import Qa
from appliance.store import qa as store
from appliance.verbs import qa
from appliance.verbs.checks.check import Device as Examined
from appliance.verbs.checks.qa import phantom
from appliance.watching.qa import QaCode, QaRecord
from appliance.web.text import say
from rigs import phantoms
from rigs.chests import Dicom, Slices
from rigs.device import Device


@pytest.fixture
def device(ready_site: Device, water_qa_bytes: bytes) -> Device:
    Device(ready_site.folder, water_qa_bytes).activate()
    return ready_site


def folder(tmp_path: Path, water: Water) -> Path:
    made = tmp_path / "phantom"
    made.mkdir()
    for number, data in enumerate(phantoms.packed(phantoms.images(water, slices=4))):
        (made / f"{number}.dcm").write_bytes(data)
    return made


def test_a_phantom_of_a_folder_is_measured_and_nothing_is_kept(
    device: Device, dicom: Dicom, slices: Slices, tmp_path: Path
) -> None:
    made = folder(tmp_path, Water(offset_hu=9))
    dicom.write(slices[:3], made / "beside")  # what shows no phantom is passed over
    (record,) = qa.measured(made, device.settings)
    assert (record.verdict, record.codes) == ("failed", (QaCode.WATER_HU,))
    (printed,) = json.loads(qa.as_json([record]))
    assert printed["schema"] == "scanside.qa/1"
    assert QaRecord.model_validate(printed) == record
    assert re.fullmatch("[0-9a-f]{16}", record.scanner.serial)
    assert store.every(device.settings.state) == ()


def test_without_a_phantom_or_a_bundle_it_says_what_to_do(
    device: Device, ready_site: Device, dicom: Dicom, slices: Slices, tmp_path: Path
) -> None:
    made = dicom.write(slices[:3], tmp_path / "chest")
    with pytest.raises(ScansideError) as refused:
        qa.measured(made, device.settings)
    assert refused.value.code == "no_phantom"
    other = device.settings.model_copy(update={"state": tmp_path / "empty"})
    with pytest.raises(ScansideError) as missing:
        qa.measured(made, other)
    assert missing.value.code == "bundle_not_found"


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["DIR", "--trend"], 2), (["--trend"], 0), (["DIR"], 1)]
)
def test_its_exit_codes(arguments: list[str], code: int, device: Device, tmp_path: Path) -> None:
    (tmp_path / "DIR").mkdir()
    named = [str(tmp_path / one) if one == "DIR" else one for one in arguments]
    done = CliRunner().invoke(app, ["qa", *named, "--config", str(device.toml())])
    found = 1 if isinstance(done.exception, ScansideError) else done.exit_code
    assert found == code


def record(days_ago: float, codes: tuple[QaCode, ...] = ()) -> QaRecord:
    from uuid import UUID  # noqa: PLC0415

    from appliance.report import BundleRef  # noqa: PLC0415
    from appliance.watching.scanner import Scanner  # noqa: PLC0415

    return QaRecord(
        report_id=UUID(int=round(days_ago * 100) + 1),
        study="a" * 32,
        at=datetime.now(timezone.utc) - timedelta(days=days_ago),
        scanner=Scanner(model="Phantom scanner"),
        bundle=BundleRef(name="water-qa", version="1.0.0", digest="b" * 64),
        input_digest="c" * 64,
        verdict="failed" if codes else "passed",
        codes=codes,
    )


@pytest.mark.parametrize(
    ("ages", "every_days", "overdue"),
    [((), None, False), ((), 7.0, True), ((9.0, 3.0), 7.0, False), ((9.0,), 7.0, True),
     ((9.0,), None, False)],
)  # fmt: skip
def test_the_doctor_reminds_and_never_fails(
    ages: tuple[float, ...], every_days: float | None, overdue: bool, tmp_path: Path
) -> None:
    for age in ages:
        store.keep(tmp_path, record(age))
    settings = Settings(state=tmp_path, qa=Qa(every_days=every_days))
    check = phantom(Examined(settings, "scanside.toml"))
    assert check.ok
    assert bool(check.remedy) is overdue


def test_the_doctor_and_the_trend_say_what_was_wrong(tmp_path: Path) -> None:
    store.keep(tmp_path, record(1.0, (QaCode.BUBBLE,)))
    settings = Settings(state=tmp_path)
    check = phantom(Examined(settings, "scanside.toml"))
    assert check.ok
    assert "there is a bubble in it" in check.text
    assert "water" in check.remedy
    assert [one.codes for one in qa.trend(settings)] == [(QaCode.BUBBLE,)]


def test_a_terminal_says_it_in_words(tmp_path: Path) -> None:
    every = tuple(record(days, (code,)) for days, code in enumerate(QaCode))
    console = Console(file=io.StringIO(), width=2000, highlight=False)
    qa.show(every, console)
    qa.show_trend(every, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    words = say.texts("en")
    for code in QaCode:
        said = words[f"room.phantom.{code.value}"]
        assert (text.count(f"  {said}: "), text.count(f"failed {said} ")) == (1, 1)
        assert "_" not in code.value or code.value not in text
    assert "maker unknown Phantom scanner kernel unknown" in text
    assert " unkn " not in text, "four digits of no number"
