"""A repository on disk, cut off at every step, with two people at once, and with links in it."""

from __future__ import annotations

import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from appliance.errors import ReleaseRefused
from compile.release import adoption, contents, drafts, judge
from compile.release.command import main
from compile.release.folder import Folder, Served, reader
from compile.release.published import read
from compile.release.words import words
from rigs.cuts import Cut, PowerCut
from rigs.releasing import NOW, PLACES, Box, Simulated


class CutServed(Cut, Served):
    """A repository's disk that is cut."""


class OnDisk:
    """A simulated repository, written down."""

    def __init__(self, root: Path) -> None:
        self.memory = Simulated.begun()
        self.memory.ship()
        self.root = root
        folder = Folder(root)
        folder.make()
        for path, data in self.memory.files.items():
            folder.write(path, data)
        folder.reserve(self.memory.numbers)

    def drafted(self) -> None:
        """Everything that waits there, with its signatures."""
        folder = Folder(self.root)
        for role, draft in self.memory.drafts.items():
            folder.draft(draft, {})
            for keyid, one in draft.signatures.items():
                signed = drafts.OneSignature(keyid=keyid, sig=one.signature, of=draft.digest)
                folder.signature(role, signed)
        for path, data in self.memory.files.items():
            if folder.files(path) is None:
                folder.write(path, data)


def publish(root: Path, signers: list[CryptoSigner], disk: Served) -> None:
    folder = Folder(root, disk)
    with folder.held():
        here = folder.here(NOW)
        folder.adopt(adoption.publish(here, signers, folder.numbers(), NOW))


@pytest.fixture
def made(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path / "repo")


def every_cut(
    made: OnDisk, tmp_path: Path, signers: list[CryptoSigner], look: Callable[[Path], None]
) -> int:
    """Publishes with a cut before each step: looks, publishes again, and reads the whole."""
    whole = CutServed(None)
    shutil.copytree(made.root, tmp_path / "whole")
    publish(tmp_path / "whole", signers, whole)
    for at in range(whole.steps):
        root = tmp_path / "cut"
        shutil.copytree(made.root, root)
        with pytest.raises(PowerCut):
            publish(root, signers, CutServed(at))
        look(root)
        publish(root, signers, Served())
        published, faults = read(reader(root / "public"), NOW)
        assert faults == ()
        assert published is not None
        assert Folder(root).here(NOW).drafts == {}
        shutil.rmtree(root)
    return whole.steps


def test_a_publish_that_is_cut_anywhere_leaves_the_old_or_the_new(
    made: OnDisk, tmp_path: Path
) -> None:
    memory = made.memory
    memory.add(memory.release(version="0.3.0"))
    memory.sign("stable")
    made.drafted()
    seen = []

    def look(root: Path) -> None:
        published, faults = read(reader(root / "public"), NOW)
        assert faults == ()
        assert published is not None
        seen.append(len(published.releases))

    steps = every_cut(made, tmp_path, list(memory.people.values()), look)
    assert steps > 20
    assert seen == sorted(seen)
    assert {1, 2} == set(seen)


@pytest.mark.long
def test_a_change_of_a_lost_key_that_is_cut_anywhere_is_ended_by_publishing_again(
    made: OnDisk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between root and timestamp a box refuses and keeps what it has."""
    memory = made.memory
    memory.rotate("timestamp", ("when",), ("when2",))
    memory.sign("root")
    made.drafted()
    refused = []

    def look(root: Path) -> None:
        box = Box(root / "box", memory.files["metadata/1.root.json"])
        box.newest(memory.files)
        published, faults = read(reader(root / "public"), NOW)
        refused.append(published is None)
        assert {fault.code for fault in faults} <= {"release_signature"}
        told = main(["check", str(root)], NOW), capsys.readouterr().out
        assert ("publish again" in told[1]) is (published is None)

    signers = [signer for name, signer in memory.people.items() if name != "when"]
    every_cut(made, tmp_path, signers, look)
    assert True in refused
    assert not refused[0]


def test_an_add_that_is_cut_anywhere_leaves_no_draft_or_a_whole_one(
    made: OnDisk, tmp_path: Path
) -> None:
    memory = made.memory
    before = dict(memory.files)
    memory.add(memory.release(version="0.3.0"))
    new = {path: data for path, data in memory.files.items() if path not in before}

    def add(root: Path, disk: Served) -> None:
        Folder(root, disk).draft(memory.drafts["stable"], new)

    whole = CutServed(None)
    shutil.copytree(made.root, tmp_path / "whole")
    add(tmp_path / "whole", whole)
    found = []
    for at in range(whole.steps):
        root = tmp_path / "cut"
        shutil.copytree(made.root, root)
        with pytest.raises(PowerCut):
            add(root, CutServed(at))
        here = Folder(root).here(NOW)
        found.append("stable" in here.drafts)
        if found[-1]:
            (release,) = drafts.new_releases(here, here.drafts["stable"]).values()
            assert list(contents.faults(release, here.files)) == []
        shutil.rmtree(root)
    assert found == sorted(found)
    assert {False, True} == set(found)


def test_two_people_who_sign_at_once_take_nothing_from_each_other(made: OnDisk) -> None:
    memory = made.memory
    memory.add(memory.release(version="0.3.0"))
    made.drafted()
    barrier = threading.Barrier(3)

    def sign(name: str) -> None:
        folder = Folder(made.root)
        barrier.wait(timeout=60)
        with folder.held():
            signed = drafts.signed(folder.here(NOW), "stable", memory.people[name])
            folder.signature("stable", signed)

    threads = [threading.Thread(target=sign, args=(name,)) for name in PLACES["stable"]]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)
    draft = Folder(made.root).here(NOW).drafts["stable"]
    assert len(draft.signatures) == 3


def test_signatures_made_on_two_copies_are_brought_together(made: OnDisk, tmp_path: Path) -> None:
    """Each copy has drafts and metadata, and no blob."""
    memory = made.memory
    memory.add(memory.release(version="0.3.0"))
    made.drafted()
    for name in ("gina", "hans"):
        copy = tmp_path / name
        shutil.copytree(made.root, copy, ignore=shutil.ignore_patterns("blobs"))
        folder = Folder(copy)
        signed = drafts.signed(folder.here(NOW), "stable", memory.people[name])
        path = folder.signature("stable", signed)
        shutil.copy(path, made.root / "drafts" / "stable")
    publish(made.root, list(memory.people.values()), Served())
    published, _ = read(reader(made.root / "public"), NOW)
    assert published is not None
    assert "stable/2.json" in published.releases


def test_a_repository_that_was_made_up_around_a_draft_is_refused_by_who_kept_the_first_root(
    made: OnDisk, tmp_path: Path
) -> None:
    """Against the made-up one, where the evil release is published, the draft changes nothing."""
    theirs = Simulated.begun()
    theirs.ship(version="6.6.6")
    theirs.rotate("stable")
    copy = OnDisk(tmp_path / "copy")
    shutil.rmtree(copy.root / "public")
    copy.memory = theirs
    Folder(copy.root).make()
    copy.drafted()
    here = Folder(copy.root).here(NOW)
    assert "nothing changes: it is only valid for longer" in words(here, here.drafts["stable"])
    mine = made.memory.files["metadata/1.root.json"]
    with pytest.raises(ReleaseRefused) as refused:
        Folder(copy.root).here(NOW, anchor=mine)
    assert refused.value.code == "release_signature"
    assert Folder(made.root).here(NOW, anchor=mine).published is not None


def test_the_second_of_two_copies_that_made_one_version_is_refused(made: OnDisk) -> None:
    """Both made version 3 of stable; the first was published meanwhile."""
    memory = made.memory
    memory.add(memory.release(version="0.3.0"))
    memory.sign("stable")
    made.drafted()
    publish(made.root, list(memory.people.values()), Served())
    made.memory.files = {
        str(path.relative_to(made.root / "public")): path.read_bytes()
        for path in (made.root / "public").rglob("*")
        if path.is_file()
    }
    late = memory.drafts["stable"].metadata()
    late.signed.expires = late.signed.expires.replace(year=late.signed.expires.year - 1)
    folder = Folder(made.root)
    folder.draft(drafts.Draft("stable", late.to_bytes()), {})
    (line, *_) = judge.wrong(folder.here(NOW), folder.here(NOW).drafts["stable"], NOW)
    assert line == "stable 3 does not follow what is published"


@pytest.mark.parametrize("part", ["metadata/1.stable.json", "blobs", "metadata"])
def test_a_symbolic_link_is_not_followed(made: OnDisk, tmp_path: Path, part: str) -> None:
    at = made.root / "public" / part
    at.rename(tmp_path / "elsewhere")
    at.symlink_to(tmp_path / "elsewhere")
    path = next(iter((tmp_path / "elsewhere").rglob("*")), None)
    named = part if path is None else f"{part}/{path.relative_to(tmp_path / 'elsewhere')}"
    with pytest.raises(ReleaseRefused) as refused:
        reader(made.root / "public")(named)
    assert refused.value.code == "release_link"


@pytest.mark.parametrize(
    "path", ["../numbers.json", "metadata/../../numbers.json", "/etc/hostname", "", "a//b", "a\0b"]
)
def test_no_path_leads_out_of_what_is_served(made: OnDisk, path: str) -> None:
    assert (made.root / "numbers.json").is_file()
    assert reader(made.root / "public")(path) is None


def test_everybody_may_read_what_is_served(made: OnDisk) -> None:
    for path in (made.root / "public").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path


def test_a_folder_that_is_no_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="is no repository"), Folder(tmp_path / "no").held():
        pytest.fail("it is held")
