"""The doctor on a box that updates itself: each line fails where it must, with what to type."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from appliance.apply import guarding, report
from appliance.apply.requests import STATUS, Status, read_status
from appliance.settings import Settings
from appliance.update import slots
from appliance.verbs.checks import updates
from appliance.verbs.checks.check import Device
from rigs.applied import Applied
from rigs.releasing import Simulated
from rigs.slotted import TinyRelease


@pytest.fixture
def repo() -> Simulated:
    made = Simulated.begun()
    made.ship()
    return made


@pytest.fixture
def box(repo: Simulated, tmp_path: Path) -> Applied:
    """That has looked at the repository once, while it was held."""
    made = Applied(tmp_path / "box", repo)
    made.notes.hold("anna@cli")
    course = made.course()
    made.offer(course)
    report.write(course, on=False)
    return made


def device(box: Applied) -> Device:
    return Device(box.settings, "scanside.toml")


def rewritten(box: Applied, **change: object) -> Device:
    """As if `apply` had written this."""
    path = box.places.trusted / STATUS
    status: Status = read_status(box.places.trusted).model_copy(update=change)
    path.write_text(status.model_dump_json(by_alias=True))
    return device(box)


def test_without_slots_nothing_is_wrong(tmp_path: Path) -> None:
    plain = Device(Settings(state=tmp_path), "scanside.toml")
    for check in (updates.slots, updates.guard, updates.trust, updates.update):
        found = check(plain)
        assert found.ok
        assert "[update] root is not set" in found.text


@pytest.mark.long
def test_slots_that_are_whole_are_named_and_one_without_its_python_says_what_to_type(
    box: Applied, tmp_path: Path
) -> None:
    places = box.places
    places.current.unlink()
    for number in (2, 3):
        version = f"{number}.0.0"
        TinyRelease(tmp_path / version, version).build(places, number)
        slots.switch(places, number)
    found = updates.slots(device(box))
    assert found.ok, found
    assert "current is slot 3 (3.0.0)" in found.text
    assert "previous is slot 2 (2.0.0)" in found.text
    python = places.slot(2) / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.9")
    (places.slot(3) / "complete").unlink()
    found = updates.slots(device(box))
    assert not found.ok
    assert "current is slot 3, which is not complete" in found.text
    assert "whose Python does not start" in found.text
    assert f"build.py rebuild 2 --root {places.root}" in found.remedy
    assert f"build.py rebuild 3 --root {places.root}" in found.remedy


@pytest.mark.long
def test_a_python_that_the_release_does_not_take_is_said(box: Applied, tmp_path: Path) -> None:
    release = TinyRelease(tmp_path / "release")
    release.build(box.places, 2)
    slots.switch(box.places, 2)
    kept = box.places.wheels / "2.json"
    kept.write_text(kept.read_text().replace('"3.10"', '"3.99"'))
    found = updates.slots(device(box))
    assert not found.ok
    assert "the release wants" in found.text


def test_without_a_link_to_a_slot_it_says_so(box: Applied) -> None:
    box.places.current.unlink()
    found = updates.slots(device(box))
    assert (found.ok, found.text) == (False, "current leads nowhere")


def test_guard_has_to_be_that_of_the_appliance_that_runs_but_for_a_trial(box: Applied) -> None:
    found = updates.guard(device(box))
    assert not found.ok
    assert "guard.sh, build.py" in found.text
    guarding.follow(box.places)
    assert updates.guard(device(box)).ok
    (box.places.guard / "guard.sh").write_text("exit 1")
    assert not updates.guard(device(box)).ok
    box.places.trial.write_text("slot=2\n")
    assert updates.guard(device(box)).ok, "it is that of the appliance before"


def test_what_ends_within_a_month_is_said_but_of_roles_that_are_signed_every_day(
    box: Applied,
) -> None:
    found = updates.trust(device(box))
    ends = read_status(box.places.trusted).ends
    assert {"root", "timestamp", "snapshot", "targets", "stable"} <= set(ends)
    assert all(f"{role} until" in found.text for role in ends)
    now = max(ends.values())
    far = {role: now + timedelta(days=4000) for role in ends}
    assert updates.trust(rewritten(box, ends=far, signed=None)).ok
    today = {"timestamp": ends["timestamp"] + timedelta(days=4000)}
    assert updates.trust(rewritten(box, ends={**far, **today}, signed=None)).ok
    soon = updates.trust(rewritten(box, ends={**far, "root": box.repo.now}, signed=None))
    assert not soon.ok
    assert soon.text.startswith("root ends soon or has ended")
    assert "scanside update check" in soon.remedy


def test_a_clock_far_behind_what_was_signed_is_the_clocks_fault(box: Applied) -> None:
    old = box.repo.now - timedelta(days=4000)
    found = updates.trust(rewritten(box, signed=old))
    assert not found.ok
    assert "timedatectl set-time" in found.remedy


def test_the_last_update_a_hold_a_recall_and_an_apply_that_does_not_run_are_said(
    box: Applied,
) -> None:
    found = updates.update(device(box))
    assert not found.ok
    assert "scanside 0.1.0 runs" in found.text
    assert "updates are held" in found.text
    assert "systemctl start scanside-apply" in found.remedy
    assert "recalled" not in found.text
    recalled = updates.update(rewritten(box, recalled="it misses nodules"))
    assert "what runs was recalled: it misses nodules" in recalled.text
    assert "scanside update now" in recalled.remedy
    (box.places.trusted / STATUS).write_text("{")
    assert "apply` has not run yet" in updates.update(device(box)).text
