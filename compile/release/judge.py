"""What a draft may not do, said before it is signed and again before it is published. Pure.

Rules. No draft takes anything away that somebody needs.
1. It is the version after the published one, and valid no longer than the table of roles says.
2. root and targets name every role as the table says, and no role less than before.
3. A release stays as it was signed, or leaves where `kept` lets it; a new one has a higher number
   than all before, no name and version with other bytes than any there ever was, and nothing that
   was recalled.
4. What was recalled stays recalled, and the number of that list grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from tuf.api.metadata import TargetFile

from appliance.errors import ReleaseRefused
from appliance.release.record import RECALL, numbers
from compile.release import roles
from compile.release.drafts import Draft, Here, new_releases, require_new
from compile.release.kept import kept


def wrong(here: Here, draft: Draft, now: datetime) -> list[str]:
    """What this draft may not do, one line each; none where it may be signed and published."""
    try:
        of = draft.metadata().signed
        here.keys(draft.role)
    except ReleaseRefused as e:
        return [e.text]
    before = here.of(draft.role)
    found = []
    if of.version != (before.signed.version + 1 if before else 1):
        found.append(f"{draft.role} {of.version} does not follow what is published")
    if not now < of.expires <= roles.kind(draft.role).ends(now) + timedelta(days=1):
        found.append(f"{draft.role} would be valid until {of.expires:%Y-%m-%d}")
    known = before.signed.targets if before and draft.role != roles.ROOT else {}
    judge: Callable[[Here, Draft, Mapping[str, TargetFile]], list[str]] = {
        roles.ROOT: _wrong_root,
        roles.TARGETS: _wrong_targets,
    }.get(draft.role, _wrong_channel)
    try:
        found += judge(here, draft, known)
    except ReleaseRefused as e:
        found.append(e.text)
    return found


def _wrong_root(here: Here, draft: Draft, known: Mapping[str, TargetFile]) -> list[str]:
    root = draft.metadata().signed
    return [
        f"root would want {root.roles[name].threshold} of {len(root.roles[name].keyids)} for {name}"
        for name, row in roles.TOP.items()
        if (root.roles[name].threshold, len(root.roles[name].keyids)) != (row.threshold, row.keys)
    ]


def _wrong_targets(here: Here, draft: Draft, known: Mapping[str, TargetFile]) -> list[str]:
    of = draft.metadata().signed
    below = of.delegations.roles if of.delegations and of.delegations.roles else {}
    before = here.of(roles.TARGETS)
    if not below:
        return ["targets would name no channel"]
    found = [line for one in below.values() if (line := roles.wrong_delegation(one)) is not None]
    if before is not None and (gone := set(before.signed.delegations.roles) - set(below)):
        found.append(f"{', '.join(sorted(gone))} would be gone")
    found += [f"targets would sign {path[:60]!a} itself" for path in of.targets if path != RECALL]
    if known and RECALL not in of.targets:
        found.append("the list of what was recalled would be gone")
    old = here.published.recall if here.published else None
    if old is not None and (new := here.recall()) is not None:
        if new.entries[: len(old.entries)] != old.entries:
            found.append("something would be recalled no longer")
        if new.entries != old.entries and new.number <= old.number:
            found.append("the number of the list of what was recalled would not grow")
    return found


def _wrong_channel(here: Here, draft: Draft, known: Mapping[str, TargetFile]) -> list[str]:
    of = draft.metadata().signed
    stay = kept(
        (one for one in here.releases().values() if one.channel == draft.role), here.recall()
    )
    found = [f"{path} would be gone" for path in known if path in stay and path not in of.targets]
    found += [
        f"{path} would change" for path in known if of.targets.get(path, known[path]) != known[path]
    ]
    if of.delegations is not None:
        found.append(f"{draft.role} would let others sign")
    highest = max(numbers(known, draft.role), default=0)
    for release in new_releases(here, draft).values():
        if release.channel != draft.role:
            found.append(f"{draft.role} would sign {release.path}")
        if release.number <= highest:
            found.append(f"{release.path} would come after {highest}")
        require_new(release, here)
    return found
