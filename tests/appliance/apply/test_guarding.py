"""The files of `guard` outside of the slots follow the slot that runs, but never one on trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.apply import guarding
from appliance.apply.guarding import FILES
from appliance.update.places import Places
from appliance.update.slots import BUILD
from rigs.slotted import box


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = box(tmp_path)
    made.root.mkdir()
    made.trusted.mkdir()
    return made


def test_what_is_missing_damaged_or_may_not_be_started_is_put_right(places: Places) -> None:
    assert guarding.differ(places) == FILES
    assert guarding.follow(places) == FILES
    for name in FILES:
        made = places.guard / name
        assert made.read_bytes() == (BUILD.parent / name).read_bytes()
        assert made.stat().st_mode & 0o777 == 0o755
    (places.guard / "build.py").write_text("exit(1)")
    (places.guard / "guard.sh").chmod(0o600)
    assert guarding.follow(places) == ("build.py",)
    assert guarding.differ(places) == ()
    assert (places.guard / "guard.sh").stat().st_mode & 0o777 == 0o755
    assert guarding.follow(places) == ()


def test_while_a_release_is_on_trial_nothing_is_changed(places: Places) -> None:
    places.trial.write_text("slot=2\n")
    assert guarding.follow(places) == ()
    assert not places.guard.exists()
