"""Which time it is, for what is signed with an end. Pure.

A box without a network has no clock to trust: a flat battery makes it 1970, a slip of the hand
2099.

Rules.
1. The time is the latest of three: the clock, the newest `made` that was signed, and the day on
   which this appliance was built. So a clock that lies behind revives nothing that has ended.
2. Only what was signed is remembered. A clock that once was wrong leaves no trace.
3. A clock more than DAYS past the newest signed `made` is taken for wrong: nothing that is signed
   here holds longer than a year, and a repository signs every day. What ended by such a clock alone
   is `clock` and not `expired`; the box goes on as it is.
4. `made` is a moment at which all that it came with was valid. One past the end of any of that is
   no such moment (`impossible`), so a stolen key moves the time of a box by a year at most; and it
   is forgotten with the keys that signed it (appliance.update.trust).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from appliance.errors import ReleaseRefused

DAYS = 400
"""A year of the longest role, and a month in which nobody signed."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"
CLOCK_REMEDY = (
    "Set the clock of this box: sudo timedatectl set-time 'YYYY-MM-DD HH:MM'; then: scanside "
    "update check. If the clock is right, ask the fleet team for a repository of today."
)


def now(clock: datetime, built: datetime, made: datetime | None) -> datetime:
    """The time by rule 1; all are aware."""
    return max(one for one in (clock, built, made) if one is not None)


def far_ahead(clock: datetime, made: datetime | None) -> bool:
    """Rule 3; False where nothing was signed yet."""
    return made is not None and clock - made > timedelta(days=DAYS)


def said(text: object) -> datetime:
    """A signed `made`, such as 2026-07-01T03:00:00Z. ReleaseRefused (`release_made`)."""
    try:
        return datetime.strptime(str(text), _TIME).replace(tzinfo=timezone.utc)
    except ValueError as e:
        raise ReleaseRefused(
            f"the repository does not say when it was signed: {str(text)[:30]!a}",
            code="release_made",
        ) from e


def require_possible(made: datetime, ends: Iterable[datetime]) -> None:
    """Rule 4. ReleaseRefused (`release_made`)."""
    end = min(ends)
    if made >= end:
        raise ReleaseRefused(
            f"it says that it was signed at {made.strftime(_TIME)}, and a part of it ended at "
            f"{end.strftime(_TIME)}",
            code="release_made",
        )
