"""`scanside qa DIR`: water phantoms from disk, measured; `scanside qa --trend`: what was measured.

Rules
- Of what is below DIR only series that show a water phantom are measured; whatever else lies there
  is passed over. No phantom at all is an error.
- It is the measuring of the stage `work`, by the active bundle for phantoms, held against the
  records of this device. Nothing is written, but at first use the site key.
- A phantom that failed is a result: exit 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from appliance import line
from appliance.errors import BundleRefused, ScansideError
from appliance.host import facts, memory
from appliance.lines.fold import Fold
from appliance.lines.volume import PHANTOM
from appliance.naming import Naming
from appliance.records import Identity
from appliance.report import NOTICE, Times
from appliance.runtime.bundles import OpenBundle, OpenBundles
from appliance.settings import Settings
from appliance.store import qa as store
from appliance.store.site_key import site_key
from appliance.verbs import analyze
from appliance.watching.qa import WHAT_TO_DO, QaRecord
from appliance.watching.scanner import UNKNOWN
from appliance.web.text import say
from appliance.work import phantoms

FIGURES = (
    ("water_hu", "water", "HU"),
    ("uniformity_hu", "uniformity", "HU"),
    ("noise_hu", "noise", "HU"),
    ("diameter_mm", "diameter", "mm"),
    ("response_50_per_mm", "response 50 %", "1/mm"),
    ("response_10_per_mm", "response 10 %", "1/mm"),
    ("tilt_deg", "tilt", "degrees"),
    ("off_centre_mm", "off centre", "mm"),
    ("bubble_mm", "bubble", "mm"),
)
"""Name in the record, for a person, and unit."""


def measured(path: Path, settings: Settings) -> list[QaRecord]:
    """The record of each water phantom below a folder. ScansideError where there is none."""
    every = analyze.find(path)
    left = memory.Gauge(memory.limit())
    bundles = OpenBundles(settings)
    try:
        by = _of_phantoms(bundles)
        naming = Naming(site_key(settings.state))
        found = []
        for series in every:
            fold = line.begin(())
            for file in series.files:
                fold = line.add(fold, series.read(file), left.bytes())
            if fold.share(None).outline.reasons == (PHANTOM,):
                found.append(_record(fold, by, naming, settings))
    finally:
        bundles.close()
    if not found:
        raise ScansideError(
            f"{path}: no series shows a water phantom",
            code="no_phantom",
            remedy="Name a folder with the images of a round water phantom (docs/qa.md).",
        )
    return found


def _of_phantoms(bundles: OpenBundles) -> OpenBundle:
    """The active bundle that measures phantoms."""
    for entry in bundles.shelf.active():
        loaded = bundles.shelf.load(entry).manifest.line
        if loaded.takes_images and not loaded.reports:
            return bundles.open(entry)
    raise BundleRefused(
        "no active bundle measures water phantoms",
        remedy="Add one: `scanside bundle list` shows the bundles on this device.",
        code="bundle_not_found",
    )


def _record(fold: Fold, by: OpenBundle, naming: Naming, settings: Settings) -> QaRecord:
    now = datetime.now(timezone.utc)
    identity = Identity(
        naming=naming,
        publish_uids=False,
        revision=1,
        supersedes=None,
        preliminary=False,
        appliance=facts.version(),
    )
    report = line.seal(line.finish(fold, None, None), identity, Times(committed=now))
    result = by.finish(fold.again_for(by.bundle))
    return phantoms.record(result, by, report, settings, naming, now)


def trend(settings: Settings) -> list[QaRecord]:
    """What is kept, the oldest first."""
    return list(store.every(settings.state))


def as_json(records: Sequence[QaRecord]) -> str:
    """An array of scanside.qa/1."""
    return json.dumps([one.model_dump(mode="json", by_alias=True) for one in records], indent=1)


def show(records: Sequence[QaRecord], console: Console | None = None) -> None:
    """For a terminal: a block a phantom."""
    console = console or Console(highlight=False)
    words = say.speaker(say.texts("en"))
    for one in records:
        who = escape(_who(one, ("maker", "model", "kernel"), words))
        console.print(f"[bold]{who}[/bold]: {one.verdict.replace('_', ' ')}")
        for reason in one.reasons:
            console.print(f"  [yellow]{words(f'reasons.what.{reason.value}')}[/yellow]")
        for code in one.codes:
            said = words(f"room.phantom.{code.value}")
            console.print(f"  [yellow]{said}[/yellow]: {WHAT_TO_DO[code]}")
        if one.figures is not None:
            table = Table("figure", "value", "expected", "unit")
            for name, said, unit in FIGURES:
                value = getattr(one.figures, name)
                wanted = getattr(one.expected, name, None)
                table.add_row(said, _shown(value), _shown(wanted), unit)
            console.print(table)
    console.print(f"[dim]{NOTICE}[/dim]")


def show_trend(records: Sequence[QaRecord], console: Console | None = None) -> None:
    """For a terminal: a row a phantom."""
    console = console or Console(highlight=False)
    words = say.speaker(say.texts("en"))
    table = Table("when", "scanner", "verdict", *(said for _, said, _ in FIGURES))
    for one in records:
        serial = "" if one.scanner.serial == UNKNOWN else one.scanner.serial[:4]
        scanner = escape(f"{_who(one, ('model', 'kernel'), words)} {serial}".strip())
        codes = ", ".join(words(f"room.phantom.{code.value}") for code in one.codes)
        values = [_shown(getattr(one.figures, name, None)) for name, _, _ in FIGURES]
        verdict = f"{one.verdict.replace('_', ' ')} {codes}".strip()
        table.add_row(f"{one.at.astimezone():%Y-%m-%d %H:%M}", scanner, verdict, *values)
    console.print(table if records else "No water phantom was measured yet.")


def _who(one: QaRecord, parts: Sequence[str], words: say.Say) -> str:
    known = one.scanner.model_dump(include=set(parts))
    said = (words(f"drift.unknown.{p}") if known[p] == UNKNOWN else known[p] for p in parts)
    return " ".join(said)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
