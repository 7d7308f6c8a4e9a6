"""Radiographs of children: from storescu to MQTT, beside the bundle for chest CT."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset

from appliance.phantom import radiograph
from appliance.phantom.chest import chest
from appliance.reasons import Code
from appliance.report import NOTICE, Report, Stage
from rigs.bundles import signed
from rigs.scans import Scan, Scans
from rigs.site import Site

BUNDLE = "chest-pneumonia"


Change = Callable[[Dataset], object]
CASES: dict[str, Change] = {
    "a child of four": lambda _: None,
    "a child of six": lambda d: d.update({"PatientAge": "006Y", "PatientBirthDate": ""}),
    "of unknown age": lambda d: d.update({"PatientAge": "", "PatientBirthDate": ""}),
    "grown up by the birth date": lambda d: d.update({"PatientBirthDate": "19410203"}),
    "a dog": lambda d: d.update({"PatientSpeciesDescription": "Canine"}),
    "a lateral view": lambda d: d.update({"ViewPosition": "LL"}),
    "a knee": lambda d: d.update({"BodyPartExamined": "KNEE"}),
}
REFUSED = {
    "a child of six": (Code.PATIENT_AGE, "refused"),
    "of unknown age": (Code.PATIENT_AGE, "refused"),
    "grown up by the birth date": (Code.PATIENT_AGE, "refused"),
    "a dog": (Code.SPECIES, "refused"),
    "a lateral view": (Code.VIEW_POSITION, "set_aside"),
    "a knee": (Code.BODY_PART, "refused"),
}


@pytest.fixture(scope="module")
def sent(
    site: Site,
    phi: dict[str, str],
    tiny_radiograph_bytes: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Scan]:
    """All of them, over one association, to a device with both bundles."""
    root = tmp_path_factory.mktemp("radiographs")
    path = root / f"{BUNDLE}.scanside"
    path.write_bytes(signed(tiny_radiograph_bytes))
    site.install(path, BUNDLE, "1.0.0")
    pixels = radiograph.projected(chest(spacing_mm=(4.0, 4.0, 4.0)))
    made = {}
    for name, change in CASES.items():
        study, series = (f"2.25.{uuid.uuid4().int}" for _ in range(2))
        image = radiograph.instance(pixels, study_uid=study, series_uid=series)
        for tag, value in {**phi, "PatientBirthDate": ""}.items():
            setattr(image, tag, value)
        change(image)
        folder = root / "sent" / series
        folder.mkdir(parents=True)
        path = folder / "image.dcm"
        image.save_as(path, enforce_file_format=True)
        made[name] = Scan(folder, study, series, (path,))
    assert site.send(*(one.folder for one in made.values())) == 0
    return made


def test_a_childs_radiograph_is_published_with_score_and_heat_map(
    site: Site, sent: dict[str, Scan], phi: dict[str, str]
) -> None:
    one = sent["a child of four"]
    report: Report = site.report(one)
    (finding,) = report.findings
    (message,) = site.findings(report)
    assert report.bundle is not None
    assert report.bundle.name == BUNDLE
    assert (report.series.modality, report.series.slices) == ("DX", 1)
    assert report.notice == message["notice"] == f"demonstration, {NOTICE}"
    assert message["finding"]["kind"] == "pneumonia"
    assert message["finding"]["center_lps_mm"] is None
    kept = site.settings.state / "reports" / str(report.report_id) / f"{finding.heat_map}.npz"
    with np.load(kept, allow_pickle=False) as heat:
        assert heat["values"].shape == (28, 28)
    said = json.dumps(site.events(one)) + json.dumps(message)
    assert not [value for value in phi.values() if value in said]
    assert one.study not in said


def test_what_was_said_first_if_anything_is_confirmed_and_each_finding_is_heard_once(
    site: Site, sent: dict[str, Scan]
) -> None:
    one = sent["a child of four"]
    report: Report = site.report(one)
    first = [Report.model_validate(m["report"]) for m in site.events(one, "preliminary")]
    assert {(r.stage, r.report_id) for r in first} <= {(Stage.PRELIMINARY, report.report_id)}
    assert len(site.findings(report)) == 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_meant_is_not_analysed_and_says_why(
    site: Site, sent: dict[str, Scan], name: str
) -> None:
    report: Report = site.report(sent[name])
    code, state = REFUSED[name]
    assert report.reasons[0].code is code
    assert Code.MODALITY not in {reason.code for reason in report.reasons}
    assert report.findings == ()
    with site.journal() as journal:
        row = journal.series.get(sent[name].key)
    assert row
    assert row.state == state


@pytest.mark.long
def test_analyze_and_replay_say_the_same(site: Site, sent: dict[str, Scan]) -> None:
    one = sent["a child of four"]
    report: Report = site.report(one)
    (again,) = site.analyze(one.folder)
    assert again.same_as(report)
    assert "the same (1 findings)" in site.scanside("replay", str(report.report_id))


def test_a_chest_ct_goes_to_the_other_bundle(
    site: Site, scans: Scans, sent: dict[str, Scan]
) -> None:
    assert sent
    scan = scans.make()
    assert site.send(scan) == 0
    report: Report = site.report(scan)
    assert report.bundle is not None
    assert report.bundle.name == "lung-nodule"
    assert report.notice == NOTICE
