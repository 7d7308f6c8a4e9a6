"""A whole box: a repository behind http, `scanside run` with slots, and a person who types
`scanside update`. The release's slot is made by pip from tiny wheels; its libraries are ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigs.peers import until
from rigs.releasing import Simulated
from rigs.updating import Updated, released, updated


@pytest.fixture
def site(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Updated]:
    """A box that runs from slot 1, and a release of another appliance."""
    repo = Simulated.begun()
    released(repo, "90.0.0")
    with updated(repo, tmp_path, tmp_path_factory.mktemp("box")) as made:
        yield made


@pytest.mark.long
def test_a_release_is_taken_by_hand_and_left_again_by_hand(site: Updated) -> None:
    box = site.box
    nothing = site.types("check")
    assert nothing.returncode == 0, nothing.stderr
    assert "[not_automatic]" in nothing.stdout
    done = site.types("now")
    assert done.returncode == 0, (done.stdout, done.stderr, box.log.read_text()[-4000:])
    for step in ("slot 2 is built", "it is proved on this box", "it runs, on trial"):
        assert step in done.stdout
    assert os.readlink(box.places.current) == "slots/2"
    for stage in ("publish", "work", "receive", "retain"):
        assert box.units.state(stage, 2) == "ready"
        assert box.units.state(stage, 1) == "absent"
    status = json.loads(site.types("status", "--json").stdout)
    assert (status["slot"], status["previous"]) == (2, 1)
    assert status["appliance"]["version"] == "90.0.0"
    back = site.types("rollback")
    assert back.returncode == 0, (back.stdout, back.stderr, box.log.read_text()[-4000:])
    assert os.readlink(box.places.current) == "slots/1"
    until(lambda: box.units.state("work", 1) == "ready")
    assert box.units.state("work", 2) == "absent"
    again = site.types("check")
    assert "[not_automatic]" in again.stdout
    assert "[rolled_back]" in again.stdout
