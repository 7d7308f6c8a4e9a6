"""A state folder in which series were reported and measured, for the library of scanners."""

from __future__ import annotations

import hashlib
import math
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from appliance.naming import Naming
from appliance.quality import library as rows
from appliance.quality.prior import SHIPPED
from appliance.reasons import Code
from appliance.report import (
    BackendRef,
    BundleRef,
    Reason,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)
from appliance.settings import Retain, Settings
from appliance.store import probed, tunings
from appliance.store.files import DISK, Disk
from appliance.store.journal import Journal, Manner
from appliance.store.kept import QUALITY, keep_record
from appliance.store.library import TUNE, Entry, Library, Listed, mark_of
from appliance.store.site_key import site_key
from appliance.watching.probe import Probed, ProbedSeries, Trial
from appliance.watching.proposal import Proposal
from appliance.watching.quality import Outputs, SeriesQuality, VolumeQuality
from appliance.watching.scanner import Scanner
from appliance.watching.tuning import Tuning
from appliance.work.watching import Watching

SCANNER = Scanner(
    modality="CT", maker="siemens", model="Definition", kernel="B40f", kvp="120",
    thickness="to 1.5 mm", serial="00112233445566aa",
)  # fmt: skip
SHARP = SCANNER.model_copy(update={"kernel": "B70f"})
OTHER = SCANNER.model_copy(update={"maker": "ge medical systems", "model": "LightSpeed"})
BUNDLE = BundleRef(name="lung-nodule", version="1.0.0", digest="b" * 64)
BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
WAIT_S = 180.0


def a_quality(
    noise_hu: float = 20.0, scanner: Scanner = SCANNER, texture_per_mm: float = 0.25
) -> SeriesQuality:
    """A chest as it is usual."""
    measured = VolumeQuality(
        noise_hu=noise_hu,
        texture_per_mm=texture_per_mm,
        tissue_hu=50.0,
        air_hu=-995.0,
        lung_share=0.3,
        diameter_mm=300.0,
        contrast="no",
    )
    outputs = Outputs(analysed=True, findings=1, scored=4, above=1, median_score=0.2)
    return SeriesQuality(scanner=scanner, measured=(measured,), outputs=outputs)


def usual(number: int) -> float:
    """The noise of a series, which varies a little from one to the next."""
    return 20.0 * math.exp(0.03 * ((number * 7) % 11 - 5))


@dataclass
class Watched:
    """A device whose series are reported by hand."""

    settings: Settings
    journal: Journal

    @property
    def state(self) -> Path:
        return self.settings.state

    def reported(
        self,
        number: int,
        measured: SeriesQuality | None = None,
        *,
        study: str | None = None,
        images: str | None = None,
        refused: Code | None = None,
        silent: bool = False,
        measures: bool = True,
    ) -> Report:
        """Series `number`, of a study of its own, is reported and measured."""
        study = study or f"1.2.{number}"
        key = SeriesKey(study, f"1.3.{number}")
        digest = hashlib.sha256((images or f"images {number}").encode()).hexdigest()
        naming = Naming(site_key(self.state))
        bundle = None if refused else BUNDLE
        report = Report(
            report_id=naming.report(key, bundle.digest if bundle else None, digest),
            input_digest=digest,
            revision=1,
            status=Status.NOT_ANALYSED if refused else Status.ANALYSED,
            stage=Stage.FINAL,
            reasons=(Reason(code=refused, text="so it is"),) if refused else (),
            study=StudyRef(pseudonym=naming.study(key.study)),
            series=SeriesRef(slices=100, modality="CT"),
            bundle=bundle,
            backend=None if refused else BackendRef(name="openvino", precision="fp32"),
        )
        self.journal.series.set(key, "open")
        state = "refused" if refused else "analysed"
        self.journal.commit_report(report, key, owed=(), series_state=state, silent=silent)  # type: ignore[arg-type]
        if measures:
            found = measured or a_quality(usual(number))
            keep_record(self.state, report.report_id, QUALITY, found)
        return report

    def learnt(
        self, count: int = 30, scanner: Scanner = SCANNER, texture_per_mm: float = 0.25
    ) -> None:
        """A row that has counted so many usual series, which are not in the journal any more."""
        naming, library = Naming(site_key(self.state)), Library(self.state)
        entry = Entry(
            id=naming.row(*scanner.model_dump().values()),
            scanner=naming.row(scanner.modality, scanner.maker, scanner.model, scanner.serial),
            row=rows.empty(scanner, BEGAN),
        )
        turn = max((one.turn for one in library.all().entries), default=0)
        for number in range(count):
            at, measured = (
                BEGAN + timedelta(hours=number),
                a_quality(usual(number), scanner, texture_per_mm),
            )
            row = rows.counted(entry.row, measured, at, SHIPPED).row
            mark = hashlib.sha256(f"learnt {number} {scanner}".encode()).hexdigest()
            entry = entry.counted(row, turn + 1 + number, mark_of(mark), mark_of(mark[16:]))
        library.put(entry)
        self.count()

    def alarmed(self) -> Entry:
        """A scanner that has learnt, and then sends a series with three times the noise."""
        self.learnt()
        self.reported(20_000, a_quality(60.0))
        self.count()
        (entry,) = self.listed().today
        assert entry.row.alarms
        return entry

    def probed(
        self,
        scanner: Scanner = SCANNER,
        series: int = 3,
        *,
        proposes: bool = False,
        change: datetime | None = None,
        tuning: str | None = None,
    ) -> None:
        """The child has probed so many series of a scanner, after a change of it and with a tuning:
        of four implants each it found two."""
        one = ProbedSeries(
            series=uuid.UUID(int=1),
            bundle=BUNDLE.digest,
            at=BEGAN,
            sizes_mm=(4.5, 7.0, 9.0, 14.0),
            found=(False, False, True, True),
            beside=2,
            extra=1,
            change=change,
            tuning=tuning,
        )
        trials = (_trial(scanner, change, tuning),) if proposes else ()
        kept = Probed(scanner=scanner, series=(one,) * series, trials=trials)
        probed.keep(self.state, kept)

    def sharpened(self) -> Entry:
        """A scanner that has always been sharper than another one, and for which a trial on
        implants proposes to soften by 0.6 mm."""
        self.learnt(30, OTHER)
        self.learnt(30, SCANNER, 0.35)
        self.probed(proposes=True)
        (entry,) = (one for one in self.listed().today if one.row.key == SCANNER)
        return entry

    def evicted(self) -> tuple[Entry, Tuning]:
        """A scanner for which a tuning was accepted, and whose row then made way for others: the
        row as it was, and the tuning, which is in force."""
        entry = self.sharpened()
        self.journal.audit.add("ann@cli", TUNE, row=entry.id)
        self.count()
        (made,) = tunings.in_force(self.state)
        Library(self.state).remove(entry)
        self.count()
        return entry, made

    def count(self, disk: Disk = DISK) -> None:
        """As an idle `work` does it, by a process that has just started."""
        settle(Watching(self.settings, self.journal, disk))

    def listed(self) -> Listed:
        return Library(self.state).all()

    def counts(self) -> dict[str, int]:
        """Kernel -> how many studies are in its row of today."""
        return {entry.row.key.kernel: entry.row.n for entry in self.listed().today}


def _trial(scanner: Scanner, change: datetime | None, tuning: str | None) -> Trial:
    """One that proposes a tuning."""
    proposal = Proposal(
        scanner=scanner,
        bundle=BUNDLE.digest,
        at=BEGAN,
        soften_mm=0.6,
        series=20,
        implants=200,
        sensitivity=0.5,
        tuned=0.62,
        rise_low=0.02,
        rise_high=0.2,
        beside=1.0,
        beside_tuned=0.9,
    )
    return Trial(
        bundle=BUNDLE.digest, tuning=tuning, change=change, at=BEGAN, series=20, proposal=proposal
    )


def settle(watching: Watching) -> None:
    """Until it has nothing to do."""
    end = time.monotonic() + WAIT_S
    while watching.wait_s() == 0:
        assert time.monotonic() < end
        watching.turn()


@contextmanager
def watched(state: Path) -> Iterator[Watched]:
    """A device of this state folder."""
    state.mkdir(parents=True, exist_ok=True)
    settings = Settings(state=state, retain=Retain(reserve_mb=0))
    with Journal.open(state, manner=Manner.MEND) as journal:
        yield Watched(settings, journal)
