"""What is about to be signed, in words: all that a person answers for with a signature. Pure.

Rules. Everything that a device will do differently is said: keys that come and go, thresholds,
releases with all their digests, those that are offered no longer, what is recalled. What is not
said does not change. Nothing of a file is printed as it stands there but what its record allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tuf.api.metadata import Metadata

from appliance.release.record import Release
from compile.release import roles
from compile.release.drafts import Draft, Here, lacking, new_releases


def words(here: Here, draft: Draft) -> list[str]:
    """One draft, line by line. ReleaseRefused where a file that it names is not what it should
    be."""
    new, before = draft.metadata(), here.of(draft.role)
    after = f"after {before.signed.version}" if before else "the first"
    until = f"{new.signed.expires:%Y-%m-%d}"
    missing = lacking(here, draft)
    lines = [
        f"{draft.role}, version {new.signed.version} ({after}), valid until {until}",
        f"digest of what is signed: {draft.digest}",
    ]
    if draft.role in (roles.ROOT, roles.TARGETS):
        lines += _keys(new, before)
    if draft.role == roles.TARGETS:
        lines += _recalled(here)
    if draft.role not in roles.TOP:
        for release in new_releases(here, draft).values():
            lines += release_words(release)
        gone = sorted(set(before.signed.targets) - set(new.signed.targets)) if before else []
        if gone:
            lines.append(
                f"offered no longer, as newer ones are there: {ascii(', '.join(gone))[1:-1]}"
            )
    if before and _same(new, before):
        lines.append("nothing changes: it is only valid for longer")
    signed = [roles.called(key) for key in here.keys(draft.role) if key.keyid in draft.signatures]
    lines.append(f"signed by {', '.join(signed) or 'nobody yet'}; {missing} more needed")
    return lines


def release_words(release: Release) -> list[str]:
    """A release, line by line."""
    wheel = release.appliance.wheel
    lines = [
        f"release {release.path}, kind {release.kind}, made {release.made:%Y-%m-%d %H:%M} UTC",
        f"  notes: {release.notes!a}",
        "  the intended use "
        + ("CHANGES: a person accepts it on each box" if release.intended_use_changes else "stays"),
        f"  appliance {release.appliance.version}: {wheel.name}, sha256 {wheel.digest}",
    ]
    if release.deadline is not None:
        lines.append(f"  from {release.deadline:%Y-%m-%d %H:%M} UTC on it waits for no window")
    for device in release.devices:
        line = f"  {device.kind}: Python {device.python.words()}"
        if device.jetpack is not None:
            line += f"; JetPack {device.jetpack.words()}"
        if device.tensorrt is not None:
            line += f"; TensorRT {device.tensorrt.words()}"
        lines.append(f"{line}; lock {device.lock.digest}")
    lines += [f"  bundle {one.name} {one.version}: {one.digest}" for one in release.bundles]
    lines += [f"  parts list {release.sbom.digest}", f"  weak points {release.vex.digest}"]
    return lines


def _same(new: Metadata[Any], before: Metadata[Any]) -> bool:
    """Whether nothing but version and time differs."""
    passing = ("version", "expires")
    one, two = new.signed.to_dict(), before.signed.to_dict()
    return {k: v for k, v in one.items() if k not in passing} == {
        k: v for k, v in two.items() if k not in passing
    }


def _keys(new: Metadata[Any], before: Metadata[Any] | None) -> Iterator[str]:
    """Who may sign for which role, and who no longer."""
    old = _serving(before) if before else {}
    for role, keys in _serving(new).items():
        threshold = _roles(new)[role].threshold
        names = ", ".join(keys.values())
        yield f"{role}: {threshold} of {names}"
        before_it = old.get(role, {})
        come = [name for key, name in keys.items() if key not in before_it]
        gone = [name for key, name in before_it.items() if key not in keys]
        if before and (come or gone):
            yield f"  comes: {', '.join(come) or 'nobody'}; goes: {', '.join(gone) or 'nobody'}"


def _roles(of: Metadata[Any]) -> dict[str, Any]:
    if of.signed.type == roles.ROOT:
        return dict(of.signed.roles)
    return dict(of.signed.delegations.roles)


def _serving(of: Metadata[Any]) -> dict[str, dict[str, str]]:
    """Role -> id of each of its keys -> what it is called."""
    return {
        name: {
            keyid: roles.called(
                (of.signed if of.signed.type == roles.ROOT else of.signed.delegations).keys[keyid]
            )
            for keyid in role.keyids
        }
        for name, role in _roles(of).items()
    }


def _recalled(here: Here) -> Iterator[str]:
    new, old = here.recall(), here.published.recall if here.published else None
    known = {one.digest for one in old.entries} if old else set()
    for one in new.entries if new else ():
        if one.digest not in known:
            yield f"RECALLS {one.what} {one.name} {one.version} {one.digest}"
            yield f"  because {one.reason!a}"
