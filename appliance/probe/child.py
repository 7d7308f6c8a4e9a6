"""The child of `work` that looks how many implants are found, while nothing else is to be done.

    python -m appliance.probe.child  < settings as JSON

    the newest series of each scanner -> its images, read -> stack -> implants, in memory (line)
        -> how many were found -> probe/, durable

Rules
1. `work` starts it at the lowest priority when it has been idle for a while (work/probing.py), and
   ends it at once when anything arrives. What it had computed is lost, and nothing else: it has
   written nothing before a series is done. It ends by itself when each scanner's newest series was
   probed.
2. The altered series lives in this process alone. It is in no file, no row, no message, and in no
   image of a dying process (RLIMIT_CORE is 0). It takes as much memory as an analysis, so where
   memory ends the kernel ends this process before any other.
3. What is kept are figures (watching/probe.py), one write a series; this child alone writes them.
4. A series that ended this process, or that raises, is noted without an implant and is not tried
   again: nobody waits for it. Where a state folder fails nothing is noted.
5. It analyses as `work` does, with the accepted tuning of a series, but on the CPU and with one
   thread: the GPU, its memory and its engines are those of who waits.
6. No text of a header gets into a log.
"""

from __future__ import annotations

import logging
import resource
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.bundle.shelf import Shelf
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused, Poisoned, StateUnusable, told
from appliance.host import memory
from appliance.naming import Naming
from appliance.probe.chosen import Chosen, chosen
from appliance.probe.line import Outcome, Prober, probe, stack_of
from appliance.quality import shapes, trial, tuning
from appliance.report import SeriesKey
from appliance.runtime import as_child
from appliance.runtime.open_bundle import require_memory
from appliance.settings import Settings
from appliance.store import kept, probed, tunings
from appliance.store.files import DISK, Disk
from appliance.store.in_hand import Hand
from appliance.store.journal import Journal
from appliance.store.library import Library
from appliance.store.lock import alone
from appliance.store.site_key import site_key
from appliance.store.spool import Spool
from appliance.watching.probe import ProbedSeries

log = logging.getLogger("scanside.probe")

HAND: Final = "probe"
"""run/probe.hand names the series in hand (store/in_hand)."""
THREADS: Final = 1
NOTHING: Final = Outcome((), (), 0, 0)


class Probing:
    """All series that wait."""

    def __init__(self, settings: Settings, journal: Journal, disk: Disk = DISK) -> None:
        self._settings = settings
        self._journal = journal
        self._disk = disk
        self._spool = Spool(settings.state)
        self._naming = Naming(site_key(settings.state))
        self._hand = Hand(settings.state, HAND)
        self._shelf = Shelf(settings.state, allow_unsigned=settings.bundles.allow_unsigned)
        self._probers: dict[str, Prober] = {}
        self._tunings = tunings.in_force(settings.state)
        self._rows = {one.row.key: one.row for one in Library(settings.state).all().today}

    def run(self) -> int:
        """Probe what waits; how many series got implants."""
        probed.clear_unfinished(self._settings.state)
        died, count = self._died(), 0
        with_shapes = {loaded.digest: loaded for loaded in self._active()}
        for one in chosen(self._settings, self._journal, self._naming, with_shapes):
            if str(one.name) == died:
                log.error("a series ended the process that probed it: it is left alone")
                self._keep(one, _series(one, NOTHING))
                continue
            with self._hand.holding(str(one.name)):
                count += self._one(one, with_shapes[one.bundle])
        return count

    def close(self) -> None:
        """Let the networks go."""
        for prober in self._probers.values():
            prober.backend.close()

    def _died(self) -> str | None:
        """The series that a process before had in hand when it ended by itself: who ends it on
        purpose clears the mark (work/probing.py)."""
        last = self._hand.last()
        self._hand.clear()
        return last

    def _active(self) -> Iterator[Loaded]:
        """Active bundles that have shapes."""
        for entry in self._shelf.active():
            try:
                loaded = self._shelf.load(entry)
            except BundleRefused as e:
                log.warning("%s", e.one_line())
                continue
            if loaded.shapes is not None:
                yield loaded

    def _one(self, one: Chosen, loaded: Loaded) -> bool:
        """One series; whether it got implants."""
        try:
            made = self._made(one, self._prober(loaded))
        except StateUnusable:
            raise
        except Exception as e:  # noqa: BLE001 - whatever it is, the next series goes on
            log.warning("a series cannot be probed: %s", told(e))
            made = _series(one, NOTHING)
        if made is None:
            return False
        self._keep(one, made)
        return bool(made.found)

    def _made(self, one: Chosen, prober: Prober) -> ProbedSeries | None:
        """Its figures; None where its images are gone."""
        images = list(self._images(one.key, one.report.report_id))
        if not images:
            return None
        stack = stack_of(images, prober.manifest)
        if stack is None:
            return _series(one, NOTHING)
        used = tuning.of(self._tunings, stack.planes)
        if used is not None:
            prober = replace(prober, manifest=tuning.tuned(prober.manifest, used.soften_mm))
        digest = None if used is None else used.digest
        known = probed.of_scanner(self._settings.state, one.scanner)
        change = trial.change(self._rows.get(one.scanner), known)
        of = trial.Setting(one.bundle, digest, change)
        which = trial.number(known, of)
        candidates = () if which is None else trial.CANDIDATES_MM
        seed = int(one.report.input_digest[:15], 16)
        outcome = probe(prober, stack, seed, candidates) or NOTHING
        return _series(one, outcome, of, which)

    def _images(self, key: SeriesKey, report_id: uuid.UUID) -> Iterator[bytes]:
        """The instances that were analysed; none where one of them is not here any more."""
        names = kept.images(self._settings.state, report_id) or []
        paths = self._spool.instances(key)
        wanted = dict.fromkeys(name.split("/")[0] for name in names)
        for uid in wanted if wanted.keys() <= paths.keys() else ():
            data = self._spool.read(paths[uid])
            if data is None:
                raise Poisoned("its images went while they were read")
            yield data

    def _prober(self, loaded: Loaded) -> Prober:
        """The bundle, opened once."""
        if loaded.digest not in self._probers:
            require_memory(sum(map(len, loaded.networks.values())))
            donated = shapes.read(loaded.shapes or b"")
            library = choose(self._settings.work.backend)
            backend = open_backend(
                library, dict(loaded.manifest.networks.items()), loaded.networks, THREADS
            )
            left = memory.limit().bytes()
            self._probers[loaded.digest] = Prober(loaded.manifest, backend, donated.shapes, left)
        return self._probers[loaded.digest]

    def _keep(self, one: Chosen, made: ProbedSeries) -> None:
        known = probed.of_scanner(self._settings.state, one.scanner)
        after = known.model_copy(update={"series": (*known.series, made)})
        of = trial.Setting(made.bundle, made.tuning, made.change)
        ended = trial.ended(after, of, made.at) if made.tuned else None
        if ended is not None:
            after = after.model_copy(update={"trials": (*after.trials, ended)})
        probed.keep(self._settings.state, after, self._disk)


def _series(
    one: Chosen, outcome: Outcome, of: trial.Setting | None = None, which: int | None = None
) -> ProbedSeries:
    return ProbedSeries(
        series=one.name,
        bundle=one.bundle,
        tuning=None if of is None else of.tuning,
        change=None if of is None else of.change,
        at=datetime.now(timezone.utc),
        sizes_mm=outcome.sizes_mm,
        found=outcome.found,
        beside=outcome.beside,
        extra=outcome.extra,
        tuned=outcome.tuned,
        trial=which if outcome.tuned else None,
    )


def _probed(settings: Settings) -> str:
    with alone(settings.state, HAND), Journal.awaited(settings.state) as journal:
        probing = Probing(settings, journal)
        try:
            return f"implants were put into {probing.run()} series"
        finally:
            probing.close()


def main() -> int:
    """0 when each scanner's newest series was probed; 1 where the state folder does not let it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    return as_child.run(log, _probed)


if __name__ == "__main__":
    sys.exit(main())
