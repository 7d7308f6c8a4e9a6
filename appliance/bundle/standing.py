"""Which bundles on the shelf count, and which is active: the tables held to the audit. Pure.

Rules.
1. An added bundle counts if a row of the audit admitted it, under this name, version and signature.
   One without a signature counts only where that is allowed.
2. Active is what the table says, if the last choice in the audit has put it there: the audit is
   written first, so between both a power cut may leave the choice before. Where the table says
   anything else, or nothing, the audit decides, and that is said.
3. Who was never chosen is not active, whatever the table says; then the factory's bundle is, which
   needs no choice. So it is where the chosen one was of an earlier release's wheel.
4. What was chosen and does not count, or has lost its line, stays what should be active: whoever
   opens it is refused and may take another one, and say so. It is never silently replaced.
5. After a damage of the journal the audit knows nothing of before: what has a signature counts.
6. What was recalled does not count, the factory's neither, and nobody goes back to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from appliance.bundle.history import NONE, Activated, History
from appliance.bundle.tables import UNSIGNED, Choice, Installed, Recalled

NOT_IN_AUDIT = "no row of the audit explains it"
NOT_SIGNED = "it is not signed, and [bundles] allow_unsigned is not set"
NO_LINE = "its line in installed.json is missing"
NO_RECALL: Mapping[str, Recalled] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Standing:
    """What is on the shelf beside the factory's bundles."""

    lines: Mapping[str, Installed]
    """Digest -> what it is; also of what should be active and has lost its line."""
    refused: Mapping[str, str]
    """Digest -> why it does not count."""
    choices: Mapping[str, Choice]
    """Name -> what should be active."""
    contrary: tuple[str, ...] = ()
    """Where active.json is not what the audit says."""


def standing(
    factory: Mapping[str, str],
    installed: Mapping[str, Installed],
    chosen: Mapping[str, Choice] | None,
    history: History,
    *,
    unsigned: bool,
    recalled: Mapping[str, Recalled] = NO_RECALL,
) -> Standing:
    """`factory`: name to digest. `chosen`: None where there is no table, and the audit decides.
    `unsigned`: whether what has no signature may count. `recalled`: by digest."""
    lines, contrary = dict(installed), []
    refused = {
        digest: why
        for digest, line in installed.items()
        if digest not in factory.values()
        and (why := _against(digest, line, history, unsigned=unsigned)) is not None
    }
    choices: dict[str, Choice] = {}
    for name in sorted({*factory, *(chosen or {}), *history.chosen}):
        own, said = factory.get(name), history.chosen.get(name)
        if chosen is not None:
            choice, why = _choice(name, own, chosen.get(name), history)
        else:
            choice, why = None if said is None else _of_audit(said), None
        if why is not None:
            contrary.append(why)
        if choice is not None and choice.active not in {*lines, *factory.values()}:
            admitted = history.added.get(choice.active)
            if admitted is None:
                choice = None  # of the wheel of an earlier release
            else:
                lines[choice.active] = admitted[-1]
                refused[choice.active] = NO_LINE
        if choice is not None:
            choices[name] = choice
        elif own is not None:
            choices[name] = Choice(active=own)
    known = {*lines, *factory.values()} - recalled.keys()
    for digest in {*lines, *factory.values()} & recalled.keys():
        refused[digest] = f"it is recalled: {recalled[digest].reason}"
    for name, choice in choices.items():
        if choice.previous not in known:
            choices[name] = Choice(active=choice.active)
    return Standing(lines, refused, choices, tuple(contrary))


def _against(digest: str, line: Installed, history: History, *, unsigned: bool) -> str | None:
    """Why a line does not count (rules 1 and 5)."""
    if line not in history.added.get(digest, ()) and (not history.anew or _unsigned(line)):
        return NOT_IN_AUDIT
    return NOT_SIGNED if _unsigned(line) and not unsigned else None


def _choice(
    name: str, own: str | None, line: Choice | None, history: History
) -> tuple[Choice | None, str | None]:
    """What should be active of a name, and what is wrong with the table."""
    said = history.chosen.get(name)
    if said is None:
        if line is None or history.anew:
            return line, None
        return None, f"active.json names a bundle for {name} that nobody has activated"
    now = line.active if line is not None else own or NONE
    if now in (said.digest, said.before):
        return line, None
    before = said.before if said.before != NONE else None
    choice = Choice(active=said.digest, previous=before)
    if said.digest not in history.added:
        return choice, None  # of some wheel: it needs no line
    return (
        choice,
        f"active.json does not name {name} {said.version}, which the audit says is active",
    )


def _of_audit(said: Activated) -> Choice:
    before = said.before if said.before != NONE else None
    return Choice(active=said.digest, previous=before)


def _unsigned(line: Installed) -> bool:
    return line.signed_by == UNSIGNED
