"""The entries that are kept (store/priors), as the child that compares sees them: unpacked.

Rules
- One entry at a time is unpacked to be listed, and none is held: a person may have many.
- What cannot be read (damaged, or of another release) is passed over and counted, never deleted:
  the release that wrote it may come back.
- Entries of another site key than the one in use fit nobody. They go at the start, and that is a
  row of the audit.
"""

from __future__ import annotations

import logging
import uuid
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from appliance.compare.ports import Listed, OfPerson
from appliance.prior import packed
from appliance.prior.entry import Entry
from appliance.store.journal import Journal
from appliance.store.priors import Kept, Priors

log = logging.getLogger("scanside.compare")

ACTOR: Final = "compare"
OTHER_KEY: Final = "priors_of_another_key"
"""Actor and action in the audit."""


class KeptExams:
    """ports.Exams over the state folder. fingerprint: of the site key (store/site_key.py)."""

    def __init__(self, priors: Priors, fingerprint: str, journal: Journal) -> None:
        self._priors = priors
        self._fingerprint = fingerprint
        self._journal = journal
        self._known: dict[Kept, Listed] = {}
        self._audit(priors.of_key(fingerprint))

    def keep(self, entry: Entry) -> None:
        person, report_id = entry.facts.person.key, entry.report.report_id
        data = packed.pack(entry)
        self._audit(self._priors.keep(person, report_id, data, fingerprint=self._fingerprint))

    def of_report(self, report_id: uuid.UUID) -> Entry | None:
        return of_report(self._priors, report_id)

    def of_person(self, key: str) -> OfPerson:
        listed, unreadable = [], 0
        for one in self._priors.of_person(key):
            known = self._known.get(one) or self._listed(one)
            if known is None:
                unreadable += 1
            else:
                self._known[one] = known
                listed.append(known)
        return OfPerson(tuple(listed), unreadable)

    def remove(self, report_id: uuid.UUID) -> None:
        self._priors.withdraw([report_id])

    def held(self) -> AbstractContextManager[None]:
        return self._priors.held()

    def holds(self, entry: Entry) -> bool:
        report_id = entry.report.report_id
        if self._priors.holds(entry.facts.person.key, report_id):
            return True
        return any(one.report_id == report_id for one in self._priors.all())  # of a merged person

    def _listed(self, one: Kept) -> Listed | None:
        entry = _read(self._priors, one)
        return None if entry is None else Listed(one.report_id, entry.facts, entry.digest)

    def _audit(self, gone: int) -> None:
        if gone:
            self._journal.audit.add(ACTOR, OTHER_KEY, count=gone)


def of_report(priors: Priors, report_id: uuid.UUID) -> Entry | None:
    """What is kept of a report; None where nothing is, or where it cannot be read."""
    found = next((one for one in priors.all() if one.report_id == report_id), None)
    return None if found is None else _read(priors, found)


def _read(priors: Priors, one: Kept) -> Entry | None:
    """Whose it is, its folder says: that of a merged person names the first one still."""
    data = priors.read(one)
    try:
        entry = None if data is None else packed.unpacked(data)
    except ValueError as e:
        log.error("the entry of report %s cannot be read: %s", one.report_id, e)
        return None
    if entry is None or entry.report.report_id != one.report_id:
        log.error("the entry of report %s is gone, or of another report", one.report_id)
        return None
    person = entry.facts.person.model_copy(update={"key": one.person})
    return replace(entry, facts=entry.facts.model_copy(update={"person": person}))
