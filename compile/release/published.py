"""What a device would take from a repository: every signature, version, length and digest. Pure.

`read` takes what gives the bytes of a file by its path and touches neither disk nor network; it
keeps the order of the client's workflow (TUF 1.0, 5.3 to 5.6) and says all that is wrong, not only
the first.

Rules.
1. Roots follow each other from 1.root.json (or from the one that is given) to the first number that
   is missing; each is signed by its predecessor's keys and by its own.
2. timestamp.json names the snapshot by number, length and digest; the snapshot so names every role;
   each role so names its targets. What does not fit its line is not taken.
3. What is no longer valid is a fault of its own (`release_expired`): a device refuses it, who signs
   it anew does not. On a stick `rollout` ends with its day; no device asks for it there.
4. A release is taken if its record is one, says its own channel and number, and tells of no name
   and version otherwise than any other release of the repository.
5. Roles are those of the table (compile.release.roles): other thresholds, paths, numbers of keys,
   or a key that counts twice under two names, are faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from appliance.errors import ReleaseRefused
from appliance.release.record import (
    MAX_RECALL_BYTES,
    RECALL,
    Recall,
    Release,
    numbers,
    place,
    read_release,
    told_twice,
)
from appliance.release.record import read as read_record
from compile.release import roles

Read = Callable[[str], bytes | None]
"""Path from the top of the repository -> bytes of the file, None where it is not there."""
S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
MEDIUM, STICK, MADE = "medium", "stick", "made"
EXPIRED = "release_expired"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ANEW = "Sign it anew: `python -m compile release rotate REPO ROLE` and a ceremony (docs/keys.md)."


@dataclass(frozen=True, slots=True)
class Published:
    """A repository as a device takes it. `roles` has targets and all below it by name."""

    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    roles: Mapping[str, Metadata[Targets]]
    releases: Mapping[str, Release]
    recall: Recall | None

    @property
    def stick(self) -> bool:
        """Whether it was made for a stick."""
        return self.timestamp.signed.unrecognized_fields.get(MEDIUM) == STICK

    @property
    def channels(self) -> tuple[str, ...]:
        """By name."""
        return tuple(sorted(role for role in self.roles if roles.is_channel(role)))

    def newest(self, channel: str) -> Release | None:
        """The release of the highest number; None where the channel has none."""
        found = numbers(self.releases, channel)
        return self.releases[f"{channel}/{found[-1]}.json"] if found else None


@dataclass(slots=True)
class _Walk:
    """What is being read. A part that is refused is a fault; the other parts go on."""

    files: Read
    now: datetime
    faults: list[ReleaseRefused] = field(default_factory=list)

    def fault(self, text: str, code: str, remedy: str | None = None) -> None:
        self.faults.append(ReleaseRefused(text, code=code, remedy=remedy))


def read(
    files: Read, now: datetime, *, anchor: bytes | None = None
) -> tuple[Published | None, tuple[ReleaseRefused, ...]]:
    """The repository, and all that is wrong with it. None where root, timestamp, snapshot or
    targets cannot be taken. `anchor`: the root that a device has, if not the first."""
    walk = _Walk(files, now)
    try:
        root = _root(walk, anchor)
        _whole_root(walk, root.signed)
        timestamp = _timestamp(walk, root.signed)
        snapshot = _snapshot(walk, root.signed, timestamp.signed)
        found = {roles.TARGETS: _targets(walk, root.signed, snapshot.signed)}
    except ReleaseRefused as e:
        return None, (*walk.faults, e)
    on_stick = timestamp.signed.unrecognized_fields.get(MEDIUM) == STICK
    found |= _delegated(walk, found[roles.TARGETS].signed, snapshot.signed, on_stick=on_stick)
    recall = _recall(walk, found[roles.TARGETS].signed)
    releases = _releases(walk, found, on_stick=on_stick)
    for line in told_twice(releases.values()):
        walk.fault(
            line, "release_relabelled", "Give what has other bytes a new version, in a new release."
        )
    return Published(root, timestamp, snapshot, found, releases, recall), tuple(walk.faults)


def load(kind: type[S], data: bytes, what: str) -> Metadata[S]:
    """Bytes -> metadata of this kind. ReleaseRefused (`release_metadata`)."""
    try:
        found: Metadata[S] = Metadata.from_bytes(data)
    except DeserializationError as e:
        raise ReleaseRefused(f"{what} is damaged", code="release_metadata") from e
    if found.signed.type != kind.type:
        raise ReleaseRefused(f"{what} is metadata of {found.signed.type}", code="release_metadata")
    return found


def verify(delegator: Root | Targets, role: str, of: Metadata[S], what: str) -> None:
    """That enough of a role's keys signed. ReleaseRefused (`release_signature`)."""
    try:
        result = delegator.get_verification_result(role, of.signed_bytes, of.signatures)
    except ValueError as e:
        raise ReleaseRefused(f"{what}: nobody may sign for {role}", code="release_signature") from e
    if not result:
        raise ReleaseRefused(
            f"{what} is signed by {len(result.signed)} of the {result.threshold} keys it needs",
            code="release_signature",
            remedy="Let the others sign it; a key signs once only, however often it is used.",
        )


def _file(walk: _Walk, path: str) -> bytes:
    data = walk.files(path)
    if data is None:
        raise ReleaseRefused(
            f"{path} is missing",
            code="release_missing",
            remedy="Copy it again from where the repository is made, or publish again.",
        )
    return data


def _valid(walk: _Walk, signed: Signed, what: str) -> None:
    if signed.is_expired(walk.now):
        online = signed.type in roles.ONLINE or what.endswith(f"{roles.ROLLOUT}.json")
        walk.fault(
            f"{what} was valid until {signed.expires:%Y-%m-%d %H:%M} UTC",
            EXPIRED,
            "Publish again." if online else _ANEW,
        )


def _root(walk: _Walk, anchor: bytes | None) -> Metadata[Root]:
    """Rule 1."""
    path = "metadata/1.root.json"
    root = load(Root, _file(walk, path) if anchor is None else anchor, path)
    verify(root.signed, roles.ROOT, root, path)
    while True:
        path = f"metadata/{root.signed.version + 1}.root.json"
        data = walk.files(path)
        if data is None:
            break
        following = load(Root, data, path)
        if following.signed.version != root.signed.version + 1:
            raise ReleaseRefused(
                f"{path} says that it is version {following.signed.version}",
                code="release_version",
            )
        verify(root.signed, roles.ROOT, following, path)
        verify(following.signed, roles.ROOT, following, path)
        root = following
    _valid(walk, root.signed, f"metadata/{root.signed.version}.root.json")
    return root


def _whole_root(walk: _Walk, root: Root) -> None:
    """Rule 5."""
    for name, row in roles.TOP.items():
        role = root.roles[name]
        if role.threshold != row.threshold or len(role.keyids) != row.keys:
            walk.fault(
                f"root wants {role.threshold} of {len(role.keyids)} keys for {name}",
                "release_roles",
                f"{row.threshold} of {row.keys} keys sign for it: make a root that says so.",
            )
        _all_there(role, root.keys, name)
    _own_names(walk, root.keys.values(), roles.ROOT)


def _all_there(role: Role, keys: Mapping[str, Key], name: str) -> None:
    """ReleaseRefused (`release_roles`) where a role has a key that nobody knows."""
    if not set(role.keyids) <= set(keys):
        raise ReleaseRefused(f"{name} has a key that is not there", code="release_roles")


def _own_names(walk: _Walk, keys: Iterable[Key], where: str) -> None:
    for key in keys:
        if not roles.own_name(key):
            walk.fault(
                f"{where}: the key {roles.called(key)} is not called by its own digest",
                "release_roles",
                "Rotate it: under two names one key counts twice.",
            )


def _timestamp(walk: _Walk, root: Root) -> Metadata[Timestamp]:
    path = "metadata/timestamp.json"
    found = load(Timestamp, _file(walk, path), path)
    verify(root, roles.TIMESTAMP, found, path)
    _valid(walk, found.signed, path)
    return found


def _snapshot(walk: _Walk, root: Root, timestamp: Timestamp) -> Metadata[Snapshot]:
    found, path = _named(walk, Snapshot, roles.SNAPSHOT, timestamp.snapshot_meta)
    verify(root, roles.SNAPSHOT, found, path)
    _valid(walk, found.signed, path)
    return found


def _targets(walk: _Walk, root: Root, snapshot: Snapshot) -> Metadata[Targets]:
    found, path = _named(walk, Targets, roles.TARGETS, snapshot.meta.get("targets.json"))
    verify(root, roles.TARGETS, found, path)
    _valid(walk, found.signed, path)
    return found


def _named(walk: _Walk, kind: type[S], role: str, line: MetaFile | None) -> tuple[Metadata[S], str]:
    """Rule 2: the file that this line names."""
    if line is None:
        raise ReleaseRefused(
            f"the snapshot does not name {role}", code="release_missing", remedy="Publish again."
        )
    path = f"metadata/{line.version}.{role}.json"
    data = _file(walk, path)
    try:
        line.verify_length_and_hashes(data)
    except RepositoryError as e:
        raise ReleaseRefused(f"{path} is not the file that was named", code="release_digest") from e
    found = load(kind, data, path)
    if found.signed.version != line.version:
        raise ReleaseRefused(
            f"{path} says that it is version {found.signed.version}", code="release_version"
        )
    return found, path


def _delegated(
    walk: _Walk, targets: Targets, snapshot: Snapshot, *, on_stick: bool
) -> dict[str, Metadata[Targets]]:
    found: dict[str, Metadata[Targets]] = {}
    below = targets.delegations
    if below is None or below.roles is None:
        walk.fault("targets names no channel", "release_roles")
        return found
    _own_names(walk, below.keys.values(), roles.TARGETS)
    for name, role in below.roles.items():
        if (wrong := roles.wrong_delegation(role)) is not None:
            walk.fault(f"targets: {wrong}", "release_roles", "Rotate its keys as the table says.")
            continue
        try:
            _all_there(role, below.keys, name)
            one, path = _named(walk, Targets, name, snapshot.meta.get(f"{name}.json"))
            verify(targets, name, one, path)
            if not (on_stick and name == roles.ROLLOUT):
                _valid(walk, one.signed, path)
            if one.signed.delegations is not None:
                walk.fault(f"{path} lets others sign", "release_roles")
            found[name] = one
        except ReleaseRefused as e:
            walk.faults.append(e)
    return found


def target_path(path: str, digest: str) -> str:
    """Where a target lies: its digest stands before its name (TUF 1.0, 6.2)."""
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}{'/' if folder else ''}{digest}.{name}"


def _sha256(line: TargetFile, path: str) -> str:
    if set(line.hashes) != {"sha256"} or not _DIGEST.fullmatch(line.hashes["sha256"]):
        raise ReleaseRefused(f"{path[:60]!a} is not signed by its SHA-256", code="release_digest")
    return line.hashes["sha256"]


def _target(walk: _Walk, path: str, line: TargetFile) -> bytes:
    where = target_path(path, _sha256(line, path))
    data = _file(walk, where)
    try:
        line.verify_length_and_hashes(data)
    except RepositoryError as e:
        raise ReleaseRefused(
            f"{where} is not the file that was signed", code="release_digest"
        ) from e
    return data


def _recall(walk: _Walk, targets: Targets) -> Recall | None:
    for path in targets.targets:
        if path != RECALL:
            walk.fault(f"targets signs {path[:60]!a} itself", "release_roles")
    line = targets.targets.get(RECALL)
    if line is None:
        return None
    try:
        return read_record(Recall, _target(walk, RECALL, line), RECALL, MAX_RECALL_BYTES)
    except ReleaseRefused as e:
        walk.faults.append(e)
        return None


def _releases(
    walk: _Walk, found: Mapping[str, Metadata[Targets]], *, on_stick: bool
) -> dict[str, Release]:
    """Rule 4. On a stick lie the newest releases alone."""
    releases = {}
    for role, metadata in found.items():
        if not roles.is_channel(role):
            continue
        for path, line in metadata.signed.targets.items():
            try:
                if place(path)[0] != role:
                    raise ReleaseRefused(f"{role} signs {path}", code="release_elsewhere")
                if on_stick and walk.files(target_path(path, _sha256(line, path))) is None:
                    continue
                releases[path] = read_release(_target(walk, path, line), path)
            except ReleaseRefused as e:
                walk.faults.append(e)
    return releases
