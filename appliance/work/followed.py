"""One series while it arrives: its fold, what is known of its transfer, and when to look again.

Nothing here reads the disk or the clock: bytes, journal rows and the time come in. `_at` are
seconds since 1970, `_tick` seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from appliance import line
from appliance.backend.protocol import Takes
from appliance.bundle import match
from appliance.lines import kinds
from appliance.lines.choose import Chosen
from appliance.lines.fold import Fold, Share
from appliance.lines.followed import follows
from appliance.records import Header, Result
from appliance.report import Reason, SeriesKey, Status
from appliance.runtime.bundles import OpenBundle
from appliance.series import complete
from appliance.store.rows import Arrival
from appliance.work.opening import Unopened

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
    bundles: tuple[OpenBundle, ...] = ()
    opened: dict[str | None, OpenBundle | None] = field(default_factory=dict)
    """Digest of an accepting bundle -> it; None -> None where none accepts."""
    fold: Fold | None = None
    """Of all accepting bundles; None before the first image."""
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
    """How many failed, as the journal counts them. Nothing is shown early after the first."""
    concluded: set[str | None] = field(default_factory=set)
    """Bundles whose last word on just these images is committed."""
    failed: bool = False
    """The last attempt failed: the next one waits for the deadline."""
    outranked: bool = False
    """A better series of its study was analysed: this one is likely to be analysed for nothing."""
    silent: bool = False
    """Its study came from senders of earlier exams alone: nothing is said of it (`earlier`)."""
    memory_bytes: int | None = None
    """For its pixels and their analysis; None where the machine does not say."""

    @property
    def uid(self) -> str:
        return self.key.series

    @property
    def held(self) -> int:
        """Bytes of pixels that its fold holds."""
        return 0 if self.fold is None else self.fold.held

    @property
    def room(self) -> int | None:
        """Bytes that may still be read for it; None where the machine does not say."""
        return None if self.memory_bytes is None else max(0, self.memory_bytes - self.held)

    @property
    def counted(self) -> bool:
        """As many images are here as the scanner announced."""
        expected = self.header.expected_images if self.header else None
        return len(self.seen) == expected

    @property
    def doubtful(self) -> bool:
        """Every bundle that took it doubts the part of the body that its header names."""
        return self.header is not None and all(
            opened is not None and match.doubt(opened.manifest.accepts, (self.header,)) is not None
            for opened in self.opened.values()
        )

    @property
    def last(self) -> bool:
        """It is judged when nothing else is to be done, once, and nothing is said early of it."""
        return self.doubtful or self.outranked or self.silent

    @property
    def plausible_s(self) -> float:
        """How long a pause must be to look like the end: longer than this sender's rhythm."""
        least, most = complete.Quiet().plausible_s, complete.Quiet().open_s
        return min(most, max(least, PAUSE * max(self.gaps, default=0.0)))

    def begin(self, header: Header | None, chosen: Chosen[OpenBundle]) -> None:
        """What the first image says; a fold for the bundles that accept."""
        self.header, self.refused = header, chosen.reasons
        self.opened = {opened.digest: opened for opened in chosen.bundles} or {None: None}
        self.fold = line.begin([opened.bundle for opened in chosen.bundles])

    @property
    def belonging(self) -> int:
        """How many of its instances belong to the series, for the bundle that keeps most."""
        aside = [share.outline.foreign for share in (self.fold.shares if self.fold else ())]
        foreign = {name for name, _ in min(aside, key=len, default=())}
        return max(1, len(self.seen) - len(foreign))

    @property
    def chosen(self) -> bool:
        """A bundle accepts it, by one of its images."""
        return any(opened is not None for opened in self.opened.values())

    @property
    def is_compared(self) -> bool:
        """Whether what is found in it may be compared with earlier exams."""
        return any(one is not None and follows(one.manifest) for one in self.opened.values())

    def begin_again(
        self, header: Header, chosen: Chosen[OpenBundle], earlier: Iterable[bytes | Unopened]
    ) -> None:
        """A later image is the first that a bundle accepts: what came before it was foreign, or is
        refused. `earlier`: the instances so far, in order of arrival."""
        self.begin(header, chosen)
        for data in earlier:
            self._put(data)

    def add(self, uid: str, data: bytes | Unopened, *, at: float, tick: float) -> None:
        """One instance more, which arrived at `at`, that is `tick`. ValueError before `begin`."""
        self._put(data)
        self.concluded.clear()
        if not self.seen:
            self.first_at, self.first_tick = at, tick
        else:
            self.gaps.append(max(0.0, tick - self.last_tick))
        self.seen.add(uid)
        self.last_at = max(self.last_at, at)
        self.last_tick = max(self.last_tick, tick)

    def _put(self, data: bytes | Unopened) -> None:
        """Into the fold; and its planes to the backends that take them at once."""
        if self.fold is None:
            raise ValueError(f"series {self.uid} has not begun")
        if isinstance(data, Unopened):
            self.fold = line.leave_out(self.fold, data.mark, data.reason)
            return
        before, self.fold = self.fold, line.add(self.fold, data, self.memory_bytes)
        for share, earlier in zip(self.fold.shares, before.shares, strict=True):
            opened = self.opened[share.key]
            if opened is not None and isinstance(opened.backend, Takes):
                for plane in share.reading.planes(share.images[len(earlier.images) :]):
                    opened.backend.take(plane)

    def facts(
        self, now: float, arrivals: Sequence[Arrival], moved_on: Callable[[str], bool]
    ) -> complete.SeriesFacts:
        """What the verdict over completeness is about; of what the bundles ask the most demanding
        counts. `moved_on(association)`: it brings another series by now."""
        shares = self.fold.shares if self.fold else ()
        covers = [_cover(share) for share in shares] or [(0.0, 0.0)]
        cover_mm, wanted_mm = min(covers, key=lambda cover: cover[0] - cover[1])
        ends = [self._ends_inside_now(share) for share in shares]
        known = [inside for inside in ends if inside is not None]
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
            uniform=all(share.outline.uniform for share in shares),
            cover_mm=cover_mm,
            min_cover_mm=wanted_mm,
            covered=all(known) if known else None,
        )

    def ends_inside(self, digest: str | None, result: Result) -> bool | None:
        """Whether the organ ends inside the images, as a bundle analysed them (Kind)."""
        opened = self.opened[digest]
        if opened is None:
            return None
        return kinds.of(opened.manifest).ends_inside(result.facts.coverage)

    def _ends_inside_now(self, share: Share) -> bool | None:
        """The same, where what is here now was analysed."""
        result, _ = self.results.get(share.key, (None, 0.0))
        if result is None or result.status is not Status.ANALYSED:
            return None
        return self.ends_inside(share.key, result) if result.input_digest == share.digest else None


def _cover(share: Share) -> tuple[float, float]:
    """How far the slices reach along the normal for a bundle, and how far it wants them to (mm)."""
    extent, manifest = share.outline.extent, share.manifest
    return extent.cover_mm if extent else 0.0, manifest.accepts.cover_mm if manifest else 0.0
