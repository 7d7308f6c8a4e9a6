"""What waits for signatures: the next version of a role's metadata, made here and judged. Pure.

Rules.
1. A draft is the metadata that will be published if enough keys sign it: the version after the
   published one, and valid for as long as the table of roles says, from now on.
2. A change of a draft makes the signatures on it void: each is over the very bytes that were shown.
   Who adds while a draft waits adds to that draft; so two people never make two versions of one
   number without seeing it, unless they work on two copies, and then the second is refused
   (`draft_old`).
3. A signature is a file of its own, by its key. Two people who sign at once, on one folder or on
   copies that are brought together, take nothing from each other.
4. Who may sign a new root: the keys of the old root and those of the new one, each to its
   threshold.
5. Where the keys of a role change, the role itself is drafted anew, so that what a lost or stolen
   key signed counts no longer.
6. With a new release those leave the role that nobody needs any more (compile.release.kept). A name
   and version that left does not return with other bytes: the older versions of the role, and the
   releases that they name, stay where they are published, and are asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from securesystemslib.signer import CryptoSigner, Key, Signature
from tuf.api.metadata import Metadata, Role, Root, Signed, TargetFile, Targets

from appliance.errors import ReleaseRefused
from appliance.release.record import (
    RECALL,
    Recall,
    Recalled,
    Release,
    numbers,
    read_release,
    told_twice,
    write,
)
from appliance.release.record import read as read_record
from appliance.report import Digest, Record
from compile.release import roles
from compile.release.kept import kept
from compile.release.published import Published, Read, load, target_path

_MEMORY = (
    "Copy it back from the backup: older versions of a role are how the repository knows which "
    "names and versions were given."
)
_AGAIN = "Remove its folder below drafts/ and make it again from what is published now."


class OneSignature(Record):
    """One signature as it lies beside its draft."""

    keyid: str
    sig: str
    of: Digest
    """SHA-256 of the draft that it was made over."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Metadata that waits. `signatures` are those over these very bytes."""

    role: str
    data: bytes = field(repr=False)
    signatures: Mapping[str, Signature] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of what is to be signed."""
        return hashlib.sha256(self.data).hexdigest()

    def metadata(self) -> Metadata[Any]:
        """With the signatures. ReleaseRefused (`release_metadata`)."""
        kind: type[Signed] = Root if self.role == roles.ROOT else Targets
        found: Metadata[Any] = load(kind, self.data, f"the draft of {self.role}")
        found.signatures.update(self.signatures)
        return found


@dataclass(frozen=True, slots=True)
class Here:
    """A repository where it is made: what is published (None before the first time), what waits."""

    published: Published | None
    drafts: Mapping[str, Draft]
    files: Read

    def root(self) -> Root:
        """The drafted one, else the published."""
        found: Root = self._newest(roles.ROOT)
        return found

    def targets(self) -> Targets:
        """The drafted one, else the published."""
        found: Targets = self._newest(roles.TARGETS)
        return found

    def of(self, role: str) -> Metadata[Any] | None:
        """What is published of a role; None where nothing is."""
        if self.published is None:
            return None
        return self.published.root if role == roles.ROOT else self.published.roles.get(role)

    def keys(self, role: str) -> list[Key]:
        """Who may sign the draft of a role (rule 4)."""
        delegators: list[Root | Targets]
        if role in roles.TOP:
            delegators = [self.root()]
            if role == roles.ROOT and self.published is not None:
                delegators.insert(0, self.published.root.signed)
        else:
            delegators = [self.targets()]
        found: dict[str, Key] = {}
        for delegator in delegators:
            try:
                keyids = delegator.get_delegated_role(role).keyids
            except ValueError as e:
                raise ReleaseRefused(
                    f"nobody may sign for {role}",
                    code="release_role",
                    remedy=f"Make its channel first, or remove drafts/{role}.",
                ) from e
            found |= {keyid: delegator.get_key(keyid) for keyid in keyids}
        return list(found.values())

    def releases(self) -> dict[str, Release]:
        """All that are published or drafted, by their path."""
        found = dict(self.published.releases) if self.published else {}
        for role in self.drafts:
            if roles.is_channel(role):
                found |= new_releases(self, self.drafts[role])
        return found

    def ever(self) -> dict[str, Release]:
        """All that were ever published or drafted, by their path (rule 6). ReleaseRefused
        (`release_missing`) where a part of this memory is gone."""
        found = self.releases()
        for role in self.published.channels if self.published else ():
            for path, line in self._gone(role, found).items():
                found[path] = read_release(_target(self, path, line), path)
        return found

    def _gone(self, role: str, there: Mapping[str, Release]) -> dict[str, TargetFile]:
        """What older versions of a channel's role named, and is not there."""
        now = self.of(role)
        gone: dict[str, TargetFile] = {}
        for version in range(1, now.signed.version if now else 1):
            where = f"metadata/{version}.{role}.json"
            data = self.files(where)
            if data is None:
                raise ReleaseRefused(f"{where} is missing", code="release_missing", remedy=_MEMORY)
            named = load(Targets, data, where).signed.targets
            gone |= {path: line for path, line in named.items() if path not in there}
        return gone

    def recall(self) -> Recall | None:
        """The drafted list, else the published one."""
        line = self.targets().targets.get(RECALL)
        return None if line is None else read_record(Recall, _target(self, RECALL, line), RECALL)

    def _newest(self, role: str) -> Any:
        found = self.drafts[role].metadata() if role in self.drafts else self.of(role)
        if found is None:
            raise ReleaseRefused(
                f"there is no {role} here",
                code="release_missing",
                remedy="Begin with `python -m compile release init`.",
            )
        return found.signed


def first(keys: Mapping[str, Sequence[Key]], now: datetime) -> dict[str, Draft]:
    """The drafts of a new repository: root, targets and every channel, each version 1. `keys` names
    those of every role. ReleaseRefused (`release_keys`)."""
    below = {role: found for role, found in keys.items() if role not in roles.TOP}
    for role in [*roles.TOP, *roles.DELEGATED]:
        roles.require(role, keys.get(role, ()))
    roles.require_apart({role: [key.keyid for key in found] for role, found in keys.items()})
    root = Root(
        version=1,
        expires=roles.kind(roles.ROOT).ends(now),
        keys={key.keyid: key for role in roles.TOP for key in keys[role]},
        roles={
            role: Role([key.keyid for key in keys[role]], row.threshold)
            for role, row in roles.TOP.items()
        },
        consistent_snapshot=True,
    )
    targets = Targets(
        version=1,
        expires=roles.kind(roles.TARGETS).ends(now),
        delegations=roles.delegations(below),
    )
    made: dict[str, Metadata[Any]] = {
        roles.ROOT: Metadata(root),
        roles.TARGETS: Metadata(targets),
    }
    for role in below:
        if not roles.kind(role).online:
            made[role] = Metadata(Targets(version=1, expires=roles.kind(role).ends(now)))
    return {role: _drafted(role, one) for role, one in made.items()}


def working(here: Here, role: str, now: datetime) -> Metadata[Any]:
    """What a change begins with: the draft that waits, else the next version (rules 1 and 2)."""
    if role in here.drafts:
        found = here.drafts[role].metadata()
        found.signatures.clear()
    else:
        published = here.of(role)
        if published is None:
            found = Metadata(Targets(version=1))
        else:
            found = Metadata.from_bytes(published.to_bytes())
            found.signatures.clear()
            found.signed.version += 1
    found.signed.expires = roles.kind(role).ends(now)
    return found


def next_number(here: Here, channel: str) -> int:
    """Of the next release of a channel."""
    return max(numbers(here.releases(), channel), default=0) + 1


def with_release(here: Here, release: Release, now: datetime) -> tuple[Draft, str, bytes]:
    """The draft of a channel with one more release, without those that leave it (rule 6), and the
    file of the new one: path, bytes. ReleaseRefused (`release_number`, `release_relabelled`,
    `release_recalled`, `release_record`)."""
    data = write(release)
    read_release(data, release.path)
    if release.number != next_number(here, release.channel):
        raise ReleaseRefused(
            f"{release.path} is not the next release of {release.channel}, which is "
            f"{next_number(here, release.channel)}",
            code="release_number",
            remedy="Numbers grow by one.",
        )
    require_new(release, here)
    found = working(here, release.channel, now)
    found.signed.targets[release.path] = line = TargetFile.from_data(release.path, data, ["sha256"])
    before = [one for path, one in here.releases().items() if path in found.signed.targets]
    stay = kept([*before, release], here.recall())
    found.signed.targets = {path: one for path, one in found.signed.targets.items() if path in stay}
    where = target_path(release.path, line.hashes["sha256"])
    return _drafted(release.channel, found), where, data


def with_recall(here: Here, entries: Iterable[Recalled], now: datetime) -> tuple[Draft, str, bytes]:
    """The draft of targets with a longer list of what was recalled, and that list: path, bytes."""
    before = here.recall()
    known = before.entries if before else ()
    new = [one for one in entries if one.digest not in {old.digest for old in known}]
    if not new:
        raise ReleaseRefused(
            "all of that is recalled already", code="release_recalled", remedy="Nothing is to do."
        )
    published = here.published.recall if here.published else None
    number = (published.number if published else 0) + 1
    data = write(Recall(number=number, made=now.replace(microsecond=0), entries=(*known, *new)))
    found = working(here, roles.TARGETS, now)
    found.signed.targets[RECALL] = line = TargetFile.from_data(RECALL, data, ["sha256"])
    return _drafted(roles.TARGETS, found), target_path(RECALL, line.hashes["sha256"]), data


def rotated(
    here: Here, role: str, out: Sequence[str], new: Sequence[Key], now: datetime
) -> dict[str, Draft]:
    """The drafts of a change of keys: `out` are ids of keys that serve no more, `new` those that
    come. Without either, the role as it is, valid anew. ReleaseRefused (`release_keys`,
    `release_role`)."""
    row = roles.kind(role)
    if not out and not new:
        if row.online:
            raise ReleaseRefused(
                f"{role} is online", code="release_role", remedy="Publish: that signs it anew."
            )
        if role not in (roles.ROOT, roles.TARGETS) and here.of(role) is None:
            raise ReleaseRefused(f"there is no {role} here", code="release_role")
        return {role: _drafted(role, working(here, role, now))}
    changed: dict[str, Metadata[Any]] = {}
    if role in roles.TOP:
        changed[roles.ROOT] = working(here, roles.ROOT, now)
        _exchange(changed[roles.ROOT].signed, role, out, new)
    else:
        changed[roles.TARGETS] = targets = working(here, roles.TARGETS, now)
        _exchange_below(targets.signed, role, out, new)
    if role not in changed and not row.online:
        changed[role] = working(here, role, now)
    root = changed[roles.ROOT].signed if roles.ROOT in changed else here.root()
    below = changed[roles.TARGETS].signed if roles.TARGETS in changed else here.targets()
    serving = {name: one.keyids for name, one in root.roles.items()}
    if below.delegations and below.delegations.roles:
        serving |= {name: one.keyids for name, one in below.delegations.roles.items()}
    roles.require_apart(serving)
    return {name: _drafted(name, one) for name, one in changed.items()}


def _exchange(root: Root, role: str, out: Sequence[str], new: Sequence[Key]) -> None:
    for keyid in out:
        if keyid not in root.roles[role].keyids:
            raise _no_such_key(keyid, role)
        root.revoke_key(keyid, role)
    for key in new:
        root.add_key(key, role)
    roles.require(role, [root.keys[keyid] for keyid in root.roles[role].keyids])


def _exchange_below(targets: Targets, role: str, out: Sequence[str], new: Sequence[Key]) -> None:
    below = targets.delegations
    if below is None or below.roles is None:
        raise ReleaseRefused("targets names no channel", code="release_roles")
    before = below.roles[role].keyids if role in below.roles else []
    for keyid in out:
        if keyid not in before:
            raise _no_such_key(keyid, role)
    keys = [below.keys[keyid] for keyid in before if keyid not in out] + list(new)
    below.roles[role] = roles.delegation(role, keys)
    below.keys.update({key.keyid: key for key in keys})
    serving = {keyid for one in below.roles.values() for keyid in one.keyids}
    for keyid in set(below.keys) - serving:
        del below.keys[keyid]


def signed(here: Here, role: str, signer: CryptoSigner) -> OneSignature:
    """One more signature on a draft. ReleaseRefused (`draft_missing`, `draft_key`)."""
    draft = here.drafts.get(role)
    if draft is None:
        raise ReleaseRefused(
            f"nothing of {role} waits for a signature", code="draft_missing", remedy="Add first."
        )
    if signer.public_key.keyid not in {key.keyid for key in here.keys(role)}:
        raise ReleaseRefused(
            f"the key {signer.public_key.keyid[:8]} may not sign {role}",
            code="draft_key",
            remedy="May sign: " + ", ".join(roles.called(key) for key in here.keys(role)),
        )
    found = signer.sign(draft.metadata().signed_bytes)
    return OneSignature(keyid=found.keyid, sig=found.signature, of=draft.digest)


def received(draft: Draft, found: Iterable[OneSignature]) -> Draft:
    """The draft with those signatures that are over these very bytes (rule 2)."""
    over = [one for one in found if one.of == draft.digest]
    return replace(draft, signatures={one.keyid: Signature(one.keyid, one.sig) for one in over})


def is_settled(published: Published | None, draft: Draft) -> bool:
    """Whether this very draft is published already: its folder was left by an interrupted
    publish."""
    if published is None:
        return False
    now = published.root if draft.role == roles.ROOT else published.roles.get(draft.role)
    return now is not None and now.signed_bytes == draft.metadata().signed_bytes


def lacking(here: Here, draft: Draft) -> int:
    """How many signatures are missing yet."""
    of = draft.metadata()
    if draft.role == roles.ROOT:
        before = here.published.root.signed if here.published else None
        found = of.signed.get_root_verification_result(before, of.signed_bytes, of.signatures)
        return max(int(found.first.missing), int(found.second.missing))
    delegator = here.root() if draft.role == roles.TARGETS else here.targets()
    return delegator.get_verification_result(draft.role, of.signed_bytes, of.signatures).missing


def new_releases(here: Here, draft: Draft) -> dict[str, Release]:
    """What a channel's draft adds, by path. ReleaseRefused where a file is not what it should
    be."""
    before = here.of(draft.role)
    known = before.signed.targets if before else {}
    found = draft.metadata().signed.targets
    return {
        path: read_release(_target(here, path, line), path)
        for path, line in found.items()
        if path not in known
    }


def require_new(release: Release, here: Here) -> None:
    """That it has no name and version with other bytes, and nothing that was recalled.
    ReleaseRefused (`release_relabelled`, `release_recalled`)."""
    others = [one for path, one in here.ever().items() if path != release.path]
    for line in told_twice([*others, release]):
        raise ReleaseRefused(
            line, code="release_relabelled", remedy="Give what has other bytes a new version."
        )
    recall = here.recall()
    for one in recall.recalled_of(release) if recall else ():
        raise ReleaseRefused(
            f"{release.path} holds {one.name} {one.version}, which was recalled: {one.reason}",
            code="release_recalled",
            remedy="Make a new version of it.",
        )


def _target(here: Here, path: str, line: TargetFile) -> bytes:
    data, shown = here.files(target_path(path, line.hashes.get("sha256", ""))), ascii(path[:60])
    if data is None or len(data) != line.length:
        raise ReleaseRefused(
            f"the file of {shown} is not here", code="release_missing", remedy=_AGAIN
        )
    if hashlib.sha256(data).hexdigest() != line.hashes.get("sha256"):
        raise ReleaseRefused(
            f"the file of {shown} is another", code="release_digest", remedy=_AGAIN
        )
    return data


def _drafted(role: str, metadata: Metadata[Any]) -> Draft:
    return Draft(role, metadata.to_bytes())


def _no_such_key(keyid: str, role: str) -> ReleaseRefused:
    return ReleaseRefused(
        f"{keyid[:40]!a} is no key of {role}",
        code="release_key",
        remedy="`python -m compile release check` lists who signs what.",
    )
