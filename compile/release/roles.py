"""Who signs what in the repository, how many of them, and for how long it holds. Pure.

| role | keys | of them | where the keys are | holds | signs |
|---|---|---|---|---|---|
| root | 3 | 2 | offline | 365 d | who may sign for the four top-level roles |
| targets | 3 | 2 | offline | 365 d | who may sign for a channel; the list of what was recalled |
| stable | 3 | 2 | offline | 365 d | releases for every site |
| canary | 1 | 1 | offline | 365 d | releases for the sites that try them first |
| site-NAME | 1 | 1 | offline | 365 d | releases for one site |
| rollout | 1 | 1 | online | 1 d | which boxes go first (kept free for that) |
| snapshot | 1 | 1 | online | 7 d | which versions of all these belong together |
| timestamp | 1 | 1 | online | 2 d | which snapshot is the newest, and when that was |

Rules.
1. A key that is online serves in no offline role, and no key twice in a role: so a stolen server
   signs no release. A key may serve in several offline roles, if a team is small.
2. A key is Ed25519 and is called by the digest of itself. A name under which a second entry of the
   same key would count twice is refused (`own_name`).
3. A channel's role may sign its own releases alone (`stable/*.json`), and nobody else may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Role

from appliance.errors import ReleaseRefused
from appliance.release.record import CHANNEL

ROOT, TARGETS, SNAPSHOT, TIMESTAMP, ROLLOUT = "root", "targets", "snapshot", "timestamp", "rollout"
STICK_DAYS = 90
"""The most that a stick may hold."""
NAME = "x-scanside-name"
"""What a key is called by people, in its entry in the metadata."""
_CALLED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_CHANNEL = re.compile(CHANNEL)


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    keys: int
    threshold: int
    online: bool
    days: int

    def ends(self, now: datetime) -> datetime:
        """When something that is signed now is no longer valid."""
        return now.replace(microsecond=0) + timedelta(days=self.days)


TWO_OF_THREE = Kind(keys=3, threshold=2, online=False, days=365)
ONE = Kind(keys=1, threshold=1, online=False, days=365)
TOP: Mapping[str, Kind] = {
    ROOT: TWO_OF_THREE,
    TARGETS: TWO_OF_THREE,
    SNAPSHOT: Kind(keys=1, threshold=1, online=True, days=7),
    TIMESTAMP: Kind(keys=1, threshold=1, online=True, days=2),
}
DELEGATED: Mapping[str, Kind] = {
    "stable": TWO_OF_THREE,
    "canary": ONE,
    ROLLOUT: Kind(keys=1, threshold=1, online=True, days=1),
}
ONLINE = (ROLLOUT, SNAPSHOT, TIMESTAMP)


def kind(role: str) -> Kind:
    """Its row. ReleaseRefused (`release_role`) where there is none."""
    found = TOP.get(role) or DELEGATED.get(role)
    if found is None and is_channel(role):
        found = ONE
    if found is None:
        raise ReleaseRefused(
            f"{role[:40]!a} is no role",
            code="release_role",
            remedy=f"Roles are {', '.join([*TOP, *DELEGATED])} and site-NAME.",
        )
    return found


def is_channel(role: str) -> bool:
    """Whether releases are made in it."""
    return _CHANNEL.fullmatch(role) is not None


def public_key(name: str, raw: Ed25519PublicKey) -> SSlibKey:
    """A key as the metadata have it, called `name` by people."""
    if _CALLED.fullmatch(name) is None:
        raise ReleaseRefused(
            f"{name[:40]!a} is no name of a key",
            code="release_key",
            remedy="Letters, digits, - and _: rename the file.",
        )
    key = SSlibKey.from_crypto(raw)
    key.unrecognized_fields[NAME] = name
    return key


def own_name(key: Key) -> bool:
    """Rule 2: whether it is called by its own digest, so that it counts once."""
    try:
        raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    except (KeyError, TypeError, ValueError):
        return False
    return key.keyid == SSlibKey.from_crypto(raw).keyid


def called(key: Key) -> str:
    """For a person: `anna (1a2b3c4d)`."""
    name = str(key.unrecognized_fields.get(NAME, "?"))
    return f"{name if _CALLED.fullmatch(name) else '?'} ({key.keyid[:8]})"


def names(of: Role, keys: Mapping[str, Key]) -> str:
    """Who may sign for a role, for a person; a key that is not there is `?`."""
    return ", ".join(called(keys[keyid]) if keyid in keys else "?" for keyid in of.keyids)


def require(role: str, keys: Sequence[Key]) -> None:
    """As many different keys as the role has. ReleaseRefused (`release_keys`)."""
    wanted = kind(role).keys
    if len({key.keyid for key in keys}) != len(keys) or len(keys) != wanted:
        raise ReleaseRefused(
            f"{role} needs {wanted} different {'key' if wanted == 1 else 'keys'}, "
            f"{len({key.keyid for key in keys})} are given",
            code="release_keys",
            remedy="Each key belongs to another person or another computer.",
        )


def require_apart(roles: Mapping[str, Iterable[str]]) -> None:
    """Rule 1; role -> the ids of its keys. ReleaseRefused (`release_keys`)."""
    online = {key: role for role, keys in roles.items() if kind(role).online for key in keys}
    for role, keys in roles.items():
        for key in keys:
            if not kind(role).online and key in online:
                raise ReleaseRefused(
                    f"one key serves in {role} and, online, in {online[key]}",
                    code="release_keys",
                    remedy="Make a key of its own for what is online.",
                )


def delegation(role: str, keys: Sequence[Key]) -> DelegatedRole:
    """What targets says of a role (rule 3)."""
    require(role, keys)
    return DelegatedRole(
        name=role,
        keyids=[key.keyid for key in keys],
        threshold=kind(role).threshold,
        terminating=True,
        paths=[f"{role}/*.json"],
    )


def delegations(keys: Mapping[str, Sequence[Key]]) -> Delegations:
    """What targets says of all roles below it."""
    return Delegations(
        keys={key.keyid: key for role in keys for key in keys[role]},
        roles={role: delegation(role, keys[role]) for role in keys},
    )


def wrong_delegation(role: DelegatedRole) -> str | None:
    """What of a delegation is not as the table says; None where all is."""
    if not isinstance(role.name, str):
        return "a role has no name"
    try:
        row = kind(role.name)
    except ReleaseRefused as e:
        return e.text
    if role.name in TOP:
        return f"{role.name} is no role below targets"
    if role.threshold != row.threshold or len(role.keyids) != row.keys:
        return f"{role.name} wants {role.threshold} of {len(role.keyids)} keys"
    if role.paths != [f"{role.name}/*.json"] or not role.terminating:
        return f"{role.name} may sign {ascii(role.paths)[:80]}"
    return None
