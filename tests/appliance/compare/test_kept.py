"""The entries that are kept: what is damaged, of another key or forgotten is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.compare.kept import OTHER_KEY, KeptExams
from appliance.prior.entry import Entry
from appliance.store.journal import Journal
from appliance.store.priors import FOLDER, Priors
from rigs.comparing import entry, report

PERSON = "a" * 64


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as opened:
        yield opened


def exam(study: str) -> Entry:
    return entry(report(study), person=PERSON, taken="20240101", seed=int(study[-1]))


def test_what_was_kept_is_listed_without_its_arrays_and_read_again_whole(
    tmp_path: Path, journal: Journal
) -> None:
    exams = KeptExams(Priors(tmp_path), "key", journal)
    one = exam("1.1")
    exams.keep(one)
    (listed,) = exams.of_person(PERSON).listed
    read = exams.of_report(one.report.report_id)
    assert read is not None
    assert (listed.digest, listed.facts) == (read.digest, one.facts)
    assert exams.holds(one)
    exams.remove(one.report.report_id)
    assert not exams.holds(one)
    assert exams.of_person(PERSON).listed == ()


def test_an_entry_that_is_damaged_is_counted_and_kept_and_the_others_are_read(
    tmp_path: Path, journal: Journal
) -> None:
    exams = KeptExams(Priors(tmp_path), "key", journal)
    for study in ("1.1", "1.2"):
        exams.keep(exam(study))
    path = tmp_path / FOLDER / PERSON / f"{exam('1.1').report.report_id}.entry"
    path.write_bytes(path.read_bytes()[:-9])
    found = exams.of_person(PERSON)
    assert [one.report_id for one in found.listed] == [exam("1.2").report.report_id]
    assert found.unreadable == 1
    assert path.exists()


def test_entries_of_another_site_key_go_and_that_is_a_row_of_the_audit(
    tmp_path: Path, journal: Journal
) -> None:
    KeptExams(Priors(tmp_path), "before", journal).keep(exam("1.1"))
    exams = KeptExams(Priors(tmp_path), "now", journal)
    assert exams.of_person(PERSON).listed == ()
    (row,) = journal.audit.of([OTHER_KEY])
    assert row.detail == {"count": 1}


def test_an_entry_whose_person_was_merged_with_another_is_still_held(
    tmp_path: Path, journal: Journal
) -> None:
    priors = Priors(tmp_path)
    exams = KeptExams(priors, "key", journal)
    one = exam("1.1")
    exams.keep(one)
    priors.merge(PERSON, "b" * 64)
    assert exams.holds(one)
    (listed,) = exams.of_person("b" * 64).listed
    read = exams.of_report(one.report.report_id)
    assert read is not None
    assert read.digest == listed.digest
    assert read.facts.person.key == "b" * 64, "else it would have no earlier exam any more"
    assert exams.holds(read)


def test_an_entry_under_the_name_of_another_report_is_none(
    tmp_path: Path, journal: Journal
) -> None:
    exams = KeptExams(Priors(tmp_path), "key", journal)
    for study in ("1.1", "1.2"):
        exams.keep(exam(study))
    one, other = (
        tmp_path / FOLDER / PERSON / f"{exam(study).report.report_id}.entry"
        for study in ("1.1", "1.2")
    )
    other.write_bytes(one.read_bytes())
    assert exams.of_report(exam("1.2").report.report_id) is None
    found = exams.of_person(PERSON)
    assert ([x.report_id for x in found.listed], found.unreadable) == (
        [exam("1.1").report.report_id],
        1,
    )


def test_exams_of_merged_keys_are_listed_and_held_by_whichever_key_an_image_names(
    tmp_path: Path, journal: Journal
) -> None:
    exams, priors = KeptExams(Priors(tmp_path), "key", journal), Priors(tmp_path)
    old, new = "b" * 64, PERSON
    before = entry(report("1.1"), person=old, taken="20240101", seed=1)
    exams.keep(before)
    exams.keep(exam("1.2"))
    priors.merge(old, new)
    after = entry(report("1.3"), person=old, taken="20250101", seed=3)
    exams.keep(after)
    wanted = {one.report.report_id for one in (before, exam("1.2"), after)}
    for key in (old, new):
        assert {one.report_id for one in exams.of_person(key).listed} == wanted
    assert exams.holds(before)
    assert exams.holds(after)
    assert {one.person for one in priors.all()} == {new}
