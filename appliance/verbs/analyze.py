"""`scanside analyze`: from disk, no network, the same line and the same reports.

Files are grouped by what they say of themselves, not by folder. What is not DICOM is skipped, and
so is a media directory (PS3.10 8.6), whatever it is called. Files whose UIDs are missing, empty or
no UIDs get some (`series.made`), with the limitation MADE_UIDS, also in a report that is not
analysed; what is DICOM and still names no study and series is one series a folder, so that its
refusal is reported.
Nothing is written of what was analysed: no journal, no spool, no masks (but, at first use, the site
key and the results of the golden cases).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from appliance import line
from appliance.errors import Poisoned, ScansideError, SeriesRefused
from appliance.host import facts, memory
from appliance.lines import choose
from appliance.lines.fold import Fold
from appliance.lines.kind import Context
from appliance.naming import Naming
from appliance.reasons import Code
from appliance.records import Header, Identity, Result
from appliance.report import NOTICE, Reason, Report, Status, Times
from appliance.runtime.bundles import OpenBundle, OpenBundles
from appliance.series import made, pixels, select, standing
from appliance.series.elements import is_media_directory
from appliance.series.standing import SeriesSummary
from appliance.settings import Settings
from appliance.store import tunings
from appliance.store.site_key import site_key

DICM_AT = 128
"""A Part-10 file has `DICM` here (PS3.10 7.1)."""


@dataclass
class OnDisk:
    """One series: its files, and the headers that are readable."""

    headers: list[Header] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    parents: dict[Path, made.Parent] = field(default_factory=dict)
    """Of the files that lack UIDs: what they are given."""

    def read(self, file: Path) -> bytes:
        """The bytes of one of its files, with UIDs."""
        data = _bytes(file)
        return made.with_uids(data, self.parents[file]) if file in self.parents else data

    reused: bool = False
    """Another study has the same Series Instance UID."""

    def limitations(self) -> tuple[Reason, ...]:
        """What the report says of UIDs that were made, or given twice."""
        if not self.parents:
            return (select.reused_uid(),) if self.reused else ()
        text = f"{len(self.parents)} of {len(self.files)} images had no UIDs: they were made here"
        return (Reason(code=Code.MADE_UIDS, text=text, where="series"),)


@dataclass(frozen=True)
class Analysed:
    """A report, and what it was made of."""

    report: Report
    result: Result
    series: OnDisk


def analyze(path: Path, settings: Settings, *, bundle: str | None = None) -> list[Report]:
    """One Report per series and accepting bundle; ScansideError where there is no DICOM."""
    return [one.report for one in analysed(path, settings, bundle=bundle)]


def analysed(path: Path, settings: Settings, *, bundle: str | None = None) -> list[Analysed]:
    """The same with masks, maps and files, for who composes objects of it."""
    with series_and_bundles(path, settings, bundle) as (every, bundles):
        naming = Naming(site_key(settings.state))
        context = Context(tunings=tunings.in_force(settings.state))
        left = memory.Gauge(memory.limit())
        return _reports(every, bundles, left, naming, settings, context)


@contextmanager
def series_and_bundles(
    path: Path, settings: Settings, bundle: str | None = None
) -> Iterator[tuple[list[OnDisk], tuple[OpenBundle, ...]]]:
    """Every series of a folder, and the bundles to read it by, or the one that is named. They are
    closed at the end. ScansideError where there is no DICOM, or no such bundle."""
    every = find(path)
    if not every:
        raise ScansideError(
            f"{path}: no DICOM was found", code="no_dicom", remedy="Name a folder of DICOM files."
        )
    bundles = OpenBundles(settings)
    try:
        bundles.refresh()
        if bundle is not None:
            bundles.only(bundle)
        yield every, bundles.all
    finally:
        bundles.close()


def find(path: Path) -> list[OnDisk]:
    """Every series below a folder (or in one file), in order of first appearance by path."""
    found: dict[tuple[str, str], OnDisk] = {}
    parents: dict[object, made.Parent] = {}
    root = path if path.is_dir() else path.parent
    for file in _files(path):
        data = _bytes(file)
        if is_media_directory(data):
            continue
        parent = None
        if lacks := made.wanting(data):
            folder = str(file.parent.relative_to(root))
            alike = (folder, lacks.study, lacks.series, lacks.kind)
            parent = parents.setdefault(alike, made.parent(lacks, folder))
            data = made.with_uids(data, parent)
        try:
            header = pixels.header(data)
        except SeriesRefused as e:
            if data[DICM_AT : DICM_AT + 4] != b"DICM" and e.reason.code is Code.UNREADABLE:
                continue
            found.setdefault(("", str(file.parent)), OnDisk()).files.append(file)
            continue
        series = found.setdefault((header.study_uid, header.series_uid), OnDisk())
        series.headers.append(header)
        series.files.append(file)
        if parent is not None:
            series.parents[file] = parent
    studies = Counter(uid for study, uid in found if study)
    for (study, uid), series in found.items():
        series.reused = bool(study) and studies[uid] > 1
    return list(found.values())


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from sorted(p for p in path.rglob("*") if p.is_file())
    else:
        raise ScansideError(f"{path}: not there", code="no_such_path", remedy="Check the path.")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise ScansideError(
            f"{file}: {e.strerror}", code="unreadable_file", remedy="Check the file and its rights."
        ) from e


def _reports(
    every: Sequence[OnDisk],
    bundles: Sequence[OpenBundle],
    left: memory.Gauge,
    naming: Naming,
    settings: Settings,
    context: Context,
) -> list[Analysed]:
    """Each series through the line; then what becomes of each, as far as others show the same."""
    reports: list[Analysed] = []
    rivals: dict[str, list[tuple[int, SeriesSummary]]] = {}
    for series in every:
        for opened, result, rival in _of_series(series, bundles, left.bytes(), context):
            if opened and rival:
                rivals.setdefault(opened.digest, []).append((len(reports), rival))
            reports.append(Analysed(_sealed(result, naming, settings), result, series))
    accepts = {opened.digest: opened.manifest.accepts for opened in bundles}
    for digest, analysed in rivals.items():
        found = standing.standing([one for _, one in analysed], accepts[digest])
        for at, one in analysed:
            what = found[one.key]
            said = choose.restated(reports[at].report, what, lambda key: str(naming.series(key)))
            reports[at] = replace(reports[at], report=said)
    return reports


def _of_series(
    series: OnDisk, bundles: Sequence[OpenBundle], memory_bytes: int | None, context: Context
) -> list[tuple[OpenBundle | None, Result, SeriesSummary | None]]:
    """One series through the line: each accepting bundle, what it says, and what the choice between
    series needs where there are rivals.

    Its pixels are let go with the return, before the next series is read.
    """
    chosen = choose.bundles_for_any(series.headers, bundles)
    fold = line.begin([opened.bundle for opened in chosen.bundles])
    for file in series.files:
        fold = line.add(fold, series.read(file), memory_bytes)
    context = replace(context, reasons=chosen.reasons, memory_bytes=memory_bytes)
    found: list[tuple[OpenBundle | None, Result, SeriesSummary | None]]
    if chosen.bundles:
        found = [(opened, *_of_bundle(fold, opened, context)) for opened in chosen.bundles]
    else:
        found = [(None, line.finish(fold, None, None, context), None)]
    more = series.limitations()
    return [(o, replace(r, limitations=(*more, *r.limitations)), rival) for o, r, rival in found]


def _of_bundle(
    fold: Fold, opened: OpenBundle, context: Context
) -> tuple[Result, SeriesSummary | None]:
    try:
        result = opened.finish(fold, context)
    except Poisoned as e:
        of_backend = e.code == "backend_failed"
        code = Code.BACKEND_FAILED if of_backend else Code.POISONED
        return line.failed(
            fold, opened.bundle, Reason(code=code, text=e.text, where="series")
        ), None
    return result, choose.summary(fold.share(opened.bundle).outline, result)


def _sealed(result: Result, naming: Naming, settings: Settings) -> Report:
    identity = Identity(
        naming=naming,
        publish_uids=settings.site.publish_uids,
        revision=1,
        supersedes=None,
        preliminary=False,
        appliance=facts.version(),
    )
    return line.seal(result, identity, Times(committed=datetime.now(timezone.utc)))


def exit_code(reports: Sequence[Report]) -> int:
    """0 unless a report is `failed`: a refusal is a result."""
    return 1 if any(report.status is Status.FAILED for report in reports) else 0


def show(reports: Sequence[Report], console: Console | None = None) -> None:
    """The reports for a person: one block a series."""
    console = console or Console(highlight=False)
    for report in reports:
        series = report.series
        spacing = f", {series.spacing_mm[0]:.2f} mm apart" if series.spacing_mm else ""
        images = f"{series.slices} image{'' if series.slices == 1 else 's'}"
        what = f"{series.modality or '?'} series, {images}{spacing}"
        name = f"{report.bundle.name} {report.bundle.version}" if report.bundle else "no bundle"
        console.print(f"[bold]{what}[/bold] · {name}: {report.status.value}")
        for reason in (*report.reasons, *report.limitations):
            console.print(f"  [yellow]{reason.code.value}[/yellow] {escape(reason.sentence())}")
        if report.findings:
            table = Table("", "kind", "score", "x, y, z (LPS mm)", "⌀ mm", "side", "image, from 0")
            for f in report.findings:
                table.add_row(
                    str(f.id),
                    f"{f.kind}, unsure" if f.unsure_why else f.kind,
                    f"{f.score:.2f}",
                    ", ".join(f"{v:.0f}" for v in f.center_lps_mm or ()) or "-",
                    "-" if f.diameter_mm is None else f"{f.diameter_mm:.0f}",
                    f.side or "-",
                    str(f.key_image),
                )
            console.print(table)
        elif report.status is Status.ANALYSED:
            console.print("  no finding above the threshold")
    notices = list(dict.fromkeys(report.notice for report in reports))
    if not any(NOTICE in notice for notice in notices):
        notices.append(NOTICE)
    for notice in notices:
        console.print(f"[dim]{escape(notice)}[/dim]")
