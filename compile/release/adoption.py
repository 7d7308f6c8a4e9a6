"""What publishing and a stick write, file by file, and in which order. Pure.

Rules.
1. What has its signatures is adopted, and only together with what it needs: a new root with the
   targets that hold under it, new targets with every channel that holds under them. What lacks a
   signature waits and holds up nobody else.
2. Every file has its number in its name, so what devices read now is not touched; `timestamp.json`,
   the one name that does not change, comes last. Before it the repository is the old one, after it
   the new.
3. A new root is taken by its name alone. Where the new files hold under the old root too (one key
   of three was exchanged; an old online key signs once more, beside the new one), the root comes
   after the timestamp, and no device ever sees less than a whole repository. Where they cannot (a
   key is lost, or stolen and not to be used again), the root comes first: a device that asks in
   between refuses, keeps what it has and asks again; publishing again ends it.
4. Nothing is written before all of it, read as a device reads it, has no fault but roles whose time
   is over, which are said.
5. snapshot and timestamp take the next numbers of the repository's own sequence, which counts what
   was made for sticks too: what is published after a stick is newer than the stick.
6. On a stick snapshot and timestamp alone are new, are marked `medium: stick`, and hold for as long
   as was asked, at most 90 days and never longer than a role that they name.
7. Boxes remember the newest time that was ever signed (`made`), and take nothing that ended before
   it. So nothing is signed before the last time, nor more than CLOCK_DAYS after it, unless a person
   has looked at the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from pydantic import Field
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from appliance.errors import ReleaseRefused
from appliance.report import Record
from compile.release import roles
from compile.release.drafts import Draft, Here, lacking
from compile.release.judge import wrong
from compile.release.published import EXPIRED, MADE, MEDIUM, STICK, Published, Read, read

File = tuple[str, bytes]
CLOCK_DAYS = 30
"""A repository is published every day; a longer pause is rather a wrong clock."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class Numbers(Record):
    """The highest numbers that were ever signed, for the network or for a stick (rule 5)."""

    snapshot: int = Field(0, ge=0)
    timestamp: int = Field(0, ge=0)


@dataclass(frozen=True, slots=True)
class Adoption:
    """What to write, in this order. `waits` and `refused` are lines for a person, by role."""

    files: tuple[File, ...] = field(repr=False)
    numbers: Numbers
    adopted: tuple[str, ...]
    waits: Mapping[str, str]
    refused: Mapping[str, str]
    ended: tuple[str, ...]
    """Roles whose time is over: a device refuses them."""


@dataclass(slots=True)
class _New:
    """The roles as they would be, by name."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    below: dict[str, Metadata[Targets]]


def publish(
    here: Here,
    signers: Sequence[CryptoSigner],
    numbers: Numbers,
    now: datetime,
    bad: Mapping[str, str] | None = None,
    *,
    clock_is_right: bool = False,
) -> Adoption:
    """All that is ready. `bad`: drafts whose blobs are not whole, and why. ReleaseRefused
    (`publish_waits`, `publish_key`, `publish_clock`), or the first fault that a device would find.
    """
    if here.published is not None and not clock_is_right:
        _require_clock(here.published, now)
    refused = dict(bad or {})
    for role, draft in here.drafts.items():
        if role not in refused and (lines := wrong(here, draft, now)):
            refused[role] = "; ".join(lines)
    waits = {
        role: f"{missing} more {'signature' if missing == 1 else 'signatures'}"
        for role, draft in here.drafts.items()
        if role not in refused and (missing := lacking(here, draft)) > 0
    }
    ready = {
        role: _of_signers(here, draft)
        for role, draft in here.drafts.items()
        if role not in {*waits, *refused}
    }
    new = _together(here, ready, waits)
    old = here.published.root.signed if here.published else None
    _sign_rollout(here, new, signers, now)
    next_numbers = _next(here.published, numbers)
    snapshot = _snapshot(new, next_numbers, roles.kind(roles.SNAPSHOT).ends(now))
    _sign(snapshot, roles.SNAPSHOT, signers, new.root.signed, old)
    timestamp = _timestamp(snapshot, next_numbers, now, roles.kind(roles.TIMESTAMP).ends(now))
    _sign(timestamp, roles.TIMESTAMP, signers, new.root.signed, old)
    files = [
        (_name(role, named), named.to_bytes())
        for role, named in [(roles.TARGETS, new.targets), *new.below.items()]
        if role == roles.ROLLOUT or role in ready
    ]
    files.append((_name(roles.SNAPSHOT, snapshot), snapshot.to_bytes()))
    last = [("metadata/timestamp.json", timestamp.to_bytes())]
    if roles.ROOT in ready:
        root = (_name(roles.ROOT, new.root), new.root.to_bytes())
        smooth = old is not None and _holds(old, new, snapshot, timestamp)
        last = [*last, root] if smooth else [root, *last]
    whole = tuple(files + last)
    ended = _read_back(here.files, whole, now)
    return Adoption(whole, next_numbers, tuple(sorted(ready)), waits, refused, ended)


def stick(
    published: Published,
    signers: Sequence[CryptoSigner],
    numbers: Numbers,
    days: int,
    now: datetime,
    *,
    clock_is_right: bool = False,
) -> tuple[tuple[File, ...], Numbers]:
    """snapshot and timestamp for a stick (rule 6). ReleaseRefused (`stick_days`, `stick_outlasts`,
    `publish_key`, `publish_clock`)."""
    if not clock_is_right:
        _require_clock(published, now)
    if not 1 <= days <= roles.STICK_DAYS:
        raise ReleaseRefused(
            f"a stick for {days} days",
            code="stick_days",
            remedy=f"From 1 to {roles.STICK_DAYS} days.",
        )
    ends = now.replace(microsecond=0) + timedelta(days=days)
    lasting = {roles.ROOT: published.root.signed.expires} | {
        role: one.signed.expires for role, one in published.roles.items() if role != roles.ROLLOUT
    }
    role = min(lasting, key=lambda one: lasting[one])
    if lasting[role] < ends:
        raise ReleaseRefused(
            f"{role} is valid until {lasting[role]:%Y-%m-%d}, the stick would be until "
            f"{ends:%Y-%m-%d}",
            code="stick_outlasts",
            remedy=f"Fewer days, or sign it anew: `python -m compile release rotate REPO {role}`.",
        )
    next_numbers = _next(published, numbers)
    snapshot: Metadata[Snapshot] = Metadata.from_bytes(published.snapshot.to_bytes())
    snapshot.signatures.clear()
    snapshot.signed.version, snapshot.signed.expires = next_numbers.snapshot, ends
    snapshot.signed.unrecognized_fields[MEDIUM] = STICK
    root = published.root.signed
    _sign(snapshot, roles.SNAPSHOT, signers, root, None)
    timestamp = _timestamp(snapshot, next_numbers, now, ends)
    timestamp.signed.unrecognized_fields[MEDIUM] = STICK
    _sign(timestamp, roles.TIMESTAMP, signers, root, None)
    files = (
        (_name(roles.SNAPSHOT, snapshot), snapshot.to_bytes()),
        ("metadata/timestamp.json", timestamp.to_bytes()),
    )
    return files, next_numbers


def overlay(files: Read, new: Iterable[File]) -> Read:
    """Files as they would be with these."""
    over = dict(new)
    return lambda path: over[path] if path in over else files(path)


def _require_clock(published: Published, now: datetime) -> None:
    """Rule 7."""
    made = str(published.timestamp.signed.unrecognized_fields.get(MADE))
    try:
        last = datetime.strptime(made, _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return
    if not last <= now.replace(microsecond=0) <= last + timedelta(days=CLOCK_DAYS):
        raise ReleaseRefused(
            f"the clock says {now.strftime(_TIME)}, what was signed last says {made}",
            code="publish_clock",
            remedy="Set the clock. If it is right, say so with --clock-is-right: boxes will not "
            "take anything that ends before this time.",
        )


def _of_signers(here: Here, draft: Draft) -> Draft:
    """Without signatures of keys that have no say in the role."""
    ids = {key.keyid for key in here.keys(draft.role)}
    return replace(draft, signatures={k: s for k, s in draft.signatures.items() if k in ids})


def _together(here: Here, ready: dict[str, Draft], waits: dict[str, str]) -> _New:
    """Rule 1: takes out of `ready` what cannot stand yet, until the rest stands together."""
    while True:
        new, missing = _stand(here, ready)
        if new is not None:
            return new
        role, why = missing
        if here.published is None or role not in ready:
            lines = "; ".join(f"{one}: {line}" for one, line in {role: why, **waits}.items())
            raise ReleaseRefused(
                lines,
                code="publish_waits",
                remedy="Let it be signed: `python -m compile release sign`.",
            )
        del ready[role]
        waits[role] = why


def _stand(here: Here, ready: Mapping[str, Draft]) -> tuple[_New | None, tuple[str, str]]:
    """All roles with what is ready, or which role must step back and why."""

    def now(role: str) -> Metadata[Any] | None:
        return ready[role].metadata() if role in ready else here.of(role)

    root, targets = now(roles.ROOT), now(roles.TARGETS)
    if root is None:
        return None, (roles.ROOT, "it waits for its signatures")
    if targets is None or not _signed(root.signed, roles.TARGETS, targets):
        back = _back(here, ready, roles.TARGETS, roles.ROOT)
        return None, (back, "it waits for the signatures on targets")
    below: dict[str, Metadata[Targets]] = {}
    delegations = targets.signed.delegations
    for role in delegations.roles if delegations and delegations.roles else ():
        if role == roles.ROLLOUT:
            continue
        one = now(role)
        if one is None or not _signed(targets.signed, role, one):
            back = _back(here, ready, role, roles.TARGETS)
            return None, (back, f"it waits for the signatures on {role}")
        below[role] = one
    return _New(root, targets, below), ("", "")


def _back(here: Here, ready: Mapping[str, Draft], role: str, delegator: str) -> str:
    """Who steps back where a role does not hold under its delegator: its own draft, if something of
    it was published before (it was made for a delegator that waits); else the delegator's."""
    return role if role in ready and here.of(role) is not None else delegator


def _signed(delegator: Root | Targets, role: str, of: Metadata[Any]) -> bool:
    return bool(delegator.get_verification_result(role, of.signed_bytes, of.signatures))


def _sign_rollout(here: Here, new: _New, signers: Sequence[CryptoSigner], now: datetime) -> None:
    """It holds for a day only, so it is signed each time."""
    before = here.of(roles.ROLLOUT)
    rollout: Metadata[Targets]
    if before is None:
        rollout = Metadata(Targets(version=1))
    else:
        rollout = Metadata.from_bytes(before.to_bytes())
        rollout.signatures.clear()
        rollout.signed.version += 1
    rollout.signed.expires = roles.kind(roles.ROLLOUT).ends(now)
    _sign(rollout, roles.ROLLOUT, signers, new.targets.signed, None)
    new.below[roles.ROLLOUT] = rollout


def _sign(
    of: Metadata[Any],
    role: str,
    signers: Sequence[CryptoSigner],
    delegator: Root | Targets,
    before: Root | None,
) -> None:
    """With every key that serves now, or served under the root before (rule 3)."""
    serving = set(delegator.get_delegated_role(role).keyids)
    if before is not None:
        serving |= set(before.get_delegated_role(role).keyids)
    for signer in signers:
        if signer.public_key.keyid in serving:
            of.sign(signer, append=True)
    if not _signed(delegator, role, of):
        names = ", ".join(
            roles.called(delegator.get_key(keyid))
            for keyid in delegator.get_delegated_role(role).keyids
        )
        raise ReleaseRefused(
            f"the key of {role} is not given",
            code="publish_key",
            remedy=f"Give it with --key: {names}.",
        )


def _next(published: Published | None, numbers: Numbers) -> Numbers:
    """Rule 5."""
    snapshot = published.snapshot.signed.version if published else 0
    timestamp = published.timestamp.signed.version if published else 0
    return Numbers(
        snapshot=max(numbers.snapshot, snapshot) + 1,
        timestamp=max(numbers.timestamp, timestamp) + 1,
    )


def _snapshot(new: _New, numbers: Numbers, ends: datetime) -> Metadata[Snapshot]:
    named = {roles.TARGETS: new.targets, **new.below}
    return Metadata(
        Snapshot(
            version=numbers.snapshot,
            expires=ends,
            meta={f"{role}.json": _line(one) for role, one in named.items()},
        )
    )


def _timestamp(
    snapshot: Metadata[Snapshot], numbers: Numbers, now: datetime, ends: datetime
) -> Metadata[Timestamp]:
    return Metadata(
        Timestamp(
            version=numbers.timestamp,
            expires=ends,
            snapshot_meta=_line(snapshot),
            unrecognized_fields={MADE: now.strftime(_TIME)},
        )
    )


def _line(one: Metadata[Any]) -> MetaFile:
    return MetaFile.from_data(one.signed.version, one.to_bytes(), ["sha256"])


def _name(role: str, one: Metadata[Any]) -> str:
    return f"metadata/{one.signed.version}.{role}.json"


def _holds(
    old: Root, new: _New, snapshot: Metadata[Snapshot], timestamp: Metadata[Timestamp]
) -> bool:
    """Rule 3: whether a device that has the old root yet takes the new files."""
    return (
        _signed(old, roles.TARGETS, new.targets)
        and _signed(old, roles.SNAPSHOT, snapshot)
        and _signed(old, roles.TIMESTAMP, timestamp)
    )


def _read_back(files: Read, new: Sequence[File], now: datetime) -> tuple[str, ...]:
    """Rule 4: raises the first fault; gives what is over."""
    published, faults = read(overlay(files, new), now)
    for fault in faults:
        if fault.code != EXPIRED or published is None:
            raise fault
    return tuple(fault.text for fault in faults)
