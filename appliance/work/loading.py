"""The bundles that `work` has open, and what the journal is told of them.

Rules
- What is loaded, and how it stands with the engines of a GPU, is journalled where it changed, and
  `publish` is woken: `status`, `info` and `health` repeat it.
- What cannot be opened is told by `Refusals`; the others serve.
- Of an appliance that was recalled none is opened at all: it never analyses again.
"""

from __future__ import annotations

from collections.abc import Collection

from appliance.runtime.bundles import OpenBundle, OpenBundles
from appliance.runtime.gpu import EngineState
from appliance.settings import Settings
from appliance.store import conditions, instance
from appliance.store.bell import ring
from appliance.store.events import Engine, Loaded
from appliance.store.heartbeat import Heart, TroubleCode
from appliance.store.journal import Journal
from appliance.work.refusals import Refusals

_RECALLED = "this release was recalled: nothing is analysed"


class Loading:
    """The open bundles of one `work`."""

    def __init__(
        self, settings: Settings, journal: Journal, bundles: OpenBundles, heart: Heart
    ) -> None:
        self._state = settings.state
        self._journal = journal
        self._bundles = bundles
        self._heart = heart
        self._refusals = Refusals(settings.state, journal, heart)
        self.first = bundles.first
        """Around an analysis: no bundle that is opened beside it takes more of the machine."""
        self.loaded: tuple[OpenBundle, ...] | None = None
        """None: nothing was opened yet."""
        self.recalled = instance.recalled()
        self._engine_states: dict[str, EngineState] = {}
        """As the journal has them."""

    def refresh(self, in_use: Collection[str | None]) -> tuple[OpenBundle, ...]:
        """Take up the bundles that are active now, and begin to open those that are not; tell the
        journal where they changed. in_use: digests of those that series are analysed with."""
        if self.recalled:
            self._heart.suffer(TroubleCode.RECALLED, _RECALLED)
            self._take((), None)
            return ()
        with self._heart.at(conditions.OPEN):
            opened = self._bundles.refresh(in_use)
        self._refusals.note(self._bundles.troubles)
        refs = [one.backend.ref for one in opened]  # a bundle without networks runs on none
        backends = {f"{ref.name} {ref.precision}" for ref in refs if ref.precision}
        self._take(opened, ", ".join(sorted(backends)) or None)
        self._journal_engine_states()
        return opened

    def _take(self, opened: tuple[OpenBundle, ...], backend: str | None) -> None:
        """Journal what is open now, where that is other than before."""
        if opened != self.loaded:
            self.loaded = opened
            bundles = tuple(o.bundle.ref for o in opened)
            self._journal.events.add(Loaded(bundles=bundles, backend=backend))
            ring(self._state, "publish")

    def make_room(self) -> bool:
        """While nothing is followed: whether what is open was let go for what memory does not hold
        beside it."""
        if not self._bundles.short:
            return False
        with self._heart.at(conditions.OPEN):
            return self._bundles.make_room()

    def follow_builds(self) -> None:
        """Follow the build of an engine, if there is one."""
        self._bundles.follow_builds()
        self._journal_engine_states()

    def _journal_engine_states(self) -> None:
        """Journal what is new about a bundle and the GPU; `health` repeats it."""
        engines = self._bundles.engines
        states = dict(engines.states) if engines is not None else {}
        for digest, state in states.items():
            if self._engine_states.get(digest) != state:
                self._journal.events.add(Engine(**state.model_dump()))
        if states != self._engine_states:
            self._engine_states = states
            ring(self._state, "publish")
