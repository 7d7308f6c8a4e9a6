"""What a person has decided of a tuning, obeyed: tunings.json (store/tunings.py).

Rules
- What is accepted is what stands when `work` obeys (quality/offered.py). Where the act says which
  softening the person saw, and another one is proposed by then, nothing is accepted.
- A tuning takes the place of those of its scanner, in one write; to obey twice changes nothing.
- What has no row any more is withdrawn by its digest.
- Nothing is tuned by what cannot be obeyed: it is an error, which the audit has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from appliance.errors import ScansideError
from appliance.quality import offered
from appliance.store import probed, tunings
from appliance.store.files import Disk
from appliance.store.library import TUNE, WITHDRAW, Entry, Listed
from appliance.store.rows import AuditRow
from appliance.store.tunings import Accepted
from appliance.watching.tuning import Tuning

ACTS: Final = (TUNE, WITHDRAW)


def obey(state: Path, act: AuditRow, entry: Entry, listed: Listed, disk: Disk) -> str:
    """One act of ACTS about a row: what was done, in words. ScansideError where there is nothing to
    accept or to withdraw, or tunings.json is damaged; StateUnusable where the disk does not take
    it."""
    kept = [one for one in tunings.kept(state) if one.tuning.scanner == entry.row.key]
    done = _done(kept, act)
    if done:  # the power went before the row had heard it
        return _said(act, done)
    in_force = tunings.in_force(state)
    if act.action == WITHDRAW:
        found = offered.to_withdraw(entry.row.key, in_force)
        for one in found:
            tunings.withdraw(state, one.digest, _at(act), disk)
        return _said(act, found)
    made = _made(state, act, entry, listed, in_force)
    before = {one.digest for one in offered.of_scanner(entry.row.key, in_force)}
    tunings.accept(state, made, _at(act), disk, instead_of=before - {made.digest})
    return _said(act, (made,))


def withdraw(state: Path, act: AuditRow, disk: Disk) -> str:
    """An act about a tuning that has no row: as `obey`."""
    digest = str(act.detail["tuning"])
    kept = [one for one in tunings.kept(state) if one.tuning.digest == digest]
    if not _done(kept, act):
        tunings.withdraw(state, digest, _at(act), disk)
    return _said(act, [one.tuning for one in kept])


def _made(
    state: Path, act: AuditRow, entry: Entry, listed: Listed, in_force: tuple[Tuning, ...]
) -> Tuning:
    """What the proposal of a row becomes, as far as the person saw it."""
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
    return made


def _done(kept: Sequence[Accepted], act: AuditRow) -> tuple[Tuning, ...]:
    """Those of which the act is obeyed already."""
    at = _at(act)
    if act.action == WITHDRAW:
        return tuple(one.tuning for one in kept if one.withdrawn == at)
    return tuple(one.tuning for one in kept if one.at == at)


def _said(act: AuditRow, of: Iterable[Tuning]) -> str:
    return offered.withdrawn(of) if act.action == WITHDRAW else ", ".join(map(offered.accepted, of))


def _at(act: AuditRow) -> datetime:
    return datetime.fromtimestamp(act.at, timezone.utc)
