"""Fits between which figures the images of a chest CT are usual, and how much is found in them.

    python -m training.implant --host DIR --seed N --each 1 --out COPY       # a painted copy; many
    python -m training.recipes.lung_nodule.usual BUNDLE --fit DIR... [--held COPY...]
        [--margin 0.5] [--out usual.json]

Prints the figures of each series and names every one that the limits call unusual, and every one
that the limits of the others do; writes `usual_input` and `usual_output` of version 4 of the line,
for `python -m compile pack ... --usual usual.json`. Ends with 1 where any is named: such limits do
not ship.

Rules.
1. Each series goes through the appliance's own line; figures are those that it keeps beside a
   report (appliance/watching/quality.py), findings those that it reports.
2. A limit is the least or the largest figure of the series of `--fit`, and so much beyond it as
   `margin` times their range. A figure that fewer than LEAST of them have gets no limit. What
   cannot be below 0 has no lower limit there.
3. The most findings and the largest share of candidates above the threshold are those of the series
   of `--fit` where no disease stands, half as many again.
4. `--held` fits nothing. The rule that is counted is that of the appliance (interpret/unusual.py).
5. No limit of its own series calls a series unusual, so each series of `--fit` is also held against
   the limits of the others. How many of these are named is what a new scanner may expect.
6. With so few series the limits are wide: they name another part of the body or a broken scan, not
   a scanner that changed a little. That is for the watch over the scanner.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from appliance import line
from appliance.bundle.heads import Limit, UsualOutput, VolumeFigure
from appliance.interpret import unusual
from appliance.reasons import Code
from appliance.records import Result
from appliance.report import Reason
from appliance.watching.quality import VolumeQuality
from training.errors import DataError, command
from training.judge.opened import Opened, open_bundle

FIGURES: tuple[VolumeFigure, ...] = get_args(VolumeFigure)
SIGNED: frozenset[VolumeFigure] = frozenset({"tissue_hu", "air_hu"})
"""Figures that may be below 0."""
LEAST = 4
AGAIN = 1.5


@dataclass(frozen=True)
class Seen:
    """What the line says of one series."""

    name: str
    result: Result

    @property
    def figures(self) -> VolumeQuality:
        """DataError where nothing was measured."""
        found = [one for one in self.result.quality if isinstance(one, VolumeQuality)]
        if not found:
            raise DataError(f"{self.name}: nothing was measured of it")
        return found[0]

    @property
    def diffuse(self) -> bool:
        """Whether disease explains what is found."""
        return any(r.code is Code.DIFFUSE_DISEASE for r in self.result.limitations)

    @property
    def share(self) -> float:
        """Of the candidates that were scored, at or above the threshold; 0 where none was."""
        scores = self.result.scores
        if scores is None or not scores.candidates:
            return 0.0
        above = sum(one.score >= scores.threshold for one in scores.candidates)
        return above / len(scores.candidates)


def analysed(folder: Path, opened: Opened) -> Seen:
    """A folder of DICOM files through the line; DataError where it is not analysed."""
    files = sorted(path for path in folder.iterdir() if path.suffix == ".dcm")
    result = line.process((f.read_bytes() for f in files), opened.bundle, opened.backend)
    if result.reasons or not files:
        why = "; ".join(reason.text for reason in result.reasons) or "no .dcm file in it"
        raise DataError(f"{folder}: {why}")
    return Seen(folder.name, result)


def limits(series: Sequence[VolumeQuality], margin: float) -> tuple[Limit, ...]:
    """Rule 2."""
    found = []
    for figure in FIGURES:
        values = [v for one in series if (v := getattr(one, figure)) is not None]
        if len(values) < LEAST:
            continue
        more = margin * (max(values) - min(values))
        low = min(values) - more
        found.append(
            Limit(
                figure=figure,
                low=_outwards(low, up=False) if low > 0 or figure in SIGNED else None,
                high=_outwards(max(values) + more, up=True),
            )
        )
    return tuple(found)


def output(series: Sequence[Seen]) -> UsualOutput:
    """Rule 3; DataError where disease stands on all."""
    plain = [one for one in series if not one.diffuse]
    if not plain:
        raise DataError("disease stands on every series: none says what is usual")
    most = max(len(one.result.findings) for one in plain)
    share = max(one.share for one in plain)
    return UsualOutput(
        most_findings=max(1, math.ceil(AGAIN * most)),
        most_share=min(1.0, _outwards(AGAIN * share, up=True)) or None,
    )


def called(
    series: Iterable[Seen], usual_input: Sequence[Limit], usual_output: UsualOutput
) -> Mapping[str, tuple[Reason, ...]]:
    """Series -> why it is unusual, of those that are."""
    found = {}
    for one in series:
        said = (
            *unusual.of_input([one.figures], usual_input),
            *unusual.of_output(
                one.result.findings, one.result.scores, usual_output, diffuse=one.diffuse
            ),
        )
        if said:
            found[one.name] = said
    return found


def called_by_others(series: Sequence[Seen], margin: float) -> Mapping[str, tuple[Reason, ...]]:
    """Series -> why the limits of the others call it unusual, of those that they do (rule 5)."""
    found: dict[str, tuple[Reason, ...]] = {}
    for number, one in enumerate(series):
        rest = [*series[:number], *series[number + 1 :]]
        found |= called([one], limits([other.figures for other in rest], margin), output(rest))
    return found


def _outwards(value: float, *, up: bool) -> float:
    """Three digits that mean something."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    whole = math.ceil(value / step) if up else math.floor(value / step)
    return round(whole * step, 10)


def table(series: Sequence[Seen]) -> str:
    """The figures in lines; `-` for what was not measured."""
    lines = ["  ".join(("series".ljust(16), *FIGURES, "findings", "share"))]
    for one in series:
        cells = []
        for figure in FIGURES:
            value = getattr(one.figures, figure)
            cells.append(("-" if value is None else f"{value:g}").rjust(len(figure)))
        cells += [f"{len(one.result.findings):8d}", f"{one.share:5.2f}"]
        lines.append("  ".join((one.name[:16].ljust(16), *cells)))
    return "\n".join(lines)


def print_each(odd: Mapping[str, tuple[Reason, ...]]) -> None:
    """A line a series."""
    for name, reasons in odd.items():
        print(f"{name}: {'; '.join(reason.text for reason in reasons)}")


def main() -> None:
    """Series, figures, limits, and whom they call unusual."""
    parser = argparse.ArgumentParser(description="Fit what is usual for a bundle of chest CTs.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--fit", type=Path, nargs="+", required=True)
    parser.add_argument("--held", type=Path, nargs="*", default=[])
    parser.add_argument("--margin", type=float, default=0.5)
    parser.add_argument("--out", type=Path, default=Path("usual.json"))
    given = parser.parse_args()
    opened = open_bundle(given.bundle)
    fit = [analysed(folder, opened) for folder in given.fit]
    print(table(fit), flush=True)
    usual_input, usual_output = limits([one.figures for one in fit], given.margin), output(fit)
    held = [analysed(folder, opened) for folder in given.held]
    odd = called([*fit, *held], usual_input, usual_output)
    print_each(odd)
    print(f"{len(odd)} of {len(fit)} and {len(held)} series are called unusual")
    by_others = called_by_others(fit, given.margin)
    print_each(by_others)
    print(f"{len(by_others)} of {len(fit)} are called unusual by the limits of the others")
    content = {
        "usual_input": [one.model_dump(mode="json") for one in usual_input],
        "usual_output": usual_output.model_dump(mode="json"),
    }
    given.out.write_text(json.dumps(content, indent=1) + "\n")
    if odd or by_others:
        raise SystemExit(1)


if __name__ == "__main__":
    command(main)
