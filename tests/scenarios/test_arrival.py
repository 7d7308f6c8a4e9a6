"""How a series may arrive, and that the same is said of it whichever way it came."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless, RLELossless

from appliance.report import Report, Stage, Status

RLE = ("dcmcrle",)
JPEG_LS = ("dcmcjpls", "+el")
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


def test_a_series_over_one_association_is_received_preliminary_complete_and_analysed(
    site: Any, scans: Any, record_testsuite_property: Any
) -> None:
    scan = scans.make()
    assert site.send(scan) == 0
    report = site.report(scan)
    names = [event["event"] for event in site.events(scan)]
    assert names == ["received", "preliminary", "complete", "analysed"]
    assert (report.status, report.stage, report.revision) == (Status.ANALYSED, Stage.FINAL, 1)
    assert report.coverage.lungs == "covered"
    assert report.bundle is not None
    assert report.bundle.name == "lung-nodule"
    assert report.findings
    assert [f["finding"]["id"] for f in site.findings(report)] == [f.id for f in report.findings]
    early = Report.model_validate(site.events(scan, "preliminary")[0]["report"])
    assert early.same_as(report.model_copy(update={"stage": Stage.PRELIMINARY}))
    times = report.times
    assert times.last_slice
    assert times.inferred
    assert times.complete
    assert times.inferred < times.complete, "one inference, before the verdict"
    with site.journal() as journal:
        assert journal.report(report.report_id) == report
        event = site.events(scan, "analysed")[0]
        site.until(lambda: journal.delivered_at(event["event_id"]), "PUBACK in the journal")
        delay = journal.delivered_at(event["event_id"]) - times.last_slice.timestamp()
        early_event = site.events(scan, "preliminary")[0]["event_id"]
        early_delay = journal.delivered_at(early_event) - times.last_slice.timestamp()
    record_testsuite_property("last_slice_to_puback_of_preliminary_s", round(early_delay, 3))
    record_testsuite_property("last_slice_to_puback_of_final_s", round(delay, 3))
    kept = np.load(site.settings.state / "reports" / str(report.report_id) / "lungs.npz")
    voxels = np.unpackbits(kept["voxels"])[: np.prod(kept["shape"])]
    assert voxels.sum() * np.prod(kept["spacing_mm"]) / 1000 > 1000, "two lungs, in ml"


def test_messages_obey_their_schemas_and_count_upwards(site: Any, scans: Any) -> None:
    scan = scans.make()
    assert site.send(scan) == 0
    site.report(scan)
    known = {
        path.name.split(".")[0].removeprefix("message-"): jsonschema.Draft202012Validator(
            json.loads(path.read_text())
        )
        for path in SCHEMAS.glob("message-*.json")
    }
    kinds = Counter()  # type: Counter[str]
    for _, message in site.messages():
        known[message["type"]].validate(message)
        kinds[message["type"]] += 1
    assert {"status", "info", "study", "finding"} <= kinds.keys()
    owed = [m["seq"] for t, m in site.messages() if "/study/" in t or "/finding/" in t]
    assert owed == sorted(owed)
    assert len(set(owed)) == len(owed)


@pytest.fixture(scope="module")
def said(site: Any, scans: Any) -> tuple[Any, Report]:
    """A series that was sent uncompressed, and its report."""
    scan = scans.make()
    assert site.send(scan) == 0
    return scan, site.report(scan)


def test_from_disk_the_report_is_the_same(site: Any, said: tuple[Any, Report]) -> None:
    scan, report = said
    (other,) = site.analyze(scan.folder)
    assert other.same_as(report)


@pytest.mark.parametrize("recode", [RLE, JPEG_LS], ids=["RLE", "JPEG-LS"])
def test_from_a_compressed_copy_the_report_is_the_same(
    site: Any, scans: Any, said: tuple[Any, Report], recode: tuple[str, ...]
) -> None:
    scan, report = said
    (other,) = site.analyze(scans.recoded(scan, *recode).folder)
    assert other.same_as(report)


def test_sent_again_in_any_transfer_syntax_nothing_new_is_said(
    site: Any, scans: Any, said: tuple[Any, Report]
) -> None:
    scan, report = said
    before = len(site.events(scan)), len(site.findings(report))
    assert site.send(scan) == 0
    assert site.send(scans.recoded(scan, *RLE), options=["-xr"]) == 0
    assert site.send(scans.recoded(scan, *JPEG_LS), options=["-xt"]) == 0
    other = scans.make()  # its report comes after anything that the resend might have led to
    site.send(other)
    site.report(other)
    assert (len(site.events(scan)), len(site.findings(report))) == before
    with site.journal() as journal:
        assert journal.latest_report(scan.series) == report


@pytest.mark.parametrize(
    ("syntax", "option"), [(RLELossless, "-xr"), (JPEGLSLossless, "-xt")], ids=["RLE", "JPEG-LS"]
)
def test_sent_compressed_the_report_is_that_of_the_files_on_disk(
    site: Any, scans: Any, syntax: str, option: str
) -> None:
    def compressed(image: Dataset, _: int) -> Dataset:
        image.compress(syntax, generate_instance_uid=False)
        return image

    scan = scans.make(compressed)
    assert site.send(scan, options=[option]) == 0
    report = site.report(scan)
    assert report.status is Status.ANALYSED
    (other,) = site.analyze(scan.folder)
    assert other.same_as(report)
