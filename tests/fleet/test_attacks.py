"""Attacks and faults that meet what a box trusts, each as it would happen: a repository made by
compile.release, tampered with by who holds the keys named, and a box that reads it from a folder or
over http. What is refused changes nothing on the box."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from appliance.bundle import archive
from appliance.errors import BundleRefused, PeerAway, ReleaseRefused, StateUnusable
from appliance.release import blobs as packed
from appliance.release.record import Recall, Recalled, Release, write
from appliance.settings import Update
from appliance.update.downloads import Downloads, bundle
from appliance.update.plan import Facts, Named, Offer, plan
from appliance.update.source import Folder, Pace, Source, Web
from appliance.update.trust import KEPT, MARK, STICK, Offered, Trust
from appliance.update.why import Why
from compile.release import contents, drafts, roles
from compile.release.published import MADE, MEDIUM, target_path
from rigs.bundles import signed
from rigs.cuts import Full
from rigs.releasing import PLACES, Simulated, forged, key, with_release
from rigs.serving import ENDLESS, Server, lay, served

TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass
class Box:
    """A device with the first root of the installer."""

    home: Path
    root: bytes
    now: datetime
    built: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.built = self.now - timedelta(days=30)

    @property
    def trust(self) -> Trust:
        return Trust(self.home / "trust", self.root, self.built)

    def asks(
        self, files: Mapping[str, bytes] | Source, clock: datetime | None = None, **said: Any
    ) -> Offered:
        """Reads these files as a folder, or what a source gives."""
        if isinstance(files, Mapping):
            files = Folder(lay(self.home / "repository", files))
        return self.trust.refresh(files, said.pop("channel", "stable"), clock or self.now, **said)

    def newest(self, files: Mapping[str, bytes], clock: datetime | None = None) -> int:
        return self.asks(files, clock).releases[0].number

    def refuses(
        self, files: Mapping[str, bytes] | Source, code: str, clock: datetime | None = None
    ) -> None:
        """With this code, and nothing of what it trusts is another afterwards."""
        before = self._state()
        with pytest.raises((ReleaseRefused, PeerAway, StateUnusable)) as refused:
            self.asks(files, clock)
        assert refused.value.code == code, refused.value.one_line()
        assert refused.value.remedy
        assert self._state() == before

    def _state(self) -> dict[str, bytes]:
        paths = (self.home / "trust" / name for name in (MARK, KEPT))
        return {path.name: path.read_bytes() for path in paths if path.exists()}


@pytest.fixture
def repo() -> Simulated:
    """With one release in stable."""
    made = Simulated.begun()
    made.ship()
    return made


@pytest.fixture
def box(repo: Simulated, tmp_path: Path) -> Box:
    """It has read the repository once."""
    made = Box(tmp_path / "box", repo.files["metadata/1.root.json"], repo.now)
    assert made.newest(repo.files) == 1
    return made


@pytest.fixture
def server(repo: Simulated, tmp_path: Path) -> Iterator[Server]:
    with served(lay(tmp_path / "web", repo.files)) as how:
        yield how


def resigned(
    repo: Simulated, made: datetime, ends: datetime, *, timestamp: int, medium: str | None = None
) -> dict[str, bytes]:
    """The repository with snapshot and timestamp as a thief of both keys would sign them."""
    snapshot: Metadata[Snapshot] = Metadata.from_bytes(repo.published.snapshot.to_bytes())
    snapshot.signatures.clear()
    snapshot.signed.version += 1
    snapshot.signed.expires = ends
    snapshot.sign(repo.people["which"])
    data = snapshot.to_bytes()
    said = {MADE: made.strftime(TIME)} | ({MEDIUM: medium} if medium else {})
    stamp: Metadata[Timestamp] = Metadata(
        Timestamp(
            version=timestamp,
            expires=ends,
            snapshot_meta=MetaFile.from_data(snapshot.signed.version, data, ["sha256"]),
            unrecognized_fields=said,
        )
    )
    stamp.sign(repo.people["when"])
    return repo.files | {
        f"metadata/{snapshot.signed.version}.snapshot.json": data,
        "metadata/timestamp.json": stamp.to_bytes(),
    }


# ---- who may sign


def test_arbitrary_install_with_a_root_of_the_thiefs_own(repo: Simulated, box: Box) -> None:
    mine = {role: [key(name) for name in names] for role, names in PLACES.items()}
    made = drafts.first({r: [k.public_key for k in ks] for r, ks in mine.items()}, repo.now)
    root: Metadata[Root] = made["root"].metadata()
    root.signed.version = 2
    for one in mine["root"]:
        root.sign(one, append=True)
    box.refuses(repo.files | {"metadata/2.root.json": root.to_bytes()}, "release_signature")


def test_a_release_signed_with_keys_of_another_role(repo: Simulated, box: Box) -> None:
    change = with_release(repo.files, repo.release(version="6.6.6"))
    box.refuses(forged(repo, "stable", change, "jan", "dora", "anna"), "release_signature")


def test_a_release_signed_with_one_key_below_the_threshold(repo: Simulated, box: Box) -> None:
    change = with_release(repo.files, repo.release(version="6.6.6"))
    box.refuses(forged(repo, "stable", change, "gina"), "release_signature")


def test_a_release_signed_twice_with_one_key(repo: Simulated, box: Box) -> None:
    change = with_release(repo.files, repo.release(version="6.6.6"))
    box.refuses(forged(repo, "stable", change, "gina", "gina"), "release_signature")


def test_a_stolen_threshold_and_then_a_rotation(repo: Simulated, box: Box) -> None:
    """A thief with two keys of stable and the server is believed, until the keys are exchanged."""
    evil = repo.release(version="6.6.6").model_copy(update={"number": 9})
    stolen = forged(repo, "stable", with_release(repo.files, evil), "gina", "hans")
    assert box.newest(stolen) == 9
    repo.rotate("stable", ("gina", "hans"), ("lena", "mara"))
    repo.rotate("snapshot", ("which",), ("which2",))
    repo.rotate("timestamp", ("when",), ("when2",))
    repo.sign("root")
    repo.sign("targets")
    repo.sign("stable", "lena", "ines")
    repo.publish("which2", "when2", "first")
    assert box.newest(repo.files) == 1
    roots = {path: data for path, data in repo.files.items() if path.endswith(".root.json")}
    box.refuses(stolen | roots, "release_signature")
    box.refuses(stolen, "release_signature")


# ---- what was true once


def test_rollback_to_what_was_published_before(repo: Simulated, box: Box) -> None:
    old = dict(repo.files)
    repo.ship(version="0.3.0")
    assert box.newest(repo.files) == 2
    box.refuses(old, "release_older")


def test_freeze_at_a_repository_that_is_no_longer_signed(repo: Simulated, box: Box) -> None:
    box.refuses(repo.files, "release_expired", repo.now + timedelta(days=3))


def test_mix_and_match_of_two_moments(repo: Simulated, box: Box) -> None:
    repo.add(repo.release(version="0.3.0"))
    repo.sign("stable")
    found = repo.publish()
    path = next(path for path, _ in found.files if path.endswith(".stable.json"))
    mixed = repo.files | {path: repo.files["metadata/2.stable.json"]}
    box.refuses(mixed, "release_digest")


def test_fast_forward_and_recovery_by_a_new_key(repo: Simulated, box: Box) -> None:
    timestamp = Metadata[Any].from_bytes(repo.files["metadata/timestamp.json"])
    timestamp.signed.version = 2**31
    timestamp.sign(repo.people["when"])
    box.newest(repo.files | {"metadata/timestamp.json": timestamp.to_bytes()})
    box.refuses(repo.files, "release_older")
    repo.rotate("timestamp", ("when",), ("when2",))
    repo.sign("root")
    repo.publish("which", "when2", "first")
    assert box.newest(repo.files) == 1
    assert box.trust.mark().timestamp < 2**31


def test_a_time_far_ahead_signed_by_a_thief_and_recovery_by_new_keys(
    repo: Simulated, box: Box
) -> None:
    ahead, ends = repo.now + timedelta(days=200), repo.now + timedelta(days=300)
    box.newest(resigned(repo, ahead, ends, timestamp=50))
    assert box.trust.mark().made == ahead
    repo.numbers = repo.numbers.model_copy(update={"timestamp": 60, "snapshot": 60})
    repo.publish()
    box.refuses(repo.files, "release_expired")
    repo.rotate("snapshot", ("which",), ("which2",))
    repo.rotate("timestamp", ("when",), ("when2",))
    repo.sign("root")
    repo.publish("which2", "when2", "first")
    assert box.newest(repo.files) == 1
    assert box.trust.mark().made == repo.now


def test_a_time_after_the_end_of_what_it_comes_with(repo: Simulated, box: Box) -> None:
    ahead, ends = repo.now + timedelta(days=900), repo.now + timedelta(days=1000)
    box.refuses(resigned(repo, ahead, ends, timestamp=50), "release_made")


@pytest.mark.parametrize("left", [None, b"", b'{"files": {"timestamp.json": "half'])
def test_metadata_lost_by_a_power_cut_takes_no_old_repository(
    repo: Simulated, box: Box, left: bytes | None
) -> None:
    old = dict(repo.files)
    repo.ship(version="0.3.0")
    assert box.newest(repo.files) == 2
    kept = box.trust.folder / KEPT
    kept.unlink() if left is None else kept.write_bytes(left)
    box.refuses(old, "release_older")
    assert box.newest(repo.files) == 2


def test_metadata_lost_and_keys_exchanged_takes_no_repository_of_the_old_keys(
    repo: Simulated, box: Box
) -> None:
    old = dict(repo.files)
    repo.rotate("snapshot", ("which",), ("which2",))
    repo.rotate("timestamp", ("when",), ("when2",))
    repo.sign("root")
    repo.publish("which2", "when2", "first")
    assert box.newest(repo.files) == 1
    (box.trust.folder / KEPT).unlink()
    box.refuses(old, "release_older")


# ---- the clock


def test_a_clock_of_1970_revives_nothing(repo: Simulated, box: Box) -> None:
    old = dict(repo.files)
    repo.later(days=10)
    repo.publish()
    in_1970 = datetime(1970, 1, 1, tzinfo=timezone.utc)
    offered = box.asks(repo.files, in_1970)
    assert offered.at == repo.now
    (box.trust.folder / KEPT).unlink()
    box.refuses(old, "release_expired", in_1970)
    fresh = Box(box.home / "fresh", box.root, repo.now)
    assert fresh.asks(repo.files, in_1970).at == repo.now


def test_a_clock_of_2099_is_the_clock_and_leaves_no_trace(repo: Simulated, box: Box) -> None:
    in_2099 = datetime(2099, 1, 1, tzinfo=timezone.utc)
    box.refuses(repo.files, "clock", in_2099)
    assert box.newest(repo.files) == 1
    fresh = Box(box.home / "fresh", box.root, repo.now)
    fresh.refuses(repo.files, "clock", in_2099)
    assert fresh.newest(repo.files) == 1


def test_a_box_that_was_off_for_two_years_takes_what_is_signed_today(
    repo: Simulated, box: Box
) -> None:
    """Its clock is right, and 400 days past all that it knows."""
    for _ in range(8):
        repo.later(days=91)
        repo.clock_is_right = True
        for role in ("root", "targets", "stable", "canary", "site-north"):
            repo.rotate(role)
        for role in list(repo.drafts):
            repo.sign(role)
        repo.publish()
    assert box.newest(repo.files, repo.now) == 1


# ---- the way to the box


def test_endless_metadata_and_an_endless_blob(
    repo: Simulated, box: Box, server: Server, tmp_path: Path
) -> None:
    server.endless = "metadata/timestamp.json"
    box.refuses(Web(server.url), "release_endless")
    assert server.sent < ENDLESS
    server.sent = 0
    wheel = repo.published.releases["stable/1.json"].appliance.wheel
    server.endless = wheel.path
    with pytest.raises(ReleaseRefused) as refused:
        Downloads(tmp_path / "downloads", Web(server.url)).one(wheel)
    assert refused.value.code == "blob_length"
    assert server.sent < ENDLESS
    assert list((tmp_path / "downloads").iterdir()) == []


def test_slow_retrieval(box: Box, server: Server) -> None:
    """By a clock on which each piece takes a minute."""
    minutes = itertools.count(0.0, 60.0)
    pace = Pace(now=lambda: next(minutes))
    box.refuses(Web(server.url, pace=pace), "repository_slow")


def test_a_truncated_blob_goes_on_and_a_truncated_role_is_refused(
    repo: Simulated, box: Box, tmp_path: Path
) -> None:
    repo.ship(version="0.3.0")
    path = "metadata/3.stable.json"
    box.refuses(repo.files | {path: repo.files[path][:-20]}, "release_digest")
    wheel = repo.published.releases["stable/2.json"].appliance.wheel
    cut = repo.files | {wheel.path: repo.files[wheel.path][:-20]}
    downloads = Downloads(tmp_path / "downloads", Folder(lay(tmp_path / "stick", cut)))
    with pytest.raises(PeerAway) as broken:
        downloads.one(wheel)
    assert broken.value.code == "blob_cut"
    lay(tmp_path / "stick", repo.files)
    assert packed.unpack(wheel, downloads.one(wheel).read_bytes())


def test_a_full_disk_changes_nothing(repo: Simulated, box: Box, tmp_path: Path) -> None:
    repo.ship(version="0.3.0")
    source = Folder(lay(tmp_path / "stick", repo.files))
    before = box.trust.mark()
    full = Trust(box.trust.folder, box.root, box.built, Full())
    with pytest.raises(StateUnusable, match="No space left"):
        full.refresh(source, "stable", repo.now)
    assert box.trust.mark() == before
    wheel = repo.published.releases["stable/2.json"].appliance.wheel
    with pytest.raises(StateUnusable, match="No space left"):
        Downloads(tmp_path / "downloads", source, disk=Full()).one(wheel)
    assert [part.stat().st_size for part in (tmp_path / "downloads").iterdir()] == [0]
    assert box.newest(repo.files) == 2


class PulledOut(Folder):
    """A stick that is pulled out when the given file is half read."""

    def __init__(self, root: Path, at: str) -> None:
        super().__init__(root)
        self._top, self._at = root, at

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        if not path.endswith(self._at):
            yield from super().read(path, start)
            return
        whole = b"".join(super().read(path, start))
        yield whole[: len(whole) // 2]
        shutil.rmtree(self._top)
        yield from super().read(path, start)


@pytest.mark.parametrize("at", ["timestamp.json", "stable.json", "targets.json"])
def test_a_stick_is_pulled_out(repo: Simulated, box: Box, tmp_path: Path, at: str) -> None:
    repo.ship(version="0.3.0")
    repo.rotate("targets")
    repo.sign("targets")
    repo.publish()
    stick = lay(tmp_path / "stick", repo.stick())
    box.refuses(PulledOut(stick, at), "stick_gone")
    assert box.newest(repo.stick()) == 2


# ---- sticks


def test_a_stick_is_older_than_the_box(repo: Simulated, box: Box) -> None:
    stick = repo.stick()
    repo.publish()
    assert box.newest(repo.files) == 1
    box.refuses(stick, "release_older")


def test_online_then_a_stick_then_online(repo: Simulated, box: Box) -> None:
    repo.ship(version="0.3.0")
    offered = box.asks(repo.stick())
    assert offered.stick
    assert [one.number for one in offered.releases] == [2, 1]
    box.refuses(repo.files, "release_older")
    repo.publish()
    online = box.asks(repo.files)
    assert not online.stick
    assert online.releases[0].number == 2


def test_a_stick_holds_where_the_network_does_not(repo: Simulated, box: Box) -> None:
    stick = repo.stick(days=30)
    later = repo.now + timedelta(days=29)
    box.refuses(repo.files, "release_expired", later)
    assert box.newest(stick, later) == 1
    box.refuses(stick, "release_expired", later + timedelta(days=2))


def test_what_was_signed_for_a_stick_comes_over_no_network(
    repo: Simulated, box: Box, server: Server
) -> None:
    lay(server.folder, repo.stick())
    box.refuses(Web(server.url), "stick_over_network")
    assert box.newest(repo.files) == 1


def test_a_mark_of_a_stick_on_one_of_both_is_enough(
    repo: Simulated, box: Box, server: Server
) -> None:
    ends = repo.now + timedelta(days=90)
    lay(server.folder, resigned(repo, repo.now, ends, timestamp=50, medium=STICK))
    box.refuses(Web(server.url), "stick_over_network")


# ---- what a release says


def test_a_release_that_the_role_of_another_channel_signs(repo: Simulated, box: Box) -> None:
    evil = repo.release(version="6.6.6").model_copy(update={"number": 9})
    files = forged(repo, "canary", with_release(repo.files, evil), "jan")
    assert box.newest(files) == 1
    assert box.asks(files, channel="canary").releases == ()


def test_a_release_of_another_channel_under_this_name(repo: Simulated, box: Box) -> None:
    data = write(repo.release("canary", "0.3.0"))
    line = TargetFile.from_data("stable/2.json", data, ["sha256"])
    repo.files[target_path("stable/2.json", line.hashes["sha256"])] = data

    def change(role: Targets) -> None:
        role.targets["stable/2.json"] = line

    box.refuses(forged(repo, "stable", change, "gina", "hans"), "release_elsewhere")


def facts(repo: Simulated, **change: Any) -> Facts:
    said: dict[str, Any] = {
        "at": repo.now,
        "channel": "stable",
        "site": "north",
        "kind": "x86-64",
        "python": "3.11",
        "appliance": Named(name="scanside", version="0.1.0", digest="a" * 64),
        "slot": 0,
        "free_mb": 1000.0,
        "in_window": True,
        "idle": True,
        "between_series": True,
    }
    return Facts(**{**said, **change})


def why(release: Release, box: Facts) -> set[Why]:
    made = plan([Offer(release=release)], box, Update(auto=("security", "feature", "model")))
    assert made.release is None
    return {one.code for one in made.why}


def test_a_release_of_another_site_or_kind_of_device(repo: Simulated, tmp_path: Path) -> None:
    release = repo.release("site-north")
    south = facts(repo, channel="site-north", site="south")
    assert why(release, south) == {Why.OTHER_SITE}
    orin = facts(repo, channel="site-north", kind="orin")
    assert why(release, orin) == {Why.OTHER_DEVICE}
    with pytest.raises(ReleaseRefused) as refused:
        Downloads(tmp_path, Folder(tmp_path)).whole(release, "orin")
    assert refused.value.code == "release_elsewhere"


def test_a_version_relabelled(repo: Simulated, box: Box) -> None:
    """In one repository, and against what the box had before."""
    other = repo.release(version="0.2.0", text="other bytes")
    files = forged(repo, "stable", with_release(repo.files, other), "gina", "hans")
    box.refuses(files, "release_relabelled")
    had = repo.published.releases["stable/1.json"].appliance
    known = (Named(name="scanside", version="0.2.0", digest=had.wheel.digest),)
    assert why(other, facts(repo, known=known)) == {Why.RELABELLED}


def entry(repo: Simulated, version: str) -> Recalled:
    return Recalled(
        what="bundle", name="lung-nodule", version=version, digest=version[0] * 64,
        reason="It misses nodules.", at=repo.now,
    )  # fmt: skip


def test_what_was_recalled_stays_so_whatever_a_repository_leaves_out(
    repo: Simulated, box: Box
) -> None:
    repo.recall(entry(repo, "1.0.0"), entry(repo, "2.0.0"))
    repo.sign("targets")
    repo.publish()
    told = box.asks(repo.files).recall
    assert told is not None
    assert len(told.entries) == 2

    def less(entries: tuple[Recalled, ...] | None) -> dict[str, bytes]:
        """A thief of two keys of targets and of the server takes something back."""

        def change(targets: Targets) -> None:
            del targets.targets["recall.json"]
            if entries is not None:
                data = write(Recall(number=9, made=repo.now, entries=entries))
                line = TargetFile.from_data("recall.json", data, ["sha256"])
                repo.files[target_path("recall.json", line.hashes["sha256"])] = data
                targets.targets["recall.json"] = line

        return forged(repo, roles.TARGETS, change, "dora", "emil")

    box.refuses(less((entry(repo, "1.0.0"),)), "release_older")
    assert box.asks(less(None)).recall == told
    (box.trust.folder / KEPT).unlink()
    assert box.trust.mark().recall == told


# ---- blobs


@pytest.fixture
def whole(repo: Simulated, tiny_bytes: bytes) -> Release:
    """A release with a bundle."""
    return repo.release(version="0.3.0", bundles=(signed(tiny_bytes),))


def fetched(files: Mapping[str, bytes], release: Release, folder: Path) -> Downloads:
    made = Downloads(folder / "downloads", Folder(lay(folder / "stick", files)))
    made.whole(release, "x86-64")
    return made


Plain = list[tuple[str, bytes]]


def listed(repo: Simulated, release: Release, change: Callable[[Plain], Plain]) -> Release:
    """A release of whoever may sign one, whose list of a bundle's files (name and plain bytes) was
    changed so."""
    (one,) = release.bundles
    found = packed.read_contents(one.contents, repo.files[one.contents.path])
    plain = [(e.name, packed.unpack(e, repo.files[e.path])) for e in found.files]
    store = contents.Store(repo.files.get)
    files = change(plain)
    try:
        data = archive.write(dict(files))
    except BundleRefused:
        data = b""  # what makes no archive is listed all the same
    said = found.model_dump(mode="json", by_alias=True) | {
        "digest": packed.digest(data),
        "length": len(data),
        "files": [{"name": name, **store.add(d).model_dump()} for name, d in files],
    }
    bad = one.model_copy(update={"contents": store.add(json.dumps(said).encode())})
    repo.files |= store.new
    return release.model_copy(update={"bundles": (bad,)})


def test_one_network_tampered_on_the_way(repo: Simulated, whole: Release, tmp_path: Path) -> None:
    (one,) = whole.bundles
    found = packed.read_contents(one.contents, repo.files[one.contents.path])
    network = next(e for e in found.files if e.name.endswith(".onnx"))
    data = packed.unpack(network, repo.files[network.path])
    _, frame = packed.pack(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ReleaseRefused) as refused:
        fetched(repo.files | {network.path: frame}, whole, tmp_path)
    assert refused.value.code in {"blob_digest", "blob_length"}


def test_one_network_tampered_by_who_may_sign_the_manifest_intact(
    repo: Simulated, whole: Release, tmp_path: Path
) -> None:
    def tampered(plain: Plain) -> Plain:
        return [(n, d[:-1] + bytes([d[-1] ^ 1]) if n.endswith(".onnx") else d) for n, d in plain]

    bad = listed(repo, whole, tampered)
    made = fetched(repo.files, bad, tmp_path)
    with pytest.raises(ReleaseRefused) as refused:
        bundle(bad.bundles[0], made.folder)
    assert refused.value.code == "bundle_digest"


def test_a_bundle_under_the_name_of_another(
    repo: Simulated, whole: Release, tmp_path: Path
) -> None:
    (one,) = whole.bundles
    bad = one.model_copy(update={"name": "lung-nodule"})
    made = fetched(repo.files, whole, tmp_path)
    with pytest.raises(ReleaseRefused) as refused:
        bundle(bad, made.folder)
    assert refused.value.code == "release_digest"
    assert archive.read(bundle(one, made.folder))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "golden/../../x.npz"])
def test_a_path_out_of_the_bundle(
    repo: Simulated, whole: Release, tmp_path: Path, name: str
) -> None:
    bad = listed(repo, whole, lambda plain: sorted([*plain, (name, b"x")]))
    with pytest.raises(ReleaseRefused) as refused:
        fetched(repo.files, bad, tmp_path)
    assert refused.value.code == "release_record"


def test_a_file_that_comes_twice(repo: Simulated, whole: Release, tmp_path: Path) -> None:
    bad = listed(repo, whole, lambda plain: sorted([*plain, (plain[0][0], b"x")]))
    with pytest.raises(ReleaseRefused, match="twice") as refused:
        fetched(repo.files, bad, tmp_path)
    assert refused.value.code == "release_record"


def test_a_blob_bomb(repo: Simulated, whole: Release, tmp_path: Path) -> None:
    bomb, frame = packed.pack(b"\0" * 50_000_000)
    wheel = whole.appliance.wheel.model_copy(
        update={"digest": bomb.digest, "length": 1_000, "packed": len(frame)}
    )
    appliance = whole.appliance.model_copy(update={"wheel": wheel})
    bad = whole.model_copy(update={"appliance": appliance})
    with pytest.raises(ReleaseRefused) as refused:
        fetched(repo.files | {wheel.path: frame}, bad, tmp_path)
    assert refused.value.code == "blob_length"
    assert not (tmp_path / "downloads" / f"{bomb.digest}.part").exists()
