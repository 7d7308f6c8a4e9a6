"""A whole box: a repository behind http, `scanside run` with slots, and a person who types
`scanside update`. The release's slot is made by pip from tiny wheels; its libraries are ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.release.record import Appliance, Device, Range, Release
from appliance.update.plan import Named
from appliance.update.slots import Complete
from appliance.update.stage import FIRST_ROOT
from compile.release import contents, drafts
from rigs.peers import until
from rigs.releasing import SBOM, VEX, Simulated
from rigs.run_in_slots import REPOSITORY, Slotted
from rigs.serving import lay, served
from rigs.wheels import pip_wheel, requirements, wheel

pytestmark = pytest.mark.long
OURS = f"{REPOSITORY}\n{sysconfig.get_path('purelib')}\n"


def released(repo: Simulated, version: str) -> Release:
    """A release whose appliance is this checkout, under another version."""
    store = contents.Store(repo.files.get)
    pip = pip_wheel()
    libraries = dict([wheel("liba"), (pip.name, pip.read_bytes())])
    python = Range(at_least="3.10", below="3.15")
    lock = contents.lock(store, "x86-64", python, requirements(libraries), libraries, {})
    own = wheel("scanside", version, more={"ours.pth": OURS})
    made = Release(
        channel="stable",
        number=drafts.next_number(repo.here, "stable"),
        made=repo.now,
        kind="feature",
        intended_use_changes=False,
        notes="a version of the tests",
        appliance=Appliance(version=version, wheel=contents.wheel(store, *own)),
        devices=(Device(kind="x86-64", python=python, lock=lock),),
        sbom=contents.cyclonedx(store, SBOM, "parts list"),
        vex=contents.cyclonedx(store, VEX, "list of weak points"),
    )
    repo.files |= store.new
    repo.add(made)
    repo.sign("stable")
    repo.publish()
    return made


@pytest.fixture
def repo() -> Simulated:
    return Simulated.begun()


@pytest.fixture
def box(
    repo: Simulated, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Slotted]:
    """Slot 1 runs, of an appliance 0.0.1; all stages serve."""
    at = tmp_path_factory.mktemp("box")  # short: sockets lie in it
    released(repo, "90.0.0")
    with served(lay(tmp_path / "web", repo.files)) as server:
        made = Slotted(at, more=f'downloads = "{at}/downloads"\nurl = "{server.url}"\nauto = []\n')
        places = made.places
        runs = Complete(
            slot=1,
            release="stable/0.json",
            appliance=Named(name="scanside", version="0.0.1", digest="a" * 64),
            python="3.11",
            wheels="b" * 64,
            made=repo.now - timedelta(days=1),
        )
        (places.slot(1) / "complete").write_text(runs.model_dump_json(by_alias=True))
        (places.root / "previous").unlink()
        (places.slot(2) / "bin" / "python").unlink()
        (places.slot(2) / "bin").rmdir()
        places.slot(2).rmdir()
        (places.trusted / FIRST_ROOT).write_bytes(repo.files["metadata/1.root.json"])
        made.start()
        try:
            made.wait_ready()
            yield made
        finally:
            made.end()


def update(box: Slotted, *words: str) -> subprocess.CompletedProcess[str]:
    """What a person types."""
    config = str(box.folder / "scanside.toml")
    return subprocess.run(
        [sys.executable, "-m", "appliance", "update", *words, "--config", config],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ,
        timeout=280,
        check=False,
    )


def test_a_release_is_taken_by_hand_and_left_again_by_hand(box: Slotted) -> None:
    nothing = update(box, "check")
    assert nothing.returncode == 0, nothing.stderr
    assert "[not_automatic]" in nothing.stdout
    done = update(box, "now")
    assert done.returncode == 0, (done.stdout, done.stderr, box.log.read_text()[-4000:])
    for step in ("slot 2 is built", "it is proved on this box", "it runs, on trial"):
        assert step in done.stdout
    assert os.readlink(box.places.current) == "slots/2"
    for stage in ("publish", "work", "receive", "retain"):
        assert box.units.state(stage, 2) == "ready"
        assert box.units.state(stage, 1) == "absent"
    status = json.loads(update(box, "status", "--json").stdout)
    assert (status["slot"], status["previous"]) == (2, 1)
    assert status["appliance"]["version"] == "90.0.0"
    back = update(box, "rollback")
    assert back.returncode == 0, (back.stdout, back.stderr, box.log.read_text()[-4000:])
    assert os.readlink(box.places.current) == "slots/1"
    until(lambda: box.units.state("work", 1) == "ready")
    assert box.units.state("work", 2) == "absent"
    again = update(box, "check")
    assert "[not_automatic]" in again.stdout
    assert "[rolled_back]" in again.stdout
