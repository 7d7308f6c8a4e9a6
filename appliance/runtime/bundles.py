"""The bundles that are open in this process, each with its networks loaded in a backend.

`work`, `analyze` and `replay` share this, so that a series gets the same report whichever way it
came. Rules:
- A bundle is opened once and stays until another of its name is active; then the new one is opened
  beside the old one, and only a bundle whose goldens passed is used. The old one is closed once no
  series that began with it is followed any more.
- For who gives `news`, which `work` does, that happens in a thread (runtime/beside.py): until the
  new one is open the old one serves, and nobody waits. A bundle of a new name serves once it is
  open. Who asks waits only where a name that was served would else be served by nobody: what is
  open was recalled, or given up while the active one is refused; and where nothing is open at all.
- Where memory does not hold both, the old one serves until nothing is followed; then it is let go
  (`make_room`). That is said from the start.
- While the active bundle is refused, the one of its name that runs goes on; else the best of its
  spares (Shelf.spares) takes its place, never one of another name nor one that was withdrawn. Each
  report of it then has the limitation BUNDLE_FALLBACK. What was refused is looked at again once its
  file has changed, and now and then (AGAIN_S).
- A bundle that takes no images is opened for no series (`open` opens it for who asks). Nothing is
  written onto the shelf: damaged tables are read as made anew, and mended by who changes it. One
  that cannot be looked at closes nothing that is open.
- The GPU serves a bundle once its engine is ready (runtime/gpu.py); the CPU backend stays as its
  spare, and takes over a series at once where the GPU fails in it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from appliance.backend.choose import choose
from appliance.backend.gpu import GpuBackend
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import golden, trust
from appliance.bundle.manifest import Network
from appliance.bundle.shelf import Audit, Entry, Shelf
from appliance.bundle.trust import Loaded
from appliance.errors import (
    BundleRefused,
    ScansideError,
    StateUnusable,
)
from appliance.host import memory
from appliance.runtime import open_bundle, trial
from appliance.runtime.beside import Beside, Opening
from appliance.runtime.gpu import GpuEngines
from appliance.runtime.open_bundle import OpenBundle, instead, is_short, require_memory, said
from appliance.settings import Settings

__all__ = ["OpenBundle", "OpenBundles"]

log = logging.getLogger("scanside.work")

AGAIN_S = 60.0
"""What was refused is looked at again so much later, or after TIMES the time that it took."""
TIMES = 20.0
ROOM_AGAIN_S = 3600.0
"""So much later, where even the memory of the one before was not enough."""
Mark = tuple[int, int, int] | None
"""Of a file: inode, size, time of its last change in ns; None where it is not there."""


@dataclass(frozen=True)
class _Refused:
    """A bundle that could not be opened, and when to look at it again."""

    mark: tuple[Mark, str | None]
    until: float
    """Of the monotonic clock."""
    error: ScansideError | MemoryError


class OpenBundles:
    """The open bundles of this process, and the shelf that they come from."""

    def __init__(
        self,
        settings: Settings,
        audit: Audit | None = None,
        *,
        builds: bool = False,
        engines: GpuEngines | None = None,
        alive: Callable[[], object] = lambda: None,
        news: Callable[[], object] | None = None,
    ) -> None:
        """`builds`: whether engines are built by this process; `engines`: of another GPU than this
        machine's; `alive` is called while golden cases run. `news`: bundles are opened beside the
        work, and it is called, by another thread, when `refresh` has one more to take up."""
        self.settings = settings
        self._alive = alive
        self._library = choose(settings.work.backend)
        self.engines = engines
        """None where the GPU is not to serve."""
        if engines is None and settings.work.backend in ("auto", "gpu"):
            required = settings.work.backend == "gpu"
            self.engines = GpuEngines(
                settings.state, self._library, required=required, builds=builds
            )
        key = trial.key(self._library)
        unsigned = settings.bundles.allow_unsigned
        self.shelf = Shelf(
            settings.state,
            runner=golden.Runner(key, partial(self._trial, alive)),
            audit=audit,
            allow_unsigned=unsigned,
        )
        self._beside: Beside[OpenBundle | None] | None = None
        self._shelf_beside = self.shelf
        self._pause: Callable[[], object] = lambda: None
        self.first: Callable[[], AbstractContextManager[None]] = nullcontext
        """For an analysis: meanwhile no bundle takes more of the machine (Beside.first)."""
        if news is not None:
            self._beside = Beside(lambda o: None if o is None else o.backend.close(), news)
            self._pause, self.first = self._beside.pause, self._beside.first
            runs = partial(self._trial, self._beside.go_on, polite=True)
            self._shelf_beside = Shelf(
                settings.state, runner=golden.Runner(key, runs), allow_unsigned=unsigned
            )
        self.troubles: tuple[str, ...] = ()
        """What `refresh` found wrong with the bundles, each a sentence."""
        self._refused: dict[str, _Refused] = {}
        """By digest."""
        self._open: dict[str, OpenBundle] = {}
        self._retired: dict[str, OpenBundle] = {}
        """Not active any more, but a series may still use them."""
        self._spares: dict[str, Backend] = {}
        """Digest -> the CPU backend of a bundle that the GPU serves."""
        self._short: dict[str, Entry] = {}
        """By digest: those that memory does not hold beside what is open."""
        self._built: list[str] = []
        """Digests of bundles whose new engine is to be proved and opened."""
        self._began: dict[str, float] = {}
        """Digest -> since when it is being opened, of the monotonic clock."""
        self._looked = False
        """Whether `refresh` has looked once: then others wait for nothing."""
        self._served: set[str] = set()
        """Names of which a bundle was open."""
        self._lost: list[Backend] = []
        """GPU backends that failed: a series that began with one may still ask it."""

    def refresh(self, in_use: Collection[str | None] = ()) -> tuple[OpenBundle, ...]:
        """Open what is active and takes images; close what is neither active nor in use (digests).

        A bundle that cannot be opened is logged, and what may take its place does. All that are
        open go on where there is no memory to look, or where the shelf cannot be looked at.
        """
        try:
            active, problems = self.shelf.active(), self.shelf.problems()
        except MemoryError:
            log.error("no memory to look at the shelf; what is open goes on")
            return self.all
        except StateUnusable as e:
            if not self._open:
                raise
            log.error("%s; what is open goes on", e.one_line())
            return self.all
        active = tuple(e for e in active if open_bundle.takes_images(self.shelf, e))
        troubles = list(problems)
        wanted: dict[str, OpenBundle] = {}
        if self._beside is not None:
            self._beside.only({entry.digest for entry in active})
        for entry in active:
            try:
                wanted[entry.digest] = self._taken_up(entry)
            except Opening:
                wanted |= {o.digest: o for o in self._of_name(entry.name)}
            except (ScansideError, MemoryError) as e:
                why = e.one_line() if isinstance(e, ScansideError) else "no memory to open it"
                log.error("bundle %s %s: %s", entry.name, entry.version, why)
                stand_in = self._in_place_of(entry, e)
                if stand_in is not None:
                    wanted[stand_in.digest] = stand_in
                if isinstance(e, BundleRefused) or is_short(e):
                    troubles.append(said(entry, e, stand_in))
        self.troubles = tuple(dict.fromkeys(troubles))
        self._retired |= {d: o for d, o in self._open.items() if d not in wanted}
        self._open, self._looked = wanted, True
        self._served |= {opened.bundle.ref.name for opened in wanted.values()}
        self._short = {e.digest: e for e in active if e.digest in self._short}
        for digest in self._retired.keys() - set(in_use):
            self._close(digest, self._retired.pop(digest))
        return tuple(wanted.values())

    def _taken_up(self, entry: Entry) -> OpenBundle:
        """An active bundle, open. Whatever keeps it from being opened is raised."""
        known = self._open.get(entry.digest) or self._retired.get(entry.digest)
        if known is not None and entry.refused is None:
            self._retired.pop(entry.digest, None)
            return known if known.fallback is None else replace(known, fallback=None)
        opened = self._anew(entry)
        self._short.pop(entry.digest, None)
        log.info("bundle %s %s is open", entry.name, entry.version)
        return opened

    def _anew(self, entry: Entry, *, wait: bool = False) -> OpenBundle:
        """Opened now, or Opening unless `wait`. What could not be opened is refused again at once,
        until its file has changed or it is time to look again."""
        mark, now = (_mark(self.shelf.path(entry)), entry.refused), time.monotonic()
        before = self._refused.get(entry.digest)
        if before is not None and before.mark == mark and now < before.until:
            raise before.error
        self._began.setdefault(entry.digest, now)
        try:
            opened = self._in_turn(entry, mark, wait or not self._goes_on(entry.name))
        except (ScansideError, MemoryError) as e:
            now = time.monotonic()
            until = now + max(AGAIN_S, TIMES * (now - self._began.pop(entry.digest)))
            if is_short(e):
                self._short[entry.digest] = entry
            if isinstance(e, BundleRefused) or self._beside is not None:
                self._refused[entry.digest] = _Refused(mark, until, e)
            raise
        self._refused.pop(entry.digest, None)
        self._began.pop(entry.digest, None)
        return opened

    def _in_turn(self, entry: Entry, mark: tuple[Mark, str | None], wait: bool) -> OpenBundle:
        """Here and now, or beside the work."""
        if self._beside is None or not self._looked:
            return self._opened(self.shelf.ready(entry), entry)
        opened = self._beside.take(
            (entry.digest, mark),
            lambda: self._opened(self._shelf_beside.ready(entry), entry),
            wait=self._alive if wait else None,
        )
        if opened is None:
            raise Opening
        return opened

    def _goes_on(self, name: str) -> bool:
        """Whether studies may begin before a bundle of this name is open."""
        here = self._of_name(name)
        if not here:
            return bool(self._open) and name not in self._served
        return not any(self.shelf.is_recalled(opened.digest) for opened in here)

    def _of_name(self, name: str) -> list[OpenBundle]:
        """What is open of this name: one or none."""
        return [opened for opened in self._open.values() if opened.bundle.ref.name == name]

    @property
    def short(self) -> bool:
        """Whether `make_room` has something to do."""
        return bool(self._short)

    def make_room(self) -> bool:
        """For a moment when nothing is followed: what memory does not hold beside the one that is
        open takes its place, or that one comes back. Whether anything was tried."""
        tried, self._short = tuple(self._short.values()), {}
        for entry in tried:
            for old in self._of_name(entry.name):
                was = old.bundle.ref
                log.warning("%s %s makes room for %s", was.name, was.version, entry.version)
                self._close(old.digest, self._open.pop(old.digest))
                memory.give_back()
                self._swapped(entry, old.digest)
        return bool(tried)

    def _swapped(self, entry: Entry, old: str) -> None:
        """Open this one where there was no memory, else the one that was closed for it. Where
        neither opens, who looks next tries again."""
        self._refused.pop(entry.digest, None)
        before = next((one for one in self.shelf.list() if one.digest == old), entry)
        try:
            self._open[entry.digest] = self._opened(self.shelf.ready(entry), entry)
        except (ScansideError, MemoryError) as e:
            log.error("bundle %s %s: %s", entry.name, entry.version, e)
            try:
                self._open[old] = self._opened(self.shelf.ready(before), before)
            except (ScansideError, MemoryError) as again:
                log.error("bundle %s %s: %s", before.name, before.version, again)
            else:
                mark, until = (_mark(self.shelf.path(entry)), entry.refused), time.monotonic()
                self._refused[entry.digest] = _Refused(mark, until + ROOM_AGAIN_S, e)

    def _in_place_of(self, entry: Entry, error: Exception) -> OpenBundle | None:
        """Who serves while an active bundle cannot be opened."""
        refused = isinstance(error, BundleRefused)
        for opened in self._open.values():
            if opened.bundle.ref.name == entry.name and not (
                refused and self.shelf.is_withdrawn(opened.digest)
            ):
                return instead(opened, entry) if refused else opened
        for spare in self.shelf.spares(entry) if refused or is_short(error) else ():
            try:
                opened = self._anew(spare, wait=True)
            except (ScansideError, MemoryError) as e:
                log.error("bundle %s %s: %s", spare.name, spare.version, e)
                continue
            log.error("bundle %s %s serves in its place", spare.name, spare.version)
            return instead(opened, entry)
        return None

    def follow_builds(self) -> None:
        """Between two steps of the work: follow the build of an engine, take up one that is ready.

        Series that are followed keep the backend that they began with.
        """
        if self.engines is None:
            return
        if (built := self.engines.built()) is not None:
            self._built.append(built)
        for digest in tuple(self._built):
            before = self._open.get(digest)
            entry = next((e for e in self.shelf.list() if e.digest == digest), None)
            if before is None or entry is None:
                self._built.remove(digest)
                continue
            try:
                opened = self._on_its_engine(entry, before)
            except Opening:
                continue
            except ScansideError as e:
                log.error("bundle %s %s: %s", entry.name, entry.version, e.one_line())
                opened = None
            self._built.remove(digest)
            if opened is not None:
                self._spares[digest] = before.backend
                self._open[digest] = replace(opened, fallback=before.fallback)

    def _on_its_engine(self, entry: Entry, before: OpenBundle) -> OpenBundle | None:
        """The bundle on the engine that was just built; None where the one before goes on."""

        def proved() -> OpenBundle | None:
            if self.engines is None or not self.engines.prove(entry.digest):
                return None
            if isinstance(before.backend, GpuBackend):
                return None  # built anew for another power mode: it serves from the next start on
            return self._with_gpu(self.shelf.load(entry), entry)

        if self._beside is None:
            return proved()
        return self._beside.take((entry.digest, "engine"), proved)

    def open(self, entry: Entry) -> OpenBundle:
        """One bundle of the shelf, active or not, until `close`."""
        opened = self._open.get(entry.digest)
        opened = opened or self._opened(self.shelf.ready(entry), entry)
        self._open[entry.digest] = opened
        return opened

    def only(self, bundle: str) -> tuple[OpenBundle, ...]:
        """Just this bundle, for `analyze --bundle`: the name of an active one or a file's path.

        A file named by hand needs no signature, but its golden cases must pass here.
        """
        path = Path(bundle)
        if path.is_file():
            loaded = trust.check(path.read_bytes())
            gate = self._trial(self._alive, path, loaded)
            if not gate.passed:
                raise BundleRefused(f"{path}: {gate.one_line()}", code="bundle_golden")
            self._open = {loaded.digest: self._opened(loaded)}
        else:
            self._open = {d: o for d, o in self._open.items() if o.bundle.ref.name == bundle}
        if not self._open:
            raise BundleRefused(
                f"there is no active bundle and no file {bundle!r}",
                remedy="`scanside bundle list` shows the bundles on this device.",
                code="bundle_not_found",
            )
        return tuple(self._open.values())

    @property
    def all(self) -> tuple[OpenBundle, ...]:
        """Those that series begin with from now on."""
        return tuple(self._open.values())

    def _opened(self, loaded: Loaded, entry: Entry | None = None) -> OpenBundle:
        """On the GPU where its engine is ready; what is not on the shelf (None) is for the CPU."""
        if entry is not None and (opened := self._with_gpu(loaded, entry)) is not None:
            return opened
        return OpenBundle(loaded.bundle, self._on_cpu(loaded))

    def _with_gpu(self, loaded: Loaded, entry: Entry) -> OpenBundle | None:
        engines = self.engines
        if engines is None or not loaded.networks:
            return None
        backend = engines.open(loaded, self.shelf.path(entry))
        if backend is None:
            return None
        digest = loaded.digest

        def spare() -> Backend:
            if digest not in self._spares:
                self._spares[digest] = self._on_cpu(loaded)
            return self._spares[digest]

        def gpu_failed(error: ScansideError) -> None:
            engines.device_failed(digest, error)
            now = self._open.get(digest)
            if now is not None and now.backend is backend:
                self._open[digest] = replace(now, backend=spare(), spare=None)
                self._lost.append(backend)

        return OpenBundle(loaded.bundle, backend, spare, gpu_failed)

    def _on_cpu(self, loaded: Loaded) -> Backend:
        require_memory(sum(map(len, loaded.networks.values())))
        networks: dict[str, Network] = dict(loaded.manifest.networks.items())
        threads = self.settings.work.threads
        return open_backend(self._library, networks, loaded.networks, threads, pause=self._pause)

    def _trial(
        self, alive: Callable[[], object], path: Path, loaded: Loaded, *, polite: bool = False
    ) -> golden.Gate:
        """Its golden cases, in a process of their own."""
        require_memory(sum(map(len, loaded.networks.values())))
        threads = self.settings.work.threads
        return trial.run(self._library, threads, path, loaded, alive=alive, polite=polite)

    def _close(self, digest: str, opened: OpenBundle) -> None:
        opened.backend.close()
        spare = self._spares.pop(digest, None)
        if spare is not None and spare is not opened.backend:
            spare.close()

    def rest(self) -> None:
        """Nothing has come for a while: the memory of what came goes back to the machine."""
        for backend in (*(o.backend for o in self._open.values()), *self._spares.values()):
            backend.rest()
        memory.give_back()

    def close(self) -> None:
        if self._beside is not None:
            self._beside.close()
        for digest, opened in (*self._open.items(), *self._retired.items()):
            self._close(digest, opened)
        self._open, self._retired = {}, {}
        for backend in self._lost:
            backend.close()
        if self.engines is not None:
            self.engines.close()


def _mark(path: Path) -> Mark:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
