"""Back and forth between this release and the one before, whose wheel is built here from git.

The release before knows journal.sqlite (schema 2) alone. It must start on a state folder that this
release has served, and this release must open what that one wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from appliance.report import SeriesKey
from appliance.results.mqtt import Envelope
from appliance.store.delivery import State
from appliance.store.events import BrokerAway
from appliance.store.journal import Journal
from appliance.store.journal.migrate import OLD_NAME, SEQ_AHEAD

REPOSITORY = Path(__file__).parents[4]
COMMIT = "77b9910"
"""The last release with journal.sqlite."""

WRITES = """
import datetime, json, pathlib, sys
from appliance.publish.message import of_series
from appliance.store.journal import JOURNAL_NAME, Journal
state, first = pathlib.Path(sys.argv[1]), int(sys.argv[2])
at = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
with Journal.open(state / JOURNAL_NAME) as journal:
    journal.set_series("1.2.3", "1.2", "analysed", instances=9)
    said = [of_series("received", study="c" * 32, series_uid="1.2.3", slices=n, at=at)
        for n in range(first, first + 3)]
    journal.post(said, series_uid="1.2.3")
    rows = journal.waiting(10)
    journal.delivered(rows[0].seq)
    journal.bury(rows[1].seq, "PUBACK 0x90")
    journal.event("broker_away", "mqtt", text="gone")
    journal.audit("alice", "login")
    print(json.dumps({"seq": [row.seq for row in rows], "next": journal.next_seq(),
        "audit": journal.verify_audit(), "series": len(journal.series())}))
"""


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the release before, installed into a folder."""
    folder = tmp_path_factory.mktemp("previous")
    tree = folder / "tree.tar"
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed: the previous release cannot be built")
    made = subprocess.run(
        [git, "-C", str(REPOSITORY), "archive", "-o", str(tree), COMMIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"commit {COMMIT} cannot be had from git: {made.stderr.strip()}")
    with tarfile.open(tree) as archive:
        archive.extractall(folder / "source", filter="data")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    _run([*pip, "wheel", *offline, "--wheel-dir", str(folder), str(folder / "source")])
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    _run([*pip, "install", *offline, "--target", str(target), str(wheel)])
    shutil.rmtree(folder / "source")
    return target


def _run(command: list[str], packages: Path | None = None) -> str:
    """Its output; with `packages`, as that release runs."""
    environment = dict(os.environ)
    if packages is not None:
        environment["PYTHONPATH"] = str(packages)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wrote(packages: Path, state: Path, first: int) -> Any:
    """What the release before says after it has written into its journal."""
    return json.loads(_run([sys.executable, "-c", WRITES, str(state), str(first)], packages))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_the_previous_release_wrote_is_here_and_it_starts_again_on_what_it_left(
    previous: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    config = tmp_path / "scanside.toml"
    config.write_text(f'state = "{state}"\n[site]\nname = "ward"\ndevice = "box1"\n')
    before = wrote(previous, state, 0)
    assert before == {"seq": [1, 2, 3], "next": 4, "audit": None, "series": 1}
    left = digest(state / OLD_NAME)

    with Journal.open(state) as journal:
        key = SeriesKey("1.2", "1.2.3")
        assert [(s.key, s.state, s.instances) for s in journal.series.all()] == [
            (key, "analysed", 9)
        ]
        (waiting,) = journal.owed.waiting("mqtt", 10)
        payload = json.loads(Envelope.model_validate_json(waiting.body or b"").payload)
        assert (waiting.seq, payload["seq"], payload["event_id"]) == (3, 3, waiting.key)
        (dead,) = journal.owed.listed(State.DEAD)
        assert (dead.seq, dead.last_error) == (2, "PUBACK 0x90")
        assert journal.owed.counts().delivered == 1
        assert [one.event.text for one in journal.events.of(BrokerAway)] == ["gone"]
        assert journal.audit.verify() is None
        assert journal.series.set_stat_of_study("c" * 32) == 1
        assert journal.owed.next_seq() > SEQ_AHEAD
        journal.owed.ack("mqtt", [waiting.key])
    assert digest(state / OLD_NAME) == left

    verb = [sys.executable, "-m", "appliance"]
    listed = _run([*verb, "outbox", "list", "--config", str(config)], previous)
    assert "1 waiting, 1 dead" in listed
    again = wrote(previous, state, 3)
    assert again["audit"] is None
    assert again["next"] == 8, "its own count goes on"
    assert digest(state / OLD_NAME) != left

    with Journal.open(state) as journal:
        assert journal.owed.counts().delivered == 2, "this release goes on where it stopped"
