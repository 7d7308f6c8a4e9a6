"""Each standing exam is compared once with what is kept of its person, whatever ends the child."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.compare import beside
from appliance.compare.child import TRIES, Comparer, note_unnoted
from appliance.compare.ports import Made, OfPerson, Words
from appliance.comparison import Comparison
from appliance.errors import Poisoned, StateUnusable
from appliance.naming import Naming
from appliance.prior.entry import Entry
from appliance.prior.patient import NotKept
from appliance.report import Report, SeriesKey
from appliance.results import mqtt, pacs
from appliance.settings import Settings
from appliance.store import kept
from appliance.store.files import DISK, Disk
from appliance.store.in_hand import Hand
from appliance.store.journal import Journal
from appliance.store.journal.pairs import Judged, Pair
from appliance.store.rows import ToCompare
from rigs.comparing import BUNDLE, Exam, Folder, Nearest, entry, report
from rigs.cuts import Cut, Failing, PowerCut
from rigs.reports import NAMING


class Desk:
    """A state folder with reports, and who compares them."""

    def __init__(self, state: Path, journal: Journal, disk: Disk = DISK) -> None:
        self.state, self.journal = state, journal
        self.exams = Folder(state, disk)
        self.making = Exam({})
        self.line = Nearest()
        self.comparer = self.fresh(disk)

    def fresh(self, disk: Disk = DISK) -> Comparer:
        """Another process of the child."""
        settings = Settings(state=self.state)
        made = Comparer(settings, self.journal, self.exams, self.making, self.line, NAMING, disk)
        made.recover()
        return made

    def commit(
        self,
        study: str,
        taken: str | None,
        *,
        centers: tuple[float, ...] = (0.0,),
        prior_only: bool = False,
        make: Callable[[Report], Entry | NotKept] | None = None,
        **more: object,
    ) -> Report:
        said = report(study, centers)
        key = SeriesKey(study, f"{study}.1")
        self.making.of_report[str(said.report_id)] = make or (
            lambda of: entry(of, taken=taken, seed=int(study.rpartition(".")[2]), **more)  # type: ignore[arg-type]
        )
        row = ToCompare(str(said.report_id), key.study, key.series, BUNDLE.digest, prior_only)
        self.journal.commit_report(said, key, owed=[], series_state="analysed", compares=[row])
        return said

    def standing(self, of: Report) -> list[Comparison]:
        return self.journal.comparisons.standing(of.report_id)

    def messages(self) -> list[dict[str, object]]:
        rows = self.journal.owed.waiting(mqtt.MQTT, 99)
        return [json.loads(mqtt.Envelope.stored(row.body or b"").payload) for row in rows]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Journal.open(tmp_path) as journal:
        yield Desk(tmp_path, journal)


def test_the_first_exam_of_a_person_says_that_there_is_no_earlier_one(desk: Desk) -> None:
    first = desk.commit("1.1", "20240101")
    assert desk.comparer.run() == 1
    (said,) = desk.standing(first)
    assert [reason.code.value for reason in said.reasons] == ["no_prior"]
    (message,) = desk.messages()
    assert (message["type"], message["event"]) == ("comparison", "not_compared")
    assert not desk.journal.comparisons.any()
    assert desk.comparer.run() == 0


def test_a_second_exam_is_compared_with_the_first_and_keeps_the_uid_of_the_first_sighting(
    desk: Desk,
) -> None:
    first = desk.commit("1.1", "20230101")
    second = desk.commit("1.2", "20240101", centers=(2.0, 90.0))
    third = desk.commit("1.3", "20250101", centers=(3.0,))
    desk.comparer.run()
    (said,) = desk.standing(second)
    assert said.prior is not None
    assert (said.prior.report_id, said.prior.interval_days) == (first.report_id, 365)
    assert [f.state for f in said.findings] == ["matched", "new"]
    assert said.findings[0].tracking_uid == first.findings[0].tracking_uid
    newest, oldest = sorted(desk.standing(third), key=lambda c: c.prior.which if c.prior else ())
    assert newest.prior is not None
    assert newest.prior.report_id == second.report_id
    assert oldest.prior is not None
    assert oldest.prior.report_id == first.report_id
    assert newest.findings[0].tracking_uid == first.findings[0].tracking_uid, "not that of 1.2"


def test_what_is_published_has_no_date_no_uid_and_no_key(desk: Desk) -> None:
    desk.commit("1.1", "20230101")
    desk.commit("1.2", "20240101")
    desk.comparer.run()
    text = json.dumps([m["comparison"] for m in desk.messages()])
    for hidden in (
        "20230101",
        "20240101",
        "1.5.1",
        '"p"',
        desk.exams.of_person("p").listed[0].digest,
    ):
        assert hidden not in text


def test_beside_the_report_lie_the_comparison_the_images_of_then_and_both_cubes(
    desk: Desk,
) -> None:
    first = desk.commit("1.1", "20230101")
    second = desk.commit("1.2", "20240101")
    desk.comparer.run()
    (said,) = desk.standing(second)
    found = beside.read(desk.state, second.report_id, said.comparison_id)
    assert found is not None
    assert found.comparison == said
    assert found.prior is not None
    assert found.prior.date == "20230101"
    cubes = beside.cubes(desk.state, second.report_id, said.comparison_id)
    then, now = (desk.exams.of_report(one.report_id) for one in (first, second))
    assert then is not None
    assert now is not None
    assert np.array_equal(cubes["then_0"], then.cubes[0].hu)
    assert np.array_equal(cubes["now_0"], now.cubes[0].hu)
    assert kept.masks(desk.state, second.report_id) == (), "nobody takes the cubes for a mask"


def test_an_earlier_exam_that_comes_late_supersedes_that_there_was_none(desk: Desk) -> None:
    today = desk.commit("1.2", "20240101")
    desk.comparer.run()
    (before,) = desk.standing(today)
    old = desk.commit("1.1", "20230101", prior_only=True)
    desk.comparer.run()
    (now,) = desk.standing(today)
    assert now.prior is not None
    assert now.prior.report_id == old.report_id
    assert now.supersedes == before.comparison_id
    assert desk.messages()[-1]["withdrawn"] == [str(before.comparison_id)]
    assert desk.standing(old) == [], "of an earlier exam that was pushed nothing is said"
    assert len(desk.messages()) == 2
    assert desk.making.made == 2, "the entry of today was not made a second time"


def test_one_that_comes_between_becomes_the_newest_and_the_other_is_said_again_as_the_oldest(
    desk: Desk,
) -> None:
    old = desk.commit("1.1", "20220101", prior_only=True)
    today = desk.commit("1.3", "20240101")
    desk.comparer.run()
    between = desk.commit("1.2", "20230101", prior_only=True)
    desk.comparer.run()
    said = {c.prior.which: c for c in desk.standing(today) if c.prior}
    assert {w: c.prior.report_id for w, c in said.items() if c.prior} == {
        ("newest",): between.report_id,
        ("oldest",): old.report_id,
    }
    events = [m["event_id"] for m in desk.messages()]
    assert len(events) == len(set(events)) == 3


def test_an_earlier_exam_that_is_withdrawn_is_forgotten_and_what_was_said_with_it_is_superseded(
    desk: Desk,
) -> None:
    old = desk.commit("1.1", "20230101")
    today = desk.commit("1.2", "20240101")
    desk.comparer.run()
    (before,) = desk.standing(today)
    key = SeriesKey("1.1", "1.1.1")
    desk.journal.commit_report(
        old, key, owed=[], series_state="analysed", withdrawn=[old.report_id]
    )
    desk.comparer.run()
    assert desk.exams.of_report(old.report_id) is None
    assert desk.standing(old) == []
    (now,) = desk.standing(today)
    assert (now.prior, now.supersedes) == (None, before.comparison_id)
    row = ToCompare(str(old.report_id), key.study, key.series, BUNDLE.digest, False)
    desk.journal.commit_report(old, key, owed=[], series_state="analysed", compares=[row])
    desk.comparer.run()
    (again,) = desk.standing(today)
    assert again.comparison_id == before.comparison_id, "it stands again"
    events = [m["event_id"] for m in desk.messages()]
    assert len(events) == len(set(events)), "and is said again"


def test_who_has_no_id_is_kept_nowhere_and_that_is_said(desk: Desk) -> None:
    today = desk.commit("1.1", None, make=lambda _: NotKept("id_missing", "no id"))
    desk.comparer.run()
    assert [r.code.value for c in desk.standing(today) for r in c.reasons] == ["no_patient_id"]
    assert desk.exams.of_person("p").listed == ()


@pytest.mark.parametrize(
    ("taken", "seed", "code"), [("20240101", 1, "same_scan"), ("20240101", 9, "same_day")]
)
def test_one_scan_under_two_names_and_two_scans_of_one_day_are_no_comparison(
    desk: Desk, taken: str, seed: int, code: str
) -> None:
    desk.commit("1.1", "20240101")
    today = desk.commit("1.2", None, make=lambda of: entry(of, taken=taken, seed=seed))
    desk.comparer.run()
    assert [r.code.value for c in desk.standing(today) for r in c.reasons] == [code]


def test_two_people_under_one_id_are_a_row_of_the_audit(desk: Desk) -> None:
    desk.commit("1.1", "20230101", birth_date="a")
    today = desk.commit("1.2", "20240101", birth_date="b")
    desk.comparer.run()
    (row,) = desk.journal.audit.of(["identity_mismatch"])
    assert row.detail["report"] == str(today.report_id)
    assert desk.journal.comparisons.alarms() == {"identity_mismatch": 1}
    desk.comparer.run()
    assert len(desk.journal.audit.of(["identity_mismatch"])) == 1


def test_what_raises_is_tried_three_times_and_then_said_and_costs_no_other_exam(
    desk: Desk,
) -> None:
    def broken(_: Report) -> Entry:
        raise Poisoned("it is broken")

    bad = desk.commit("1.1", None, make=broken)
    good = desk.commit("1.2", "20240101")
    for _ in range(TRIES):
        assert desk.standing(bad) == []
        desk.fresh().run()
    assert [r.code.value for c in desk.standing(bad) for r in c.reasons] == ["compare_failed"]
    assert len(desk.standing(good)) == 1
    assert desk.fresh().run() == 0, "it is dead"


def test_what_was_said_beside_a_withdrawn_exam_does_not_stand_where_it_cannot_be_said_anew(
    desk: Desk,
) -> None:
    def gone(_: Report) -> Entry:
        raise Poisoned("its images are not on the device any more")

    old = desk.commit("1.1", "20230101", prior_only=True)
    today = desk.commit("1.2", "20240101")
    desk.comparer.run()
    (before,) = desk.standing(today)
    assert before.prior is not None
    desk.exams.remove(today.report_id)  # for its age
    desk.making.of_report[str(today.report_id)] = gone
    key = SeriesKey("1.1", "1.1.1")
    desk.journal.commit_report(
        old, key, owed=[], series_state="analysed", withdrawn=[old.report_id]
    )
    for _ in range(TRIES):
        desk.fresh().run()
    (now,) = desk.standing(today)
    assert [r.code.value for r in now.reasons] == ["compare_failed"]
    assert now.supersedes == before.comparison_id


def test_what_ended_the_process_counts_as_a_try(desk: Desk) -> None:
    today = desk.commit("1.1", "20240101")
    for count in range(1, TRIES + 1):
        Hand(desk.state, "compare").clear()
        (desk.state / "run" / "compare.hand").write_text(str(today.report_id))
        desk.fresh()
        row = desk.journal.comparisons.row(today.report_id)
        assert row is not None
        assert row.attempts == count
    assert [r.code.value for c in desk.standing(today) for r in c.reasons] == ["compare_failed"]


def test_what_a_person_had_forgotten_while_it_was_compared_is_not_said(desk: Desk) -> None:
    old = desk.commit("1.1", "20230101", prior_only=True)
    today = desk.commit("1.2", "20240101")
    pair = desk.line.pair

    def forgotten(prior: Entry, current: Entry, words: Words) -> Made:
        desk.exams.remove(old.report_id)
        return pair(prior, current, words)

    desk.line.pair = forgotten  # type: ignore[method-assign]
    assert desk.comparer.run() == 0
    assert desk.standing(today) == []
    assert list(desk.state.rglob("comparison-*")) == [], "nor is an image of it written again"
    desk.line.pair = pair  # type: ignore[method-assign]
    desk.fresh().run()
    assert [r.code.value for c in desk.standing(today) for r in c.reasons] == ["no_prior"]


def test_a_person_who_was_forgotten_is_not_kept_again_when_the_child_starts_anew(
    desk: Desk,
) -> None:
    """The report still stands, and its images may still be here."""
    today = desk.commit("1.1", "20240101")
    desk.comparer.run()
    desk.exams.remove(today.report_id)
    desk.journal.comparisons.forget([str(today.report_id)])
    assert note_unnoted(desk.journal, lambda _: True) == 0
    assert desk.fresh().run() == 0
    assert desk.exams.of_report(today.report_id) is None


STEPS = 8
"""Of the disk, until a comparison is kept."""


@pytest.mark.parametrize("at", range(STEPS + 1))
def test_a_cut_before_any_write_loses_and_doubles_nothing(tmp_path: Path, at: int) -> None:
    with Journal.open(tmp_path) as journal:
        whole = Desk(tmp_path, journal)
        whole.commit("1.1", "20230101", prior_only=True)
        whole.comparer.run()
        today = whole.commit("1.2", "20240101")
        cut = Desk(tmp_path, journal, Cut(at))
        cut.making.of_report |= whole.making.of_report
        with pytest.raises(PowerCut) if at < STEPS else contextlib.nullcontext():
            cut.comparer.run()
        whole.fresh().run()
        (said,) = whole.standing(today)
        assert said.status == "compared"
        assert beside.read(tmp_path, today.report_id, said.comparison_id) is not None
        assert beside.cubes(tmp_path, today.report_id, said.comparison_id)
        events = [m["event_id"] for m in whole.messages()]
        assert len(events) == len(set(events)) == 1


def test_a_full_disk_counts_as_no_try(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        whole = Desk(tmp_path, journal)
        today = whole.commit("1.1", "20230101")
        full = Desk(tmp_path, journal, Failing(2, for_good=False))
        full.making.of_report |= whole.making.of_report
        with pytest.raises(StateUnusable):
            full.comparer.run()
        row = journal.comparisons.row(today.report_id)
        assert row is not None
        assert (row.state, row.attempts) == ("waiting", 0)
        whole.fresh().run()
        assert len(whole.standing(today)) == 1


def test_a_clock_that_jumps_changes_no_comparison(tmp_path: Path) -> None:
    """Only the scanners' dates count; the wall clock puts nothing in order."""
    now = [1.9e9]
    with Journal.open(tmp_path, clock=lambda: now[0]) as journal:
        desk = Desk(tmp_path, journal)
        today = desk.commit("1.2", "20240101")
        desk.comparer.run()
        now[0] = 1.0  # 1970
        old = desk.commit("1.1", "20230101", prior_only=True)
        now[0] = 4e9  # 2096
        desk.comparer.run()
        (said,) = desk.standing(today)
        assert said.prior is not None
        assert (said.prior.report_id, said.prior.interval_days) == (old.report_id, 365)


def test_what_cannot_be_read_of_the_only_earlier_exam_is_said(desk: Desk) -> None:
    today = desk.commit("1.2", "20240101")
    desk.exams.of_person = lambda _: OfPerson(unreadable=1)  # type: ignore[method-assign]
    desk.comparer.run()
    assert [r.code.value for c in desk.standing(today) for r in c.reasons] == ["prior_unreadable"]


def test_reports_that_nobody_noted_give_entries_and_only_the_newest_are_said(desk: Desk) -> None:
    old = report("1.1")
    desk.journal.commit_report(old, SeriesKey("1.1", "1.1.1"), owed=[], series_state="analysed")
    assert note_unnoted(desk.journal, lambda digest: digest == BUNDLE.digest) == 1
    row = desk.journal.comparisons.row(old.report_id)
    assert row is not None
    assert row.prior_only, "nobody knows when it was committed"
    assert note_unnoted(desk.journal, lambda _: True) == 0


def test_names_of_another_site_key_are_other_names(desk: Desk) -> None:
    today = desk.commit("1.1", "20240101")
    desk.comparer.run()
    (said,) = desk.standing(today)
    other = Nearest(Naming(b"x" * 32)).nothing(
        said.reasons[0].code, "t", desk.exams.of_report(today.report_id), Words(today)
    )
    assert other.comparison.comparison_id != said.comparison_id
    assert isinstance(said.comparison_id, uuid.UUID)


def test_a_pair_called_wrong_passes_no_tracking_uid_on_to_a_later_exam(desk: Desk) -> None:
    reports = [desk.commit(f"1.{year}", f"202{year}0101") for year in (1, 2)]
    desk.comparer.run()
    (second,) = desk.standing(reports[1])
    (matched,) = second.findings
    assert matched.tracking_uid == reports[0].findings[0].tracking_uid
    assert second.prior
    pair = Pair(second.prior.report_id, matched.finding, matched.prior_finding)
    desk.journal.pairs.say(
        Judged(uuid.uuid4(), 1.0, second.report_id, pair, "wrong", "radiologist", "ab12")
    )
    third = desk.commit("1.3", "20230101")
    desk.comparer.run()
    newest = next(c for c in desk.standing(third) if c.prior and "newest" in c.prior.which)
    assert newest.findings[0].state == "matched"
    assert newest.findings[0].tracking_uid is None


def test_an_archive_is_owed_a_further_report_of_what_was_compared(tmp_path: Path) -> None:
    archive = {"name": "pacs", "host": "127.0.0.1", "called_ae": "PACS", "profile": ["sr"]}
    settings = Settings.model_validate({"state": tmp_path, "deliver": [archive]})
    with Journal.open(tmp_path) as journal:
        desk = Desk(tmp_path, journal)
        reports = [desk.commit(f"1.{year}", f"202{year}0101") for year in (1, 2)]
        Comparer(settings, journal, desk.exams, desk.making, desk.line, NAMING).run()
        (order,) = [pacs.ordered(row.body) for row in journal.owed.uncomposed(["pacs"], -1)]
        (said,) = desk.standing(reports[1])
    assert order
    assert (order.report_id, order.comparison) == (reports[1].report_id, said.comparison_id)
