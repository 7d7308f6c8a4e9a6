"""Files below the state folder are read without following a link, and only if they are files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store import plain


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b").write_bytes(b"12345")
    return folder


def test_a_file_is_read_whole_or_up_to_one_byte_more_than_allowed(root: Path) -> None:
    assert plain.read(root, "a", "b") == b"12345"
    assert plain.read(root, "a", "b", most=5) == b"12345"
    assert plain.read(root, "a", "b", most=3) == b"1234"


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert plain.read(tmp_path / "link", "a", "b") == b"12345"


def test_a_link_below_it_is_not_followed(root: Path, tmp_path: Path) -> None:
    (root / "c").symlink_to(root / "a")
    (root / "a" / "d").symlink_to(root / "a" / "b")
    for parts in (("c", "b"), ("a", "d")):
        with pytest.raises(OSError, match=r".") as caught:
            plain.read(root, *parts)
        assert not isinstance(caught.value, FileNotFoundError)


def test_what_is_missing_is_said_as_such(root: Path) -> None:
    for parts in (("a", "x"), ("x", "b")):
        with pytest.raises(FileNotFoundError):
            plain.read(root, *parts)


def test_a_folder_or_a_pipe_is_an_error_and_nobody_waits_for_it(root: Path) -> None:
    os.mkfifo(root / "a" / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(OSError, match="regular"):
            plain.read(root, "a", name)


def test_nothing_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        plain.read(root, "a", "b")
        with pytest.raises(FileNotFoundError):
            plain.read(root, "a", "x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_written_through_a_link(root: Path) -> None:
    (root / "c").symlink_to(root / "a")
    assert plain.real_folder(root / "a") == root / "a"
    assert plain.real_folder(root / "new") == root / "new"
    with pytest.raises(StateUnusable, match="symbolic link"):
        plain.real_folder(root / "c")
