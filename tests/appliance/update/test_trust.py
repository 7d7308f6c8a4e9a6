"""Metadata verified in a copy and adopted as a whole, against a real repository in a folder."""

from __future__ import annotations

import inspect
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import ExpiredMetadataError
from tuf.ngclient import Updater

from appliance.errors import ReleaseRefused, StateUnusable
from appliance.store.files import Disk
from appliance.update.source import Folder
from appliance.update.trust import COPY, KEPT, MARK, Kept, Trust
from rigs.cuts import Cut, PowerCut
from rigs.releasing import Asked, Simulated
from rigs.serving import lay


@pytest.fixture
def repo() -> Simulated:
    """With one release in stable."""
    made = Simulated.begun()
    made.ship()
    return made


def trust(repo: Simulated, folder: Path, disk: Disk | None = None) -> Trust:
    built = repo.now - timedelta(days=30)
    return Trust(folder / "trust", repo.files["metadata/1.root.json"], built, disk or Disk())


def source(repo: Simulated, folder: Path) -> Folder:
    return Folder(lay(folder / "repository", repo.files))


def test_the_time_of_python_tuf_is_still_where_we_set_it(repo: Simulated, tmp_path: Path) -> None:
    """It is private: if this fails, look where tuf keeps its time before you pin another."""
    root = repo.files["metadata/1.root.json"]
    folder, targets = str(tmp_path), str(tmp_path / "targets")
    made = Updater(
        folder,
        "memory://metadata/",
        targets,
        "memory://targets/",
        Asked(repo.files),
        bootstrap=root,
    )
    assert "reference_time" in vars(made._trusted_set)
    assert "reference_time" in inspect.getsource(type(made._trusted_set)._check_final_timestamp)
    made._trusted_set.reference_time = repo.now + timedelta(days=3)
    with pytest.raises(ExpiredMetadataError):
        made.refresh()


def test_what_was_verified_is_offered_the_newest_first(repo: Simulated, tmp_path: Path) -> None:
    repo.ship(version="0.3.0")
    box = trust(repo, tmp_path)
    offered = box.refresh(source(repo, tmp_path), "stable", repo.now)
    assert [one.number for one in offered.releases] == [2, 1]
    assert offered.made == repo.now
    assert not offered.stick
    assert offered.recall is None
    above = box.refresh(source(repo, tmp_path), "stable", repo.now, above=1)
    assert [one.number for one in above.releases] == [2]


def test_a_channel_that_is_not_there_is_said(repo: Simulated, tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused) as refused:
        trust(repo, tmp_path).refresh(source(repo, tmp_path), "site-south", repo.now)
    assert refused.value.code == "release_channel"


def test_the_copy_is_gone_and_what_is_kept_is_used_again(repo: Simulated, tmp_path: Path) -> None:
    box = trust(repo, tmp_path)
    box.refresh(source(repo, tmp_path), "stable", repo.now)
    assert {path.name for path in box.folder.iterdir()} == {MARK, KEPT}
    kept = Kept.model_validate_json((box.folder / KEPT).read_bytes())
    assert set(kept.files) == {
        "root_history/1.root.json",
        "timestamp.json",
        "snapshot.json",
        "targets.json",
        "stable.json",
    }
    before = {path.name: path.stat().st_ino for path in box.folder.iterdir()}
    box.refresh(source(repo, tmp_path), "stable", repo.now)
    assert {path.name: path.stat().st_ino for path in box.folder.iterdir()} == before


def test_a_copy_that_a_power_cut_left_is_not_believed(repo: Simulated, tmp_path: Path) -> None:
    box = trust(repo, tmp_path)
    left = box.folder / COPY / "metadata" / "timestamp.json"
    left.parent.mkdir(parents=True)
    left.write_text("half of it")
    assert box.refresh(source(repo, tmp_path), "stable", repo.now).releases
    assert not left.exists()


def test_a_refresh_that_is_cut_anywhere_leaves_the_old_or_the_new(
    repo: Simulated, tmp_path: Path
) -> None:
    old = dict(repo.files)
    repo.ship(version="0.3.0")
    new = source(repo, tmp_path)

    def behind(home: Path) -> None:
        """A box that knows what was published before."""
        trust(repo, home).refresh(Folder(lay(home / "old", old)), "stable", repo.now)

    counted = Cut(None)
    behind(tmp_path / "count")
    trust(repo, tmp_path / "count", counted).refresh(new, "stable", repo.now)
    assert counted.steps == 8
    for at in range(counted.steps):
        home = tmp_path / str(at)
        behind(home)
        before = trust(repo, home).mark()
        with pytest.raises(PowerCut):
            trust(repo, home, Cut(at)).refresh(new, "stable", repo.now)
        after = trust(repo, home).mark()
        assert after == before or after.timestamp == before.timestamp + 1
        again = trust(repo, home).refresh(new, "stable", repo.now)
        assert [one.number for one in again.releases] == [2, 1]


def test_a_mark_that_cannot_be_read_stops_updates_and_says_so(
    repo: Simulated, tmp_path: Path
) -> None:
    box = trust(repo, tmp_path)
    box.refresh(source(repo, tmp_path), "stable", repo.now)
    (box.folder / MARK).write_text("{")
    with pytest.raises(StateUnusable) as refused:
        box.refresh(source(repo, tmp_path), "stable", repo.now)
    assert refused.value.code == "trust_damaged"


def test_without_the_library_one_line_says_what_to_type() -> None:
    code = (
        "import sys; sys.modules['tuf'] = None\n"
        "from appliance.errors import ScansideError\n"
        "try:\n    import appliance.update.trust\n"
        "except ScansideError as e:\n    print(e.one_line())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[update_library] Type: pip install 'scanside[update]'" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_nothing_but_this_module_of_the_appliance_knows_the_library() -> None:
    code = (
        "import sys\n"
        "from appliance.update import downloads, clock, plan, source, states, why\n"
        "print('tuf' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
