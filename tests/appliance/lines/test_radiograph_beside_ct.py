"""A bundle for chest CT and one for radiographs on one device: each takes its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from appliance import line
from appliance.bundle import trust
from appliance.lines.choose import Chosen
from appliance.reasons import Code
from appliance.report import Report, SeriesKey, Stage, Status
from appliance.runtime.bundles import OpenBundle, OpenBundles
from appliance.store.journal import Journal
from appliance.store.kept import keep
from appliance.store.spool import Spool
from appliance.verbs import analyze
from appliance.verbs.checks import analysis
from appliance.verbs.checks.check import Device
from appliance.work.conclude import Conclusions
from appliance.work.followed import Followed
from rigs.bundles import signed
from rigs.chests import Dicom
from rigs.device import Seal
from rigs.shelves import audited
from rigs.xray import Xray


@pytest.fixture
def both(ready_site: Device, tiny_radiograph_bytes: bytes, tmp_path: Path) -> Any:
    """The device's settings; `tiny-nodule` and the tests' `chest-pneumonia` are active."""
    path = tmp_path / "tiny-radiograph.scanside"
    path.write_bytes(signed(tiny_radiograph_bytes))
    shelf = OpenBundles(ready_site.settings, audited(ready_site.settings.state)).shelf
    entry = shelf.add(path, allow_development=True)
    shelf.activate(entry.name, entry.digest)
    return ready_site


def write(folder: Path, xray: Xray, **images: dict[str, Any]) -> Path:
    """Series of radiographs, one image each, under a UID made of its place."""
    for at, (name, tags) in enumerate(images.items(), start=10):
        uids = {"SeriesInstanceUID": f"1.2.{at}", "SOPInstanceUID": f"1.2.{at}.1"}
        (folder / name).mkdir(parents=True)
        (folder / name / "1.dcm").write_bytes(xray.bytes(xray.image(**uids, **tags)))
    return folder


def by_bundle(reports: list[Report]) -> dict[str | None, Report]:
    return {report.bundle.name if report.bundle else None: report for report in reports}


def test_each_bundle_takes_its_own_series(
    both: Device, xray: Xray, dicom: Dicom, tmp_path: Path
) -> None:
    folder = write(tmp_path / "in", xray, child={})
    dicom.write(dicom.chest(PatientAge="060Y"), folder / "ct")
    reports = by_bundle(analyze.analyze(folder, both.settings))
    assert set(reports) == {"tiny-nodule", "chest-pneumonia"}
    assert all(report.status is Status.ANALYSED for report in reports.values())
    assert {f.kind for f in reports["chest-pneumonia"].findings} == {"pneumonia"}
    assert {f.kind for f in reports["tiny-nodule"].findings} == {"nodule"}
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    analyze.show(list(reports.values()), console)
    console.file.close()
    text = console.export_text()
    assert "pneumonia" in text
    assert "demonstration, research use, not for clinical use" in text


def test_a_radiograph_that_no_bundle_takes_says_why_in_words_of_its_own_bundle(
    both: Device, xray: Xray, tmp_path: Path
) -> None:
    older = write(tmp_path / "older", xray, one={"PatientAge": "006Y"})
    unknown = write(tmp_path / "unknown", xray, one={"PatientAge": None})
    for folder in (older, unknown):
        (report,) = analyze.analyze(folder, both.settings)
        assert report.bundle is None
        assert [r.code for r in report.reasons] == [Code.PATIENT_AGE, Code.NO_BUNDLE]
    assert "missing" in report.reasons[0].text


def test_two_radiographs_of_a_study_are_no_rivals(both: Device, xray: Xray, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", xray, first={}, again={"WindowCenter": 1800})
    reports = analyze.analyze(folder, both.settings)
    assert [report.status for report in reports] == [Status.ANALYSED] * 2


def test_the_heat_map_is_kept_beside_the_report(
    both: Device, xray: Xray, tmp_path: Path, seal: Seal
) -> None:
    bundles = OpenBundles(both.settings)
    bundles.refresh()
    opened = next(o for o in bundles.refresh() if o.bundle.ref.name == "chest-pneumonia")
    result = line.process([xray.bytes(xray.image())], opened.bundle, opened.backend)
    bundles.close()
    report = seal(result)
    folder = keep(tmp_path / "kept", report, result, ["1.2.3.4"])
    name = report.findings[0].heat_map
    with np.load(folder / f"{name}.npz", allow_pickle=False) as kept:
        assert np.array_equal(kept["values"], result.maps[0].values)
        assert np.array_equal(kept["to_stored"], result.maps[0].to_stored)


def test_a_radiograph_is_reported_before_the_verdict(both: Device, xray: Xray) -> None:
    """As preliminary, by what `work` calls at a plausible end; the verdict confirms it."""
    bundles = OpenBundles(both.settings)
    opened = next(o for o in bundles.refresh() if o.bundle.ref.name == "chest-pneumonia")
    digest = opened.bundle.ref.digest
    followed = Followed(SeriesKey("1.2.3", "1.2.3.4"))
    followed.begin(None, Chosen((opened,)))
    followed.add("1", xray.bytes(xray.image()), at=5.0, tick=5.0)
    with Journal.open(both.settings.state) as journal:
        said = Conclusions(both.settings, journal, Spool(both.settings.state))
        said.preliminary(followed, digest)
        first = journal.reports.latest(followed.key, digest)
        said.final(followed, digest, ())
        last = journal.reports.latest(followed.key, digest)
        counts = journal.owed.counts("mqtt")
    bundles.close()
    assert first is not None
    assert last is not None
    assert (first.stage, last.stage) == (Stage.PRELIMINARY, Stage.FINAL)
    assert first.report_id == last.report_id
    assert counts.waiting == 3  # preliminary, the finding once, analysed


def test_the_doctor_reckons_the_memory_of_both(both: Device) -> None:
    check = analysis.memory(Device(both.settings, "scanside.toml"))
    assert check.ok, check.text


def test_a_series_of_radiographs_is_whole_with_its_first_image(
    tiny_radiograph_bytes: bytes, xray: Xray
) -> None:
    bundle = trust.check(tiny_radiograph_bytes).bundle
    followed = Followed(SeriesKey("1.2.3", "1.2.3.4"))
    backend: Any = None  # nothing is inferred
    followed.begin(None, Chosen((OpenBundle(bundle, backend),)))
    followed.add("1", xray.bytes(xray.image()), at=5.0, tick=5.0)
    facts = followed.facts(6.0, (), lambda _: False)
    assert facts.whole
    assert facts.covered is None
