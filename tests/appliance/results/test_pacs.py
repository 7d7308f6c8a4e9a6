"""The destination PACS: which objects are ordered of a report, under which keys and files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from appliance.reasons import SET_ASIDE, Code
from appliance.report import (
    BackendRef,
    BundleRef,
    Finding,
    Reason,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)
from appliance.results import destinations
from appliance.results.destinations import DESTINATIONS
from appliance.results.owed import Owed, Withdrawn
from appliance.results.pacs import Ordered, Pacs, older
from appliance.settings import Deliver
from appliance.store.journal import Journal
from rigs.reports import NAMING

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
KEY = SeriesKey("1.2", "1.2.3")
OTHER = SeriesKey("1.2", "1.2.4")
FINDING = Finding(
    id=1, tracking_uid="2.25.1", kind="nodule", score=0.9, threshold=0.5,
    center_lps_mm=(0.0, 0.0, 0.0), box_lps_mm=(0.0, 0.0, 0.0, 1.0, 1.0, 1.0), key_image=0,
)  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as opened:
        yield opened


def archive(**changes: Any) -> Deliver:
    return Deliver(**{"name": "pacs", "host": "pacs.local", "called_ae": "PACS", **changes})


def a_report(**changes: Any) -> Report:
    fields = {
        "report_id": NAMING.report(KEY, None, "b" * 64),
        "input_digest": "b" * 64,
        "revision": 1,
        "status": Status.ANALYSED,
        "stage": Stage.FINAL,
        "study": StudyRef(pseudonym=NAMING.study(KEY.study)),
        "series": SeriesRef(slices=10),
        "bundle": BundleRef(name="lung-nodule", version="1.0.0", digest="a" * 64),
        "backend": BackendRef(name="reference", precision="fp32"),
        "findings": (FINDING,),
    }
    return Report(**{**fields, **changes})


def owed(report: Report, *archives: Deliver, **more: Any) -> list[Owed]:
    to = destinations.of(archives or (archive(),))[len(DESTINATIONS) :]
    return list(destinations.of_report(report, KEY, naming=NAMING, at=NOON, to=to, **more))


def ordered(one: Owed) -> Ordered:
    assert isinstance(one.body, bytes)
    return Ordered.model_validate_json(one.body)


def not_analysed(code: Code) -> Report:
    reasons = (Reason(code=code, text="it is so"),)
    return a_report(status=Status.NOT_ANALYSED, reasons=reasons, findings=())


def test_without_archives_the_destinations_are_those_of_every_site() -> None:
    assert destinations.of(()) == DESTINATIONS


def test_one_row_is_owed_for_each_object_of_the_profile() -> None:
    rows = owed(a_report(), archive(profile=("sr", "seg", "sc")))
    uid = a_report().report_id
    assert [row.key for row in rows] == [f"{uid} final 1 {kind}" for kind in ("sr", "seg", "sc")]
    assert {(row.destination, row.series) for row in rows} == {("pacs", KEY)}
    assert len({ordered(row).file for row in rows}) == 3


def test_what_is_not_analysed_orders_words_and_no_segmentation() -> None:
    rows = owed(not_analysed(Code.POISONED), archive(profile=("sr", "seg")))
    assert [ordered(row).kind for row in rows] == ["sr"]


@pytest.mark.parametrize("code", sorted(SET_ASIDE))
def test_what_is_set_aside_orders_nothing(code: Code) -> None:
    assert owed(not_analysed(code)) == []


def test_a_preliminary_report_is_ordered_only_where_the_archive_asks() -> None:
    report = a_report(stage=Stage.PRELIMINARY)
    assert owed(report) == []
    (row,) = owed(report, archive(when="preliminary"))
    (final,) = owed(a_report(), archive(when="preliminary"), completes=report)
    assert ordered(row).stage == "preliminary"
    assert ordered(row).file != ordered(final).file
    assert row.key != final.key


def test_a_withdrawal_orders_one_object_in_words_that_names_what_stands_instead() -> None:
    old = uuid.UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
    for profile, kinds in (
        (("sr", "seg", "sc"), ["sr"]),
        (("seg", "sc"), ["sc"]),
        (("seg",), []),
    ):
        rows = owed(
            a_report(findings=()),
            archive(profile=profile),
            withdraws=[Withdrawn(old, 2, OTHER)],
        )
        gone = [ordered(row) for row in rows if ordered(row).stage == "withdrawn"]
        assert [one.kind for one in gone] == kinds
        assert all((one.report_id, one.edition) == (old, 2) for one in gone)
        assert all(one.by == NAMING.series(OTHER) for one in gone)


def test_what_is_superseded_is_withdrawn_in_the_edition_that_stood() -> None:
    old = uuid.UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
    report = a_report(revision=2, supersedes=old)
    first, second = owed(report, withdraws=[Withdrawn(old, 3, KEY)])
    assert (ordered(first).report_id, ordered(first).edition) == (old, 3)
    assert ordered(second).report_id == report.report_id


def test_two_archives_share_a_file_and_no_name_of_a_file_can_be_computed_from_uids() -> None:
    first, second = owed(a_report(), archive(), archive(name="backup"))
    assert ordered(first).file == ordered(second).file
    assert (first.destination, second.destination) == ("pacs", "backup")
    name = ordered(first).file
    assert uuid.UUID(name.removesuffix(".dcm")).version == 8
    assert NAMING.series(KEY).hex not in name.replace("-", "")


def test_the_same_report_said_again_is_owed_once(journal: Journal) -> None:
    for _ in range(2):
        journal.owed.add(owed(a_report(), archive(profile=("sr", "seg"))))
    assert journal.owed.counts("pacs").waiting == 2


def test_a_series_is_kept_until_its_objects_are_taken(journal: Journal) -> None:
    journal.commit_report(
        a_report(), KEY, owed=owed(a_report()), series_state="analysed", instances=10
    )
    assert [kept.owed for kept in journal.kept()] == [1]
    (row,) = journal.owed.waiting("pacs", 10)
    journal.owed.ack("pacs", [row.key])
    assert [kept.owed for kept in journal.kept()] == [0]


def test_a_person_reads_what_is_owed_and_its_key_where_the_body_is_broken() -> None:
    pacs = Pacs("pacs", ("sr",), "final")
    (row,) = owed(a_report())
    assert isinstance(row.body, bytes)
    assert "sr of report" in pacs.described(row.key, row.body)
    assert pacs.described(row.key, b"{") == row.key
    assert pacs.described(row.key, None) == row.key


def test_a_report_is_ordered_in_the_older_class_once_under_names_of_its_own() -> None:
    (row,) = owed(a_report())
    first = ordered(row)
    assert not first.older_class
    again = older("pacs", row.key, first, KEY)
    assert again is not None
    second = ordered(again)
    assert (again.key, again.series) == (f"{row.key} older", KEY)
    assert second == first.model_copy(update={"older_class": True, "file": second.file})
    assert second.file == first.file.replace(".dcm", "-older.dcm")
    assert older("pacs", again.key, second, KEY) is None
    (_, seg) = owed(a_report(), archive(profile=("sr", "seg")))
    assert older("pacs", seg.key, ordered(seg), KEY) is None
    assert isinstance(again.body, bytes)
    assert "in the older class" in Pacs("pacs", ("sr",), "final").described(again.key, again.body)
