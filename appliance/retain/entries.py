"""Entries of earlier exams (priors/): what goes for its age, for room, or because nothing finds it.

Rules
- By age: what was seen for `priors.days`. By size: the longest stored while all are larger than
  `priors.max_mb`.
- By space: the longest stored while less than ROOM times `retain.reserve_mb` is free, so before
  `receive` answers A700. Images of series that are published go before them: the archive has those,
  and five years of entries are nowhere else. What archives are still owed goes after them, for an
  object that was given up is never delivered.
- Entries of another site key than the audit knows fit no id any more: all go at once.
- What goes for size, space or key is a row of the audit; age is the rule and none.
"""

from __future__ import annotations

import logging
from typing import Final

from appliance.retain import age
from appliance.settings import Settings
from appliance.store import site_key
from appliance.store.files import Disk
from appliance.store.journal import Journal
from appliance.store.priors import Priors

LOG = logging.getLogger(__name__)
ROOM: Final = 2.0
ACTION: Final = "priors_deleted"


def names(settings: Settings) -> tuple[str, ...]:
    """Of all entries, as the ledger knows them."""
    return tuple(one.name for one in Priors(settings.state).all())


def clean(settings: Settings, journal: Journal, ledger: age.Ledger, disk: Disk) -> None:
    """Delete what the rules say."""
    held = Priors(settings.state, disk)
    known = site_key.of_audit(journal)
    unknown = 0 if known is None else held.of_key(known)
    room_mb = ROOM * settings.retain.reserve_mb
    swept = held.sweep(
        ledger.age_s,
        most_s=settings.priors.days * age.DAY_S,
        most_bytes=settings.priors.max_mb * 1e6,
        short=lambda: disk.free_mb(settings.state) < room_mb,
    )
    for why, count in (("site_key", unknown), ("max_mb", swept.over), ("space", swept.short)):
        if count:
            journal.audit.add("retain", ACTION, why=why, count=count)
    if total := unknown + swept.aged + swept.over + swept.short:
        LOG.info("deleted %d entries of earlier exams", total)
