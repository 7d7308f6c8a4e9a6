"""`scanside analyze`: what is on disk becomes one report per series and accepting bundle."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from rich.console import Console

from appliance import line
from appliance.errors import BundleRefused, Poisoned, ScansideError
from appliance.lines.fold import Fold
from appliance.reasons import Code
from appliance.report import NOTICE, BundleRef, Reason, Report, Status
from appliance.runtime.bundles import OpenBundles
from appliance.verbs import analyze
from rigs import tiny_compare
from rigs.chests import Dicom
from rigs.device import Device, Process


def codes(report: Report) -> list[Code]:
    return [reason.code for reason in report.reasons]


def shown(*reports: Report) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    analyze.show(reports, console)
    console.file.close()
    return console.export_text()


def test_a_series_is_one_report(ready_site: Device, dicom: Dicom, tmp_path: Path) -> None:
    folder = dicom.write(dicom.chest(), tmp_path / "in")
    (report,) = analyze.analyze(folder, ready_site.settings)
    assert report.status is Status.ANALYSED
    assert report.findings
    assert (report.bundle.name, report.revision, report.supersedes) == ("tiny-nodule", 1, None)
    assert report.series.instance_uid is None
    assert report.times.committed is not None
    assert report.times.first_slice is None
    assert analyze.exit_code([report]) == 0
    assert "tiny-nodule 1.0.0: analysed" in shown(report)


def test_the_notice_is_said_once_and_one_image_is_no_images(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    folder = dicom.write(dicom.chest()[:1], tmp_path / "in")
    (report,) = analyze.analyze(folder, ready_site.settings)
    assert " 1 image ·" in shown(report)
    longer = report.model_copy(update={"notice": f"demonstration, {NOTICE}"})
    for said in (shown(report), shown(longer), shown()):
        assert said.count(NOTICE) == 1


def test_it_says_the_same_as_the_line_and_as_itself(
    ready_site: Device, dicom: Dicom, tmp_path: Path, process: Process, tiny: Any
) -> None:
    slices = dicom.chest()
    folder = dicom.write(slices, tmp_path / "in")
    first, second = (analyze.analyze(folder, ready_site.settings)[0] for _ in range(2))
    assert first.same_as(second)
    direct = process(dicom.all(slices))
    assert first.input_digest == direct.input_digest
    assert len(first.findings) == len(direct.findings)
    packed = dicom.write(slices[::-1], tmp_path / "deep" / "down")
    for path in packed.iterdir():
        path.rename(path.with_suffix(""))
    assert analyze.analyze(tmp_path / "deep", ready_site.settings)[0].same_as(first)


def test_two_accepting_bundles_make_two_reports(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    ready_site.activate(name="other-nodule", version="2.0.0")
    reports = analyze.analyze(dicom.write(dicom.chest(), tmp_path / "in"), ready_site.settings)
    assert sorted(r.bundle.name for r in reports) == ["other-nodule", "tiny-nodule"]
    assert len({r.report_id for r in reports}) == 2
    assert len({r.input_digest for r in reports}) == 1
    (one,) = analyze.analyze(tmp_path / "in", ready_site.settings, bundle="other-nodule")
    assert one.bundle.name == "other-nodule"


def test_one_bundle_file_is_enough(
    site: Device, dicom: Dicom, tmp_path: Path, tiny_bundle: Path
) -> None:
    folder = dicom.write(dicom.chest(), tmp_path / "in")
    (report,) = analyze.analyze(folder, site.settings, bundle=str(tiny_bundle))
    assert report.status is Status.ANALYSED
    (none,) = analyze.analyze(folder, site.settings)
    assert (codes(none), none.bundle) == ([Code.NO_BUNDLE], None)


@pytest.mark.parametrize("name", ["no-such-bundle", "no/such.scanside"])
def test_a_bundle_that_is_not_there_is_an_error(
    name: str, ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    folder = dicom.write(dicom.chest()[:1], tmp_path / "in")
    with pytest.raises(BundleRefused, match=name):
        analyze.analyze(folder, ready_site.settings, bundle=name)


def test_a_file_that_is_no_bundle_is_an_error(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    folder = dicom.write(dicom.chest()[:1], tmp_path / "in")
    wrong = tmp_path / "x.scanside"
    wrong.write_bytes(b"nothing")
    with pytest.raises(BundleRefused):
        analyze.analyze(folder, ready_site.settings, bundle=str(wrong))


def test_what_is_not_dicom_is_skipped(ready_site: Device, dicom: Dicom, tmp_path: Path) -> None:
    folder = dicom.write(dicom.chest(), tmp_path / "in")
    clean = analyze.analyze(folder, ready_site.settings)[0]
    (folder / "README.txt").write_text("images of nobody")
    (folder / "empty").write_bytes(b"")
    (folder / "short").write_bytes(b"DICM")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(500))
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    reports = analyze.analyze(folder, ready_site.settings)
    assert len(reports) == 1
    assert reports[0].same_as(clean)


def test_broken_dicom_is_a_refused_series_not_skipped(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    folder = dicom.write(dicom.chest(), tmp_path / "in")
    (tmp_path / "in" / "x").mkdir()
    (tmp_path / "in" / "x" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0" * 20)
    good, broken = sorted(
        analyze.analyze(folder, ready_site.settings), key=lambda r: r.status.value
    )
    assert (good.status, broken.status) == (Status.ANALYSED, Status.NOT_ANALYSED)
    assert (codes(broken), broken.series.slices) == ([Code.UNREADABLE], 1)


BLANK = {"SOPInstanceUID": "", "SeriesInstanceUID": "", "StudyInstanceUID": ""}


@pytest.mark.parametrize("uid", ["", "anonymised", None])
def test_files_without_uids_get_some_and_the_report_says_so(
    uid: str | None, ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    slices = dicom.chest()
    plain = dicom.write(slices, tmp_path / "plain")
    for ds in slices:
        for name in BLANK:
            dicom.say(ds, **{name: uid})
        dicom.say(ds, FrameOfReferenceUID=uid)
    folder = dicom.write(slices, tmp_path / "in")
    (before,) = analyze.analyze(plain, ready_site.settings)
    (report,) = analyze.analyze(folder, ready_site.settings)
    assert report.status is Status.ANALYSED
    assert report.limitations[0].code is Code.MADE_UIDS
    text = f"{len(slices)} of {len(slices)} images had no UIDs: they were made here"
    assert report.limitations[0].text == text
    assert report.limitations[1:] == before.limitations
    assert [f.center_lps_mm for f in report.findings] == [f.center_lps_mm for f in before.findings]
    (again,) = analyze.analyze(folder, ready_site.settings)
    assert again.same_as(report)
    assert again.report_id == report.report_id


def test_files_without_uids_are_a_series_for_each_folder_modality_and_series_number(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    for name, number in (("a", 1), ("a", 2), ("b", 1)):
        slices = dicom.chest()[:4]
        for ds in slices:
            dicom.say(ds, SeriesNumber=number, **BLANK)
        dicom.write(slices, tmp_path / "in" / name / str(number))
    for file in sorted((tmp_path / "in" / "a").rglob("*.dcm")):
        file.rename(tmp_path / "in" / "a" / f"{file.parent.name}-{file.name}")
    found = analyze.find(tmp_path / "in")
    assert [len(series.files) for series in found] == [4, 4, 4]
    assert len({s.headers[0].study_uid for s in found if s.headers}) == 3
    reports = analyze.analyze(tmp_path / "in", ready_site.settings)
    assert [r.status for r in reports] == [Status.NOT_ANALYSED] * 3
    assert {r.limitations[0].code for r in reports} == {Code.MADE_UIDS}


def test_a_few_files_without_uids_of_instances_stay_in_their_series(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    slices = dicom.chest()
    for ds in slices[3:5]:
        dicom.say(ds, SOPInstanceUID="")
    (report,) = analyze.analyze(dicom.write(slices, tmp_path / "in"), ready_site.settings)
    assert report.status is Status.ANALYSED
    assert report.limitations[0].text.startswith(f"2 of {len(slices)} images")


def test_a_media_directory_is_skipped_by_its_class_and_not_by_its_name(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    slices = dicom.chest()
    folder = dicom.write(slices, tmp_path / "in")
    sorted(folder.iterdir())[0].rename(folder / "DICOMDIR")
    index = Dataset()
    index.FileSetID = "DISC"
    index.file_meta = FileMetaDataset()
    index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    index.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    index.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    for name in ("DIRFILE", "dicomdir", "disc.dcmdir"):
        index.save_as(folder / name, enforce_file_format=True)
    (report,) = analyze.analyze(folder, ready_site.settings)
    assert (report.status, report.series.slices) == (Status.ANALYSED, len(slices))


def test_series_of_one_folder_are_told_apart_and_set_aside_by_name(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    scout = dicom.chest(series_uid="1.2.3.1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:2]
    mip = dicom.chest(series_uid="1.2.3.2", ImageType=["DERIVED", "SECONDARY", "MIP"])[:3]
    knee = dicom.chest(series_uid="1.2.3.3", BodyPartExamined="KNEE", lungs=False)
    folder = dicom.write([*scout, *mip, *knee, *dicom.chest(series_uid="1.2.3.4")], tmp_path / "in")
    reports = {r.series.slices: r for r in analyze.analyze(folder, ready_site.settings)[:2]}
    assert (codes(reports[2]), reports[2].bundle) == ([Code.LOCALIZER], None)
    assert (codes(reports[3]), reports[3].bundle) == ([Code.PROJECTION], None)
    last_two = analyze.analyze(folder, ready_site.settings)[2:]
    assert codes(last_two[0]) == [Code.BODY_PART]
    assert "KNEE" not in last_two[0].to_json()
    assert last_two[1].status is Status.ANALYSED


@pytest.mark.parametrize("thin_first", [True, False])
def test_of_two_series_of_one_acquisition_the_thinner_is_analysed(
    thin_first: bool, ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    same = {"FrameOfReferenceUID": "1.2.3.99"}
    thin = dicom.chest(series_uid="1.2.3.1" if thin_first else "1.2.3.9", step_mm=4.5, **same)
    thick = dicom.chest(series_uid="1.2.3.5", **same)
    for i, ds in enumerate(thick):
        dicom.say(ds, SOPInstanceUID=f"1.2.3.5.{i}")
    folder = dicom.write([*thin, *thick] if thin_first else [*thick, *thin], tmp_path / "in")
    reports = analyze.analyze(folder, ready_site.settings)
    chosen, other = reports if thin_first else reversed(reports)
    assert (chosen.status, chosen.series.spacing_mm[0]) == (Status.ANALYSED, 4.5)
    assert (other.status, codes(other)) == (Status.NOT_ANALYSED, [Code.BETTER_SERIES])
    assert "4.50 mm" in other.reasons[0].text
    assert other.findings == ()


def test_series_of_two_acquisitions_are_both_analysed(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    same = {"FrameOfReferenceUID": "1.2.3.99"}
    first = dicom.chest(series_uid="1.2.3.1", **same)
    second = dicom.chest(series_uid="1.2.3.2", AcquisitionNumber=2, **same)
    folder = dicom.write([*first, *second], tmp_path / "in")
    reports = analyze.analyze(folder, ready_site.settings)
    assert [r.status for r in reports] == [Status.ANALYSED] * 2


def test_nothing_found_is_an_error(ready_site: Device, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.txt").write_text("nothing")
    with pytest.raises(ScansideError, match="no DICOM was found") as caught:
        analyze.analyze(tmp_path / "in", ready_site.settings)
    assert caught.value.code == "no_dicom"
    with pytest.raises(ScansideError, match="not there"):
        analyze.analyze(tmp_path / "nowhere", ready_site.settings)


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(
    ready_site: Device, dicom: Dicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dicom.write(dicom.chest()[:2], tmp_path / "in")

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ScansideError, match=r"0000\.dcm: Permission denied"):
        analyze.find(folder)


def test_uids_are_shown_where_the_site_says_so(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    folder = dicom.write(dicom.chest(series_uid="1.2.3.4"), tmp_path / "in")
    data = ready_site.settings.model_dump() | {"site": {"publish_uids": True}}
    (report,) = analyze.analyze(folder, type(ready_site.settings).model_validate(data))
    assert report.series.instance_uid == "1.2.3.4"


def test_a_series_that_breaks_the_backend_is_failed_and_the_others_are_reported(
    ready_site: Device, dicom: Dicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom.write(dicom.chest(), tmp_path / "in" / "a")
    other = dicom.chest(study_uid="1.2.3", series_uid="1.2.3.4")
    dicom.write(other, tmp_path / "in" / "b")
    finish = line.finish

    def broken(fold: Fold, *args: Any, **more: Any) -> Any:
        if fold.header is not None and fold.header.series_uid == "1.2.3.4":
            raise Poisoned("an output is not finite", code="backend_failed")
        return finish(fold, *args, **more)

    monkeypatch.setattr(line, "finish", broken)
    good, failed = analyze.analyze(tmp_path / "in", ready_site.settings)
    assert good.status is Status.ANALYSED
    assert (failed.status, codes(failed)) == (Status.FAILED, [Code.BACKEND_FAILED])
    assert "not finite" in failed.reasons[0].text
    assert failed.findings == ()
    assert analyze.exit_code([good, failed]) == 1


@pytest.mark.long
def test_the_pixels_of_one_series_are_let_go_before_the_next_is_read(
    ready_site: Device, dicom: Dicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom.write(dicom.chest(), tmp_path / "in" / "a")
    dicom.write(dicom.chest(study_uid="1.2.3", series_uid="1.2.3.4"), tmp_path / "in" / "b")
    pixels: list[weakref.ref[Any]] = []
    begin, finish = line.begin, line.finish

    def beginning(*args: Any) -> Fold:
        gc.collect()
        assert all(ref() is None for ref in pixels)
        return begin(*args)

    def finishing(fold: Fold, *args: Any, **more: Any) -> Any:
        pixels.append(weakref.ref(fold.shares[0].images[0].native))
        return finish(fold, *args, **more)

    monkeypatch.setattr(line, "begin", beginning)
    monkeypatch.setattr(line, "finish", finishing)
    assert len(analyze.analyze(tmp_path / "in", ready_site.settings)) == len(pixels) == 2


def test_only_a_failed_report_is_exit_1(ready_site: Device, dicom: Dicom, tmp_path: Path) -> None:
    (good,) = analyze.analyze(dicom.write(dicom.chest(), tmp_path / "in"), ready_site.settings)
    reason = Reason(code=Code.BACKEND_FAILED, text="it failed", where="series")
    changes = {"reasons": (reason,), "findings": (), "backend": None}
    refused = good.model_copy(update={**changes, "status": Status.NOT_ANALYSED})
    failed = good.model_copy(update={**changes, "status": Status.FAILED})
    assert analyze.exit_code([good, refused]) == 0
    assert analyze.exit_code([good, failed]) == 1
    assert analyze.exit_code([]) == 0


def test_what_is_shown_loses_no_brackets_of_a_remedy(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    (good,) = analyze.analyze(dicom.write(dicom.chest(), tmp_path / "in"), ready_site.settings)
    reason = Reason(code=Code.TOO_LARGE, text="9 [images]; the limit is 8", where="series")
    text = shown(
        good.model_copy(
            update={"status": Status.NOT_ANALYSED, "reasons": (reason,), "findings": ()}
        )
    )
    assert "9 [images]; the limit is 8" in text
    assert "fewer or smaller images" in text
    assert "no finding" not in text
    assert "research use, not for clinical use" in text


def test_a_negative_says_that_nothing_is_above_the_threshold(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    (good,) = analyze.analyze(dicom.write(dicom.chest(), tmp_path / "in"), ready_site.settings)
    text = shown(good.model_copy(update={"findings": ()}))
    assert "no finding above the threshold" in text
    assert "spacing_limited" in text
    assert isinstance(good.bundle, BundleRef)


@pytest.mark.long
def test_beside_a_bundle_that_compares_exams_a_ct_is_analysed_by_that_of_nodules_alone(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    beside = Device(tmp_path, tiny_compare.packed(tmp_path / "source"))
    beside.settings = ready_site.settings
    assert beside.activate().name == tiny_compare.NAME
    opened = OpenBundles(ready_site.settings)
    assert {one.name for one in opened.shelf.active()} == {"tiny-nodule", tiny_compare.NAME}
    folder = dicom.write(dicom.chest(), tmp_path / "in")
    (report,) = analyze.analyze(folder, ready_site.settings)
    assert report.status is Status.ANALYSED
    assert report.bundle.name == "tiny-nodule"
    (refused,) = analyze.analyze(
        folder, ready_site.settings, bundle=str(tmp_path / "added.scanside")
    )
    assert codes(refused) == [Code.NO_BUNDLE]
    assert [one.bundle.ref.name for one in opened.refresh()] == ["tiny-nodule"]
    assert opened.troubles == ()
    opened.close()
