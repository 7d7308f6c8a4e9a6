"""The files of the library of scanners: what is read of them, and which go first."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store import library
from appliance.store.library import Cursor, Entry, Library
from appliance.store.rows import AuditRow
from appliance.watching.alarm import Alarm, Cause, Statistic
from appliance.watching.row import Row
from appliance.watching.scanner import Scanner
from appliance.watching.told import Told, ToldRow

AT = datetime(2026, 11, 29, tzinfo=timezone.utc)
ALARM = Alarm(statistic=Statistic.NOISE, test="series", size=5.0, since=AT, cause=Cause.DOSE)


def entry(number: int = 1, *, turn: int = 1, former: str = "", **of_row: object) -> Entry:
    row = Row.model_validate({"key": Scanner(model=f"M{number}"), "since": AT, **of_row})
    name = f"{number:016x}"
    return Entry(id=name, scanner="c" * 16, former=former, turns=(turn,), row=row)


def act(number: int, row: object = f"{1:016x}") -> AuditRow:
    return AuditRow(number, 0.0, "ann", library.ACCEPT, {"row": row}, "", f"{number:064x}")


def test_an_entry_is_read_as_it_was_put_by_its_owner_alone(tmp_path: Path) -> None:
    held = Library(tmp_path)
    assert held.all().entries == ()
    assert not any(tmp_path.iterdir()), "looking makes nothing"
    put = entry().counted(entry(n=1).row, 7, b"a" * 8, b"b" * 8)
    held.put(put)
    (found,) = held.all().entries
    assert found == put
    path = tmp_path / library.FOLDER / put.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_mark_is_known_where_it_stands_and_nowhere_else() -> None:
    one = entry().counted(entry().row, 1, b"studyabc", b"inputabc")
    one = one.counted(one.row, 2, b"studyxyz", b"inputxyz")
    assert one.knows_study(b"studyabc")
    assert one.knows_input(b"inputxyz")
    assert not one.knows_study(b"inputabc")
    assert not one.knows_input(b"studyabc")
    assert not one.knows_study(b"dyabcinp"), "no mark stands there"


def test_an_entry_knows_the_last_studies_and_stays_small() -> None:
    one = entry()
    for number in range(library.KNOWN_MOST + 3):
        mark = number.to_bytes(8, "big")
        one = one.counted(one.row, number, mark, mark)
    assert not one.knows_study((2).to_bytes(8, "big"))
    assert one.knows_study((3).to_bytes(8, "big"))
    assert len(one.turns) == library.TURNS_MOST
    assert len(library.sealed(one)) < 50_000


def test_marks_that_are_cut_are_no_entry() -> None:
    cut = base64.b64encode(b"x" * 15).decode()
    with pytest.raises(ValueError, match="cut short"):
        Entry.model_validate({**entry().model_dump(by_alias=True), "known": cut})


def test_what_a_later_release_has_added_is_left_out() -> None:
    text = entry().model_dump_json(by_alias=True).replace('"id"', '"later": 1, "id"')
    data = hashlib.sha256(text.encode()).hexdigest().encode() + b"\n" + text.encode()
    assert library.unsealed(data, Entry) == entry()


def test_the_first_to_go_learn_then_are_former_then_have_learnt_then_alarm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "ROWS_MOST", 0)
    entries = [
        entry(1, turn=1, state="frozen", alarms=(ALARM,)),
        entry(2, turn=9, state="fixed"),
        entry(3, turn=2, state="fixed"),
        entry(4, turn=3, former="0" * 8, alarms=(ALARM,)),
        entry(5, turn=10),
        entry(6, turn=8),
    ]
    order = [int(one.id, 16) for one in library.over(entries)]
    assert order == [6, 5, 4, 3, 2, 1]
    monkeypatch.setattr(library, "ROWS_MOST", 4)
    assert [int(one.id, 16) for one in library.over(entries)] == [6, 5]


def test_of_acts_those_wait_that_came_after_the_last_that_was_heard() -> None:
    acts = [act(1), act(2, "f" * 16), act(3)]
    heard = entry().model_copy(update={"heard": acts[0].hash})
    assert library.pending(acts, entry()) == (acts[0], acts[2])
    assert library.pending(acts, heard) == (acts[2],)
    lost = entry().model_copy(update={"heard": "0" * 64})
    assert library.pending(acts[:1], lost) == (acts[0],), "of an audit that began anew"


def test_an_act_about_a_tuning_waits_until_an_answer_names_it() -> None:
    def of_tuning(number: int) -> AuditRow:
        detail: dict[str, object] = {"tuning": "d" * 64}
        return AuditRow(number, 0.0, "ann", library.WITHDRAW, detail, "", f"{number:064x}")

    def answer(number: int, of: object, action: str = library.OBEYED) -> AuditRow:
        return AuditRow(number, 0.0, "work", action, {"of": of}, "", f"{number:064x}")

    acts = [of_tuning(1), act(2), of_tuning(3), answer(4, ["odd"]), answer(5, None)]
    assert library.pending_of_tunings(acts) == (acts[0], acts[2])
    refused = answer(6, acts[0].hash, library.REFUSED)
    assert library.pending_of_tunings([*acts, refused]) == (acts[2],)
    assert library.pending_of_tunings([*acts, refused, answer(7, acts[2].hash)]) == ()
    assert library.answer_to([*acts, refused], acts[0].hash) == refused
    assert library.answer_to([*acts, refused], acts[2].hash) is None
    of_row = answer(8, acts[1].hash)
    of_row.detail["row"] = f"{1:016x}"
    assert library.pending([*acts, of_row], entry()) == (acts[1],), "an answer is no act"


def test_no_link_is_followed_and_what_is_not_ours_is_passed_over(tmp_path: Path) -> None:
    held, folder = Library(tmp_path / "state"), tmp_path / "state" / library.FOLDER
    held.put(entry())
    target = tmp_path / f"{2:016x}.row"
    target.write_bytes(library.sealed(entry(2)))
    (folder / target.name).symlink_to(target)
    (folder / "x.row").write_bytes(library.sealed(entry(3)))
    (folder / "note.txt").write_text("of somebody")
    listed = held.all()
    assert [one.id for one in listed.entries] == [entry().id]
    assert set(listed.unreadable) == {target.name, "x.row"}
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / library.FOLDER).symlink_to(folder)
    assert Library(linked).all().entries == ()
    with pytest.raises(StateUnusable):
        Library(linked).put(entry())


def test_what_is_too_large_is_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Library(tmp_path)
    held.put(entry())
    monkeypatch.setattr(library, "MOST_BYTES", 100)
    assert held.all().unreadable == (entry().name,)


def test_a_cursor_that_cannot_be_read_is_the_beginning(tmp_path: Path) -> None:
    held = Library(tmp_path)
    held.move_cursor("r1")
    assert held.cursor() == "r1"
    path = tmp_path / library.FOLDER / library.CURSOR
    path.write_bytes(library.sealed(Cursor(report_id="r1"))[:-3])
    assert held.cursor() is None
    held.move_cursor(None)
    assert not path.exists()


def test_what_may_leave_is_written_where_it_is_other_than_before(tmp_path: Path) -> None:
    said = Told(rows=(ToldRow(row="a" * 16, n=3),))
    Library(tmp_path).tell(said)
    path = tmp_path / library.WATCH
    before = path.stat().st_ino
    Library(tmp_path).tell(said)
    assert path.stat().st_ino == before
    assert library.told(tmp_path) == said
    assert library.told(tmp_path / "none") == Told()
