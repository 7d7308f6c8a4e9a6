"""`scanside feedback export OUT`: what readers said, as files for who has to judge or archive it.

    OUT/feedback.json        all of it, as scanside.feedback/1, with the curves
    OUT/coverage.json        how often sure and unsure held here, as scanside.coverage/1, and the
                             bounds that are proposed; where radiographs were read to the end
    OUT/REPORT_ID.dcm        of each report whose images are still here: an Enhanced SR

Rules
- The journal is read, and nothing in the state folder is changed.
- A report whose series was deleted has no SR: it would need the patient, whom nothing here names
  any more. Its acts are in the JSON.
- Nothing is overwritten: a name that is there is an error, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from appliance.compose.gather import Gatherer
from appliance.errors import Poisoned, ScansideError
from appliance.host import facts
from appliance.naming import Naming
from appliance.quality import coverage
from appliance.quality.coverage import CoverageExport
from appliance.results.feedback import Feedback
from appliance.results.operating import FeedbackExport, of_bundles
from appliance.results.sr.feedback import feedback
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.site_key import site_key
from appliance.store.spool import Spool
from appliance.verbs import output

JSON, COVERAGE = "feedback.json", "coverage.json"


def export(settings: Settings, out: Path) -> Iterator[str]:
    """A line for each file that was written, or cannot be. ScansideError where OUT has one of their
    names, or cannot be written."""
    with _reading(settings.state) as journal:
        acts = journal.feedback.all()
        held = coverage.of_bundles(acts, journal.reads.all())
        reports: dict[str, list[Feedback]] = {}
        for act in acts:
            reports.setdefault(str(act.report_id), []).append(act)
        names = [JSON, COVERAGE] if held else [JSON]
        reports_of = (out / f"{report_id}.dcm" for report_id in reports)
        output.require_free((*(out / name for name in names), *reports_of))
        said = FeedbackExport(
            at=datetime.now(timezone.utc),
            appliance=facts.version(),
            feedback=tuple(acts),
            operating=of_bundles(acts),
        )
        yield output.write(out / JSON, said.model_dump_json(by_alias=True, indent=1).encode())
        if held:
            told = CoverageExport(at=said.at, appliance=said.appliance, bundles=held)
            yield output.write(
                out / COVERAGE, told.model_dump_json(by_alias=True, indent=1).encode()
            )
        naming = Naming(site_key(settings.state))
        gatherer = Gatherer(settings, journal, Spool(settings.state), naming)
        for report_id, about in reports.items():
            yield _document(gatherer, about, out / f"{report_id}.dcm")


def _document(gatherer: Gatherer, acts: list[Feedback], path: Path) -> str:
    try:
        case = gatherer.case(acts[0].report_id)
    except Poisoned as e:
        return f"{path.stem}: no SR: {e.text}"
    if case is None:
        return f"{path.stem}: no SR: its series was deleted"
    return output.write(path, feedback(case, acts).data)


def _reading(state: Path) -> Journal:
    journal = Journal.read(state)
    if journal is None:
        raise ScansideError(
            f"{state} has no journal", code="no_journal", remedy="Check `state` in the settings."
        )
    return journal
