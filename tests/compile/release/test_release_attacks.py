"""Attacks on a repository, each as it would happen; who is asked is a plain client of python-tuf,
and the product's own reading of the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import BadVersionNumberError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from appliance.bundle import archive
from appliance.errors import ReleaseRefused
from appliance.release import blobs
from appliance.release.record import Blob, Recalled, write
from compile.release import adoption, contents, drafts, roles
from compile.release.published import load, read, target_path
from rigs.bundles import called, signed
from rigs.releasing import PLACES, Box, Simulated, forged, key, with_release

MakeBox = Callable[[], Box]


@pytest.fixture
def repo() -> Simulated:
    """With one release in stable."""
    made = Simulated.begun()
    made.ship()
    return made


@pytest.fixture
def box(repo: Simulated, tmp_path: Path) -> MakeBox:
    """Boxes that know the first root."""
    number = iter(range(100))

    def made() -> Box:
        return Box(tmp_path / str(next(number)), repo.files["metadata/1.root.json"])

    return made


def number(release: bytes | None) -> int:
    assert release is not None
    return int(json.loads(release)["number"])


def codes(repo: Simulated, files: dict[str, bytes]) -> set[str]:
    return {fault.code for fault in read(files.get, repo.now)[1]}


def test_a_release_with_one_signature_of_two_is_not_published(repo: Simulated) -> None:
    repo.add(repo.release(version="0.3.0"))
    repo.sign("stable", "gina")
    found = repo.publish()
    assert found.waits == {"stable": "1 more signature"}
    assert "stable/2.json" not in repo.published.releases
    repo.sign("stable", "ines")
    assert repo.publish().adopted == ("stable",)
    assert "stable/2.json" in repo.published.releases


def test_one_key_below_the_threshold_is_refused_by_every_box(repo: Simulated, box: MakeBox) -> None:
    """The thief has one key of stable and every online key."""
    change = with_release(repo.files, repo.release(version="6.6.6"))
    files = forged(repo, "stable", change, "gina")
    with pytest.raises(UnsignedMetadataError):
        box().newest(files)
    assert "release_signature" in codes(repo, files)


def test_signing_twice_with_one_key_counts_once(repo: Simulated, box: MakeBox) -> None:
    repo.add(repo.release(version="0.3.0"))
    repo.sign("stable", "gina")
    repo.sign("stable", "gina")
    assert drafts.lacking(repo.here, repo.drafts["stable"]) == 1
    said = json.loads(adoption._of_signers(repo.here, repo.drafts["stable"]).metadata().to_bytes())
    said["signatures"] *= 2
    assert len(said["signatures"]) == 2
    with pytest.raises(ReleaseRefused, match="damaged"):
        load(Targets, json.dumps(said).encode(), "stable")
    with pytest.raises(RepositoryError):
        Metadata.from_bytes(json.dumps(said).encode())


def test_one_key_under_two_names_is_a_fault(repo: Simulated) -> None:
    """Of a root with which one person alone would reach the threshold of stable."""
    gina = repo.people["gina"].public_key
    twin = SSlibKey("0" * 64, gina.keytype, gina.scheme, dict(gina.keyval))
    assert roles.own_name(gina)
    assert not roles.own_name(twin)

    def change(targets: Targets) -> None:
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        targets.delegations.keys[twin.keyid] = twin
        targets.delegations.roles["stable"].keyids[1] = twin.keyid

    files = forged(repo, roles.TARGETS, change, "dora", "emil")
    assert "release_roles" in codes(repo, files)


def test_a_lower_threshold_is_a_fault_whoever_signed_it(repo: Simulated) -> None:
    def change(targets: Targets) -> None:
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        targets.delegations.roles["stable"].threshold = 1

    files = forged(repo, roles.TARGETS, change, "dora", "emil")
    assert "release_roles" in codes(repo, files)


def test_a_role_that_signs_for_another_channel_reaches_nobody(
    repo: Simulated, box: MakeBox
) -> None:
    evil = repo.release(version="6.6.6").model_copy(update={"number": 9})
    files = forged(repo, "canary", with_release(repo.files, evil), "jan")
    assert number(box().newest(files, "stable")) == 1
    assert box().has(files, "stable/9.json") is None
    assert "release_elsewhere" in codes(repo, files)


def test_a_release_of_another_channel_under_this_name_is_refused(repo: Simulated) -> None:
    other = repo.release("canary", "0.3.0")
    data = write(other)
    line = TargetFile.from_data("stable/2.json", data, ["sha256"])
    repo.files[target_path("stable/2.json", line.hashes["sha256"])] = data

    def change(role: Targets) -> None:
        role.targets["stable/2.json"] = line

    files = forged(repo, "stable", change, "gina", "hans")
    assert codes(repo, files) == {"release_elsewhere"}


def test_a_version_never_returns_with_other_bytes_in_any_channel(repo: Simulated) -> None:
    other = repo.release("canary", "0.2.0", text="other bytes")
    with pytest.raises(ReleaseRefused) as refused:
        repo.add(other)
    assert refused.value.code == "release_relabelled"
    files = forged(repo, "canary", with_release(repo.files, other), "jan")
    assert codes(repo, files) == {"release_relabelled"}


def test_a_bundle_never_returns_with_other_bytes(repo: Simulated, tiny_bytes: bytes) -> None:
    repo.add(repo.release("canary", "0.3.0", bundles=(called("tiny", tiny_bytes),)))
    repo.sign("canary")
    repo.publish()
    with pytest.raises(ReleaseRefused, match="bundle tiny") as refused:
        repo.add(repo.release("stable", "0.3.0", bundles=(called("tiny", tiny_bytes, title="!"),)))
    assert refused.value.code == "release_relabelled"


def test_a_stolen_threshold_ends_with_a_rotation(repo: Simulated, box: MakeBox) -> None:
    """Two keys of stable and every online key are stolen; a box takes what the thief made."""
    evil = repo.release(version="6.6.6").model_copy(update={"number": 9})
    change = with_release(repo.files, evil)

    def fast(role: Targets) -> None:
        change(role)
        role.version = 900

    files = forged(repo, "stable", fast, "gina", "hans")
    victim = box()
    assert number(victim.newest(files)) == 9

    repo.rotate("stable", ("gina", "hans"), ("lena", "mara"))
    repo.rotate("snapshot", ("which",), ("which2",))
    repo.rotate("timestamp", ("when",), ("when2",))
    repo.sign("root")
    repo.sign("targets")
    repo.sign("stable", "lena", "ines")
    repo.publish("which2", "when2", "first")
    repo.add(repo.release(version="0.3.0"))
    repo.sign("stable", "lena", "mara")
    repo.publish("which2", "when2", "first")
    assert number(victim.newest(repo.files)) == 2
    assert number(box().newest(repo.files)) == 2

    again = dict(files)
    again |= {path: data for path, data in repo.files.items() if path.endswith(".root.json")}
    for one in (victim, box()):
        with pytest.raises(RepositoryError):
            one.newest(again)


def test_a_fast_forward_ends_with_new_online_keys(repo: Simulated, box: MakeBox) -> None:
    victim = box()
    timestamp = Metadata[Any].from_bytes(repo.files["metadata/timestamp.json"])
    timestamp.signed.version = 2**31
    timestamp.sign(repo.people["when"])
    victim.newest(repo.files | {"metadata/timestamp.json": timestamp.to_bytes()})
    with pytest.raises(BadVersionNumberError):
        victim.newest(repo.files)
    repo.rotate("timestamp", ("when",), ("when2",))
    repo.sign("root")
    repo.publish("which", "when2", "first")
    assert number(victim.newest(repo.files)) == 1


def test_what_was_published_before_is_refused_by_a_box_that_knows_more(
    repo: Simulated, box: MakeBox
) -> None:
    before, one = dict(repo.files), box()
    repo.ship(version="0.3.0")
    assert number(one.newest(repo.files)) == 2
    with pytest.raises(BadVersionNumberError):
        one.newest(repo.files | {"metadata/timestamp.json": before["metadata/timestamp.json"]})


def test_a_frozen_repository_is_over_after_two_days(repo: Simulated) -> None:
    repo.later(days=3)
    assert set(repo.faults()) == {"release_expired"}
    repo.later(days=-3)
    assert repo.faults() == []


def test_files_of_two_moments_do_not_mix(repo: Simulated, box: MakeBox) -> None:
    repo.add(repo.release(version="0.3.0"))
    repo.sign("stable")
    found = repo.publish()
    path = next(path for path, _ in found.files if path.endswith(".stable.json"))
    mixed = repo.files | {path: repo.files["metadata/2.stable.json"]}
    with pytest.raises(RepositoryError):
        box().newest(mixed)
    assert "release_digest" in codes(repo, mixed)


def test_a_blob_with_other_bytes_keeps_its_release_from_being_published(repo: Simulated) -> None:
    release = repo.add(repo.release(version="0.3.0"))
    path = release.appliance.wheel.path
    _, frame = blobs.pack(b"other bytes")
    for bad in (frame, repo.files[path][:-1], repo.files[path] + b"\0", b""):
        files = repo.files | {path: bad}
        assert [fault.code[:5] for fault in contents.faults(release, files.get)] == ["blob_"]
    files = {name: data for name, data in repo.files.items() if name != path}
    assert [fault.code for fault in contents.faults(release, files.get)] == ["release_missing"]


def test_one_network_of_a_bundle_that_was_changed_is_found(
    repo: Simulated, tiny_bytes: bytes
) -> None:
    """Blob and list fit each other; the manifest, which they say is that of the bundle, does
    not."""
    release = repo.release(version="0.3.0", bundles=(signed(tiny_bytes),))
    (one,) = release.bundles
    found = blobs.read_contents(one.contents, repo.files[one.contents.path])
    store = contents.Store(repo.files.get)
    files = []
    for entry in found.files:
        data = blobs.unpack(entry, repo.files[entry.path])
        if entry.name.endswith(".onnx"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        files.append((entry.name, data))
    whole = archive.write(dict(files))
    entries = tuple({"name": n, **store.add(d).model_dump()} for n, d in files)
    forged_list = found.model_validate(
        {"digest": blobs.digest(whole), "length": len(whole), "files": entries}
    )
    bad = one.model_copy(update={"contents": store.add(write(forged_list))})
    repo.files |= store.new
    faults = list(contents.faults(release.model_copy(update={"bundles": (bad,)}), repo.files.get))
    assert [fault.code for fault in faults] == ["bundle_digest"]


def test_what_was_recalled_is_in_no_new_release(repo: Simulated, box: MakeBox) -> None:
    release = repo.published.releases["stable/1.json"]
    repo.recall(
        Recalled(
            what="appliance",
            name="scanside",
            version="0.2.0",
            digest=release.appliance.wheel.digest,
            reason="it loses slices",
            at=repo.now,
        )
    )
    repo.sign("targets")
    repo.publish()
    said = box().has(repo.files, "recall.json")
    assert said is not None
    assert json.loads(said)["entries"][0]["reason"] == "it loses slices"
    with pytest.raises(ReleaseRefused) as refused:
        repo.add(repo.release(version="0.2.0"))
    assert refused.value.code == "release_recalled"


def test_nothing_leaves_the_list_of_what_was_recalled(repo: Simulated) -> None:
    entry = Recalled(
        what="bundle", name="lung-nodule", version="1.2.0", digest="a" * 64, reason="it is wrong",
        at=repo.now,
    )  # fmt: skip
    repo.recall(entry)
    repo.sign("targets")
    repo.publish()
    repo.rotate("targets")
    draft = repo.drafts["targets"].metadata()
    del draft.signed.targets["recall.json"]
    repo.drafts["targets"] = drafts.Draft("targets", draft.to_bytes())
    repo.sign("targets")
    assert "recalled would be gone" in repo.publish().refused["targets"]
    assert repo.published.recall is not None


def test_a_release_that_disappears_or_changes_is_not_published(repo: Simulated) -> None:
    repo.rotate("stable")
    draft = repo.drafts["stable"].metadata()
    del draft.signed.targets["stable/1.json"]
    repo.drafts["stable"] = drafts.Draft("stable", draft.to_bytes())
    repo.sign("stable")
    assert repo.publish().refused == {"stable": "stable/1.json would be gone"}
    assert "stable/1.json" in repo.published.releases


def test_a_number_is_never_given_twice(repo: Simulated) -> None:
    made = repo.release(version="0.3.0")
    for wrong in (1, 3):
        with pytest.raises(ReleaseRefused) as refused:
            repo.add(made.model_copy(update={"number": wrong}))
        assert refused.value.code == "release_number"


def test_a_blob_of_a_release_cannot_be_longer_than_what_was_signed(repo: Simulated) -> None:
    bomb, frame = blobs.pack(b"\0" * 50_000_000)
    assert len(frame) < 5_000
    with pytest.raises(ReleaseRefused) as refused:
        blobs.unpack(Blob(digest=bomb.digest, length=1_000, packed=len(frame)), frame)
    assert refused.value.code == "blob_length"


def test_a_root_that_the_old_one_did_not_sign_is_not_taken(repo: Simulated, box: MakeBox) -> None:
    """The thief makes keys of all roles, and a root of them."""
    mine = {role: [key(name) for name in names] for role, names in PLACES.items()}
    made = drafts.first({r: [k.public_key for k in ks] for r, ks in mine.items()}, repo.now)
    root: Metadata[Root] = made["root"].metadata()
    root.signed.version = 2
    for one in mine["root"]:
        root.sign(one, append=True)
    files = repo.files | {"metadata/2.root.json": root.to_bytes()}
    with pytest.raises(UnsignedMetadataError):
        box().newest(files)
    assert "release_signature" in codes(repo, files)


def test_a_signature_over_another_draft_counts_for_nothing(repo: Simulated) -> None:
    repo.add(repo.release(version="0.3.0"))
    repo.sign("stable", "gina", "hans")
    before = repo.drafts["stable"]
    repo.add(repo.release(version="0.4.0"))
    now = repo.drafts["stable"]
    moved = replace(now, signatures=before.signatures)
    assert drafts.lacking(repo.here, moved) == 2
    kept = [
        drafts.OneSignature(keyid=k, sig=s.signature, of=before.digest)
        for k, s in before.signatures.items()
    ]
    assert drafts.received(now, kept).signatures == {}


def test_a_key_signs_no_role_that_is_not_its_own(repo: Simulated) -> None:
    repo.add(repo.release(version="0.3.0"))
    for name in ("jan", "dora", "anna", "which"):
        with pytest.raises(ReleaseRefused) as refused:
            repo.sign("stable", name)
        assert refused.value.code == "draft_key"


def test_an_online_key_serves_in_no_offline_role() -> None:
    people = {name: key(name) for names in PLACES.values() for name in names}
    held = {role: [people[n].public_key for n in names] for role, names in PLACES.items()}
    for online in roles.ONLINE:
        with pytest.raises(ReleaseRefused, match="serves in canary and, online"):
            drafts.first({**held, "canary": held[online]}, Simulated().now)
    with pytest.raises(ReleaseRefused, match="needs 3 different keys"):
        drafts.first({**held, "root": [held["root"][0]] * 3}, Simulated().now)


def test_the_key_of_a_draft_is_the_one_of_its_bytes() -> None:
    """`CryptoSigner` and what the metadata say name a key alike."""
    one: CryptoSigner = key("anna")
    raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(one.public_key.keyval["public"]))
    assert roles.public_key("anna", raw).keyid == one.public_key.keyid
