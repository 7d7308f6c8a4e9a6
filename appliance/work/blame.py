"""Who is to blame when `work` dies, and when a series has had its chances.

Rules
- An attempt counts only where a step of that very series ended this process (store/hand.py), or
  raised. Series that wait, or that are followed beside it, are not touched.
- MAX_ATTEMPTS of them fail the series, before anything of it is opened again.
- Where the machine died (the boot is another one), that is a suspicion and no attempt: a power cut
  is nobody's fault. A suspected series is taken after all others, while nothing else is followed.
- MAX_DEATHS suspicions at one step, each in another boot, with no series finished between them,
  fail it too (`machine_died`): a driver that takes the machine down would else do so for ever.
- A series that failed is tried once more where the bundles or this appliance have changed since.
- A person may have any of it tried again (`scanside retry`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

from appliance.errors import ScansideError
from appliance.host.boot import boot_id
from appliance.reasons import Code
from appliance.report import Reason, SeriesKey
from appliance.store.hand import Hand, Step
from appliance.store.journal import Journal
from appliance.store.rows import Series

log = logging.getLogger("scanside.work")

MAX_ATTEMPTS = 3
MAX_DEATHS = 5


class Blame:
    """The journal's counts of attempts and suspicions, for the one process that works."""

    def __init__(self, journal: Journal, hand: Hand) -> None:
        self._journal = journal
        self._hand = hand

    def recover(self) -> None:
        """At the start: who ended the process before this one."""
        last = self._hand.last()
        self._hand.clear()
        if last is None or self._journal.series.get(last.key) is None:
            return
        if last.boot == boot_id():
            count = self._journal.attempts.add(last.key)
            log.error("series %s ended this stage (%s), attempt %d", last.series, last.step, count)
        else:
            count = self._journal.attempts.suspect(last.key, last.boot, last.step)
            log.error("the machine died at series %s (%s), %d times", last.series, last.step, count)

    @contextmanager
    def step(self, key: SeriesKey, step: Step, *, lasting: bool = False) -> Iterator[None]:
        """One step of one series. It blames nobody by itself: what it raises, the caller counts."""
        with self._hand.holding(key, step, lasting=lasting):
            yield

    def failed_once_more(self, key: SeriesKey) -> int:
        """A step raised: an attempt. How many there are now."""
        return self._journal.attempts.add(key)

    def suspected(self) -> frozenset[SeriesKey]:
        """Those that are taken last."""
        return frozenset(row.key for row in self._journal.attempts.suspects())

    def against(self, row: Series | None, error: Exception | None = None) -> Reason | None:
        """Why a series is not tried (again); None where it is."""
        if row is None:
            return None
        if row.suspected >= MAX_DEATHS:
            text = f"this machine died {row.suspected} times while the series was analysed"
            return Reason(code=Code.MACHINE_DIED, text=text, where="series")
        if row.attempts < MAX_ATTEMPTS:
            return None
        if error is None:
            text = f"it ended the analysis {row.attempts} times"
            return Reason(code=Code.POISONED, text=text, where="series")
        of_backend = isinstance(error, ScansideError) and error.code == "backend_failed"
        text = f"the analysis failed {row.attempts} times ({type(error).__name__})"
        code = Code.BACKEND_FAILED if of_backend else Code.POISONED
        return Reason(code=code, text=text, where="series")

    def finished(self, key: SeriesKey) -> None:
        """A series was concluded, however: its count is over, and so is every row of deaths."""
        self._journal.attempts.end(key)

    def renew(self, digests: Iterable[str], there: Callable[[SeriesKey], bool]) -> None:
        """Failed series that this appliance with these bundles has not tried are open for one more
        try, if their images are still `there`."""
        now = made_of(digests)
        keys = [key for key in self._journal.attempts.failed_with_other(now) if there(key)]
        if keys:
            self._journal.attempts.renew(keys, now, left_off=MAX_ATTEMPTS - 1)


def made_of(digests: Iterable[str]) -> str:
    """What a series fails with: the digests of the open bundles, then the appliance's version."""
    return " ".join([*sorted(digests), version("scanside")])
