"""The series that wait for `work`, and which of them is next (`priority`)."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from appliance.dicom import policy
from appliance.errors import Poisoned
from appliance.report import Priority, SeriesKey
from appliance.series import requested
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.work import priority


@dataclass(frozen=True)
class Look:
    """A look at a series that has been asked for."""

    since: float
    """Of the monotonic clock."""
    ended: bool
    """An association of the series has."""


class Waiting:
    """Looks that are asked for; how urgent each series is, the journal knows."""

    def __init__(self, settings: Settings, journal: Journal, spool: Spool) -> None:
        self._settings = settings
        self._journal = journal
        self._spool = spool
        self._looks: dict[SeriesKey, Look] = {}

    def any(self, *, but: Collection[SeriesKey] = ()) -> bool:
        """Whether any series waits, but for these."""
        return any(key not in but for key in self._looks)

    def oldest(self) -> float | None:
        """Since which tick of the monotonic clock the first of them waits; None where none does."""
        return min((look.since for look in self._looks.values()), default=None)

    def ask(self, key: SeriesKey, *, ended: bool) -> None:
        """For a look at this series, in its turn."""
        before = self._looks.get(key)
        since = before.since if before else time.monotonic()
        self._looks[key] = Look(since, ended or (before is not None and before.ended))

    def take(self, key: SeriesKey) -> Look | None:
        """The look at this series, if one is asked for: it is no longer."""
        return self._looks.pop(key, None)

    def first(
        self,
        due: Mapping[SeriesKey, float],
        last: Collection[SeriesKey] = (),
        *,
        held_back: bool = False,
    ) -> SeriesKey | None:
        """The most urgent of what waits for a look and what is `due`, each since when. Those in
        `last` come after all others, or not at all while they are `held_back`."""
        since = {key: look.since for key, look in self._looks.items()}
        since |= {key: min(at, since.get(key, at)) for key, at in due.items()}
        others = {key: at for key, at in since.items() if key not in last}
        since = others if others or held_back else since
        if len(since) < 2:
            return next(iter(since), None)
        return priority.first({key: (self._priority(key), at) for key, at in since.items()})

    def read_priority(self, key: SeriesKey) -> None:
        """What an image of a new series says of its priority reaches the journal."""
        for path in list(self._spool.instances(key).values())[:1]:
            with suppress(Poisoned):  # it fails when it is looked at, and is counted there
                data = self._spool.read(path)
                if data is not None and requested.priority(data) == "stat":
                    self._journal.series.set_stat(key)

    def _priority(self, key: SeriesKey) -> Priority:
        """Of the study: of its senders, or of what an image or a command said."""
        for row in self._journal.series.of_study(key.study):
            if "stat" in (row.priority, policy.priority(self._settings, row.calling_ae)):
                return "stat"
        return "routine"
