"""`scanside quality DIR`: what a series is worth, and whether preprocessing is faithful to it.

    folder -> series -> line.add ... finish -> what was measured   (appliance/quality)
                                  each op list -> what it keeps    (appliance/quality/faithful)

Rules.
1. One answer a series and accepting bundle; a series that is refused says why, as `analyze` does.
2. Nothing is written. By hand alone: it takes about a minute a series.
3. Preprocessing is that of the CPU; the contract of backends holds a GPU to the same values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from appliance import line
from appliance.host import memory
from appliance.lines import choose
from appliance.lines.kind import Context
from appliance.quality.faithful.verdict import OpList
from appliance.records import Result, Stack
from appliance.report import BundleRef, Millimetres3, Reason, Record, Status
from appliance.runtime import faithful
from appliance.runtime.bundles import OpenBundle
from appliance.settings import Settings
from appliance.verbs.analyze import OnDisk, series_and_bundles
from appliance.watching.quality import RadiographQuality, VolumeQuality


class Examined(Record):
    """One series and bundle."""

    schema_: Literal["scanside.examined/1"] = Field(default="scanside.examined/1", alias="schema")
    modality: str | None
    slices: int
    spacing_mm: Millimetres3 | None
    kernel: str | None
    bundle: BundleRef | None
    """None where none accepts it."""
    status: Status
    reasons: tuple[Reason, ...] = ()
    measured: tuple[Annotated[VolumeQuality | RadiographQuality, Field(discriminator="of")], ...]
    """Of the images; () of a series that is not analysed."""
    faithful: tuple[OpList, ...]
    """Of each op list; () of a series that could not be put in order."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})


def examined(path: Path, settings: Settings, bundle: str | None = None) -> list[Examined]:
    """Every series of a folder; ScansideError where there is no DICOM, or no such bundle."""
    with series_and_bundles(path, settings, bundle) as (every, bundles):
        return [one for series in every for one in _of_series(series, bundles)]


def _of_series(series: OnDisk, bundles: Sequence[OpenBundle]) -> Iterator[Examined]:
    left = memory.Gauge(memory.limit()).bytes()
    chosen = choose.bundles_for_any(series.headers, bundles)
    fold = line.begin([opened.bundle for opened in chosen.bundles])
    for file in series.files:
        fold = line.add(fold, series.read(file), left)
    context = Context(reasons=chosen.reasons, memory_bytes=left)
    if not chosen.bundles:
        yield _said(line.finish(fold, None, None, context), ())
    for opened in chosen.bundles:
        result = opened.finish(fold, context)
        subject = fold.share(opened.bundle).outline.subject
        found: tuple[OpList, ...] = ()
        if isinstance(subject, Stack):
            instances = (series.read(file) for file in series.files)
            found = faithful.of_stack(opened.manifest, subject, instances)
        yield _said(result, found)


def _said(result: Result, found: tuple[OpList, ...]) -> Examined:
    facts = result.facts
    return Examined(
        modality=facts.modality,
        slices=facts.slices,
        spacing_mm=facts.spacing_mm,
        kernel=facts.kernel,
        bundle=result.bundle,
        status=result.status,
        reasons=(*result.reasons, *result.limitations),
        measured=result.quality,
        faithful=found,
    )


def as_json(every: Sequence[Examined]) -> str:
    """As it is printed."""
    return json.dumps([one.model_dump(mode="json", by_alias=True) for one in every], indent=1)


def show(every: Sequence[Examined], console: Console | None = None) -> None:
    """For a person."""
    console = console or Console(highlight=False)
    for one in every:
        spacing = f", {one.spacing_mm[0]:.2f} mm apart" if one.spacing_mm else ""
        name = f"{one.bundle.name} {one.bundle.version}" if one.bundle else "no bundle"
        what = f"{one.modality or '?'} series, {one.slices} images{spacing}"
        console.print(f"[bold]{what}[/bold] · {name}: {one.status.value}")
        for reason in one.reasons:
            console.print(f"  [yellow]{reason.code.value}[/yellow] {escape(reason.sentence())}")
        for measured in one.measured:
            for key, value in measured.model_dump(exclude={"of"}).items():
                console.print(f"  {key} {'-' if value is None else value}")
        if one.faithful:
            console.print(_table(one.faithful))


HEADS = (
    "networks",
    "makes",
    "mm",
    "PSNR dB",
    "SSIM",
    "Dice body",
    "Dice lungs",
    "95 % far mm",
    "tissue HU",
    "contrast",
    "shift mm",
    "fails",
)


def _table(op_lists: Sequence[OpList]) -> Table:
    table = Table(*HEADS)
    for one in op_lists:
        contrast = "/".join(f"{sphere.contrast:.2f}" for sphere in one.spheres)
        shift = "/".join(f"{sphere.shift_mm:.2f}" for sphere in one.spheres)
        figures = (
            one.psnr_db,
            one.ssim,
            one.body_dice,
            one.lungs_dice,
            one.hausdorff_mm,
            one.tissue_hu,
        )
        table.add_row(
            ", ".join(one.networks),
            one.makes,
            "-" if one.voxel_mm is None else " x ".join(f"{v:g}" for v in one.voxel_mm),
            *("-" if value is None else f"{value:g}" for value in figures),
            contrast or "-",
            shift or "-",
            ", ".join(one.fails) or "nothing",
        )
    return table
