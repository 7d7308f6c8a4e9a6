"""What a person may accept of the trials on a scanner, and which tuning that becomes. Pure.

    implants, row, tunings in force -> Trial whose proposal stands, or None
    the same, and the rest of the library -> Tuning

Rules.
1. A proposal stands while it is of the scanner as it is now: it is of the newest trial, of the
   bundle and tuning with which implants were looked for last, and no alarm came since. One that was
   accepted stands no more, for a tuning is in force for its scanner that the trial did not have;
   once that is withdrawn it stands again.
2. The texture of now is the median of the last SEEN studies of the row: as many as a trial has.
3. What was usual is the first of these that the texture of now is above (tuning.is_sharper): the
   middle of the row itself, where the change was acknowledged or is open; of the rows that a person
   ended by accepting a change, the newest first; the median of all other rows of today, of their
   modality. A row whose learning time was not of one kind says nothing.
4. Where no texture is known, or none is below that of now, nothing is made: softening is for images
   that are sharper than those that were usual, and a tuning without a lower end would soften all.
5. What a trial found on a scanner that is tuned already comes on top: both Gaussians are one, whose
   variance is the sum, and it takes the place of the one in force.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Final

from appliance.errors import ScansideError
from appliance.preprocess.spec import SOFTEST_MM
from appliance.quality import drift, probed, trial, tuning
from appliance.watching.alarm import Statistic
from appliance.watching.probe import Probed, Trial
from appliance.watching.quality import VolumeQuality
from appliance.watching.row import Row
from appliance.watching.scanner import Scanner
from appliance.watching.tuning import Tuning

SEEN: Final = trial.SERIES


def of_scanner(scanner: Scanner, in_force: Iterable[Tuning]) -> tuple[Tuning, ...]:
    """The tunings in force that were accepted for a scanner."""
    return tuple(one for one in in_force if one.scanner == scanner)


def to_withdraw(scanner: Scanner, in_force: Iterable[Tuning]) -> tuple[Tuning, ...]:
    """The same, one at least; else ScansideError `no_tuning`."""
    found = of_scanner(scanner, in_force)
    if not found:
        raise ScansideError(
            "no tuning of this row is in force",
            code="no_tuning",
            remedy="`scanside drift` shows which are.",
        )
    return found


def without_row(in_force: Iterable[Tuning], rows: Iterable[Row]) -> tuple[Tuning, ...]:
    """The tunings in force of whose scanner the library has no row, of its rows of today: it had to
    make way for others. What they are for is chosen by what is measured, so they count as ever."""
    scanners = {row.key for row in rows}
    return tuple(one for one in in_force if one.scanner not in scanners)


def accepted(made: Tuning) -> str:
    """What is said of a tuning that was accepted."""
    return (
        f"softening by {made.soften_mm:g} mm is accepted, for series whose noise has a texture of "
        f"{made.from_per_mm:g}/mm or more"
    )


def withdrawn(found: Iterable[Tuning]) -> str:
    """What is said of tunings that were withdrawn."""
    return ", ".join(f"softening by {one.soften_mm:g} mm is withdrawn" for one in found)


def standing(known: Probed, row: Row, in_force: Sequence[Tuning]) -> Trial | None:
    """The trial whose proposal a person may accept (rule 1)."""
    last = known.trials[-1] if known.trials else None
    if last is None or last.proposal is None:
        return None
    now = probed.setting(known, trial.change(row, known))
    accepted = {one.digest for one in of_scanner(row.key, in_force)}
    return last if now is not None and now.has(last) and accepted <= {last.tuning} else None


def made(
    known: Probed,
    row: Row,
    in_force: Sequence[Tuning],
    *,
    former: Sequence[Row],
    others: Sequence[Row],
) -> Tuning:
    """What the proposal of a row becomes once it is accepted. former: what was usual before, of
    this row, the newest first; others: the other rows of today. ScansideError `no_proposal`,
    `texture_unknown` or `texture_not_sharper`."""
    stands = standing(known, row, in_force)
    if stands is None or stands.proposal is None:
        raise ScansideError(
            "nothing is proposed for this row, or it was accepted already",
            code="no_proposal",
            remedy="`scanside drift` shows what a trial proposes.",
        )
    seen = seen_per_mm(row)
    usual = [] if seen is None else _usual(row, former, others)
    if seen is None or not usual:
        raise ScansideError(
            "it is not known how sharp this scanner, or any other, was before",
            code="texture_unknown",
            remedy="Wait until the row of another scanner or kernel has learnt what is usual.",
        )
    below = next((one for one in usual if tuning.is_sharper(seen, one)), None)
    if below is None:
        raise ScansideError(
            f"the texture of this scanner, {seen:.3f}/mm, is not above what was usual",
            code="texture_not_sharper",
            remedy="Leave it as it is: a tuning would soften the images of all scanners.",
        )
    mm = math.hypot(stands.proposal.soften_mm, *_before(stands, in_force))
    mm = round(min(mm, SOFTEST_MM), 4)
    return tuning.made(row.key, mm, usual_per_mm=below, seen_per_mm=seen)


def seen_per_mm(row: Row) -> float | None:
    """Rule 2; None where it was measured in none of them."""
    found = [
        one.texture_per_mm
        for seen in row.recent
        for one in seen.measured
        if isinstance(one, VolumeQuality) and one.texture_per_mm is not None
    ]
    return statistics.median(found[-SEEN:]) if found else None


def middle_per_mm(row: Row) -> float | None:
    """The texture that a row has learnt; None where it has learnt too little, or what was not of
    one kind."""
    known = row.watched.get(Statistic.TEXTURE)
    closed = (*row.alarms, *row.past)
    mixed = any((one.statistic, one.test) == (Statistic.TEXTURE, "learning") for one in closed)
    if known is None or mixed or known.n < drift.LIMITS[0][0]:
        return None
    return math.exp(statistics.median(known.first) if known.first else known.mean)


def _usual(row: Row, former: Sequence[Row], others: Sequence[Row]) -> list[float]:
    """What may have been usual, 1/mm, in the order of rule 3."""
    alike = [one for one in others if one.key.modality == row.key.modality]
    rest = [middle for one in alike if (middle := middle_per_mm(one)) is not None]
    known = [middle_per_mm(one) for one in (row, *former)]
    return [one for one in known if one is not None] + ([statistics.median(rest)] if rest else [])


def _before(stands: Trial, in_force: Iterable[Tuning]) -> Sequence[float]:
    """SD of what a trial was tuned with already (rule 5)."""
    return [one.soften_mm for one in in_force if one.digest == stands.tuning]
