"""How long a series must be quiet before it is judged: as set for its sender, as learned, or as for
all.

The quiet times of an AE title are learned from the gaps between the slices of its whole series
(`complete.learned_quiet`), for as long as this process lives.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from appliance.dicom import policy
from appliance.report import SeriesKey
from appliance.series import complete
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.work.followed import Followed

REMEMBERED = 2000
"""Gaps of each AE title, the newest."""


class QuietTimes:
    """Of every AE title that has sent to this process."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._gaps: dict[str, deque[float]] = {}

    def of(self, followed: Followed) -> complete.Quiet:
        """Those of the AE title that sent this series."""
        work, ae = self._settings.work, self._sender(followed.key)
        most = policy.quiet_s(self._settings, ae)
        return complete.Quiet(
            released_s=work.released_quiet_s,
            setting_s=complete.learned_quiet(list(self._gaps.get(ae, ())), setting_s=most),
            aborted_s=work.aborted_quiet_s,
            plausible_s=followed.plausible_s,
        )

    def verdict(self, followed: Followed, all_followed: Iterable[Followed]) -> complete.Verdict:
        """What is to be said of a series now; all_followed: it and those that arrive beside it."""

        def moved_on(association: str) -> bool:
            """Whether a later series is arriving in the same association."""
            arrivals = self._journal.series.arrivals
            return any(
                other.first_tick > followed.last_tick
                and association in {a.association.id for a in arrivals(other.key)}
                for other in all_followed
                if other is not followed
            )

        arrivals = self._journal.series.arrivals(followed.key)
        facts = followed.facts(time.monotonic(), arrivals, moved_on)
        return complete.verdict(facts, self.of(followed))

    def learn(self, followed: Followed) -> None:
        """This series was whole: so its gaps were none that end a series."""
        if ae := self._sender(followed.key):
            self._gaps.setdefault(ae, deque(maxlen=REMEMBERED)).extend(followed.gaps)

    def _sender(self, key: SeriesKey) -> str:
        """The AE title, empty where it is not known."""
        row = self._journal.series.get(key)
        return row.calling_ae if row else ""
