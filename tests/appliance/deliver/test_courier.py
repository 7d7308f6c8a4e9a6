"""One archive: what it answers, and what becomes of the object and of all that wait behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from appliance.deliver.courier import SR_CLASS_REFUSED
from appliance.demo.child import free_port
from appliance.dicom.requestor import Limits
from appliance.results import pacs
from appliance.results.owed import File
from appliance.store import bell
from appliance.store.delivery import State
from appliance.store.events import ArchiveAway, ArchiveReached
from appliance.store.hint import Hint
from appliance.store.rows import OwedRow
from rigs.archive import COMPREHENSIVE, ENHANCED, SR_3D, Archive, serving, written
from rigs.peers import until
from tests.appliance.deliver.conftest import KEY, QUICK, Device, Served

Make = Callable[..., Device]
Serve = Callable[..., Served]


def settled(device: Device, name: str = "pacs") -> None:
    until(lambda: not device.journal.owed.counts(name).waiting)


def only(device: Device, state: State) -> OwedRow:
    (row,) = device.journal.owed.listed(state)
    return row


def test_what_was_composed_goes_in_order_over_one_association_that_ends_when_nothing_is_owed(
    device: Make, serve: Serve
) -> None:
    with serving() as archive:
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2", "1.3")
        serve(box)
        settled(box)
        assert archive.uids == ["1.1", "1.2", "1.3"]
        assert box.journal.owed.counts("pacs").delivered == 3
        until(lambda: archive.released == 1)
        assert archive.associations == 1
        box.composed("1.4")
        settled(box)
        assert (archive.uids[3:], archive.associations) == (["1.4"], 2)
    assert box.journal.events.of(ArchiveAway) == []


def test_what_is_not_composed_yet_is_not_sent(device: Make, serve: Serve) -> None:
    with serving() as archive:
        box = device(pacs=archive.port)
        box.journal.owed.add([pacs.Owed("pacs", "1.0", KEY, b"{}")])
        box.composed("1.1")
        serve(box)
        until(lambda: box.journal.owed.counts("pacs").delivered == 1)
    assert archive.uids == ["1.1"]
    assert only(box, State.WAITING).key == "1.0"


@pytest.mark.parametrize(("status", "mark"), [(0x0111, "0x0111"), (0xB007, "0xB007")])
def test_a_duplicate_and_a_warning_are_sent_and_what_was_answered_is_kept(
    device: Make, serve: Serve, status: int, mark: str
) -> None:
    with serving(Archive(answer=lambda _uid: status)) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1")
        serve(box)
        settled(box)
    assert mark in str(only(box, State.DELIVERED).last_error)


@pytest.mark.parametrize("status", [0xA900, 0x0124])
def test_what_never_changes_by_itself_is_dead_at_once_with_status_and_remedy(
    device: Make, serve: Serve, status: int
) -> None:
    with serving(Archive(answer=lambda uid: status if uid == "1.1" else 0)) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2")
        serve(box)
        settled(box)
    dead = only(box, State.DEAD)
    assert (dead.key, dead.attempts) == ("1.1", 1)
    assert f"0x{status:04X}" in str(dead.last_error)
    assert str(dead.last_error).endswith(".")
    assert archive.uids == ["1.1", "1.2"]


def test_an_archive_that_is_full_is_asked_again_with_one_object_until_it_has_room(
    device: Make, serve: Serve
) -> None:
    full = threading.Event()
    full.set()
    archive = Archive(answer=lambda _uid: 0xA700 if full.is_set() else 0)
    with serving(archive):
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2", "1.3")
        served = serve(box)
        until(lambda: len(archive.came) > 10)
        assert set(archive.uids) == {"1.1"}, "only one of them is asked about"
        rows = box.journal.owed.waiting("pacs", 9)
        assert [row.attempts for row in rows] == [0, 0, 0], "and none can die of that"
        assert "0xA700" in str(rows[0].last_error)
        full.clear()
        settled(box)
        assert archive.uids[-3:] == ["1.1", "1.2", "1.3"]
        served.stop()
    (away,) = box.journal.events.of(ArchiveAway)
    assert (away.event.subject, away.event.code) == ("pacs", "archive_full")
    assert [one.event.subject for one in box.journal.events.of(ArchiveReached)] == ["pacs"]


@pytest.mark.parametrize("status", [0xC000, 0x0110, 0x0122 + 0x1000, 0xFE00])
def test_what_is_refused_without_a_clear_word_is_tried_five_times_and_the_rest_goes_on(
    device: Make, serve: Serve, status: int
) -> None:
    with serving(Archive(answer=lambda uid: status if uid == "1.1" else 0)) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2", "1.3")
        serve(box)
        settled(box)
    assert archive.uids.count("1.1") == 5
    assert archive.uids.count("1.2") == archive.uids.count("1.3") == 1
    dead = only(box, State.DEAD)
    assert dead.key == "1.1"
    assert f"0x{status:04X}" in str(dead.last_error)


def test_a_person_lets_what_is_dead_be_tried_again(device: Make, serve: Serve) -> None:
    refuses = threading.Event()
    refuses.set()
    with serving(Archive(answer=lambda _uid: 0xA900 if refuses.is_set() else 0)) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1")
        serve(box)
        until(lambda: box.journal.owed.counts("pacs").dead)
        refuses.clear()
        assert box.journal.owed.retry("alice", "1.1") == 1
        settled(box)
        assert box.journal.owed.counts("pacs").delivered == 1


def test_a_3d_report_whose_class_is_refused_is_ordered_in_the_older_class_once(
    device: Make, serve: Serve
) -> None:
    """Where no context is accepted; 0122 comes to the same."""
    with serving(classes=[ENHANCED, COMPREHENSIVE]) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1")
        (box.settings.state / "run").mkdir(exist_ok=True)
        with bell.hearing(box.settings.state, "work") as hints:
            serve(box)
            (told,) = until(lambda: bell.take(hints))
        assert Hint.model_validate_json(told).ordered, "so that it is composed at once"
        dropped = only(box, State.DROPPED)
        assert (dropped.key, dropped.attempts) == ("1.1", 0)
        assert str(dropped.last_error).startswith(SR_CLASS_REFUSED)
        (row,) = box.journal.owed.uncomposed(["pacs"], 9)
        order = pacs.ordered(row.body)
        assert order is not None
        assert (row.key, order.older_class, order.file) == ("1.1 older", True, "1.1-older.dcm")
        assert order.report_id == box.report.report_id
        (kept,) = box.journal.kept()
        assert kept.owed == 1, "its series waits for it again"
        assert archive.came == []


def test_a_report_that_is_refused_in_the_older_class_too_is_dead(
    device: Make, serve: Serve
) -> None:
    with serving(Archive(answer=lambda _uid: 0x0122)) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1")
        serve(box)
        (row,) = until(lambda: box.journal.owed.uncomposed(["pacs"], 9))
        path = box.settings.state / "outgoing" / "1.1.dcm"
        path.rename(path.with_name("1.1-older.dcm"))
        box.journal.owed.composed("pacs", row.key, pacs.PurePosixPath("outgoing/1.1-older.dcm"))
        settled(box)
        assert only(box, State.DEAD).key == "1.1 older"
        assert "0x0122" in str(only(box, State.DEAD).last_error)
        assert len(archive.came) == 2


@pytest.mark.parametrize("what", ["another class", "series gone"])
def test_where_there_is_no_older_class_or_no_series_a_refused_class_is_dead(
    device: Make, serve: Serve, what: str
) -> None:
    with serving(classes=[COMPREHENSIVE]) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1", sop_class=ENHANCED if what == "another class" else SR_3D)
        if what == "series gone":
            assert box.journal.forget(box.journal.kept()[0].series)
        serve(box)
        settled(box)
    assert "0x0122" in str(only(box, State.DEAD).last_error)


@pytest.mark.parametrize("how", ["gone", "broken"])
def test_an_object_whose_file_cannot_be_sent_is_dead_and_the_rest_goes_on(
    device: Make, serve: Serve, how: str
) -> None:
    with serving() as archive:
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2")
        path = box.settings.state / "outgoing" / "1.1.dcm"
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(b"no object")
        serve(box)
        settled(box)
    assert archive.uids == ["1.2"]
    assert "object_unreadable" in str(only(box, State.DEAD).last_error)


def test_an_archive_that_is_away_gets_all_when_it_is_back_and_nothing_is_dead(
    device: Make, serve: Serve
) -> None:
    port = free_port()
    box = device(pacs=port)
    box.composed(*(f"1.{n}" for n in range(1, 30)))
    served = serve(box)
    until(lambda: served.deliverer._workers[0].away)
    row = box.journal.owed.waiting("pacs", 1)[0]
    assert (row.attempts, "no connection" in str(row.last_error)) == (0, True)
    with serving(port=port) as archive:
        settled(box)
        assert archive.uids == [f"1.{n}" for n in range(1, 30)]
        assert served.deliverer._workers[0].away is None
    codes = [one.event.code for one in box.journal.events.of(ArchiveAway)]
    assert codes == ["peer_away"], "said once"


def test_an_archive_that_rejects_us_is_asked_on_and_named(device: Make, serve: Serve) -> None:
    with serving(callers=["OTHER"]) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1")
        serve(box)
        (away,) = until(lambda: box.journal.events.of(ArchiveAway))
        assert away.event.code == "peer_rejects"
        assert "calling AE title" in away.event.text
        assert "calling AE title" in str(box.journal.owed.waiting("pacs", 1)[0].last_error)
        assert archive.came == []


def test_an_archive_that_goes_silent_is_hung_up_on_and_kills_nothing(
    device: Make, serve: Serve
) -> None:
    with serving() as archive:
        archive.holds.clear()
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2")
        pace = replace(QUICK, limits=Limits(answer_s=0.3, release_s=0.3))
        serve(box, pace)
        until(lambda: {"1.1", "1.2"} <= set(archive.uids))
        until(lambda: len(archive.came) > 12)
        rows = box.journal.owed.waiting("pacs", 9)
        assert [(row.key, row.attempts) for row in rows] == [("1.1", 0), ("1.2", 0)]
        archive.holds.set()
        settled(box)
    assert box.journal.owed.counts("pacs").delivered == 2


def test_an_object_on_which_the_archive_hangs_up_lets_the_others_pass_and_is_dead_in_the_end(
    device: Make, serve: Serve
) -> None:
    """Each loss that counts has others taken between."""
    with serving(Archive(abort=lambda uid: uid == "1.1")) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2")
        serve(box)
        until(lambda: archive.uids.count("1.1") >= 4)
        assert archive.uids.count("1.2") == 1
        for n in range(3, 30):
            box.composed(f"1.{n}")
            until(lambda: not box.journal.owed.waiting("pacs", 2)[1:])
            if box.journal.owed.counts("pacs").dead:
                break
            seen = archive.uids.count("1.1")
            until(
                lambda seen=seen: (
                    archive.uids.count("1.1") > seen or box.journal.owed.counts("pacs").dead
                )
            )
        dead = only(box, State.DEAD)
    assert dead.key == "1.1"
    assert "while it took others" in str(dead.last_error)


def test_an_archive_that_hangs_up_on_every_object_is_named_and_kills_none(
    device: Make, serve: Serve
) -> None:
    hangs_up = threading.Event()
    hangs_up.set()
    with serving(Archive(abort=lambda _uid: hangs_up.is_set())) as archive:
        box = device(pacs=archive.port)
        box.composed("1.1", "1.2", "1.3")
        served = serve(box)
        until(lambda: len(archive.came) > 20)
        assert served.deliverer._workers[0].away
        rows = box.journal.owed.waiting("pacs", 9)
        assert [(row.key, row.attempts) for row in rows] == [("1.1", 0), ("1.2", 0), ("1.3", 0)]
        hangs_up.clear()
        settled(box)
    assert box.journal.owed.counts("pacs").delivered == 3
    assert [one.event.code for one in box.journal.events.of(ArchiveAway)] == ["peer_left"]


def test_an_association_that_the_archive_ended_while_idle_is_opened_anew_without_a_word(
    device: Make, serve: Serve
) -> None:
    port = free_port()
    box = device(pacs=port)
    box.composed("1.1")
    pace = replace(QUICK, idle_s=3600.0)
    with serving(port=port):
        serve(box, pace)
        settled(box)
    with serving(port=port) as archive:
        box.composed("1.2")
        settled(box)
        assert archive.uids == ["1.2"]
    assert box.journal.events.of(ArchiveAway) == []


@pytest.mark.long
def test_ten_thousand_objects_that_are_owed_after_a_day_all_go_in_order_and_once(
    device: Make, serve: Serve
) -> None:
    """The archive goes away once more in between."""
    port = free_port()
    box = device(pacs=port)
    uids = [f"1.{n}" for n in range(1, 10_001)]
    outgoing = box.settings.state / "outgoing"
    for uid in uids:
        written(outgoing / f"{uid}.dcm", uid)
    files = (File(pacs.PurePosixPath("outgoing", f"{uid}.dcm")) for uid in uids)
    box.journal.owed.add(
        pacs.Owed("pacs", uid, None, file) for uid, file in zip(uids, files, strict=True)
    )
    served = serve(box)
    until(lambda: served.deliverer._workers[0].away)
    with serving(port=port) as first:
        until(lambda: len(first.came) > 3000, 300.0)
    with serving(port=port) as second:
        until(lambda: not box.journal.owed.counts("pacs").waiting, 300.0)
    assert box.journal.owed.counts("pacs").delivered == len(uids)
    assert first.associations == second.associations == 1
    overlap = len(first.came) + len(second.came) - len(uids)
    assert overlap in (0, 1), "the one under way when it went away may come twice"
    assert first.uids + second.uids[overlap:] == uids
