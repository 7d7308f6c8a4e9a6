"""Where results become reports: bundles and their backends on one side, the journal on the other.

`work`, `analyze` and `replay` share this, so that a series gets the same report whichever way it
came. Rules:
- A bundle is opened once and stays until `scanside bundle activate` names another; then the new
  one is opened beside the old one, between two studies, if there is memory for both, and only a
  bundle whose goldens passed is used. The old one is closed once no series that began with it is
  followed any more.
- The GPU serves a bundle once its engine is ready (engine_room); the CPU backend stays as its
  spare, and takes over a series at once where the GPU fails in it.
- Masks and the list of inputs are durable before the report is committed; the report and all its
  messages are one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from appliance import line
from appliance.backend.choose import choose
from appliance.backend.gpu import GpuBackend
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import golden, match, trust
from appliance.bundle.manifest import Network
from appliance.bundle.shelf import Audit, Entry, Shelf
from appliance.bundle.trust import Bundle, Loaded
from appliance.errors import BackendUnavailable, BundleRefused, Poisoned, ScansideError
from appliance.host import memory
from appliance.records import Header, Result, Stack
from appliance.report import Reason, Stage, Status
from appliance.runtime.gpu import EngineRoom
from appliance.series import pixels, select
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.spool import SeriesKey, Spool

log = logging.getLogger("scanside.work")


@dataclass(frozen=True)
class Opened:
    """A bundle with its networks loaded in a backend."""

    bundle: Bundle
    backend: Backend
    spare: Callable[[], Backend] | None = None
    """The CPU backend that takes over where the GPU fails; None where `backend` is one."""
    broke: Callable[[ScansideError], None] = lambda _: None
    """Told that the GPU itself failed."""

    def finish(
        self, fold: line.Fold, *, reasons: Iterable[Reason] = (), room: int | None = None
    ) -> Result:
        """line.finish; by the spare where the GPU fails."""
        try:
            return line.finish(fold, self.backend, reasons=reasons, room=room)
        except Poisoned as e:
            if self.spare is None or e.code != "backend_failed":
                raise
            log.error("%s; the CPU takes over", e.line())
            if isinstance(self.backend, GpuBackend) and self.backend.broken is not None:
                self.broke(e)
        return line.finish(fold, self.spare(), reasons=reasons, room=room)


class Desk:
    """The open bundles of this process, and the shelf that they come from."""

    def __init__(
        self,
        settings: Settings,
        audit: Audit | None = None,
        *,
        builds: bool = False,
        room: EngineRoom | None = None,
    ) -> None:
        """`builds`: whether engines are built by this process; `room`: another than this
        machine's."""
        self.settings = settings
        self._library = choose(settings.work.backend)
        self.room = room
        if room is None and settings.work.backend in ("auto", "gpu"):
            required = settings.work.backend == "gpu"
            self.room = EngineRoom(settings.state, self._library, required=required, builds=builds)
        runner = golden.Runner(f"{self._library} {version(self._library)} fp32", self._infer)
        self.shelf = Shelf(settings.state, runner=runner, audit=audit)
        self._open: dict[str, Opened] = {}
        self._retired: dict[str, Opened] = {}
        """Not active any more, but a series may still use them."""
        self._spares: dict[str, Backend] = {}
        """Digest -> the CPU backend of a bundle that the GPU serves."""
        self._lost: list[Backend] = []

    def refresh(self, in_use: Collection[str | None] = ()) -> tuple[Opened, ...]:
        """Open what the shelf says is active; close what is neither active nor `in_use` (digests).

        A bundle that cannot be opened is logged and the one of the same name that runs goes on. So
        do all that are open where there is no memory to look.
        """
        wanted = {}
        try:
            active = self.shelf.active()
        except MemoryError:
            log.error("no memory to look at the shelf; what is open goes on")
            return tuple(self._open.values())
        for entry in active:
            before = [o for o in self._open.values() if o.bundle.ref.name == entry.name]
            known = self._open.get(entry.digest) or self._retired.pop(entry.digest, None)
            if known is not None:
                wanted[entry.digest] = known
                continue
            try:
                wanted[entry.digest] = self._opened(self.shelf.ready(entry), entry)
                log.info("bundle %s %s is open", entry.name, entry.version)
            except (ScansideError, MemoryError) as e:
                said = e.line() if isinstance(e, ScansideError) else "no memory to open it"
                log.error("bundle %s %s: %s", entry.name, entry.version, said)
                wanted.update({o.bundle.ref.digest: o for o in before})
        self._retired |= {d: o for d, o in self._open.items() if d not in wanted}
        self._open = wanted
        for digest in self._retired.keys() - set(in_use):
            self._close(digest, self._retired.pop(digest))
        return tuple(wanted.values())

    def turn(self) -> None:
        """Between two steps of the work: follow the build of an engine, take up one that is ready.

        Series that are followed keep the backend that they began with.
        """
        for digest in self.room.turn() if self.room is not None else ():
            before = self._open.get(digest)
            entry = next((e for e in self.shelf.list() if e.digest == digest), None)
            if before is None or entry is None or isinstance(before.backend, GpuBackend):
                continue
            try:
                opened = self._with_gpu(self.shelf.load(entry), entry)
            except ScansideError as e:
                log.error("bundle %s %s: %s", entry.name, entry.version, e.line())
                continue
            if opened is not None:
                self._spares[digest] = before.backend
                self._open[digest] = opened

    def open(self, entry: Entry) -> Opened:
        """One bundle of the shelf, active or not, until `close`."""
        opened = self._open.get(entry.digest)
        opened = opened or self._opened(self.shelf.ready(entry), entry)
        self._open[entry.digest] = opened
        return opened

    def only(self, bundle: str) -> tuple[Opened, ...]:
        """Just this bundle, for `analyze --bundle`: the name of an active one or a file's path.

        A file named by hand needs no signature, but its golden cases must pass here.
        """
        path = Path(bundle)
        if path.is_file():
            loaded = trust.check(path.read_bytes())
            with self._infer(loaded) as infer:
                gate = golden.gate(loaded, infer)
            if not gate.passed:
                raise BundleRefused(f"{path}: {gate.line()}", code="bundle_golden")
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

    def accepting(
        self, header: Header, among: Sequence[Opened] | None = None
    ) -> tuple[Opened, ...]:
        """Those of the open bundles (or of `among`) that accept a series with this header."""
        there = tuple(self._open.values()) if among is None else among
        chosen = match.choose([o.bundle for o in there], header)
        return tuple(o for bundle in chosen for o in there if o.bundle is bundle)

    def why_none(self, header: Header, among: Sequence[Opened] | None = None) -> tuple[Reason, ...]:
        """Why none of them accepts a series with this header."""
        there = tuple(self._open.values()) if among is None else among
        return match.none_accepts([o.bundle for o in there], header)

    def _opened(self, loaded: Loaded, entry: Entry | None = None) -> Opened:
        """On the GPU where its engine is ready; what is not on the shelf (None) is for the CPU."""
        if entry is not None and (opened := self._with_gpu(loaded, entry)) is not None:
            return opened
        return Opened(loaded.bundle, self._on_cpu(loaded))

    def _with_gpu(self, loaded: Loaded, entry: Entry) -> Opened | None:
        room = self.room
        if room is None:
            return None
        backend = room.open(loaded, self.shelf.path(entry))
        if backend is None:
            return None
        digest = loaded.digest

        def spare() -> Backend:
            if digest not in self._spares:
                self._spares[digest] = self._on_cpu(loaded)
            return self._spares[digest]

        def broke(error: ScansideError) -> None:
            room.broke(digest, error)
            now = self._open.get(digest)
            if now is not None and now.backend is backend:
                self._open[digest] = replace(now, backend=spare(), spare=None)
                self._lost.append(backend)  # series that began with it may still ask it

        return Opened(loaded.bundle, backend, spare, broke)

    def _on_cpu(self, loaded: Loaded) -> Backend:
        _require_memory(sum(map(len, loaded.networks.values())))
        networks: dict[str, Network] = dict(loaded.manifest.networks.items())
        return open_backend(self._library, networks, loaded.networks, self.settings.work.threads)

    @contextmanager
    def _infer(self, loaded: Loaded) -> Iterator[golden.Infer]:
        backend = self._on_cpu(loaded)
        try:
            yield golden.through(backend)
        finally:
            backend.close()

    def _close(self, digest: str, opened: Opened) -> None:
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
        if self.room is not None:
            self.room.close()


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


def summary(header: Header, stack: Stack) -> select.SeriesSummary:
    """What the choice between the series of a study needs to know of one that could be analysed."""
    return select.summary(
        header,
        axial=True,  # assembled, hence axial (NOT_AXIAL is refused)
        spacing_mm=stack.spacing_mm[0],
        cover_mm=float(stack.z_mm[-1]),
        slices=len(stack.planes),
    )


def better(
    journal: Journal, spool: Spool, key: SeriesKey, bundle: Bundle, fold: line.Fold, stack: Stack
) -> tuple[tuple[Reason, ...], tuple[str, ...]]:
    """Whether a series of the same study and acquisition was analysed that is better than `key`.

    (reasons against this one, ()) if so; else ((), ids of the reports that this one withdraws).
    Only final reports count that nothing has withdrawn yet.
    """
    if fold.header is None:
        return (), ()
    mine = summary(fold.header, stack)
    withdrawn = {report.supersedes for report in journal.reports_of_study(key.study)}
    others: dict[str, tuple[select.SeriesSummary, str]] = {}
    for row in journal.series_of_study(key.study):
        report = journal.latest_report(row.series_uid, bundle.ref.digest)
        if row.series_uid == key.series or report is None or report.report_id in withdrawn:
            continue
        if report.status is not Status.ANALYSED or report.stage is not Stage.FINAL:
            continue
        paths = list(spool.instances(SeriesKey(key.study, row.series_uid)).values())
        if paths and report.series.spacing_mm is not None and report.coverage.z_mm is not None:
            low, high = report.coverage.z_mm
            one = select.summary(
                pixels.header(paths[0].read_bytes()),
                axial=True,
                spacing_mm=report.series.spacing_mm[0],
                cover_mm=high - low,
                slices=report.series.slices,
            )
            others[row.series_uid] = one, str(report.report_id)
    group = next(
        g for g in select.groups([mine, *(one for one, _ in others.values())]) if mine in g
    )
    best = select.best(group, bundle.manifest.accepts)
    if best != mine:
        return (select.better(best),), ()
    return (), tuple(others[o.series_uid][1] for o in group if o.series_uid in others)
