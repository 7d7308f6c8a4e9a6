"""What the audit knows of the shelf: who was admitted, chosen and given up.

Rules
- A bundle is admitted by a row ADD, chosen by a row ACTIVATE. A row ACTIVATE that withdraws another
  bundle is a rollback: what it leaves is withdrawn until somebody activates it again.
- A row DEACTIVATE gives up what is chosen of a name: then nobody has chosen of it.
- A row RECALL is for ever: nobody activates what it names again.
- A chain that begins anew after a damage of the journal (its row DAMAGED) knows nothing of before.
- A row that does not hold what it should tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict, ValidationError

from appliance.bundle.manifest import Name, Version
from appliance.bundle.tables import Installed, Recalled
from appliance.report import Digest, Record
from appliance.store.journal import Journal
from appliance.store.journal.damage import DAMAGED
from appliance.store.rows import AuditRow

ADD, ACTIVATE, RECALL = "bundle add", "bundle activate", "bundle recall"
DEACTIVATE = "bundle deactivate"
NONE = "-"
"""`before` where nothing was active."""


class Activated(Record):
    """Detail of a row ACTIVATE."""

    model_config = ConfigDict(extra="ignore")

    name: Name
    version: Version
    digest: Digest
    before: str = NONE
    """Digest of what was active."""
    withdraws: str = ""
    """The same, where it was a rollback."""


class _Deactivated(Record):
    """Detail of a row DEACTIVATE."""

    model_config = ConfigDict(extra="ignore")

    name: Name
    digest: Digest


class _Recalled(Recalled):
    """Detail of a row RECALL."""

    model_config = ConfigDict(extra="ignore")

    digest: Digest


class _Added(Installed):
    """Detail of a row ADD."""

    model_config = ConfigDict(extra="ignore")

    digest: Digest


@dataclass(frozen=True, slots=True)
class History:
    """All of it, at one moment."""

    added: Mapping[str, tuple[Installed, ...]] = field(default_factory=dict)
    """Digest -> as what it was admitted, the newest last."""
    chosen: Mapping[str, Activated] = field(default_factory=dict)
    """Name -> the last choice."""
    used: frozenset[str] = frozenset()
    """Digests that were active once."""
    withdrawn: frozenset[str] = frozenset()
    recalled: Mapping[str, Recalled] = field(default_factory=dict)
    """By digest."""
    anew: bool = False


def told(rows: Iterable[AuditRow]) -> History:
    """The history that these rows tell, the oldest first."""
    added: dict[str, tuple[Installed, ...]] = {}
    chosen: dict[str, Activated] = {}
    used: set[str] = set()
    withdrawn: set[str] = set()
    recalled: dict[str, Recalled] = {}
    anew = False
    for row in rows:
        try:
            if row.action == ADD:
                one = _Added.model_validate(row.detail)
                line = Installed(name=one.name, version=one.version, signed_by=one.signed_by)
                added[one.digest] = (*added.get(one.digest, ()), line)
            elif row.action == ACTIVATE:
                choice = Activated.model_validate(row.detail)
                chosen[choice.name] = choice
                used |= {choice.digest, choice.before}
                withdrawn = withdrawn - {choice.digest} | {choice.withdraws} - {""}
            elif row.action == DEACTIVATE:
                given_up = _Deactivated.model_validate(row.detail)
                chosen.pop(given_up.name, None)
                withdrawn |= {given_up.digest}
            elif row.action == RECALL:
                recall = _Recalled.model_validate(row.detail)
                recalled[recall.digest] = Recalled(reason=recall.reason)
            elif row.action == DAMAGED:
                anew = True
        except ValidationError:
            continue
    return History(added, chosen, frozenset(used - {NONE}), frozenset(withdrawn), recalled, anew)


def of_state(state: Path) -> History:
    """As the journal of a state folder has it, of which nothing is changed; see Journal.read."""
    journal = Journal.read(state)
    if journal is None:
        return History()
    with journal:
        return told(journal.audit.of((ADD, ACTIVATE, DEACTIVATE, RECALL, DAMAGED)))
