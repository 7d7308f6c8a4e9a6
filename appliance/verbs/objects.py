"""`scanside analyze --dicom OUT`: what an archive would get of an analysis, as files in a folder.

    OUT/report-N-sr.dcm, report-N-seg.dcm, report-N-sc.dcm    N as the reports are printed, from 1

Rules
- They are the objects that the appliance composes for an archive (appliance/compose/objects.py), of
  the same report. Nothing is kept here that could be told again: each run has times of its own.
- Of a series that is rightly set aside there is none, unless the whole study was set aside.
- Nothing is overwritten: a name that is there is an error, before anything is written.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from pydicom.dataset import Dataset

from appliance.compose.gather import bodies, header, sentence
from appliance.compose.objects import Material, Nothing, compose
from appliance.naming import Naming
from appliance.report import Product
from appliance.results.pacs import is_set_aside
from appliance.results.source import source
from appliance.results.sr.case import Case
from appliance.settings import Settings
from appliance.store.kept import LUNGS
from appliance.store.site_key import site_key
from appliance.verbs import output
from appliance.verbs.analyze import Analysed, OnDisk

KINDS: tuple[Product, ...] = ("sr", "seg", "sc")


def write(every: Sequence[Analysed], settings: Settings, out: Path) -> Iterator[str]:
    """The objects of all reports, one after the other; a line for each that was written or cannot
    be. ScansideError where OUT has one of their names already, or cannot be written."""
    naming = Naming(site_key(settings.state))
    owed = tuple(_owed(every))
    output.require_free(_path(out, n, kind) for n in owed for kind in KINDS)
    for n in owed:
        one = every[n - 1]
        material = _material(one, _others(every, one), naming, settings.site.device)
        if material is None:
            yield f"report {n}: no object, because no image of the series can be read"
            continue
        for kind in KINDS:
            made = compose(kind, material)
            if isinstance(made, Nothing):
                yield f"report {n}: no {kind}: {made.why}"
                continue
            yield output.write(_path(out, n, kind), made.data)


def _path(out: Path, number: int, kind: Product) -> Path:
    return out / f"report-{number}-{kind}.dcm"


def _owed(every: Sequence[Analysed]) -> Iterator[int]:
    """The numbers of the reports that an archive would hear of."""
    heard = {one.report.study.pseudonym for one in every if not is_set_aside(one.report)}
    for n, one in enumerate(every, start=1):
        alone = one.report.study.pseudonym not in heard
        if alone or not is_set_aside(one.report):
            heard.add(one.report.study.pseudonym)
            yield n


def _others(every: Sequence[Analysed], this: Analysed) -> tuple[str, ...]:
    study = this.report.study
    return tuple(
        sentence(None if not one.series.headers else _number(one.series), one.report)
        for one in every
        if one.series is not this.series and one.report.study == study
    )


def _number(series: OnDisk) -> int | None:
    found = _header(series, series.files[0])
    number = None if found is None else found.get("SeriesNumber")
    return None if number is None else int(number)


def _material(
    one: Analysed, others: tuple[str, ...], naming: Naming, device: str
) -> Material | None:
    """What the objects of a report are made of; None where no image of its series can be read."""
    series = one.series
    read = ((file, _header(series, file)) for file in series.files)
    readable = {file: one for file, one in read if one is not None}
    if not readable:
        return None
    files = {str(one.SOPInstanceUID): file for file, one in readable.items()}
    masks = {mask.name: mask for mask in one.result.masks}
    drawn = bodies(masks)
    return Material(
        case=Case(
            report=one.report,
            source=source(readable.values(), analysed=one.result.facts.images or None),
            naming=naming,
            at=one.report.times.committed or datetime.now(timezone.utc),
            device=device,
            axes={number: body.axes for number, body in drawn.items() if body.axes is not None},
            others=others,
        ),
        read=lambda uid: series.read(files[uid]),
        bodies=drawn,
        lungs=masks.get(LUNGS),
        maps={heat.name: heat for heat in one.result.maps},
        segmented=True,
    )


def _header(series: OnDisk, file: Path) -> Dataset | None:
    return header(io.BytesIO(series.read(file)))
