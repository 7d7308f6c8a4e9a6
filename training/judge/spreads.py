"""What a fault moves, and what moves without one: the figures of the watch, on real CTs.

    python -m training.judge.spreads BUNDLE [--shared ../shared] [--series NAME ...] [--out FILE]

Rules.
1. What is measured is the appliance's own: its slices, its figures (appliance/quality).
2. A fault is painted into all images of a series. It is told in spreads of the shipped prior, as
   the difference to the series as it is: so a patient is compared with himself.
3. Half the dose is noise of the series' own spectrum (faults.py).
4. No shared scanner has more than two series. So spreads between patients are told of the group of
   four that share maker and kernel, as a bound from above: these are two scanners, two thicknesses.
   Slopes are those within a series, between PARTS parts of it along z: one scanner, one patient,
   many diameters.
5. The tables are Markdown, for docs/watching/library.md and docs/watching/drift.md. FILE is
   training/judge/faults.json, of which training.judge.streams simulates: what each fault moves in
   each CT, and the correlations.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.lines.volume import in_plane_spacings
from appliance.preprocess import fast
from appliance.quality import drift, series, slices
from appliance.quality.prior import SHIPPED
from appliance.records import Image
from appliance.room.check import Contrast
from appliance.watching.alarm import Statistic
from appliance.watching.quality import VolumeQuality
from training.errors import command
from training.judge import faults, room
from training.judge.opened import Opened, open_bundle
from training.read.shared_series import NEVER_TRAIN, TRAINING_SERIES, series_folder

PARTS: Final = 6
GROUP: Final = ("LIDC-IDRI-0003", "LIDC-IDRI-0004", "LIDC-IDRI-0005", "LIDC-IDRI-0021")
ORDER: Final = (
    Statistic.NOISE,
    Statistic.TEXTURE,
    Statistic.SKIN,
    Statistic.LUNG_EDGE,
    Statistic.TISSUE,
    Statistic.AIR,
    Statistic.LUNG_SHARE,
)
WRONG_BODY: Final = NEVER_TRAIN[0]
Images = Sequence[Image]
Values = Mapping[Statistic, float | None]


@dataclass(frozen=True)
class Fault:
    """A fault, and how it is painted; the second argument is the noise of the series, HU."""

    name: str
    paint: Callable[[Images, float], list[Image]]


FAULTS: Final = (
    Fault("dose halved", lambda images, noise: faults.noisier(images, noise, 2**0.5)),
    Fault("dose quartered", lambda images, noise: faults.noisier(images, noise, 2.0)),
    Fault("sharpened, weight 0.5", lambda images, _: faults.sharpened(images, 0.5)),
    Fault("sharpened, weight 1", lambda images, _: faults.sharpened(images, 1.0)),
    Fault("blur of 0.6 pixel", lambda images, _: faults.blurred(images, 0.6)),
    Fault("blur of 1 pixel", lambda images, _: faults.blurred(images, 1.0)),
    Fault("HU +15", lambda images, _: faults.offset(images, 15)),
    Fault("HU -15", lambda images, _: faults.offset(images, -15)),
    Fault("HU +40", lambda images, _: faults.offset(images, 40)),
    Fault("HU -40", lambda images, _: faults.offset(images, -40)),
    Fault("scale 1.03", lambda images, _: faults.scaled(images, 1.03)),
    Fault("scale 1.1", lambda images, _: faults.scaled(images, 1.1)),
    Fault("scale 0.9", lambda images, _: faults.scaled(images, 0.9)),
)


@dataclass(frozen=True)
class Measured:
    """A series as it is, in parts, and with each fault."""

    as_it_is: VolumeQuality
    parts: tuple[VolumeQuality, ...]
    faulty: Mapping[str, VolumeQuality]


def measured(images: Images, contrast: Contrast, opened: Opened) -> VolumeQuality:
    """The figures of these images. ValueError where nothing can be measured."""
    spacings = in_plane_spacings([opened.bundle.manifest])
    planes = [fast.plane(one, spacings) for one in images]
    found = series.measured([replace(one, facts=slices.facts(one)) for one in planes], contrast)
    if found is None:
        raise ValueError("nothing was measured of these images")
    return found


def all_of(images: Images, opened: Opened, *, chest: bool) -> Measured:
    """All that is measured of one series; of those of its images that are sampled on a box."""
    contrast: Contrast = "unknown"
    if chest:
        contrast = room.seen(images, opened).values.contrast
    images = [one for one in images if slices.in_band(one.geometry, one.header.thickness_mm)]
    as_it_is = measured(images, contrast, opened)
    edges = np.linspace(0, len(images), PARTS + 1).astype(int)
    parts = tuple(measured(images[a:b], contrast, opened) for a, b in pairwise(edges))
    noise = as_it_is.noise_hu or 0.0
    faulty = {
        one.name: measured(one.paint(images, noise), contrast, opened)
        for one in (FAULTS if chest else ())
    }
    return Measured(as_it_is, parts, faulty)


def away(found: VolumeQuality, usual: VolumeQuality) -> Values:
    """By how many spreads of the prior each statistic is away from another series, which has it;
    None where this one has not."""
    one, other = drift.values(found), drift.values(usual)
    return {
        which: (one[which] - other[which]) / SHIPPED.spreads[which] if which in one else None
        for which in ORDER
        if which in other
    }


def effects(found: Mapping[str, Measured]) -> dict[str, dict[str, Values]]:
    """Fault -> CT -> what it moves; the head in the place of the chest as `wrong body`."""
    chests = {name: one for name, one in found.items() if one.faulty}
    moved: dict[str, dict[str, Values]] = {
        fault.name: {n: away(one.faulty[fault.name], one.as_it_is) for n, one in chests.items()}
        for fault in FAULTS
    }
    if WRONG_BODY in found:
        head = found[WRONG_BODY].as_it_is
        moved["wrong body"] = {n: away(head, one.as_it_is) for n, one in chests.items()}
    return moved


def written(found: Mapping[str, Measured]) -> str:
    """faults.json: one CT a line."""
    matrix = correlation([one.parts for one in found.values() if one.faulty])
    rows = ",\n  ".join(json.dumps(np.round(row, 2).tolist()) for row in matrix)
    parts = []
    for fault, each in effects(found).items():
        cts = ",\n   ".join(f"{json.dumps(name)}: {_line(values)}" for name, values in each.items())
        parts.append(f"{json.dumps(fault)}: {{\n   {cts}\n  }}")
    together = ",\n  ".join(parts)
    return f'{{\n "correlation": [\n  {rows}\n ],\n "effects": {{\n  {together}\n }}\n}}\n'


def _line(values: Values) -> str:
    rounded = {k.value: None if by is None else round(by, 2) for k, by in values.items()}
    return json.dumps(rounded)


def slope_of_noise(parts: Sequence[VolumeQuality]) -> tuple[float, int] | None:
    """Of the logarithm of noise on diameter, a mm, within one series; and its number of parts."""
    known = [(p.diameter_mm, np.log(p.noise_hu)) for p in parts if p.diameter_mm and p.noise_hu]
    if len(known) < 3:
        return None
    wide, noise = np.array(known, np.float64).T
    wide, noise = wide - wide.mean(), noise - noise.mean()
    return float((wide * noise).sum() / (wide * wide).sum()), len(known)


def table(found: Mapping[str, Measured]) -> str:
    """Markdown."""
    chests = {name: one for name, one in found.items() if one.faulty}
    lines = [f"| | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for field in VolumeQuality.model_fields:
        shown = [getattr(one.as_it_is, field) for one in found.values()]
        lines.append(f"| `{field}` | {' | '.join('-' if v is None else str(v) for v in shown)} |")
    names = " | ".join(which.value for which in ORDER)
    lines += ["", f"| fault, {len(chests)} CTs | {names} |", "|---" * (len(ORDER) + 1) + "|"]
    for fault, each in effects(found).items():
        rows = list(each.values())
        lines.append(f"| {fault} | {' | '.join(_range(rows, which) for which in ORDER)} |")
    return "\n".join([*lines, "", *_spreads(chests), "", *_slopes(chests)])


def _range(rows: Sequence[Values], which: Statistic) -> str:
    """Median, least and most; and how many have it, where a row has lost it."""
    had = [row[which] for row in rows if which in row]
    known = sorted(by for by in had if by is not None)
    if not known:
        return "gone"
    text = f"{np.median(known):+.1f} ({known[0]:+.1f} to {known[-1]:+.1f})"
    return text if len(known) == len(had) else f"{text}, gone in {len(had) - len(known)}"


def _spreads(chests: Mapping[str, Measured]) -> list[str]:
    """SD of each statistic over the group, and over all chests; then how they hang together."""
    names = " | ".join(which.value for which in ORDER)
    lines = [f"| SD | {names} |", "|---" * (len(ORDER) + 1) + "|"]
    prior = " | ".join(f"{SHIPPED.spreads[which]:g}" for which in ORDER)
    lines.append(f"| shipped prior | {prior} |")
    for what, some in (("one maker and kernel", GROUP), ("all", tuple(chests))):
        known = [drift.values(chests[name].as_it_is) for name in some if name in chests]
        shown = []
        for which in ORDER:
            values = [one[which] for one in known if which in one]
            shown.append(f"{np.std(values, ddof=1):.3g}" if len(values) > 1 else "-")
        lines.append(f"| {what}, n {len(known)} | {' | '.join(shown)} |")
    lines += ["", f"| correlation of parts | {names} |", "|---" * (len(ORDER) + 1) + "|"]
    matrix = correlation([one.parts for one in chests.values()])
    for which, row in zip(ORDER, matrix, strict=True):
        lines.append(f"| {which.value} | {' | '.join(f'{value:+.2f}' for value in row)} |")
    return lines


def correlation(all_parts: Sequence[Sequence[VolumeQuality]]) -> NDArray[np.float64]:
    """[statistics, statistics]: of what parts of a series differ from its mean, all series pooled;
    of parts that have both. 0 where fewer than three have, and of what is always the same."""
    rows = []
    for parts in all_parts:
        known = [drift.values(part) for part in parts]
        block = np.array([[one.get(which, np.nan) for which in ORDER] for one in known])
        have = np.isfinite(block)
        mean = np.where(have, block, 0).sum(axis=0) / np.maximum(1, have.sum(axis=0))
        rows.append(block - mean)
    pooled = np.concatenate(rows)
    found = np.eye(len(ORDER))
    for i in range(len(ORDER)):
        for j in range(i):
            both = np.isfinite(pooled[:, i]) & np.isfinite(pooled[:, j])
            one, other = pooled[both, i], pooled[both, j]
            if both.sum() >= 3 and one.std() > 0 and other.std() > 0:
                found[i, j] = found[j, i] = np.corrcoef(one, other)[0, 1]
    return found


def _slopes(chests: Mapping[str, Measured]) -> list[str]:
    """Noise on diameter, within each series; tissue with and without contrast medium."""
    known = {name: slope_of_noise(one.parts) for name, one in chests.items()}
    slopes = {name: one[0] for name, one in known.items() if one is not None}
    middle = np.median(list(slopes.values()))
    each = ", ".join(f"{name} {value:+.4f}" for name, value in slopes.items())
    lines = [f"log noise a mm of diameter, within a series: median {middle:+.4f} ({each})"]
    for said in ("yes", "no", "unknown"):
        some = [o.as_it_is.tissue_hu for o in chests.values() if o.as_it_is.contrast == said]
        hu = [value for value in some if value is not None]
        if hu:
            lines.append(f"tissue, contrast medium {said}: mean {np.mean(hu):.1f} HU, n {len(hu)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.judge.spreads")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--series", nargs="+", default=[*TRAINING_SERIES, WRONG_BODY])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    opened = open_bundle(given.bundle)
    found = {}
    for name in given.series:
        images = room.read(series_folder(given.shared, name))
        found[name] = all_of(images, opened, chest=name in TRAINING_SERIES)
        print(f"{name}: {len(images)} images", flush=True)
    print()
    print(table(found))
    if given.out is not None:
        given.out.write_text(written(found), encoding="utf-8")


if __name__ == "__main__":
    command(main)
