"""The child that composes objects for archives (appliance/compose/child.py), as `work` keeps it.

Rules (`child` has those of every child)
- It is asked for when a report is committed. There is none where no archive is owed anything.
- What is ordered for an archive that the settings do not name any more is composed too: images must
  not wait for it, and who names it again gets it.
"""

from __future__ import annotations

from appliance.results import destinations
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.work.child import Child

MODULE = "appliance.compose.child"


def composing(settings: Settings, journal: Journal) -> Child:
    """The child of one state folder."""
    names = destinations.composed_for(journal.owed.destinations(), settings.deliver)

    def ordered() -> bool:
        return bool(journal.owed.uncomposed(names, 1))

    return Child(settings, MODULE, "composing", ordered if names else None)
