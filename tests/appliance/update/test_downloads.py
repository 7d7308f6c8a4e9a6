"""The files of a release, fetched from a real server and gone on with where they broke off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import PeerAway, ReleaseRefused, StateUnusable
from appliance.release import blobs as packed
from appliance.release.record import Blob, Release
from appliance.update.downloads import Downloads, bundle
from appliance.update.source import Web
from rigs.bundles import signed
from rigs.releasing import Simulated
from rigs.serving import Server, lay, served


@pytest.fixture
def repo() -> Simulated:
    return Simulated.begun()


@pytest.fixture
def release(repo: Simulated, tiny_bytes: bytes) -> Release:
    return repo.release(bundles=(signed(tiny_bytes),))


@pytest.fixture
def server(repo: Simulated, release: Release, tmp_path: Path) -> Iterator[Server]:
    with served(lay(tmp_path / "repository", repo.files)) as how:
        yield how


def downloads(server: Server, tmp_path: Path, reserve_mb: float = 0) -> Downloads:
    return Downloads(tmp_path / "downloads", Web(server.url), reserve_mb)


def test_a_whole_release_is_fetched_once_and_makes_its_bundle(
    server: Server, release: Release, tiny_bytes: bytes, tmp_path: Path
) -> None:
    box = downloads(server, tmp_path)
    needed = box.whole(release, "x86-64")
    assert release.appliance.wheel.digest in {one.digest for one in needed}
    names = sorted(path.name for path in box.folder.iterdir())
    assert names == sorted(f"{one.digest}.zst" for one in needed)
    assert bundle(release.bundles[0], box.folder) == signed(tiny_bytes)
    asked = len(server.asked)
    assert asked == len(needed)
    box.whole(release, "x86-64")
    assert len(server.asked) == asked


def test_what_is_elsewhere_on_this_box_is_not_fetched(
    server: Server, release: Release, tmp_path: Path
) -> None:
    box = downloads(server, tmp_path)
    have = {release.appliance.wheel.digest}
    assert have.isdisjoint(one.digest for one in box.whole(release, "x86-64", have))
    assert release.appliance.wheel.path not in {path for path, _ in server.asked}


def test_a_kind_of_device_that_is_not_in_the_release_gets_nothing(
    server: Server, release: Release, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseRefused) as refused:
        downloads(server, tmp_path).whole(release, "orin")
    assert refused.value.code == "release_elsewhere"
    assert server.asked == []


@pytest.mark.parametrize("ranges", [True, False])
def test_what_breaks_off_goes_on_where_it_was(
    server: Server, release: Release, tmp_path: Path, ranges: bool
) -> None:
    box, wheel = downloads(server, tmp_path), release.appliance.wheel
    server.ranges, server.cut = ranges, wheel.packed // 2
    with pytest.raises(PeerAway):
        box.one(wheel)
    server.cut = None
    assert packed.unpack(wheel, box.one(wheel).read_bytes())
    assert server.asked == [(wheel.path, None), (wheel.path, f"bytes={wheel.packed // 2}-")]
    assert not list(box.folder.glob("*.part"))


def test_a_part_that_a_power_cut_spoilt_is_fetched_anew(
    server: Server, release: Release, tmp_path: Path
) -> None:
    box, wheel = downloads(server, tmp_path), release.appliance.wheel
    box.folder.mkdir()
    for spoilt in (b"\0" * 20, b"\0" * wheel.packed, b"\0" * (wheel.packed + 1)):
        (box.folder / f"{wheel.digest}.part").write_bytes(spoilt)
        path = box.one(wheel)
        assert packed.unpack(wheel, path.read_bytes())
        path.unlink()


def test_other_bytes_and_more_bytes_are_refused_and_nothing_of_them_stays(
    server: Server, release: Release, repo: Simulated, tmp_path: Path
) -> None:
    box, wheel = downloads(server, tmp_path), release.appliance.wheel
    right = repo.files[wheel.path]
    other = right[:-1] + bytes([right[-1] ^ 1])
    for wrong in (other, right + b"\0", packed.pack(b"other")[1].ljust(len(right), b"\0")):
        (server.folder / wheel.path).write_bytes(wrong)
        with pytest.raises(ReleaseRefused, match="blobs/"):
            box.one(wheel)
        assert list(box.folder.iterdir()) == []


def test_there_has_to_be_room_before_the_first_byte(
    server: Server, release: Release, tmp_path: Path
) -> None:
    box = downloads(server, tmp_path, reserve_mb=1e12)
    with pytest.raises(StateUnusable) as full:
        box.whole(release, "x86-64")
    assert full.value.code == "update_disk"
    assert server.asked == []


def test_what_would_be_swept_away_once_it_is_here_is_not_fetched(
    server: Server, release: Release, tmp_path: Path
) -> None:
    box = replace(downloads(server, tmp_path), most_mb=0.0001)
    with pytest.raises(StateUnusable) as full:
        box.whole(release, "x86-64")
    assert full.value.code == "update_limit"
    assert len(server.asked) == 1 + len(release.bundles), "the lists alone"


def test_a_list_that_is_longer_than_a_list_may_be_is_not_unpacked(
    server: Server, release: Release, tmp_path: Path
) -> None:
    found, frame = packed.pack(b" " * 1_000_001)
    where = server.folder / found.path
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_bytes(frame)
    device = release.devices[0].model_copy(update={"lock": Blob(**found.model_dump())})
    with pytest.raises(ReleaseRefused) as refused:
        downloads(server, tmp_path).whole(
            release.model_copy(update={"devices": (device,)}), "x86-64"
        )
    assert refused.value.code == "blob_length"
