"""What a person has decided of a tuning, obeyed: tunings.json (store/tunings.py).

Rules
- What is accepted is what stands when `work` obeys (quality/offered.py). Where the act says which
  softening the person saw, and another one is proposed by then, nothing is accepted.
- A tuning takes the place of those of its scanner, in one write; to obey twice changes nothing.
- Nothing is tuned by what cannot be obeyed: it is an error, which the audit has.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from appliance.errors import ScansideError
from appliance.quality import offered
from appliance.store import probed, tunings
from appliance.store.files import Disk
from appliance.store.library import TUNE, WITHDRAW, Entry, Listed
from appliance.store.rows import AuditRow

ACTS: Final = (TUNE, WITHDRAW)


def obey(state: Path, act: AuditRow, entry: Entry, listed: Listed, disk: Disk) -> None:
    """One act of ACTS about a row. ScansideError where there is nothing to accept or to withdraw,
    or tunings.json is damaged; StateUnusable where the disk does not take it."""
    at = datetime.fromtimestamp(act.at, timezone.utc)
    accepted = [one for one in tunings.kept(state) if one.tuning.scanner == entry.row.key]
    if any(at in (one.at, one.withdrawn) for one in accepted):
        return  # the power went before the row had heard it
    in_force = tunings.in_force(state)
    if act.action == WITHDRAW:
        for one in offered.to_withdraw(entry.row.key, in_force):
            tunings.withdraw(state, one.digest, at, disk)
        return
    known = probed.of_scanner(state, entry.row.key)
    made = offered.made(
        known,
        entry.row,
        in_force,
        former=listed.former_of(entry),
        others=listed.others_than(entry),
    )
    proposal = known.proposal
    saw = act.detail.get("soften_mm")
    if proposal is None or saw not in (None, f"{proposal.soften_mm:g}"):
        raise ScansideError(
            f"what is proposed is another softening than {saw} mm by now",
            code="proposal_changed",
            remedy="Look at `scanside drift`, and accept what it says now.",
        )
    before = {one.digest for one in offered.of_scanner(entry.row.key, in_force)}
    tunings.accept(state, made, at, disk, instead_of=before - {made.digest})
