"""`scanside feedback export`: JSON of all, and an SR of each report whose images are here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from appliance.errors import ScansideError
from appliance.quality.coverage import CoverageExport
from appliance.report import ConformalBounds
from appliance.results.feedback import Read, ReportScores
from appliance.results.operating import FeedbackExport
from appliance.store.journal.feedback import Heard
from appliance.verbs.feedback import COVERAGE, JSON, export
from rigs import oblique
from rigs.composing import FOUND, Site
from rigs.feedback import act


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "state")
    yield made
    made.journal.close()


def test_the_export_has_every_act_and_a_document_that_names_no_reader(
    site: Site, tmp_path: Path
) -> None:
    key = site.store(oblique.series(oblique.POSES["axial"], 20))
    report = site.commit(key, FOUND)
    acts = [act(report, reader="cafe"), act(report, "missed", reader="cafe")]
    assert {site.journal.feedback.say(one) for one in acts} == {Heard.SAID}
    site.journal.feedback.remark(report.report_id, 1, "Jane Doe", role="service", reader="cafe")
    out = tmp_path / "out"
    printed = list(export(site.settings, out))
    assert printed == [str(out / JSON), str(out / f"{report.report_id}.dcm")]
    text = (out / JSON).read_text()
    assert list(FeedbackExport.model_validate_json(text).feedback) == acts
    assert json.loads(text)["schema"] == "scanside.feedback/1"
    assert "Jane" not in text
    document = pydicom.dcmread(out / f"{report.report_id}.dcm")
    assert document.SOPClassUID.name == "Enhanced SR Storage"
    assert document.StudyInstanceUID == key.study
    assert "Jane" not in str(document)
    assert "cafe" not in str(document)
    with pytest.raises(ScansideError, match="there already"):
        list(export(site.settings, out))


def test_feedback_on_a_series_that_was_deleted_is_in_the_json_alone(
    site: Site, tmp_path: Path
) -> None:
    key = site.store(oblique.series(oblique.POSES["axial"], 20))
    report = site.commit(key, FOUND)
    site.journal.feedback.say(act(report))
    site.journal.owed.ack("mqtt", [row.key for row in site.journal.owed.waiting("mqtt", 99)])
    row = site.journal.series.get(key)
    assert row
    assert site.spool.delete(key, row.instances)
    assert site.journal.forget(row)
    out = tmp_path / "out"
    lines = list(export(site.settings, out))
    assert lines[1:] == [f"{report.report_id}: no SR: its series was deleted"]
    assert [path.name for path in out.iterdir()] == [JSON]


def test_without_a_journal_it_says_so(tmp_path: Path, site: Site) -> None:
    empty = site.settings.model_copy(update={"state": tmp_path / "empty"})
    empty.state.mkdir()
    with pytest.raises(ScansideError) as refused:
        list(export(empty, tmp_path / "out"))
    assert refused.value.code == "no_journal"


def test_where_radiographs_were_read_to_the_end_the_export_says_how_often_certainty_held(
    site: Site, tmp_path: Path
) -> None:
    key = site.store(oblique.series(oblique.POSES["axial"], 20))
    report = site.commit(key, FOUND)
    bounds = ConformalBounds(alpha=0.1, with_from=0.6, without_to=0.4, n_with=50, n_without=50)
    read = Read(
        uid=uuid.uuid4(),
        at=1.0,
        report_id=report.report_id,
        series=None,
        bundle="b" * 64,
        done=True,
        role="radiologist",
        reader="cafe",
        scores=ReportScores(threshold=0.5, findings=0, below=(0.2,), certainty=bounds),
    )
    assert site.journal.reads.say(read) is Heard.SAID
    out = tmp_path / "out"
    assert list(export(site.settings, out)) == [str(out / JSON), str(out / COVERAGE)]
    (held,) = CoverageExport.model_validate_json((out / COVERAGE).read_text()).bundles
    assert (held.bundle, held.without_finding.n, held.proposed) == ("b" * 64, 1, None)
    assert "cafe" not in (out / COVERAGE).read_text()
    (out / JSON).unlink()
    with pytest.raises(ScansideError, match=r"coverage\.json is there already"):
        list(export(site.settings, out))
