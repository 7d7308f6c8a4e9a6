"""Foreign images that come after the final report: an event in the journal, and no more.

Rules
- An image that does not belong to its series (series/foreign.py) is no part of the input, so a
  final report stays as it is: no revision, no message. `scanside doctor` shows the event.
- What the report says already, as a limitation, is no event.
"""

from __future__ import annotations

from appliance.reasons import Code
from appliance.report import Report
from appliance.store.events import ImagesSetAside
from appliance.store.journal import Journal
from appliance.work.followed import Followed


def note(journal: Journal, followed: Followed, digest: str | None, final: Report) -> None:
    """Note what is set aside beside the images of a report that is there already."""
    if followed.fold is None:
        return
    opened = followed.opened.get(digest)
    share = followed.fold.share(opened.bundle if opened else None)
    said = {reason.text for reason in final.limitations}
    for reason in share.outline.limitations:
        if reason.code is Code.SET_ASIDE_IMAGES and reason.text not in said:
            text = f"came after the final report, which stays: {reason.text}"
            journal.events.add(ImagesSetAside(subject=followed.uid, text=text))
