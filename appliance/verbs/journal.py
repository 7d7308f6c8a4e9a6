"""`scanside journal confirm`: a person knows that the journal was damaged, and why.

Until then the device says so in its status, and the doctor fails; the status changes within a
minute. What was set aside stays where it is. It is audited.
"""

from __future__ import annotations

import os

from appliance.errors import ScansideError
from appliance.settings import Settings
from appliance.store.journal import Journal, damage


def confirm(settings: Settings) -> str:
    """What is confirmed, as a sentence. ScansideError where there is nothing to confirm, or the new
    journal is not made yet."""
    told = damage.read(settings.state)
    if told is None:
        raise ScansideError(
            "no damage of the journal waits to be confirmed",
            remedy="`scanside doctor` says how the journal is.",
            code="not_damaged",
        )
    if not told.finished:
        raise ScansideError(
            "the new journal is not made yet",
            remedy="Start `scanside work`, and look at its log.",
            code="journal_waits",
        )
    with Journal.open(settings.state) as journal:
        detail = told.model_dump(exclude={"finished"})
        journal.audit.add(f"uid {os.getuid()}", "journal_damage_confirmed", **detail)
    damage.confirm(settings.state)
    return told.sentence()
