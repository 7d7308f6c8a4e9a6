"""`scanside feedback export`: JSON of all, and an SR of each report whose images are here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from appliance.errors import ScansideError
from appliance.results.operating import FeedbackExport
from appliance.store.journal.feedback import Heard
from appliance.verbs.feedback import JSON, export
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
