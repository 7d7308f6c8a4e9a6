"""What is counted into the library of scanners, once, in order, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from appliance.naming import MAKER
from appliance.quality import library as rows
from appliance.reasons import Code
from appliance.results.mqtt import MQTT, Envelope
from appliance.store import library
from appliance.store.events import NewProtocol
from appliance.store.journal import JOURNAL_NAME, Journal
from appliance.store.library import ACCEPT, ACKNOWLEDGE, FOLDER, Library
from appliance.watching.quality import SeriesQuality
from appliance.watching.row import Prior, Row
from appliance.watching.scanner import UNKNOWN, Scanner
from appliance.work.watching import Watching
from rigs.cuts import Counted, Cut, Full, PowerCut
from rigs.watched import OTHER, SCANNER, SHARP, Watched, a_quality, settle, usual, watched


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as made:
        yield made


def test_each_study_of_a_scanner_is_counted_once_in_the_order_of_the_journal(
    device: Watched,
) -> None:
    for number in range(5):
        device.reported(number, a_quality(10.0 + number))
    device.count()
    device.count()
    (entry,) = device.listed().today
    assert (entry.row.n, entry.row.key) == (5, SCANNER)
    noise = [seen.measured[0].noise_hu for seen in entry.row.recent]  # type: ignore[union-attr]
    assert noise == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert entry.turns == (1, 2, 3, 4, 5)


def test_the_series_of_a_study_count_once_a_key(device: Watched) -> None:
    for number in range(6):
        measured = a_quality(20.0, SHARP if number % 2 else SCANNER)
        device.reported(number, measured, study="1.2.7")
    device.count()
    assert device.counts() == {"B40f": 1, "B70f": 1}


def test_what_was_counted_is_not_counted_again_under_another_study(device: Watched) -> None:
    device.reported(1, images="the same")
    device.reported(2, images="the same")
    device.count()
    device.reported(3, a_quality(20.0, SHARP), images="the same")
    device.count()
    assert device.counts() == {"B40f": 1}


def test_a_revision_of_a_series_counts_no_more(device: Watched) -> None:
    device.reported(1, images="a part")
    device.reported(1, images="all")
    device.count()
    assert device.counts() == {"B40f": 1}


def test_what_was_refused_counts_and_what_is_no_exam_of_today_does_not(device: Watched) -> None:
    device.reported(1, refused=Code.GAP_TOO_WIDE)
    device.reported(2, silent=True)
    device.reported(3, refused=Code.OWN_RESULT)
    device.reported(4, a_quality(20.0, SCANNER.model_copy(update={"maker": MAKER.lower()})))
    device.reported(5, measures=False)
    device.count()
    (entry,) = device.listed().today
    assert (entry.row.key, entry.row.n) == (SCANNER, 1)
    assert Library(device.state).cursor() is not None


def test_two_scanners_are_two_rows_whoever_they_say_they_are(device: Watched) -> None:
    """The AE title is no part of the key."""
    for number in range(4):
        device.reported(number, a_quality(20.0, OTHER if number % 2 else SCANNER))
    device.count()
    assert device.counts() == {"B40f": 2}
    assert {entry.row.key.model for entry in device.listed().today} == {"Definition", "LightSpeed"}
    assert len({entry.scanner for entry in device.listed().today}) == 2


def test_a_clock_that_went_back_changes_no_order(tmp_path: Path) -> None:
    now = itertools.count(2_000_000_000, -86_400)
    with watched(tmp_path) as made, Journal.open(tmp_path, clock=lambda: float(next(now))) as back:
        device = Watched(made.settings, back)
        for number in range(4):
            device.reported(number, a_quality(10.0 + number))
            device.count()
        (entry,) = device.listed().today
        noise = [seen.measured[0].noise_hu for seen in entry.row.recent]  # type: ignore[union-attr]
        assert noise == [10.0, 11.0, 12.0, 13.0]
        assert entry.row.recent[0].at > entry.row.recent[-1].at


def test_the_alarm_of_a_scanner_is_told_without_a_word_of_a_header(device: Watched) -> None:
    entry = device.alarmed()
    (told,) = library.told(device.state).rows
    assert (told.row, told.n) == (entry.id, 31)
    assert [alarm.statistic.value for alarm in told.alarms] == ["noise"]
    assert 19.0 < told.spread[told.alarms[0].statistic].p50 < 21.0
    said = (device.state / library.WATCH).read_text()
    for part in ("siemens", "Definition", "B40f", SCANNER.serial):
        assert part not in said


def test_no_figure_of_few_studies_is_told(device: Watched) -> None:
    device.learnt(19)
    assert [one.spread for one in library.told(device.state).rows] == [{}]


def test_a_kernel_that_a_known_scanner_never_had_is_told_once(device: Watched) -> None:
    device.reported(1)
    device.reported(
        2, a_quality(20.0, SHARP), study="1.2.1"
    )  # the first study is all that is known
    device.count()
    assert device.journal.events.of(NewProtocol) == []
    bone = SCANNER.model_copy(update={"kernel": "B80f"})
    for number in (3, 4):
        device.reported(number, a_quality(20.0, bone))
        device.count()
    (happened,) = device.journal.events.of(NewProtocol)
    (row,) = [one for one in device.listed().today if one.row.key == bone]
    assert (happened.event.subject, happened.event.scanner) == (row.id, row.scanner)
    (owed,) = device.journal.owed.waiting(MQTT, 10)
    envelope = Envelope.stored(owed.body or b"")
    assert envelope.topic == "scanner/event"
    assert row.id in envelope.payload
    for part in ("siemens", "B80f", SCANNER.serial, "1.2.", "1.3."):
        assert part not in envelope.payload


def test_a_scanner_that_says_nothing_of_itself_is_not_known(device: Watched) -> None:
    for number, kernel in enumerate(["A", "B", UNKNOWN]):
        device.reported(number, a_quality(20.0, Scanner(modality="CT", kernel=kernel)))
    device.count()
    assert len(device.counts()) == 3
    assert device.journal.events.of(NewProtocol) == []


def test_a_usual_protocol_that_stops_coming_is_named(device: Watched) -> None:
    device.learnt(30)
    device.learnt(29, SHARP)
    assert library.stopped(device.listed().entries) == ()
    device.reported(99, a_quality(20.0, SHARP))
    device.count()
    (gone,) = library.stopped(device.listed().entries)
    assert gone.row.key == SCANNER
    device.reported(100)
    device.count()
    assert library.stopped(device.listed().entries) == ()


def test_two_protocols_that_alternate_are_both_there(device: Watched) -> None:
    device.learnt(30)
    device.learnt(30, SHARP)
    for number in range(8):
        device.reported(number, a_quality(usual(number), SHARP if number % 2 else SCANNER))
    device.count()
    assert device.counts() == {"B40f": 34, "B70f": 34}
    assert not any(entry.row.alarms for entry in device.listed().today)
    assert library.stopped(device.listed().entries) == ()


# What a person decides.


def test_an_alarm_that_was_acknowledged_is_open_no_more(device: Watched) -> None:
    entry = device.alarmed()
    device.journal.audit.add("ann@cli", ACKNOWLEDGE, row=entry.id)
    device.count()
    (after,) = device.listed().today
    assert after.row.alarms == ()
    assert len(after.row.past) == 1
    assert after.row.acknowledged is not None
    assert library.told(device.state).rows[0].alarms == ()


def test_a_change_that_was_accepted_begins_a_new_row_and_keeps_the_old(device: Watched) -> None:
    entry = device.alarmed()
    device.journal.audit.add("ann@cli", ACCEPT, row=entry.id)
    device.count()
    (today,) = device.listed().today
    (former,) = [one for one in device.listed().entries if one.former]
    assert (today.row.n, today.row.state, today.row.since) == (
        1,
        "learning",
        entry.row.alarms[0].since,
    )
    assert (former.row.n, former.row.until is not None) == (31, True)
    assert [one.row for one in library.told(device.state).rows] == [entry.id]
    device.reported(20_001, a_quality(60.0), study="1.2.20000")
    device.count()
    assert device.counts() == {"B40f": 1}, "the study was counted before"


def test_an_act_is_obeyed_once(device: Watched) -> None:
    entry = device.alarmed()
    for _ in range(2):
        device.journal.audit.add("ann@cli", ACKNOWLEDGE, row=entry.id)
        device.count()
    device.reported(20_001, a_quality(70.0))
    device.count()
    device.count()
    (after,) = device.listed().today
    assert after.row.alarms, "what came after it is not acknowledged by it"


def test_an_act_about_another_row_or_none_changes_nothing(device: Watched) -> None:
    entry = device.alarmed()
    for detail in ({"row": "f" * 16}, {}, {"row": 3}):
        device.journal.audit.add("ann@cli", ACKNOWLEDGE, **detail)
    device.count()
    (after,) = device.listed().today
    assert after.row == entry.row


# What goes wrong.


def _damage(device: Watched, data: bytes) -> str:
    (entry,) = device.listed().today
    (device.state / FOLDER / entry.name).write_bytes(data)
    return entry.name


@pytest.mark.parametrize("how", ["cut", "changed", "empty", "hostile", "older", "renamed"])
def test_a_file_that_cannot_be_read_is_set_aside_and_learnt_anew(device: Watched, how: str) -> None:
    for number in range(3):
        device.reported(number)
        device.reported(number + 100, a_quality(20.0, OTHER))
    device.count()
    entry = next(one for one in device.listed().today if one.row.key == SCANNER)
    path = device.state / FOLDER / entry.name
    whole = path.read_bytes()
    older = library.sealed(entry).replace(b"scanside.library/1", b"scanside.library/0")
    damaged = {
        "cut": whole[: len(whole) // 2],
        "changed": whole.replace(b'"n":3', b'"n":4'),
        "empty": b"",
        "hostile": b"[" * 100_000,
        "older": hashlib.sha256(older[65:]).hexdigest().encode() + b"\n" + older[65:],
        "renamed": library.sealed(entry.model_copy(update={"id": "f" * 16})),
    }[how]
    assert damaged != whole
    path.write_bytes(damaged)
    device.count()
    listed = device.listed()
    assert listed.damaged == (f"000001-{entry.name}.damaged",)
    assert (path.parent / listed.damaged[0]).read_bytes() == damaged
    counts = {one.row.key.model: one.row.n for one in listed.today}
    assert counts == {"Definition": 3, "LightSpeed": 3}, "of what is still here, nothing twice"
    (said,) = device.journal.audit.of((library.DAMAGED,))
    assert said.detail == {"file": entry.name}


def test_only_so_many_files_that_were_set_aside_are_kept(device: Watched) -> None:
    device.reported(1)
    device.count()
    for number in range(library.DAMAGED_MOST + 3):
        _damage(device, b"x%d" % number)
        device.count()
    found = device.listed().damaged
    assert len(found) == library.DAMAGED_MOST
    assert found[-1].startswith(f"{library.DAMAGED_MOST + 3:06d}-")


@pytest.mark.parametrize("gone", ["cursor", FOLDER])
def test_a_library_that_is_gone_is_made_again_from_the_journal(device: Watched, gone: str) -> None:
    for number in range(5):
        device.reported(number)
    device.count()
    before = device.listed().today
    path = device.state / FOLDER
    if gone == FOLDER:
        shutil.rmtree(path)
    else:
        (path / gone).unlink()
    device.count()
    assert device.listed().today == before


def test_the_library_is_whole_after_a_journal_that_was_damaged(tmp_path: Path) -> None:
    with watched(tmp_path) as device:
        device.alarmed()
        before = device.listed().today
        device.journal.tidy(tmp_path)
    data = bytearray((tmp_path / JOURNAL_NAME).read_bytes())
    data[5000:9000] = b"\xff" * 4000
    (tmp_path / JOURNAL_NAME).write_bytes(data)
    (tmp_path / f"{JOURNAL_NAME}.users").unlink(missing_ok=True)
    with watched(tmp_path) as device:
        assert device.journal.audit.of(("journal_damaged",))
        device.count()
        assert device.listed().today == before
        device.reported(30_000)
        device.count()
        (after,) = device.listed().today
        assert after.row.n == before[0].row.n + 1
        device.journal.audit.add("ann@cli", ACKNOWLEDGE, row=after.id)
        device.count()
        assert device.listed().today[0].row.alarms == (), "of a new audit the acts are new"


def test_a_report_that_is_gone_with_all_before_it_loses_nobody(device: Watched) -> None:
    """`retain` deletes rows of reports, and SQLite gives their numbers again."""
    for number in range(3):
        device.reported(number)
    device.count()
    for row in device.journal.series.all():
        assert device.journal.forget(row)
    for number in range(3, 5):
        device.reported(number)
    device.count()
    assert device.counts() == {"B40f": 5}


def _three(device: Watched) -> None:
    for number in range(3):
        device.reported(number, a_quality(20.0, SHARP if number == 2 else SCANNER))


def _cut(device: Watched, at: int | None) -> int:
    """Count until the power goes before this step; how many steps were done."""
    disk = Cut(at)
    with contextlib.suppress(PowerCut):
        settle(Watching(device.settings, device.journal, disk))
    return disk.steps


def test_a_power_cut_at_any_step_loses_no_study_and_counts_none_twice(tmp_path: Path) -> None:
    made, whole = tmp_path / "made", tmp_path / "whole"
    made.mkdir()
    with watched(made) as device:
        _three(device)
    shutil.copytree(made, whole)
    with watched(whole) as device:
        steps = _cut(device, None)
    assert steps > 10
    for at in range(steps):
        folder = tmp_path / f"cut-{at}"
        shutil.copytree(made, folder)
        with watched(folder) as device:
            assert _cut(device, at) == at
            device.count()
            assert device.counts() == {"B40f": 2, "B70f": 1}, at
            assert len(device.journal.events.of(NewProtocol)) == 1
            assert len(device.journal.owed.waiting(MQTT, 10)) == 1
        names = [path.name for path in (folder / FOLDER).iterdir()]
        assert not any(name.endswith(".tmp") for name in names)
        assert len(library.told(folder).rows) == 2


def test_a_power_cut_while_a_person_is_obeyed_is_made_good(tmp_path: Path) -> None:
    made, whole = tmp_path / "made", tmp_path / "whole"
    made.mkdir()
    with watched(made) as device:
        entry = device.alarmed()
        device.journal.audit.add("ann@cli", ACCEPT, row=entry.id)
    shutil.copytree(made, whole)
    with watched(whole) as device:
        steps = _cut(device, None)
        expected = device.listed().entries
    assert [bool(one.former) for one in expected] == [False, True]
    assert steps > 5
    for at in range(steps):
        folder = tmp_path / f"cut-{at}"
        shutil.copytree(made, folder)
        with watched(folder) as device:
            assert _cut(device, at) == at
            device.count()
            assert device.listed().entries == expected, at


def test_a_power_cut_while_a_damaged_file_is_set_aside_is_made_good(tmp_path: Path) -> None:
    made, whole = tmp_path / "made", tmp_path / "whole"
    with watched(made) as device:
        device.reported(1)
        device.reported(2)
        device.count()
        _damage(device, b"x")
    shutil.copytree(made, whole)
    with watched(whole) as device:
        steps = _cut(device, None)
    for at in range(steps):
        folder = tmp_path / f"cut-{at}"
        shutil.copytree(made, folder)
        with watched(folder) as device:
            assert _cut(device, at) == at
            device.count()
            assert device.counts() == {"B40f": 2}, at
            assert len(device.listed().damaged) == 1


def test_a_full_disk_stops_nothing_and_loses_nothing(
    device: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.work.watching.RETRY_S", 0.01)
    for number in range(3):
        device.reported(number)
    disk = Full()
    watching = Watching(device.settings, device.journal, disk)
    for _ in range(20):
        watching.turn()
    assert device.listed().entries == ()
    assert 0 <= watching.wait_s() <= 0.01
    disk.full = False
    while watching.wait_s() < 1:
        watching.turn()
    assert device.counts() == {"B40f": 3}


def test_a_report_that_cannot_be_counted_keeps_no_other_back(
    device: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        device.reported(number, a_quality(10.0 + number))
    counted = rows.counted

    def breaks(row: Row, measured: SeriesQuality, at: datetime, prior: Prior) -> rows.Counted:
        if measured == a_quality(11.0):
            raise ZeroDivisionError
        return counted(row, measured, at, prior)

    monkeypatch.setattr(rows, "counted", breaks)
    device.count()
    assert device.counts() == {"B40f": 2}
    assert "cannot be counted" in caplog.text


def test_there_are_never_more_rows_than_may_be_and_what_has_learnt_stays(
    device: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "ROWS_MOST", 5)
    device.learnt(30)
    for number in range(10):
        odd = OTHER.model_copy(update={"kernel": f"K{number}"})
        device.reported(number, a_quality(20.0, odd))
    device.count()
    assert set(device.counts()) == {"B40f", "K6", "K7", "K8", "K9"}


def test_a_library_that_knows_all_is_read_and_not_written(device: Watched) -> None:
    device.learnt(3)
    disk = Counted()
    settle(Watching(device.settings, device.journal, disk))
    assert disk.did["put"] == 0


def test_a_turn_counts_one_study_at_most(device: Watched) -> None:
    """A slice that comes meanwhile waits for one."""
    for number in range(4):
        device.reported(number)
    watching, before = Watching(device.settings, device.journal), 0
    while watching.wait_s() == 0:
        watching.turn()
        now = sum(device.counts().values())
        assert now - before <= 1
        before = now
    assert before == 4
