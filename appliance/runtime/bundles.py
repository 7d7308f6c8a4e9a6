"""The bundles that are open in this process, each with its networks loaded in a backend.

`work`, `analyze` and `replay` share this, so that a series gets the same report whichever way it
came. Rules:
- A bundle is opened once and stays until `scanside bundle activate` names another; then the new
  one is opened beside the old one, between two studies, if there is memory for both, and only a
  bundle whose goldens passed is used. The old one is closed once no series that began with it is
  followed any more.
- While the active bundle is refused, the one of its name that runs goes on; else the best of its
  spares (Shelf.spares) takes its place, never one of another name nor one that was withdrawn. Each
  report of it then has the limitation BUNDLE_FALLBACK. What was refused is looked at again once its
  file has changed, and now and then (AGAIN_S).
- Damaged tables of the shelf are mended by the process that has an audit. A shelf that cannot be
  looked at closes nothing that is open.
- The GPU serves a bundle once its engine is ready (runtime/gpu.py); the CPU backend stays as its
  spare, and takes over a series at once where the GPU fails in it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from appliance import line
from appliance.backend.choose import choose
from appliance.backend.gpu import GpuBackend
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import golden, trust
from appliance.bundle.manifest import Manifest, Network
from appliance.bundle.shelf import Audit, Entry, Shelf
from appliance.bundle.trust import Bundle, Loaded
from appliance.errors import (
    BackendUnavailable,
    BundleRefused,
    Poisoned,
    ScansideError,
    StateUnusable,
)
from appliance.host import memory
from appliance.lines.fold import Fold
from appliance.lines.kind import NO_CONTEXT, Context
from appliance.reasons import Code
from appliance.records import Result
from appliance.report import Reason
from appliance.runtime import trial
from appliance.runtime.gpu import GpuEngines
from appliance.settings import Settings

log = logging.getLogger("scanside.work")

AGAIN_S = 60.0
"""What was refused is looked at again so much later, or after TIMES the time that it took."""
TIMES = 20.0


Mark = tuple[int, int, int] | None
"""Of a file: inode, size, time of its last change in ns; None where it is not there."""


@dataclass(frozen=True)
class OpenBundle:
    """A bundle with its networks loaded in a backend."""

    bundle: Bundle
    backend: Backend
    spare: Callable[[], Backend] | None = None
    """The CPU backend that takes over where the GPU fails; None where `backend` is one."""
    gpu_failed: Callable[[ScansideError], None] = lambda _: None
    """Called where the GPU itself failed."""
    fallback: Reason | None = None
    """Why it serves although another one is active."""

    @property
    def digest(self) -> str:
        """Of the bundle."""
        return self.bundle.ref.digest

    @property
    def manifest(self) -> Manifest:
        """Of the bundle."""
        return self.bundle.manifest

    def finish(self, fold: Fold, context: Context = NO_CONTEXT) -> Result:
        """line.finish for this bundle; by the spare where the GPU fails."""
        result = self._finish(fold, context)
        if self.fallback is None:
            return result
        return replace(result, limitations=(self.fallback, *result.limitations))

    def _finish(self, fold: Fold, context: Context) -> Result:
        try:
            return line.finish(fold, self.bundle, self.backend, context)
        except Poisoned as e:
            if self.spare is None or e.code != "backend_failed":
                raise
            log.error("%s; the CPU takes over", e.one_line())
            if isinstance(self.backend, GpuBackend) and self.backend.broken is not None:
                self.gpu_failed(e)
        return line.finish(fold, self.bundle, self.spare(), context)


@dataclass(frozen=True)
class _Refused:
    """A bundle that was refused, and when to look at it again."""

    mark: tuple[Mark, str | None]
    until: float
    """Of the monotonic clock."""
    error: BundleRefused


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
    ) -> None:
        """`builds`: whether engines are built by this process; `engines`: of another GPU than this
        machine's; `alive` is called while golden cases run."""
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
        runner = golden.Runner(f"{self._library} {version(self._library)} fp32", self._trial)
        self.shelf = Shelf(
            settings.state,
            runner=runner,
            audit=audit,
            allow_unsigned=settings.bundles.allow_unsigned,
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
        self._lost: list[Backend] = []
        """GPU backends that failed: a series that began with one may still ask it."""

    def refresh(self, in_use: Collection[str | None] = ()) -> tuple[OpenBundle, ...]:
        """Open what the shelf says is active; close what is neither active nor `in_use` (digests).

        A bundle that cannot be opened is logged, and what may take its place does. All that are
        open go on where there is no memory to look, or where the shelf cannot be looked at.
        """
        try:
            if self.shelf.audited:
                self._mend()
            active, problems = self.shelf.active(), self.shelf.problems()
        except MemoryError:
            log.error("no memory to look at the shelf; what is open goes on")
            return self.all
        except StateUnusable as e:
            if not self._open:
                raise
            log.error("%s; what is open goes on", e.one_line())
            return self.all
        troubles = list(problems)
        wanted: dict[str, OpenBundle] = {}
        for entry in active:
            try:
                wanted[entry.digest] = self._taken_up(entry)
            except (ScansideError, MemoryError) as e:
                why = e.one_line() if isinstance(e, ScansideError) else "no memory to open it"
                log.error("bundle %s %s: %s", entry.name, entry.version, why)
                stand_in = self._in_place_of(entry, e)
                if stand_in is not None:
                    wanted[stand_in.digest] = stand_in
                if isinstance(e, BundleRefused):
                    troubles.append(_said(entry, e, stand_in))
        self.troubles = tuple(dict.fromkeys(troubles))
        self._retired |= {d: o for d, o in self._open.items() if d not in wanted}
        self._open = wanted
        for digest in self._retired.keys() - set(in_use):
            self._close(digest, self._retired.pop(digest))
        return tuple(wanted.values())

    def _taken_up(self, entry: Entry) -> OpenBundle:
        """An active bundle, open. Whatever keeps it from being opened is raised."""
        known = self._open.get(entry.digest) or self._retired.pop(entry.digest, None)
        if known is not None and entry.refused is None:
            return known if known.fallback is None else replace(known, fallback=None)
        opened = self._opened(self._ready(entry), entry)
        log.info("bundle %s %s is open", entry.name, entry.version)
        return opened

    def _ready(self, entry: Entry) -> Loaded:
        """Shelf.ready; what it refused is refused again at once, until its file has changed or it
        is time to look again."""
        mark, now = _mark(self.shelf.path(entry)), time.monotonic()
        before = self._refused.get(entry.digest)
        if before is not None and before.mark == (mark, entry.refused) and now < before.until:
            raise before.error
        try:
            loaded = self.shelf.ready(entry)
        except BundleRefused as e:
            took = time.monotonic() - now
            until = now + took + max(AGAIN_S, TIMES * took)
            self._refused[entry.digest] = _Refused((mark, entry.refused), until, e)
            raise
        self._refused.pop(entry.digest, None)
        return loaded

    def _in_place_of(self, entry: Entry, error: Exception) -> OpenBundle | None:
        """Who serves while an active bundle cannot be opened."""
        refused = isinstance(error, BundleRefused)
        for opened in self._open.values():
            if opened.bundle.ref.name == entry.name and not (
                refused and self.shelf.is_withdrawn(opened.digest)
            ):
                return _instead(opened, entry) if refused else opened
        for spare in self.shelf.spares(entry) if refused else ():
            try:
                opened = self._opened(self._ready(spare), spare)
            except (ScansideError, MemoryError) as e:
                log.error("bundle %s %s: %s", spare.name, spare.version, e)
                continue
            log.error("bundle %s %s serves in its place", spare.name, spare.version)
            return _instead(opened, entry)
        return None

    def _mend(self) -> None:
        """Damaged tables of the shelf are set aside; where that fails they are read as made."""
        try:
            for name in self.shelf.mend():
                log.error("a table of the shelf was damaged: it is kept as %s", name)
        except StateUnusable as e:
            log.error("%s", e.one_line())

    def follow_builds(self) -> None:
        """Between two steps of the work: follow the build of an engine, take up one that is ready.

        Series that are followed keep the backend that they began with.
        """
        for digest in self.engines.follow_build() if self.engines is not None else ():
            before = self._open.get(digest)
            entry = next((e for e in self.shelf.list() if e.digest == digest), None)
            if before is None or entry is None or isinstance(before.backend, GpuBackend):
                continue
            try:
                opened = self._with_gpu(self.shelf.load(entry), entry)
            except ScansideError as e:
                log.error("bundle %s %s: %s", entry.name, entry.version, e.one_line())
                continue
            if opened is not None:
                self._spares[digest] = before.backend
                self._open[digest] = replace(opened, fallback=before.fallback)

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
            gate = self._trial(path, loaded)
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
        if engines is None:
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
        _require_memory(sum(map(len, loaded.networks.values())))
        networks: dict[str, Network] = dict(loaded.manifest.networks.items())
        return open_backend(self._library, networks, loaded.networks, self.settings.work.threads)

    def _trial(self, path: Path, loaded: Loaded) -> golden.Gate:
        """Its golden cases, in a process of their own."""
        _require_memory(sum(map(len, loaded.networks.values())))
        threads = self.settings.work.threads
        return trial.run(self._library, threads, path, loaded, alive=self._alive)

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
        for digest, opened in (*self._open.items(), *self._retired.items()):
            self._close(digest, opened)
        self._open, self._retired = {}, {}
        for backend in self._lost:
            backend.close()
        if self.engines is not None:
            self.engines.close()


def _instead(opened: OpenBundle, entry: Entry) -> OpenBundle:
    """A bundle that serves in place of `entry`, and says so in each report."""
    ref = opened.bundle.ref
    text = f"{entry.name} {entry.version} is refused: {ref.name} {ref.version} serves in its place"
    return replace(opened, fallback=Reason(code=Code.BUNDLE_FALLBACK, text=text, where="series"))


def _said(entry: Entry, error: BundleRefused, stand_in: OpenBundle | None) -> str:
    serves = f"{stand_in.bundle.ref.version} serves in its place" if stand_in else "none serves"
    return f"{entry.name} {entry.version}: {error.text}; {serves}"


def _mark(path: Path) -> Mark:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _require_memory(networks: int) -> None:
    """BackendUnavailable where so many bytes of networks do not fit beside what is open."""
    need, there = memory.opening(networks), memory.available()
    if there is not None and there < need + memory.RESERVE:
        raise BackendUnavailable(
            f"opening it needs {need >> 20} MB of memory; {there >> 20} MB are available, and of "
            f"those {memory.RESERVE >> 20} MB stay free",
            remedy="Give this machine, or the `work` stage, more memory.",
            code="memory_short",
        )
