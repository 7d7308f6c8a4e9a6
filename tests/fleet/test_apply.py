"""A box applies releases, and meets what can go wrong: each scenario as it would happen, from a
repository made by compile.release to the links and the units."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from appliance.apply import guarding
from appliance.apply.course import Turn
from appliance.apply.interlock import Seen
from appliance.release import blobs as packed
from appliance.release.record import Recalled, Release
from appliance.store.files import Disk
from appliance.update.plan import Named
from appliance.update.states import State
from appliance.update.why import Why
from compile.release import contents
from rigs.applied import FIRST, STAGES, Applied
from rigs.bundles import signed
from rigs.cuts import Cut, Full, PowerCut
from rigs.releasing import Simulated


@pytest.fixture
def repo() -> Simulated:
    """With one release of a new appliance in stable."""
    made = Simulated.begun()
    made.ship()
    return made


@pytest.fixture
def box(repo: Simulated, tmp_path: Path) -> Applied:
    return Applied(tmp_path / "box", repo)


def shipped(repo: Simulated, data: bytes, version: str = "0.2.0") -> Release:
    """A release with this bundle, published."""
    made = repo.add(repo.release(version=version, bundles=(data,)))
    repo.sign("stable")
    repo.publish()
    return made


def runs(box: Applied, slot: int) -> bool:
    return box.slots.current() == slot and box.units.running() == {(s, slot) for s in STAGES}


def trial(box: Applied) -> None:
    """The release is on trial in slot 2, and the new process of `apply` has begun."""
    assert box.offer(box.course()) is Turn.END, box.steps()
    assert box.state is State.TRIAL
    assert runs(box, 2)


# ---- the way that it should go


def test_a_good_release_is_fetched_built_proved_switched_and_confirmed(box: Applied) -> None:
    trial(box)
    assert [slot for slot, _ in box.slots.built] == [2]
    assert box.places.environment(2).read_text() == "SCANSIDE_TRIAL=1\n"
    assert (
        "slot=2\nprevious=1\nstages=publish work receive retain\n" in box.places.trial.read_text()
    )
    receive = [one for one in box.units.told if one[1] == "receive"]
    assert receive == [("start", "receive", 2), ("stop", "receive", 1)], "nobody is refused"
    new = box.course()
    assert box.turns(new) is Turn.WAIT
    assert box.migrated == []
    box.seen = Seen(mark="m", analysed=frozenset(f"0.2.0 {n}" for n in range(3)))
    box.turns(new)
    assert box.state is State.CONFIRMED
    assert box.migrated == [2]
    assert not box.places.trial.exists()
    assert not box.places.environment(2).exists()
    assert box.notes.done().highest == 1
    assert new.planned.why[0].code is Why.NOTHING_NEWER
    assert [text for text, _ in box.audit if text == "update"]


def test_guard_outside_of_the_slots_follows_a_release_once_it_is_confirmed_and_never_before(
    box: Applied,
) -> None:
    box.places.guard.mkdir()
    outside = box.places.guard / "guard.sh"
    outside.write_text("echo the one before\n")
    trial(box)
    new = box.course()
    box.turns(new)
    assert outside.read_text() == "echo the one before\n"
    box.seen = Seen(mark="m", analysed=frozenset(f"0.2.0 {n}" for n in range(3)))
    box.turns(new)
    assert box.state is State.CONFIRMED
    assert guarding.differ(box.places) == ()
    assert outside.stat().st_mode & 0o777 == 0o755


def test_without_room_for_another_slot_nothing_is_fetched_and_disk_is_said(
    repo: Simulated, tmp_path: Path
) -> None:
    class Small(Disk):
        room = 1.0

        def free_mb(self, path: Path) -> float:
            return self.room

    disk = Small()
    box = Applied(tmp_path / "box", repo, disk=disk)
    (box.places.slot(1) / "library").write_bytes(bytes(2_000_000))
    course = box.course()
    assert box.offer(course) is Turn.WAIT
    assert [one.code for one in course.planned.why] == [Why.DISK]
    assert box.state is None
    assert not list((box.places.downloads / "blobs").glob("*"))
    disk.room = 500.0
    assert box.offer(box.course()) is Turn.END


def test_half_an_hour_without_a_study_confirms_it_also_with_the_broker_away(box: Applied) -> None:
    trial(box)
    new = box.course()
    box.turns(new)
    box.tick += 1799
    box.turns(new)
    assert box.state is State.TRIAL
    box.tick += 2
    box.turns(new)
    assert box.state is State.CONFIRMED


def test_a_stage_that_is_down_meanwhile_lets_the_half_hour_begin_again(box: Applied) -> None:
    trial(box)
    new = box.course()
    box.turns(new)
    box.tick += 1000
    box.ill = ("work",)
    box.turns(new)
    box.ill = ()
    box.turns(new)
    box.tick += 1000
    box.turns(new)
    assert box.state is State.TRIAL


def test_studies_of_an_earlier_try_do_not_count(box: Applied) -> None:
    box.seen = Seen(mark="m", analysed=frozenset(f"0.2.0 {n}" for n in range(3)))
    trial(box)
    new = box.course()
    box.turns(new)
    assert box.state is State.TRIAL


def test_a_bundle_alone_needs_no_idle_box_and_restarts_nothing(
    repo: Simulated, box: Applied, tiny_bytes: bytes
) -> None:
    own = repo.release(version="0.2.0").appliance.wheel
    box.slots.put(1, "stable/0.json", Named(name="scanside", version="0.2.0", digest=own.digest))
    (one,) = shipped(repo, signed(tiny_bytes)).bundles
    box.seen = Seen(associations=1, followed=1, mark="busy")
    assert box.offer(box.course()) is Turn.WAIT
    assert box.state is State.CONFIRMED, box.steps()
    assert box.shelf.active() == (Named(name=one.name, version=one.version, digest=one.digest),)
    assert box.units.told == []
    assert box.proved == [(1, (f"{one.name}-{one.version}.scanside",))]


def test_the_bundles_of_a_new_appliance_come_onto_the_shelf_by_the_new_one(
    repo: Simulated, box: Applied, tiny_bytes: bytes
) -> None:
    shipped(repo, signed(tiny_bytes))
    trial(box)
    assert box.shelf.active() == ()
    assert box.proved == [(2, ("tiny-nodule-1.0.0.scanside",))]
    box.turns(box.course())
    assert len(box.shelf.active()) == 1


# ---- what is offered is damaged


def test_a_file_that_is_exchanged_after_the_check_is_never_met(
    repo: Simulated, box: Applied
) -> None:
    """Between two turns everything in the folder of downloads is exchanged."""
    course = box.course()
    course.turn()
    box.fetch()
    while box.state is not State.BUILDING:
        assert course.turn() is Turn.ON
    for path in (box.places.downloads / "blobs").iterdir():
        path.write_bytes(b"evil" * 100)
    assert box.turns(course) is Turn.END
    assert box.state is State.TRIAL


def test_a_blob_that_was_exchanged_before_the_check_refuses_the_release(box: Applied) -> None:
    course = box.course()
    course.turn()
    box.fetch()
    for path in (box.places.downloads / "blobs").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert box.turns(course) is Turn.WAIT
    assert box.state is State.REFUSED
    assert "blob_" in box.text
    assert runs(box, 1)
    assert box.turns(box.course()) is Turn.WAIT, "and it is not tried again by itself"
    assert box.state is State.REFUSED


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_in_the_place_of_a_blob_or_of_its_folder_is_not_followed(
    box: Applied, tmp_path: Path, folder: bool
) -> None:
    course = box.course()
    course.turn()
    box.fetch()
    blobs = box.places.downloads / "blobs"
    if folder:
        blobs.rename(tmp_path / "elsewhere")
        blobs.symlink_to(tmp_path / "elsewhere")
    else:
        for path in list(blobs.iterdir()):
            path.rename(tmp_path / path.name)
            path.symlink_to(tmp_path / path.name)
    assert box.turns(course) is Turn.WAIT
    assert box.state is State.FETCHING
    assert "link" in course.trouble
    assert not list((box.places.trusted / "copy").glob("*.zst"))


def test_a_truncated_blob_is_waited_for_and_asked_for_again(box: Applied) -> None:
    course = box.course()
    course.turn()
    box.fetch()
    asked = box.notes.wishes().asked
    kept = {}
    for path in (box.places.downloads / "blobs").iterdir():
        kept[path] = path.read_bytes()
        path.write_bytes(kept[path][:-10])
    assert box.turns(course) is Turn.WAIT
    assert (box.state, box.notes.wishes().asked) == (State.FETCHING, asked + 1)
    for path, data in kept.items():
        path.write_bytes(data)
    assert box.turns(course) is Turn.END
    assert runs(box, 2)


def test_a_source_archive_in_the_place_of_a_wheel_is_refused_by_its_name(
    repo: Simulated, box: Applied
) -> None:
    """Whoever may sign a release lists NAME.tar.gz among the wheels."""
    release = repo.release(version="0.3.0")
    device = release.devices[0]
    lock = json.loads(packed.unpack(device.lock, repo.files[device.lock.path]))
    lock["wheels"][0]["name"] = "liba-1.0.0.tar.gz"
    store = contents.Store(repo.files.get)
    bad = store.add(json.dumps(lock).encode())
    repo.files |= store.new
    made = device.model_copy(update={"lock": bad})
    repo.add(release.model_copy(update={"devices": (made,)}))
    repo.sign("stable")
    repo.publish()
    course = box.course()
    box.notes.know(highest=1)
    course.notes.wish(now=True, source=str(box.stick()))
    box.turns(course)
    assert box.state is State.REFUSED
    assert "release_record" in box.text
    assert box.slots.built == []


def test_a_full_disk_waits_and_changes_nothing(repo: Simulated, tmp_path: Path) -> None:
    disk = Full(full=False, room=1000)
    box = Applied(tmp_path / "box", repo, disk=disk)
    course = box.course()
    course.turn()
    box.fetch()
    disk.full = True
    assert box.turns(course) is Turn.WAIT
    assert "No space left" in course.trouble
    assert box.state in (None, State.FETCHING)
    assert runs(box, 1)
    disk.full = False
    assert box.turns(course) is Turn.END
    assert runs(box, 2)


def test_a_stick_that_is_pulled_out_while_it_is_copied_goes_on_when_it_is_back(
    box: Applied, tmp_path: Path
) -> None:
    stick = box.stick()
    course = box.course()
    course.notes.wish(now=True, source=str(stick))
    assert course.turn() is Turn.ON
    stick.rename(tmp_path / "away")
    assert box.turns(course) is Turn.WAIT
    assert "stick_gone" in course.trouble
    assert box.state is State.FETCHING
    (tmp_path / "away").rename(stick)
    assert box.turns(course) is Turn.END
    assert runs(box, 2)


def test_golden_cases_or_a_phantom_that_do_not_fit_refuse_it_and_the_old_one_runs_on(
    repo: Simulated, box: Applied, tiny_bytes: bytes
) -> None:
    shipped(repo, signed(tiny_bytes))
    box.unproved = "lung-tiny: phantom: 2 findings, 3 were recorded"
    course = box.course()
    assert box.offer(course) is Turn.WAIT
    assert box.state is State.REFUSED
    assert "3 were recorded" in box.text
    assert runs(box, 1)
    assert box.shelf.active() == ()


# ---- the power


def lived(box: Applied) -> None:
    """To the end of the release, over the end of each process of `apply`."""
    for _ in range(60):
        course = box.course()
        made = course.turn()
        if box.state is State.CONFIRMED:
            return
        if made is Turn.WAIT and box.state is State.TRIAL:
            box.seen = Seen(mark="m", analysed=frozenset(f"0.2.0 {n}" for n in range(3)))
    raise AssertionError(f"no end: {box.steps()} {course.trouble}")


def cut_at(repo: Simulated, home: Path, at: int) -> tuple[Applied, bool]:
    """A box that lost its power at this step, if there was one."""
    disk = Cut(None, ("put", "rename", "unlink"))
    box = Applied(home, repo, disk=disk)
    box.course().turn()
    box.fetch()
    disk.steps, disk.at = 0, at
    cut = False
    try:
        lived(box)
    except PowerCut:
        cut = True
    disk.at = None
    return box, cut


def cut_everywhere(repo: Simulated, folder: Path, every: int) -> int:
    """Cuts at each of these steps, to the same end; how many there are."""
    at, was_cut = 0, True
    while was_cut:
        box, was_cut = cut_at(repo, folder / str(at), at)
        lived(box)
        assert runs(box, 2), at
        assert box.slots.previous() == 1
        assert box.notes.done().highest == 1
        assert not box.places.trial.exists()
        assert not box.places.environment(2).exists()
        shutil.rmtree(folder / str(at))
        at += every
    return at


def test_after_a_power_cut_another_process_comes_to_the_same_end(
    repo: Simulated, tmp_path: Path
) -> None:
    assert cut_everywhere(repo, tmp_path, every=9) > 50


@pytest.mark.long
def test_after_a_power_cut_at_any_write_another_process_comes_to_the_same_end(
    repo: Simulated, tmp_path: Path
) -> None:
    assert cut_everywhere(repo, tmp_path, every=1) > 50


# ---- when it may be


def test_a_hold_stops_it_wherever_it_is_and_release_lets_it_go_on(box: Applied) -> None:
    box.notes.hold("anna@cli")
    course = box.course()
    assert box.offer(course) is Turn.WAIT
    assert course.planned.why[-1].code is Why.HELD
    assert box.state is None
    box.notes.hold(None)
    assert box.offer(course) is Turn.END
    box.notes.hold("anna@cli")
    assert box.turns(box.course()) is Turn.WAIT
    assert box.state is State.TRIAL, "a trial that runs is not changed by it"


def test_outside_the_window_it_is_ready_and_waits(repo: Simulated, tmp_path: Path) -> None:
    box = Applied(tmp_path / "box", repo, update={"window": "22:00-05:00"})
    noon = datetime(2026, 7, 1, 12, 0).astimezone()
    box.local = noon + timedelta(days=(repo.now - noon.astimezone(timezone.utc)).days)
    assert box.offer(box.course()) is Turn.WAIT
    assert box.state is State.READY
    found = box.steps()
    assert found is not None
    assert [one.code for one in found.why] == [Why.WINDOW]
    box.local += timedelta(hours=11)
    assert box.turns(box.course()) is Turn.END


def test_while_a_study_is_under_way_it_waits_and_then_for_a_minute_of_quiet(box: Applied) -> None:
    box.seen = Seen(followed=1, mark="a")
    course = box.course()
    assert box.offer(course) is Turn.WAIT
    assert box.state is State.READY
    box.seen = Seen(mark="b")
    assert box.turns(course) is Turn.WAIT
    box.tick += 59
    assert box.turns(course) is Turn.WAIT
    box.tick += 2
    assert box.turns(course) is Turn.END


def test_by_hand_it_needs_no_quiet_and_no_window_but_a_moment_between_two_series(
    repo: Simulated, tmp_path: Path
) -> None:
    box = Applied(tmp_path / "box", repo, update={"window": "22:00-22:01", "auto": []})
    course = box.course(quiet_s=0)
    assert box.offer(course) is Turn.WAIT
    assert course.planned.why[0].code is Why.NOT_AUTOMATIC
    box.seen = Seen(associations=1, mark="c")
    course.notes.wish(now=True, asked=1)
    assert box.offer(course) is Turn.WAIT
    assert box.state is State.READY
    box.seen = Seen(mark="d")
    assert box.turns(course) is Turn.END
    assert not box.notes.wishes().now


def test_a_journal_that_cannot_be_read_is_no_idle_box(box: Applied) -> None:
    box.seen = Seen(known=False)
    assert box.offer(box.course()) is Turn.WAIT
    assert box.state is State.READY


def test_a_changed_intended_use_waits_for_accept_of_this_release(
    repo: Simulated, box: Applied
) -> None:
    release = repo.release(version="0.3.0").model_copy(update={"intended_use_changes": True})
    repo.add(release)
    repo.sign("stable")
    repo.publish()
    box.notes.know(highest=1)
    course = box.course()
    assert box.offer(course) is Turn.WAIT
    assert course.planned.why[0].code is Why.NEEDS_ACCEPT
    course.notes.wish(now=True, asked=1)
    assert box.offer(course) is Turn.WAIT
    assert box.state is None, "also by hand"
    box.notes.accept(release.path)
    course.notes.wish(asked=2)
    assert box.offer(course) is Turn.END
    assert runs(box, 2)


def test_a_newer_release_takes_the_place_of_one_that_waits(repo: Simulated, box: Applied) -> None:
    box.seen = Seen(followed=1, mark="a")
    course = box.course()
    box.offer(course)
    assert box.state is State.READY
    repo.ship(version="0.3.0")
    course.notes.wish(asked=1)
    box.offer(course)
    found = box.steps()
    assert found is not None
    assert (found.release, found.state) == ("stable/2.json", State.READY)


# ---- the way back


def test_what_guard_took_back_is_written_down_and_not_tried_again_by_itself(box: Applied) -> None:
    trial(box)
    box.guard_goes_back()
    old = box.course()
    assert box.turns(old) is Turn.WAIT
    assert box.state is State.ROLLED_BACK
    assert runs(box, 1)
    assert not box.places.reason.exists()
    assert any("stage=work why=starts" in text for text in (box.steps() or old).texts)  # type: ignore[union-attr]
    assert old.planned.why[0].code is Why.ROLLED_BACK
    old.notes.wish(now=True, asked=1)
    box.fetch()
    assert box.turns(old) is Turn.END, "by hand it is tried once more, in a slot of its own"
    assert runs(box, 3)


def test_a_stage_that_does_not_start_goes_back_at_once(box: Applied) -> None:
    box.units.fail.add(("work", 2))
    assert box.offer(box.course()) is Turn.END
    assert box.state is State.ROLLED_BACK
    assert runs(box, 1)
    assert not box.places.trial.exists()


def test_a_bundle_that_came_with_it_goes_back_too(
    repo: Simulated, box: Applied, tiny_bytes: bytes
) -> None:
    (one,) = shipped(repo, signed(tiny_bytes)).bundles
    before = Named(name=one.name, version="0.9.0", digest="b" * 64)
    box.shelf.activate(before)
    trial(box)
    new = box.course()
    box.turns(new)
    assert [b.digest for b in box.shelf.active()] == [one.digest]
    new.notes.wish(back=True)
    assert box.turns(new) is Turn.END
    assert runs(box, 1)
    assert box.shelf.active() == (before,)


@pytest.mark.parametrize("by_guard", [False, True])
def test_a_bundle_of_a_name_that_had_none_before_is_not_active_after_the_way_back(
    repo: Simulated, box: Applied, tiny_bytes: bytes, by_guard: bool
) -> None:
    shipped(repo, signed(tiny_bytes))
    other = Named(name="another", version="0.9.0", digest="b" * 64)
    box.shelf.activate(other)
    trial(box)
    new = box.course()
    box.turns(new)
    assert len(box.shelf.active()) == 2
    if by_guard:
        box.guard_goes_back()
        new = box.course()
    else:
        new.notes.wish(back=True)
    box.turns(new)
    assert box.state is State.ROLLED_BACK
    assert box.shelf.active() == (other,)


def test_a_person_goes_back_from_what_was_confirmed(box: Applied) -> None:
    trial(box)
    lived(box)
    course = box.course()
    course.notes.wish(back=True)
    assert box.turns(course) is Turn.END
    assert (box.state, box.slots.current()) == (State.ROLLED_BACK, 1)
    assert runs(box, 1)
    assert box.turns(box.course()) is Turn.WAIT
    assert runs(box, 1), "and it stays there"


# ---- recall


def entry(repo: Simulated, what: str, name: str, version: str, digest: str) -> Recalled:
    said = {"what": what, "name": name, "version": version, "digest": digest}
    return Recalled.model_validate({**said, "reason": "it misses nodules", "at": repo.now})


def recall(repo: Simulated, box: Applied, one: Recalled) -> None:
    repo.recall(one)
    repo.sign("targets")
    repo.publish()
    box.notes.wish(asked=box.notes.wishes().asked + 1)


def test_an_appliance_that_runs_and_is_recalled_gives_way_when_the_box_is_idle(
    repo: Simulated, box: Applied
) -> None:
    trial(box)
    lived(box)
    wheel = repo.release(version="0.2.0").appliance.wheel.digest
    recall(repo, box, entry(repo, "appliance", "scanside", "0.2.0", wheel))
    box.seen = Seen(followed=1, mark="busy")
    course = box.course()
    box.offer(course)
    assert runs(box, 2), "a study is under way"
    box.seen = Seen(mark="idle")
    box.turns(course)
    box.tick += 61
    assert box.turns(course) is Turn.END
    assert runs(box, 1)
    assert box.state is State.ROLLED_BACK


def test_where_no_other_slot_is_good_it_goes_on_receiving_and_analyses_nothing(
    repo: Simulated, box: Applied
) -> None:
    recall(repo, box, entry(repo, "appliance", "scanside", FIRST.version, FIRST.digest))
    repo.files.pop("nothing", None)
    box.notes.hold("so that nothing newer comes")
    course = box.course()
    box.offer(course)
    assert box.places.environment(1).read_text() == "SCANSIDE_RECALLED=1\n"
    assert box.units.told == [("restart", "work", 1)]
    box.turns(course)
    assert len(box.units.told) == 1, "once"
    box.notes.hold(None)
    course.notes.wish(asked=5)
    assert box.offer(course) is Turn.END, "a newer release ends it"
    assert runs(box, 2)


def test_a_bundle_that_runs_and_is_recalled_gives_way_whatever_else_holds(
    repo: Simulated, box: Applied
) -> None:
    bad = Named(name="lung-tiny", version="0.9.0", digest="b" * 64)
    box.shelf.activate(bad)
    box.notes.hold("anna@cli")
    recall(repo, box, entry(repo, "bundle", bad.name, bad.version, bad.digest))
    box.seen = Seen(associations=1, mark="busy")
    box.offer(box.course())
    assert box.shelf.active() == ()
    assert ("bundle recalled", {"bundle": "lung-tiny 0.9.0", "reason": "it misses nodules"}) in (
        box.audit
    )


def test_a_release_that_is_recalled_while_it_waits_never_runs(
    repo: Simulated, box: Applied
) -> None:
    box.seen = Seen(followed=1, mark="busy")
    course = box.course()
    box.offer(course)
    assert box.state is State.READY
    wheel = repo.release(version="0.2.0").appliance.wheel.digest
    recall(repo, box, entry(repo, "appliance", "scanside", "0.2.0", wheel))
    box.offer(course)
    assert box.state is State.REFUSED
    assert "it misses nodules" in box.text
    assert runs(box, 1)
