"""The child that compares exams with earlier ones (appliance/compare/child.py), as `work` keeps it.

Rules (`child` has those of every child)
- It is asked for ahead, when the first image of a chest CT was accepted: so it is warm once the
  report is there. It hears by its own bell that one was committed, and lingers a while after the
  last one.
- There is none where the settings keep no exams. What waited then waits no more.
- At the start of `work` it is asked for where a report stands that nobody noted: of a release on
  trial, of the one before, or of a journal that was damaged.
"""

from __future__ import annotations

from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.work.child import Child

MODULE = "appliance.compare.child"


def comparing(settings: Settings, journal: Journal, module: str = MODULE) -> Child:
    """The child of one state folder. module: what is run as it."""
    if not settings.priors.keep:
        journal.comparisons.let_go()
        return Child(settings, module, "comparing", None)
    made = Child(settings, module, "comparing", journal.comparisons.any)
    made.ask(ahead=bool(journal.uncompared()))
    return made
