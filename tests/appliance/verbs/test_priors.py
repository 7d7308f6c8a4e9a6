"""`scanside priors`: what is kept, whose it is, and that it can be taken away."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from rich.console import Console

from appliance.comparison import Comparison, KeptComparison, PriorRef
from appliance.errors import ScansideError
from appliance.naming import Naming
from appliance.prior import packed
from appliance.reasons import Code
from appliance.report import Reason
from appliance.settings import Priors as Rules
from appliance.settings import Settings
from appliance.store import bell, kept, site_key
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from appliance.store.rows import ToCompare
from appliance.verbs import priors as verb
from rigs.entries import entry

REPOSITORY = Path(__file__).resolve().parents[3]
NAMES = Naming(bytes(range(32)))
ANN, BOB = "a12", "b34"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Ann was examined twice, Bob once."""
    (tmp_path / site_key.NAME).write_bytes(NAMES.site_key)
    for patient_id, study in ((ANN, "1.1"), (ANN, "1.2"), (BOB, "1.3")):
        one = entry(patient_id, study, naming=NAMES)
        Priors(tmp_path).keep(
            one.facts.person.key,
            one.report.report_id,
            packed.pack(one),
            fingerprint=site_key.fingerprint(NAMES.site_key),
        )
    return Settings(state=tmp_path)


def report_of(study: str) -> uuid.UUID:
    return entry(study=study, naming=NAMES).report.report_id


def compared(settings: Settings, current: str, prior: str | None) -> Path:
    """A comparison of two studies beside the report of the first; its file."""
    at = report_of(current)
    said = Comparison(
        comparison_id=NAMES.comparison(at, None, (str(prior),), ()),
        report_id=at,
        study=NAMES.study(current),
        status="not_compared",
        reasons=(Reason(code=Code.LOCALIZER, text="x"),),
        prior=None
        if prior is None
        else PriorRef(study=NAMES.study(prior), report_id=report_of(prior), which=("newest",)),
    )
    name = f"comparison-{said.comparison_id}"
    kept.keep_record(settings.state, at, name, KeptComparison(comparison=said))
    (settings.state / kept.FOLDER / str(at) / f"{name}.npz").write_bytes(b"cubes")
    return settings.state / kept.FOLDER / str(at) / f"{name}.json"


def text_of(settings: Settings, patient_id: str | None = None, issuer: str | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120)
    if patient_id is None:
        verb.show_all(settings, console)
    else:
        verb.show(settings, patient_id, issuer, console)
    return out.getvalue()


def audited(settings: Settings) -> list[tuple[str, str, dict[str, object]]]:
    with Journal.open(settings.state) as journal:
        rows = journal.audit.of(("priors_forgotten", "priors_merged"))
    return [(row.actor, row.action, dict(row.detail)) for row in rows]


def test_the_list_tells_people_apart_and_names_none(settings: Settings) -> None:
    text = text_of(settings)
    assert "3 entries of 2 people" in text
    assert NAMES.patient("", ANN)[:12] in text
    assert str(report_of("1.3")) in text
    assert not {ANN, BOB, "1.1", "1.2"} & set(text.split())


def test_without_entries_the_list_says_so_and_makes_nothing(tmp_path: Path) -> None:
    empty = Settings(state=tmp_path / "state")
    assert "No entry" in text_of(empty)
    with pytest.raises(ScansideError) as caught:
        verb.forget(empty, ANN, None, "me")
    assert caught.value.code == "no_priors"
    assert not empty.state.exists()


def test_one_persons_entries_are_shown_to_who_has_the_id(settings: Settings) -> None:
    text = text_of(settings, ANN)
    assert {str(report_of("1.1")), str(report_of("1.2"))} <= set(text.split())
    assert str(report_of("1.3")) not in text
    assert "taken 20240102" in text
    assert "1 scored, 2 cubes" in text
    assert text_of(settings, f"  {ANN} ") == text


@pytest.mark.parametrize("patient_id", ["A12", "a 12", "c56"])
def test_another_id_is_another_person(settings: Settings, patient_id: str) -> None:
    with pytest.raises(ScansideError) as caught:
        text_of(settings, patient_id)
    assert caught.value.code == "no_priors"
    assert patient_id not in caught.value.one_line()


def test_the_issuer_counts(settings: Settings) -> None:
    with pytest.raises(ScansideError):
        text_of(settings, ANN, "north")
    north = settings.model_copy(update={"priors": Rules(issuer="north")})
    with pytest.raises(ScansideError):
        text_of(north, ANN)
    assert text_of(north, ANN, "") == text_of(settings, ANN)


@pytest.mark.parametrize("patient_id", ["0", "ANONYMOUS", "a\\b"])
def test_what_is_no_id_is_said(settings: Settings, patient_id: str) -> None:
    with pytest.raises(ScansideError) as caught:
        verb.forget(settings, patient_id, None, "me")
    assert caught.value.code == "no_patient_id"


def test_an_entry_that_is_damaged_is_shown_as_such(settings: Settings) -> None:
    (path,) = settings.state.glob(f"priors/{NAMES.patient('', BOB)}/*")
    path.write_bytes(path.read_bytes()[:-1])
    assert "cannot be read" in text_of(settings, BOB)


def test_forget_takes_entries_and_their_comparisons_and_is_audited_without_the_id(
    settings: Settings,
) -> None:
    gone = [compared(settings, "1.2", "1.1"), compared(settings, "1.1", None)]
    stays = compared(settings, "1.3", None)
    assert verb.forget(settings, ANN, None, "me@cli") == (2, 2)
    assert {one.person for one in Priors(settings.state).all()} == {NAMES.patient("", BOB)}
    for path in gone:
        assert list(path.parent.glob("comparison-*")) == []
    assert len(list(stays.parent.glob("comparison-*"))) == 2
    assert audited(settings) == [("me@cli", "priors_forgotten", {"entries": 2, "comparisons": 2})]
    with pytest.raises(ScansideError):
        verb.forget(settings, ANN, None, "me@cli")


def test_a_comparison_with_a_forgotten_exam_goes_from_beside_another_report(
    settings: Settings,
) -> None:
    path = compared(settings, "1.9", "1.3")  # of today, whose entry is not made yet
    (path.parent / "comparison-damaged.json").write_text("{")
    assert verb.forget(settings, BOB, None, "me") == (1, 1)
    assert [p.name for p in path.parent.iterdir()] == ["comparison-damaged.json"]


def test_what_the_journal_says_of_forgotten_exams_goes_too(settings: Settings) -> None:
    path = compared(settings, "1.2", "1.1")
    said = KeptComparison.stored(path.read_bytes()).comparison
    with Journal.open(settings.state) as journal:
        for study in ("1.1", "1.2", "1.3"):
            row = ToCompare(str(report_of(study)), study, "1.2.3", "a" * 64, prior_only=False)
            journal.comparisons.note([row])
        assert journal.comparisons.commit(said.report_id, [said], superseded=(), owed=())
    assert verb.forget(settings, ANN, None, "me") == (2, 1)
    with Journal.open(settings.state) as journal:
        assert journal.comparisons.of_report(said.report_id) == []
        rows = [journal.comparisons.row(report_of(study)) for study in ("1.1", "1.2", "1.3")]
    states = [row.state for row in rows if row is not None]
    assert states == ["waiting"], "a forgotten exam is not owed an entry again"


def test_two_ids_are_made_one_person_from_now_on(settings: Settings) -> None:
    assert verb.merge(settings, (BOB, ANN), None, "me@cli") == 1
    assert len(Priors(settings.state).of_person(NAMES.patient("", ANN))) == 3
    detail = {"entries": 1, "compared_again": 0}
    assert audited(settings) == [("me@cli", "priors_merged", detail)]
    assert "1 scored" in text_of(settings, ANN), "the moved ones can be read"
    assert text_of(settings, BOB) == text_of(settings, ANN)
    keys = [NAMES.patient("", one)[:12] for one in (BOB, ANN)]
    assert f"{keys[0]} was merged: its exams are kept under {keys[1]}" in text_of(settings)
    assert verb.merge(settings, (BOB, ANN), None, "me") == 0, "they are one already"
    for wrong, code in (((ANN, f" {ANN}"), "same_id"), (("c56", ANN), "no_priors")):
        with pytest.raises(ScansideError) as caught:
            verb.merge(settings, wrong, None, "me")
        assert caught.value.code == code


def test_to_forget_one_id_of_a_merged_person_forgets_both_and_that_they_were_merged(
    settings: Settings,
) -> None:
    verb.merge(settings, (BOB, ANN), None, "me")
    assert verb.forget(settings, BOB, None, "me") == (3, 0)
    assert "merged" not in text_of(settings)
    with pytest.raises(ScansideError):
        verb.forget(settings, ANN, None, "me")


def test_a_merge_that_outlived_its_entries_is_listed_and_can_be_forgotten(
    settings: Settings,
) -> None:
    verb.merge(settings, (BOB, ANN), None, "me")
    Priors(settings.state).withdraw([report_of(study) for study in ("1.1", "1.2", "1.3")])
    assert "was merged" in text_of(settings)
    assert verb.forget(settings, ANN, None, "me") == (0, 0)
    assert "was merged" not in text_of(settings)


def test_the_standing_exams_of_a_merged_person_wait_to_be_compared_again(
    settings: Settings,
) -> None:
    studies = ("1.1", "1.2", "1.3", "1.4")  # the last one is of somebody else
    with Journal.open(settings.state) as journal:
        for study in studies:
            row = ToCompare(str(report_of(study)), study, "1.2.3", "a" * 64, prior_only=False)
            journal.comparisons.note([row])
            assert journal.comparisons.commit(report_of(study), [], superseded=(), owed=())
        assert not journal.comparisons.any()
    (settings.state / "run").mkdir(exist_ok=True)
    with bell.hearing(settings.state, bell.COMPARE) as rung:
        verb.merge(settings, (BOB, ANN), None, "me")
        assert select.select([rung], [], [], 60)[0], "who compares is woken"
    with Journal.open(settings.state) as journal:
        rows = [journal.comparisons.row(report_of(study)) for study in studies]
    states = [row.state for row in rows if row is not None]
    assert states == ["waiting", "waiting", "waiting", "done"]
    assert audited(settings)[0][2] == {"entries": 1, "compared_again": 3}


def test_ids_come_a_line_each_and_none_is_an_error() -> None:
    assert verb.ids(io.StringIO("a12\r\nb 34 \n"), "one", "other") == ("a12", "b 34 ")
    for short in ("", "\n", "a12\n"):
        with pytest.raises(ScansideError) as caught:
            verb.ids(io.StringIO(short), "one", "other")
        assert caught.value.code == "no_patient_id"


def scanside(settings: Settings, *arguments: str, typed: str) -> subprocess.CompletedProcess[str]:
    config = settings.state / "scanside.toml"
    config.write_text(f'state = "{settings.state}"\n')
    env = {k: v for k, v in os.environ.items() if not k.startswith("SCANSIDE_")}
    env |= {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", "TERM": "dumb"}
    command = [sys.executable, "-m", "appliance", "priors", *arguments, "--config", str(config)]
    return subprocess.run(
        command, input=typed, capture_output=True, text=True, env=env, timeout=120, check=False
    )


def test_the_real_verbs_read_ids_from_standard_input(settings: Settings) -> None:
    assert "3 entries" in scanside(settings, "list", typed="").stdout
    assert str(report_of("1.3")) in scanside(settings, "show", typed=f"{BOB}\n").stdout
    assert scanside(settings, "merge", typed=f"{BOB}\n{ANN}\n").stdout == "merged 1 entries\n"
    done = scanside(settings, "forget", typed=f"{ANN}\n")
    assert done.stdout.startswith("forgot 3 entries and 0 comparisons\nNot reached from here:")
    again = scanside(settings, "forget", typed=f"{ANN}\n")
    assert again.returncode == 1
    assert again.stderr.startswith("scanside: nothing is kept of this person [no_priors]")
    assert ANN not in again.stdout + again.stderr
    assert scanside(settings, "forget", ANN, typed="").returncode == 2, "never as an argument"
