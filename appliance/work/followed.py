"""One series while it arrives: its folds, what is known of its transfer, and when to look again.

Nothing here reads the disk or the clock: bytes, journal rows and the time come in. `_at` are
seconds since 1970, `_tick` seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from appliance import line
from appliance.backend.protocol import Takes
from appliance.reasons import Code
from appliance.records import Header, Result, Stack
from appliance.report import Reason, Status
from appliance.runtime.bundles import Opened
from appliance.series import complete
from appliance.store.rows import Arrival
from appliance.store.spool import SeriesKey

PAUSE = 2.0
"""A plausible end is a pause this many times longer than any before it in this series."""

_ASSOCIATION: dict[str | None, Literal["open", "released", "aborted"]] = {
    None: "open",
    "released": "released",
    "aborted": "aborted",
    "lost": "aborted",
    "refused": "aborted",
}


@dataclass
class Followed:
    """A series, with the bundles that were open when its study began."""

    key: SeriesKey
    bundles: tuple[Opened, ...] = ()
    opened: dict[str | None, Opened | None] = field(default_factory=dict)
    """Digest of an accepting bundle -> it; None -> None where none accepts."""
    folds: dict[str | None, line.Fold] = field(default_factory=dict)
    """The same keys -> the fold."""
    refused: tuple[Reason, ...] = ()
    """Why no bundle accepts."""
    header: Header | None = None
    seen: set[str] = field(default_factory=set)
    first_at: float = 0.0
    last_at: float = 0.0
    first_tick: float = 0.0
    last_tick: float = 0.0
    prepared_at: float = 0.0
    listed_tick: float = -math.inf
    """When its files were last listed."""
    gaps: list[float] = field(default_factory=list)
    results: dict[str | None, tuple[Result, float]] = field(default_factory=dict)
    """Bundle -> the latest analysis and when it was inferred."""
    deadline: float = 0.0
    attempts: int = 0
    """As the journal counts them, this one included. Only the first shows anything early."""
    failed: bool = False
    """The last attempt failed: the next one waits for the deadline."""
    room: int | None = None
    """Bytes of memory for its pixels and their analysis; None where the machine does not say."""

    @property
    def uid(self) -> str:
        return self.key.series

    @property
    def held(self) -> int:
        """Bytes of pixels that all its folds hold."""
        return sum(fold.held for fold in self.folds.values())

    def room_of(self, digest: str | None) -> int | None:
        """What the other folds leave of `room`."""
        others = self.held - self.folds[digest].held
        return None if self.room is None else self.room - others

    @property
    def counted(self) -> bool:
        """As many images are here as the scanner announced."""
        expected = self.header.expected_images if self.header else None
        return len(self.seen) == expected

    @property
    def plausible_s(self) -> float:
        """How long a pause must be to look like the end: longer than this sender's rhythm."""
        least, most = complete.Quiet().plausible_s, complete.Quiet().open_s
        return min(most, max(least, PAUSE * max(self.gaps, default=0.0)))

    def begin(self, header: Header | None, accepting: Sequence[Opened]) -> None:
        """What the first image says; folds for the bundles that accept."""
        self.header = header
        self.opened = {o.bundle.ref.digest: o for o in accepting} or {None: None}
        self.folds = {
            digest: line.begin(opened.bundle if opened else None)
            for digest, opened in self.opened.items()
        }

    def add(self, uid: str, data: bytes, *, at: float, tick: float) -> None:
        """One instance more, which arrived at `at`, that is `tick`."""
        for digest, fold in self.folds.items():
            added = self.folds[digest] = line.add(fold, data, self.room_of(digest))
            opened = self.opened[digest]
            if opened is not None and isinstance(opened.backend, Takes):
                for plane in added.planes[len(fold.planes) :]:
                    opened.backend.take(plane)
        if not self.seen:
            self.first_at, self.first_tick = at, tick
        else:
            self.gaps.append(max(0.0, tick - self.last_tick))
        self.seen.add(uid)
        self.last_at = max(self.last_at, at)
        self.last_tick = max(self.last_tick, tick)

    def facts(
        self, now: float, arrivals: Sequence[Arrival], moved_on: Callable[[str], bool]
    ) -> complete.SeriesFacts:
        """What the verdict over completeness is about. `moved_on(association)`: it brings another
        series by now."""
        fold = next(iter(self.folds.values()))
        alone = fold.bundle is not None and fold.bundle.of_radiographs
        outline = line.outline(fold)
        stack = outline if isinstance(outline, Stack) else None
        holes = {Code.GAP_FILLED, Code.IRREGULAR_SPACING}
        covered = [
            result.facts.coverage.lungs == "covered"
            for digest, (result, _) in self.results.items()
            if result.status is Status.ANALYSED and result.input_digest == self.folds[digest].digest
        ]
        return complete.SeriesFacts(
            now=now,
            first=self.first_tick,
            last=self.last_tick,
            count=len(self.seen),
            expected=self.header.expected_images if self.header else None,
            associations=tuple(
                complete.AssociationFact(
                    state=_ASSOCIATION[a.association.outcome],
                    instances=a.instances,
                    moved_on=moved_on(a.association.id),
                )
                for a in arrivals
            ),
            uniform=alone
            or (stack is not None and not any(r.code in holes for r in stack.limitations)),
            cover_mm=float(stack.z_mm[-1]) if stack is not None else 0.0,
            min_cover_mm=fold.bundle.manifest.accepts.cover_mm if fold.bundle else 0.0,
            covered=all(covered) if covered and not alone else None,
        )
