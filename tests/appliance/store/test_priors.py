"""Entries of earlier exams: kept, replaced, forgotten, merged, swept, also when the power goes."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import StateUnusable
from appliance.prior import packed
from appliance.store import priors
from appliance.store.files import Disk
from appliance.store.priors import Kept, Priors, Swept
from rigs.entries import named
from rigs.reports import NAMING

ANN, BOB, CAT, DAN = (NAMING.patient("", name) for name in ("a12", "b34", "c56", "d78"))
KEY, OTHER_KEY = "0123456789abcdef", "fedcba9876543210"
R1, R2, R3, R4 = (named(n) for n in range(1, 5))


def put(held: Priors, person: str, *reports: Any, size: int = 10) -> None:
    for report in reports:
        held.keep(person, report, b"x" * size, fingerprint=KEY)


def found(held: Priors) -> set[tuple[str, Any]]:
    return {(one.person, one.report_id) for one in held.all()}


def test_it_is_kept_found_and_read_again_by_its_owner_alone(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    assert (held.all(), held.size(), held.of_person(ANN)) == ((), 0, ())
    assert not (tmp_path / priors.FOLDER).exists(), "looking makes nothing"
    assert held.keep(ANN, R1, b"an entry", fingerprint=KEY) == 0
    (one,) = held.of_person(ANN)
    assert (one.person, one.report_id, one.size) == (ANN, R1, 8)
    assert held.read(one) == b"an entry"
    assert held.holds(ANN, R1)
    assert not held.holds(BOB, R1)
    path = tmp_path / priors.FOLDER / ANN / f"{R1}.entry"
    assert path.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in (path.parent, path.parent.parent)} == {
        0o700
    }


def test_an_entry_may_be_as_large_as_one_may_be() -> None:
    assert priors.MOST_BYTES == packed.MOST_BYTES


@pytest.mark.parametrize("person", ["", "../x", "A" * 64, ANN[:-1], ANN + "0", ANN + "\n"])
def test_what_is_no_key_becomes_no_path(tmp_path: Path, person: str) -> None:
    held = Priors(tmp_path)
    with pytest.raises(ValueError, match="key"):
        held.keep(person, R1, b"x", fingerprint=KEY)
    assert held.of_person(person) == ()
    assert held.forget(person) == ()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"x" * (priors.MOST_BYTES + 1)])
def test_what_cannot_be_an_entry_is_not_kept(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Priors(tmp_path).keep(ANN, R1, data, fingerprint=KEY)


def test_a_revision_takes_the_place_of_what_it_replaces_and_of_nothing_else(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1, R2)
    put(held, BOB, R3)
    held.keep(ANN, R4, b"new", fingerprint=KEY, replaces=[R1])
    assert found(held) == {(ANN, R2), (ANN, R4), (BOB, R3)}
    held.keep(ANN, R4, b"newer", fingerprint=KEY, replaces=[R4])
    assert [held.read(one) for one in held.of_person(ANN) if one.report_id == R4] == [b"newer"]


def test_a_report_whose_patient_was_corrected_is_one_persons_alone(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    put(held, BOB, R1)
    assert found(held) == {(BOB, R1)}
    assert not (tmp_path / priors.FOLDER / ANN).exists()


def test_a_withdrawal_takes_its_entry(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    assert held.withdraw([R1]) == 0
    put(held, ANN, R1, R2)
    assert held.withdraw([R1, R3]) == 1
    assert found(held) == {(ANN, R2)}


def test_a_forgotten_person_leaves_nothing(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1, R2)
    put(held, BOB, R3)
    assert held.forget(ANN) == tuple(sorted([R1, R2], key=str))
    assert held.forget(ANN) == ()
    assert found(held) == {(BOB, R3)}
    assert ANN not in os.listdir(tmp_path / priors.FOLDER)


def test_of_two_keys_of_one_person_one_is_made(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    put(held, BOB, R2)
    assert held.merge(ANN, BOB) == 1
    assert found(held) == {(BOB, R1), (BOB, R2)}
    assert held.merge(ANN, BOB) == 0
    assert held.merged() == {ANN: BOB}
    with pytest.raises(ValueError, match="two keys"):
        held.merge(BOB, BOB)


def test_who_has_no_entry_is_not_merged(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, BOB, R2)
    assert held.merge(ANN, BOB) == 0
    assert held.merged() == {}


def test_what_comes_later_under_a_merged_key_is_kept_under_the_other_one(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    held.merge(ANN, BOB)
    put(Priors(tmp_path), ANN, R2)
    assert found(held) == {(BOB, R1), (BOB, R2)}
    for key in (ANN, BOB):
        assert {one.report_id for one in held.of_person(key)} == {R1, R2}
        assert held.holds(key, R2)
    put(held, CAT, R3)
    held.merge(BOB, CAT)
    put(held, ANN, R4)
    assert {person for person, _ in found(held)} == {CAT}
    assert {one.report_id for one in held.of_person(ANN)} == {R1, R2, R3, R4}


def test_a_key_that_was_merged_takes_its_person_along_into_a_third(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    put(held, BOB, R2)
    held.merge(ANN, BOB)
    assert held.merge(ANN, CAT) == 2
    assert found(held) == {(CAT, R1), (CAT, R2)}
    assert held.merged() == {ANN: BOB, BOB: CAT}


def test_merged_the_wrong_way_round_it_can_be_turned(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    put(held, BOB, R2)
    held.merge(ANN, BOB)
    assert held.merge(BOB, ANN) == 2
    assert held.merged() == {BOB: ANN}
    assert found(held) == {(ANN, R1), (ANN, R2)}


@pytest.mark.parametrize("key", [ANN, BOB])
def test_to_forget_a_person_forgets_that_keys_were_merged(tmp_path: Path, key: str) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    put(held, CAT, R3)
    held.merge(ANN, BOB)
    held.merge(CAT, DAN)
    assert held.forget(key) == (R1,)
    assert held.merged() == {CAT: DAN}
    put(held, ANN, R2)
    assert found(held) == {(ANN, R2), (DAN, R3)}


@pytest.mark.parametrize("written", [b"", b"../../x", b"x" * 999])
def test_a_merge_that_cannot_be_read_is_none(tmp_path: Path, written: bytes) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    (tmp_path / priors.FOLDER / f"{ANN}{priors.INTO}").write_bytes(written)
    assert held.merged() == {}
    assert [one.report_id for one in held.of_person(ANN)] == [R1]


def test_merges_that_run_in_a_circle_hide_no_entry(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    put(held, BOB, R2)
    for key, into in ((ANN, BOB), (BOB, ANN)):
        (tmp_path / priors.FOLDER / f"{key}{priors.INTO}").write_text(into)
    for key in (ANN, BOB):
        assert held.of_person(key)
    assert held.forget(ANN) + held.forget(BOB) == (R1, R2)
    assert held.merged() == {}


def test_entries_of_another_site_key_all_go(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    assert held.of_key(KEY) == 0
    put(held, ANN, R1)
    put(held, BOB, R2)
    assert held.of_key(KEY) == 0
    held.merge(BOB, CAT)
    assert held.of_key(OTHER_KEY) == 2
    assert held.all() == ()
    assert held.merged() == {}
    put(held, ANN, R1)  # with the first key again
    assert held.keep(ANN, R2, b"x", fingerprint=OTHER_KEY) == 1
    assert found(held) == {(ANN, R2)}


def swept(held: Priors, ages: dict[Any, float], **more: Any) -> Swept:
    rules = {"most_s": 100.0, "most_bytes": 1e9, "short": lambda: False, **more}
    return held.sweep(lambda name: ages.get(name[:36], 0.0), **rules)


AGES = {str(R1): 10.0, str(R2): 30.0, str(R3): 20.0, str(R4): 101.0}


def test_a_key_that_cannot_be_read_is_no_other_key(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    key = tmp_path / priors.FOLDER / priors.KEY_FILE
    key.unlink()
    key.mkdir()  # to read it is an error, as it is of a bad sector
    with pytest.raises(StateUnusable):
        held.of_key(KEY)
    assert found(held) == {(ANN, R1)}


def test_what_is_old_goes(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    assert swept(held, AGES) == Swept()
    put(held, ANN, R1, R2, R3, R4)
    assert swept(held, AGES) == Swept(aged=1)
    assert found(held) == {(ANN, R1), (ANN, R2), (ANN, R3)}


def test_what_is_too_much_goes_the_longest_stored_first(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1, R2)
    put(held, BOB, R3)
    assert swept(held, AGES, most_bytes=20) == Swept(over=1)
    assert found(held) == {(ANN, R1), (BOB, R3)}


def test_while_too_little_is_free_the_longest_stored_goes(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1, R2)
    put(held, BOB, R3)
    said = iter([True, True, False])
    assert swept(held, AGES, short=lambda: next(said)) == Swept(short=2)
    assert found(held) == {(ANN, R1)}


def test_of_those_seen_as_long_the_first_written_goes(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1, R2)
    for report, written in ((R1, 2e9), (R2, 1e9)):
        os.utime(tmp_path / priors.FOLDER / ANN / f"{report}.entry", (written, written))
    assert swept(held, {}, most_bytes=10) == Swept(over=1)
    assert found(held) == {(ANN, R1)}


def test_what_a_power_cut_left_is_swept_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    put(held, ANN, R1)
    folder = tmp_path / priors.FOLDER
    (folder / ANN / f".{R2}.entry.0.tmp").write_bytes(b"half")
    (folder / BOB).mkdir()
    (folder / "notes.txt").write_text("a person's")
    (folder / ANN / "notes.txt").write_text("a person's")
    assert swept(held, {}) == Swept()
    assert sorted(os.listdir(folder / ANN)) == sorted([f"{R1}.entry", "notes.txt"])
    assert not (folder / BOB).exists()
    assert (folder / "notes.txt").exists()


def test_no_link_is_followed(tmp_path: Path) -> None:
    held = Priors(tmp_path / "state")
    put(held, ANN, R1)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / f"{R2}.entry").write_bytes(b"another's")
    folder = tmp_path / "state" / priors.FOLDER
    (folder / BOB).symlink_to(outside)
    (folder / ANN / f"{R3}.entry").symlink_to(outside / f"{R2}.entry")
    assert found(held) == {(ANN, R1)}
    assert held.read(Kept(ANN, R3, 9, 0.0)) is None
    assert held.read(Kept(BOB, R2, 9, 0.0)) is None
    with pytest.raises(StateUnusable, match="symbolic link"):
        put(held, BOB, R4)
    held.forget(BOB)
    assert (outside / f"{R2}.entry").read_bytes() == b"another's"
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    with pytest.raises(StateUnusable, match="symbolic link"):
        held.keep(ANN, R1, b"x", fingerprint=KEY)
    assert held.all() == ()


def test_two_that_change_it_at_once_do_one_after_the_other(tmp_path: Path) -> None:
    held = Priors(tmp_path)
    with held.held():
        late = threading.Thread(target=lambda: put(Priors(tmp_path), ANN, R1))
        late.start()
        late.join(0.2)
        assert held.all() == ()
    late.join(60)
    assert found(held) == {(ANN, R1)}


Act = Callable[[Priors], object]
ACTS: dict[str, tuple[Act, set[Any], set[Any]]] = {
    "keep": (
        lambda held: held.keep(ANN, R4, b"new", fingerprint=KEY),
        {(ANN, R1), (ANN, R2), (BOB, R3)},
        {(ANN, R1), (ANN, R2), (BOB, R3), (ANN, R4)},
    ),
    "replace": (
        lambda held: held.keep(ANN, R4, b"new", fingerprint=KEY, replaces=[R1]),
        {(ANN, R1), (ANN, R2), (BOB, R3)},
        {(ANN, R4), (ANN, R2), (BOB, R3)},
    ),
    "forget": (
        lambda held: held.forget(ANN),
        {(ANN, R1), (ANN, R2), (BOB, R3)},
        {(BOB, R3)},
    ),
    "merge": (
        lambda held: held.merge(ANN, BOB),
        {(ANN, R1), (ANN, R2), (BOB, R3)},
        {(BOB, R1), (BOB, R2), (BOB, R3)},
    ),
    "another key": (
        lambda held: held.of_key(OTHER_KEY),
        {(ANN, R1), (ANN, R2), (BOB, R3)},
        set(),
    ),
}


@pytest.mark.parametrize("names_lost", [False, True])
@pytest.mark.parametrize("act", ACTS)
def test_a_power_cut_at_any_step_loses_no_exam_and_doing_it_again_ends_it(
    tmp_path: Path,
    cut_disk: Callable[..., Disk],
    power_cut: type[Exception],
    act: str,
    names_lost: bool,
) -> None:
    do, before, after = ACTS[act]
    start = tmp_path / "start"
    put(Priors(start), ANN, R1, R2)
    put(Priors(start), BOB, R3)
    assert found(Priors(start)) == before
    for step in range(40):
        state = tmp_path / f"{step}"
        shutil.copytree(start, state)
        try:
            do(Priors(state, cut_disk(state, step, names_lost=names_lost)))
            ended = True
        except power_cut:
            ended = False
        left = found(Priors(state))
        if act in {"keep", "replace", "merge"}:
            assert {one for _, one in left} >= {one for _, one in before & after} | (
                {one for _, one in after} if ended else set()
            )
            assert R1 in {one for _, one in left} or R4 in {one for _, one in left}
        assert left <= before | after
        assert all(Priors(state).read(one) in {b"x" * 10, b"new"} for one in Priors(state).all())
        if act == "merge":  # by one of both, every exam is found, wherever the power went
            own = [{one.report_id for one in Priors(state).of_person(key)} for key in (ANN, BOB)]
            assert own[0] in ({R1, R2}, {R1, R2, R3})
            assert own[0] | own[1] == {R1, R2, R3}
        if ended:
            assert left == after
            break
        do(Priors(state))
        assert found(Priors(state)) == after
        swept(Priors(state), {})
        rest = [p.name for p in (state / priors.FOLDER).rglob("*") if p.name.endswith(".tmp")]
        assert rest == []
    assert ended
    assert step > 2
