"""`scanside replay`: the kept inputs give the same report again, or it says what differs."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import RLELossless

from appliance.errors import BundleRefused, ScansideError
from appliance.phantom.chest import Phantom
from appliance.reasons import Code
from appliance.report import Reason, Report, SeriesKey, Stage, Status
from appliance.runtime.bundles import OpenBundles
from appliance.series import standing
from appliance.store import tunings
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.verbs import analyze, replay
from appliance.watching.scanner import Scanner
from appliance.watching.tuning import Tuning
from appliance.work.stage import Work
from rigs.chests import Dicom
from rigs.device import Device


def analysed(site: Device, dicom: Dicom, slices: list[Any]) -> Report:
    """The series through spool, `work` and journal, in this process -> its final report."""
    spool = Spool(site.settings.state)
    for ds in slices:
        temp = spool.incoming_path()
        temp.write_bytes(dicom.bytes(ds))
        spool.store(temp, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID,
                    lambda a, b: a.read_bytes() == b.read_bytes())  # fmt: skip
    with Journal.open(site.settings.state) as journal:
        bundles = OpenBundles(site.settings)
        bundles.refresh()
        work = Work(site.settings, journal, spool, bundles)
        work.look_everywhere()
        until = time.monotonic() + 120
        while time.monotonic() < until:
            work.take_turn()
            report = journal.reports.latest(
                SeriesKey(slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID)
            )
            if report is not None and report.stage is Stage.FINAL:
                break
            time.sleep(min(0.05, work.wait_s()))
        bundles.close()
    assert report is not None
    return report


_recorded: dict[str, Any] = {}


@pytest.fixture
def past(ready_site: Device, dicom: Dicom, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A chest that was analysed on this device; done once, then the state is copied."""
    state = ready_site.settings.state
    if not _recorded:
        _recorded["report"] = analysed(ready_site, dicom, dicom.chest())
        _recorded["state"] = tmp_path_factory.mktemp("recorded") / "state"
        shutil.copytree(state, _recorded["state"])
    shutil.rmtree(state)
    shutil.copytree(_recorded["state"], state)
    report: Report = _recorded["report"]
    assert report.status is Status.ANALYSED
    return report


def kept(site: Device) -> list[Path]:
    return sorted((site.settings.state / "spool").rglob("*.dcm"))


def test_untouched_inputs_give_the_same_report(
    ready_site: Device, past: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay.main(ready_site.settings, str(past.report_id)) == 0
    said = capsys.readouterr().out
    assert f"report {past.report_id}: the same ({len(past.findings)} findings)" in said


def test_measured_findings_are_the_same_again(
    site: Device, dicom: Dicom, second_bytes: bytes
) -> None:
    site.bundle = second_bytes
    site.activate()
    past = analysed(site, dicom, dicom.chest())
    assert any(finding.measured for finding in past.findings)
    kept = {p.stem for p in (site.settings.state / "reports" / str(past.report_id)).glob("*.npz")}
    assert kept == {"lungs", *(f"finding-{f.id}" for f in past.findings if f.measured)}
    _, now = replay.replay(site.settings, str(past.report_id))
    assert replay.differences(past, now) == []


TUNING = Tuning(scanner=Scanner(maker="one"), soften_mm=0.8, from_per_mm=0.01)


def test_a_report_names_its_tuning_and_is_replayed_with_it(
    ready_site: Device, dicom: Dicom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, at = ready_site.settings.state, datetime(2026, 11, 29, tzinfo=timezone.utc)
    tunings.accept(state, TUNING, at)
    slices = dicom.series(wide(), study_uid="1.2.3", series_uid="1.2.3.4")
    past = analysed(ready_site, dicom, slices)
    assert past.tuning == TUNING.digest
    assert json.loads(past.to_json())["tuning"] == TUNING.digest
    (from_disk,) = analyze.analyze(dicom.write(slices, tmp_path / "ct"), ready_site.settings)
    assert from_disk.same_as(past)
    asked = str(past.report_id)
    assert replay.main(ready_site.settings, asked) == 0
    assert capsys.readouterr().out.endswith("findings)\n")
    tunings.withdraw(state, TUNING.digest, at)
    assert replay.main(ready_site.settings, asked) == 0
    assert "the tuning of this report is not in force any more" in capsys.readouterr().out
    (without,) = analyze.analyze(tmp_path / "ct", ready_site.settings)
    assert without.tuning is None
    assert "tuning" not in json.loads(without.to_json())
    assert ("tuning", TUNING.digest, None) in replay.differences(past, without)
    (state / tunings.NAME).unlink()
    with pytest.raises(ScansideError) as e:
        replay.replay(ready_site.settings, asked)
    assert e.value.code == "tuning_not_found"


def wide() -> Phantom:
    """A chest of pixels so fine that its noise can be measured."""
    spacing = (4.0, 1.7, 1.7)
    z, y, x = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip((26, 150, 190), spacing, strict=True)),
        indexing="ij",
    )
    hu = np.full(z.shape, -1000, np.int16)
    hu[(x / 150) ** 2 + (y / 110) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[((x - 70 * side) / 55) ** 2 + (y / 80) ** 2 + (z / 40) ** 2 < 1] = -800
        hu[(x - 60 * side) ** 2 + (y - 10) ** 2 + z**2 < 9**2] = 40
    noise = np.random.default_rng(5).normal(0, 12, hu.shape).astype(np.int16)
    origin = (float(x[0, 0, 0]), float(y[0, 0, 0]), float(z[0, 0, 0]))
    return Phantom(hu + noise, spacing, origin, ())


def test_a_report_without_a_tuning_is_replayed_without_one(
    ready_site: Device, past: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "tuning" not in json.loads(past.to_json())
    tunings.accept(ready_site.settings.state, TUNING, datetime(2026, 11, 29, tzinfo=timezone.utc))
    assert replay.main(ready_site.settings, str(past.report_id)) == 0
    said = capsys.readouterr().out
    assert "other tunings are in force now: a new analysis may differ" in said


def test_damaged_tunings_stop_no_study(
    ready_site: Device, dicom: Dicom, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (ready_site.settings.state / tunings.NAME).write_bytes(b"{")
    report = analysed(ready_site, dicom, dicom.chest())
    assert report.status is Status.ANALYSED
    assert report.tuning is None
    assert "no tuning is in force" in caplog.text
    with pytest.raises(ScansideError) as e:
        analyze.analyze(dicom.write(dicom.chest(), tmp_path / "ct"), ready_site.settings)
    assert e.value.code == "tunings_damaged"


def test_a_replay_changes_nothing(ready_site: Device, past: Report) -> None:
    with Journal.open(ready_site.settings.state) as journal:
        before = [m.seq for m in journal.owed.waiting("mqtt", 1000)]
        _, now = replay.replay(ready_site.settings, str(past.report_id))
        assert [m.seq for m in journal.owed.waiting("mqtt", 1000)] == before
        assert journal.reports.get(past.report_id) == past
    assert now.same_as(past)
    assert now.revision == past.revision


def test_tampered_pixels_are_not_the_same(
    ready_site: Device, past: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    file = kept(ready_site)[5]
    data = bytearray(file.read_bytes())
    data[-4000] ^= 1
    file.write_bytes(data)
    assert replay.main(ready_site.settings, str(past.report_id)) == 1
    said = capsys.readouterr().out
    assert "NOT the same" in said
    assert "input_digest" in said
    assert "report_id" in said


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (slice(5, 6), "input_digest: was"),  # one is set aside
        (slice(5, None, 2), "status: was analysed, is not_analysed"),
    ],
)
def test_inputs_that_became_unreadable_are_not_the_same(
    ready_site: Device, past: Report, capsys: pytest.CaptureFixture[str], spoiled: slice, said: str
) -> None:
    for path in kept(ready_site)[spoiled]:
        path.write_bytes(b"gone")
    assert replay.main(ready_site.settings, str(past.report_id)) == 1
    assert said in capsys.readouterr().out


def test_a_tampered_report_is_not_the_same(ready_site: Device, past: Report) -> None:
    """A limitation that was put into the stored report is not taken over."""
    forged = past.model_copy(
        update={"limitations": (Reason(code=Code.SUSPECT_HU, text="x"), *past.limitations)}
    )
    with Journal.open(ready_site.settings.state) as journal, journal._db.write() as db:
        assert db.execute(
            "UPDATE reports SET json = ? WHERE report_id = ?",
            (forged.to_json(), str(past.report_id)),
        ).rowcount
    before, now = replay.replay(ready_site.settings, str(past.report_id))
    assert not now.same_as(before)
    assert [name for name, _, _ in replay.differences(before, now)] == ["limitations"]


def test_of_a_report_of_before_everything_but_its_ids_is_compared(
    ready_site: Device, past: Report
) -> None:
    old = uuid.uuid5(uuid.NAMESPACE_OID, "report")
    findings = tuple(f.model_copy(update={"tracking_uid": f"2.25.{f.id}"}) for f in past.findings)
    before = past.model_copy(update={"report_id": old, "findings": findings})
    reports = ready_site.settings.state / "reports"
    (reports / str(past.report_id)).rename(reports / str(old))

    def put(report: Report) -> None:
        with Journal.open(ready_site.settings.state) as journal, journal._db.write() as db:
            ids = (str(past.report_id), str(old))
            assert db.execute(
                "UPDATE reports SET report_id = ?, json = ? WHERE report_id IN (?, ?)",
                (str(old), report.to_json(), *ids),
            ).rowcount

    put(before)
    assert replay.main(ready_site.settings, str(old)) == 0
    higher = findings[0].model_copy(update={"score": 0.123})
    put(before.model_copy(update={"findings": (higher, *findings[1:])}))
    forged, now = replay.replay(ready_site.settings, str(old))
    assert [name for name, _, _ in replay.differences(forged, now)] == ["findings"]


def test_later_slices_of_the_series_are_left_out(
    ready_site: Device, past: Report, dicom: Dicom
) -> None:
    """The inputs are those of the report, not what lies in the folder today."""
    late = dicom.chest()[3]
    dicom.say(late, SOPInstanceUID="1.2.3.4.5")
    late.PixelData = (np.frombuffer(late.PixelData, "<i2") + 9).tobytes()
    (kept(ready_site)[0].parent / "1.2.3.4.5.dcm").write_bytes(dicom.bytes(late))
    _, now = replay.replay(ready_site.settings, str(past.report_id))
    assert now.same_as(past)


def test_from_disk_and_in_another_syntax_the_report_is_the_same(
    ready_site: Device, past: Report, dicom: Dicom, tmp_path: Path
) -> None:
    """Through DICOM, through `analyze` and after a resend: one report (DESIGN: contracts)."""
    folder = dicom.write(dicom.chest(), tmp_path / "in")
    (from_disk,) = analyze.analyze(folder, ready_site.settings)
    assert from_disk.same_as(past)
    for i, data in enumerate(dicom.all(dicom.chest(), RLELossless)):
        (folder / f"{i:04d}.dcm").write_bytes(data)
    (resent,) = analyze.analyze(folder, ready_site.settings)
    assert resent.same_as(past)


@pytest.mark.parametrize("gone", ["one image", "the series", "the list of inputs"])
def test_deleted_inputs_are_a_clear_error(gone: str, ready_site: Device, past: Report) -> None:
    if gone == "one image":
        kept(ready_site)[7].unlink()
    elif gone == "the series":
        shutil.rmtree(kept(ready_site)[0].parent)
    else:
        (ready_site.settings.state / "reports" / str(past.report_id) / "inputs.json").unlink()
    with pytest.raises(ScansideError, match="not on this device any more") as caught:
        replay.replay(ready_site.settings, str(past.report_id))
    assert caught.value.code == "inputs_deleted"
    assert "[retain] days" in caught.value.remedy


def test_a_bundle_that_is_gone_is_a_clear_error(ready_site: Device, past: Report) -> None:
    shutil.rmtree(ready_site.settings.state / "bundles")
    with pytest.raises(BundleRefused, match="does not count: its line"):
        replay.replay(ready_site.settings, str(past.report_id))


@pytest.mark.parametrize("name", ["00000000-0000-5000-8000-000000000000", "../../etc", ""])
def test_an_unknown_report_is_a_clear_error(name: str, ready_site: Device, past: Report) -> None:
    with pytest.raises(ScansideError, match="there is no report") as caught:
        replay.replay(ready_site.settings, name)
    assert caught.value.code == "no_report"


def test_a_refusal_has_nothing_to_recompute(ready_site: Device, dicom: Dicom) -> None:
    slices = dicom.chest(series_uid="1.2.9.9", lungs=False)
    refused = analysed(ready_site, dicom, slices)
    assert refused.status is Status.NOT_ANALYSED
    with pytest.raises(ScansideError, match="is not_analysed") as caught:
        replay.replay(ready_site.settings, str(refused.report_id))
    assert caught.value.code == "nothing_to_replay"


def test_the_list_of_inputs_holds_every_image(
    ready_site: Device, past: Report, dicom: Dicom
) -> None:
    folder = ready_site.settings.state / "reports" / str(past.report_id)
    names = json.loads((folder / "inputs.json").read_text())
    assert names == sorted(ds.SOPInstanceUID for ds in dicom.chest())


def test_what_no_kept_file_can_show_is_taken_over(ready_site: Device, past: Report) -> None:
    """An aborted transfer, a Series Instance UID of two studies, a series beside, a bundle."""
    of_transfer = {Code.TRANSFER_ABORTED, Code.UNEXPECTED_COUNT}
    of_others = {Code.ALSO_SHOWN_IN, Code.SERIES_UID_REUSED, Code.BUNDLE_FALLBACK}
    assert of_transfer | of_others == replay.OF_ARRIVAL
    limits = (standing.also_shown_in("another"), *past.limitations)
    with Journal.open(ready_site.settings.state) as journal:
        key = journal.reports.series_of(past.report_id)
        assert key is not None
        again = past.model_copy(update={"limitations": limits, "edition": 2})
        journal.commit_report(again, key, owed=(), series_state="analysed")
    then, now = replay.replay(ready_site.settings, str(past.report_id))
    assert then == again
    assert now.same_as(then)
