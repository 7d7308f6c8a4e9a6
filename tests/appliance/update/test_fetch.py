"""What `update` lays down is a repository that another reads, and what it cannot have it says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.settings import Settings
from appliance.store.files import Disk
from appliance.update import facts
from appliance.update.facts import Found, Told
from appliance.update.fetch import BLOBS, Fetching
from appliance.update.plan import Facts, Named
from appliance.update.source import Laid
from appliance.update.trust import Trust
from rigs.releasing import Simulated
from rigs.serving import Server, lay, served


@pytest.fixture
def repo() -> Simulated:
    """With one release in stable."""
    made = Simulated.begun()
    made.ship()
    return made


@pytest.fixture
def server(repo: Simulated, tmp_path: Path) -> Iterator[Server]:
    with served(lay(tmp_path / "web", repo.files)) as how:
        yield how


def told(repo: Simulated, **change: Any) -> Told:
    here: dict[str, Any] = {
        "at": repo.now,
        "channel": "stable",
        "site": "north",
        "kind": "x86-64",
        "python": "3.11",
        "appliance": Named(name="scanside", version="0.1.0", digest="a" * 64),
        "slot": 1,
        "by_hand": True,
        "free_mb": 1000.0,
        "in_window": True,
        "idle": False,
        "between_series": False,
    }
    return Told(asked=3, built=repo.now, facts=Facts(**{**here, **change}))


def fetching(repo: Simulated, tmp_path: Path, disk: Disk | None = None) -> Fetching:
    said = {
        "state": tmp_path / "state",
        "update": {"root": tmp_path / "root", "downloads": tmp_path / "downloads"},
        "retain": {"reserve_mb": 0},
    }
    first = repo.files["metadata/1.root.json"]
    return Fetching(Settings.model_validate(said), first, disk or Disk())


def look(made: Fetching, repo: Simulated, server: Server, **change: Any) -> Found:
    return made.look(told(repo, **change), repo.now, made.source(server.url))


def blobs(made: Fetching) -> set[str]:
    return {path.name for path in (made.folder / BLOBS).iterdir()}


def test_what_it_laid_down_is_read_as_a_repository_by_who_knows_the_first_root_alone(
    repo: Simulated, server: Server, tmp_path: Path
) -> None:
    made = fetching(repo, tmp_path)
    assert look(made, repo, server).release == "stable/1.json"
    apart = Trust(tmp_path / "apart", made.first_root, repo.now)
    found = apart.refresh(Laid(made.folder), "stable", repo.now)
    (release,) = found.releases
    lock = release.devices[0].lock
    assert b"".join(Laid(made.folder).read(lock.path)) == repo.files[lock.path]
    assert f"{release.appliance.wheel.digest}.zst" in blobs(made)


def test_a_second_look_asks_for_two_files_and_the_blobs_of_the_release_before_go(
    repo: Simulated, server: Server, tmp_path: Path
) -> None:
    made = fetching(repo, tmp_path)
    look(made, repo, server)
    before = blobs(made)
    server.asked.clear()
    look(made, repo, server)
    assert len([path for path, _ in server.asked if path.startswith("metadata/")]) == 2
    repo.ship(version="0.3.0")
    lay(server.folder, repo.files)
    assert look(made, repo, server).release == "stable/2.json"
    assert before - blobs(made)
    names = [path.name for path in (made.folder / "metadata").glob("*.stable.json")]
    assert len(names) == 1, "the role of the look before is of no use to anybody"


def test_a_look_at_which_nothing_is_new_asks_for_no_release_and_a_damaged_one_comes_again(
    repo: Simulated, server: Server, tmp_path: Path
) -> None:
    made = fetching(repo, tmp_path)
    look(made, repo, server)
    server.asked.clear()
    assert look(made, repo, server).release == "stable/1.json"
    assert not [path for path, _ in server.asked if path.startswith("targets/")]
    (release,) = (made.folder / "targets" / "stable").iterdir()
    whole = release.read_bytes()
    release.write_bytes(whole[:-1] + b" ")
    assert look(made, repo, server).release == "stable/1.json"
    assert release.read_bytes() == whole


def test_a_file_that_was_lost_here_is_asked_for_again(
    repo: Simulated, server: Server, tmp_path: Path
) -> None:
    made = fetching(repo, tmp_path)
    look(made, repo, server)
    for path in (made.folder / "metadata").glob("*.snapshot.json"):
        path.unlink()
    assert look(made, repo, server).release == "stable/1.json"
    assert list((made.folder / "metadata").glob("*.snapshot.json"))


def test_a_blob_that_the_disk_has_damaged_is_fetched_anew(
    repo: Simulated, server: Server, tmp_path: Path
) -> None:
    made = fetching(repo, tmp_path)
    look(made, repo, server)
    before = {path: path.read_bytes() for path in (made.folder / BLOBS).iterdir()}
    for path, data in before.items():
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert look(made, repo, server).release == "stable/1.json"
    assert {path: path.read_bytes() for path in (made.folder / BLOBS).iterdir()} == before


def test_what_this_box_has_already_is_not_fetched(
    repo: Simulated, server: Server, tmp_path: Path
) -> None:
    made = fetching(repo, tmp_path)
    wheel = repo.release(version="0.2.0").appliance.wheel
    here = told(repo).model_copy(update={"have": (wheel.digest,)})
    assert made.look(here, repo.now, made.source(server.url)).release == "stable/1.json"
    assert f"{wheel.digest}.zst" not in blobs(made)


def test_a_release_that_is_not_for_this_box_is_not_fetched_and_says_why(
    repo: Simulated, server: Server, tmp_path: Path
) -> None:
    made = fetching(repo, tmp_path)
    found = look(made, repo, server, kind="orin")
    assert (found.release, found.code) == (None, "other_device")
    assert not (made.folder / BLOBS).exists()


class Small(Disk):
    """With room for nothing."""

    def free_mb(self, path: Path) -> float:
        return 0.0


def test_without_room_no_byte_of_a_blob_comes(
    repo: Simulated, server: Server, tmp_path: Path
) -> None:
    made = fetching(repo, tmp_path, Small())
    assert look(made, repo, server).code == "update_disk"
    assert not [path for path, _ in server.asked if path.startswith("blobs/")]


def test_a_server_that_is_away_is_said_and_nothing_is_lost(
    repo: Simulated, server: Server, tmp_path: Path
) -> None:
    made = fetching(repo, tmp_path)
    look(made, repo, server)
    before = blobs(made)
    found = made.look(told(repo), repo.now, made.source("http://127.0.0.1:9"))
    assert found.code == "repository_away"
    assert found.text
    assert blobs(made) == before


def test_a_word_that_is_a_pipe_or_no_word_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / facts.OFFERED)
    assert facts.offered(tmp_path) is None
    (tmp_path / facts.OFFERED).unlink()
    (tmp_path / facts.OFFERED).write_bytes(b"x" * 20_000)
    assert facts.offered(tmp_path) is None


def test_words_that_would_move_a_cursor_are_shown_as_one_plain_line(
    repo: Simulated, tmp_path: Path
) -> None:
    """`scanside update status` shows them to root; whoever broke into `update` wrote them."""
    said = Found(asked=1, at=repo.now).model_dump_json()
    evil = said.replace('"text":""', '"text":"\\u001b]0;x\\u0007all is well\\n\\u202erunning"')
    (tmp_path / facts.OFFERED).write_text(evil)
    found = facts.offered(tmp_path)
    assert found is not None
    assert found.text == "?]0;x?all is well??running"
