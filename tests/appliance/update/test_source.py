"""Bytes of a repository, from a real server on a loopback port and from a folder."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import PeerAway
from appliance.update.source import Folder, Missing, Pace, Source, Web
from rigs.serving import Server, lay, served

FILES = {"metadata/timestamp.json": b"{}", "blobs/ab/abc.zst": bytes(range(256)) * 1000}
BLOB = "blobs/ab/abc.zst"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(lay(tmp_path / "repository", FILES)) as how:
        yield how


def taken(source: Source, path: str, start: int = 0) -> bytes:
    return b"".join(source.read(path, start))


def test_a_server_and_a_folder_give_the_same_bytes_from_anywhere(server: Server) -> None:
    for start in (0, 1, 100_000, 255_999):
        wanted = FILES[BLOB][start:]
        assert taken(Web(server.url), BLOB, start) == wanted
        assert taken(Folder(server.folder), BLOB, start) == wanted
    assert server.asked[-1] == (BLOB, "bytes=255999-")


def test_a_server_without_ranges_is_read_from_the_beginning(server: Server) -> None:
    server.ranges = False
    assert taken(Web(server.url), BLOB, 100_000) == FILES[BLOB][100_000:]


def test_nothing_is_sent_but_the_path_and_who_asks(server: Server) -> None:
    taken(Web(server.url + "/"), BLOB)
    assert set(server.headers[0]) == {"Host", "User-Agent", "Accept-Encoding"}
    assert server.headers[0]["User-Agent"] == "scanside"


def test_a_file_that_is_not_there_is_missing_in_both(server: Server) -> None:
    for source in (Web(server.url), Folder(server.folder)):
        with pytest.raises(Missing):
            taken(source, "metadata/2.root.json")


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "a//b", "a/./b", "", "a/\0"])
def test_a_path_out_of_the_repository_is_asked_of_nobody(server: Server, path: str) -> None:
    for source in (Web(server.url), Folder(server.folder)):
        with pytest.raises(Missing, match="no path of a repository"):
            taken(source, path)
    assert server.asked == []


def test_a_redirect_is_not_followed(server: Server) -> None:
    server.redirect = server.url + "/elsewhere"
    with pytest.raises(PeerAway, match="HTTP 302"):
        taken(Web(server.url), BLOB)
    assert len(server.asked) == 1


def test_a_server_that_is_away_and_one_that_breaks_off_are_asked_again(server: Server) -> None:
    server.cut = 1000
    with pytest.raises(PeerAway) as away:
        taken(Web(server.url), BLOB)
    assert away.value.code == "repository_away"
    with pytest.raises(PeerAway) as away:
        taken(Web("http://127.0.0.1:9"), BLOB)
    assert away.value.code == "repository_away"


def test_a_server_that_says_nothing_is_left(server: Server) -> None:
    server.silent = threading.Event()
    with pytest.raises(PeerAway) as away:
        taken(Web(server.url, silent_s=0.2), BLOB)
    server.silent.set()
    assert away.value.code == "repository_slow"


def test_a_proxy_is_asked_for_the_whole_address(server: Server) -> None:
    """The server plays the proxy: what is asked of it names the host that is meant."""
    with pytest.raises(Missing):
        taken(Web("http://updates.example/scanside", proxy=server.url), BLOB)
    assert server.asked == [("http://updates.example/scanside/" + BLOB, None)]


def test_a_server_whose_authority_is_unknown_is_not_spoken_to(
    server: Server, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("no certificate")
    with pytest.raises(PeerAway) as away:
        taken(Web(server.url.replace("http:", "https:"), ca=authority), BLOB)
    assert away.value.code == "repository_away"
    assert "ca" in away.value.remedy
    assert server.asked == []


def test_what_dribbles_is_left_and_what_is_fast_enough_is_not() -> None:
    def at(seconds: float) -> Pace:
        ticks = itertools.count(0.0, seconds)
        return Pace(now=lambda: next(ticks))

    pieces = [b"x"] * 100
    with pytest.raises(PeerAway) as slow:
        list(at(1).through(iter(pieces), "a file"))
    assert slow.value.code == "repository_slow"
    enough = [b"x" * 1000] * 100
    assert list(at(1).through(iter(enough), "a file")) == enough
    assert list(at(0.01).through(iter(pieces), "a file")) == pieces


def test_what_is_taken_a_second_has_a_bound_and_our_own_pauses_are_not_slowness() -> None:
    now = 0.0

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(most=500, now=lambda: now, pause=pause)
    assert len(list(pace.through(iter([b"x" * 1000] * 50), "a file"))) == 50
    assert now == pytest.approx(100.0)


def test_a_link_a_pipe_and_a_folder_on_a_stick_are_no_files(server: Server, tmp_path: Path) -> None:
    (server.folder / "metadata" / "link.json").symlink_to(server.folder / BLOB)
    os.mkfifo(server.folder / "metadata" / "pipe.json")
    (server.folder / "metadata" / "folder.json").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(Missing):
            taken(Folder(server.folder), f"metadata/{name}.json")


def test_a_folder_without_a_repository_is_a_stick_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(PeerAway) as gone:
        taken(Folder(tmp_path), "metadata/timestamp.json")
    assert gone.value.code == "stick_gone"
