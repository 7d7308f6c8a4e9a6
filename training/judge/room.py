"""Is the in-room check right? Every CT as it is, and with faults painted into it.

    python -m training.judge.room BUNDLE [--shared ../shared] [--series NAME ...]

Rules.
1. What is measured is the appliance's own: its slices, its network of lungs, its values, its
   verdict. Nodules are not looked for.
2. A flag on a CT as it is, or on every second or fourth of its images, counts as false. A painted
   fault is caught where the flag of its code is raised; contrast medium, where the answer becomes
   yes.
3. The table is Markdown, for docs/in-room-check.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from appliance.bundle.lines import SegmentProposeClassify
from appliance.errors import SeriesRefused
from appliance.interpret import segment
from appliance.lines.volume import Slices, in_plane_spacings
from appliance.preprocess import fast, plan
from appliance.quality import series, slices, verdict
from appliance.records import Facts, Image, Mask, Result, Stack
from appliance.report import Coverage, Reason, Status
from appliance.room.check import RoomCheck, RoomValues
from appliance.room.codes import FlagCode
from appliance.series import pixels
from training.errors import command
from training.judge import faults
from training.judge.opened import Opened, open_bundle
from training.read.shared_series import NEVER_TRAIN, TRAINING_SERIES, series_folder

CUT_MM: Final = 30.0
"""So much of the lungs is cut off at an end."""
INSET_MM: Final = 15.0
"""So much of each lung is cut off at the side."""
MOVE_MM: Final = 4.0
BLOCK_MM: Final = 20.0
BREATH_MM: Final = 10.0
OFFSET_HU: Final = 60.0
CONTRAST_HU: Final = 150.0


@dataclass(frozen=True)
class Seen:
    """A series as the check sees it."""

    check: RoomCheck
    coverage: Coverage
    lungs: Mask | None

    @property
    def values(self) -> RoomValues:
        """ValueError of a series that was refused."""
        if self.check.values is None:
            raise ValueError("nothing was measured of this series")
        return self.check.values


@dataclass(frozen=True)
class Fault:
    """A fault and the flag that it must raise; None: the answer on contrast medium becomes yes."""

    name: str
    paint: Callable[[Sequence[Image], Seen], list[Image]]
    flag: FlagCode | None


def read(folder: Path) -> list[Image]:
    """The frames of a series, oriented to LPS, in order of rising z. SeriesRefused where one cannot
    be read."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        for one in pixels.images(pixels.parse(path.read_bytes())):
            hu, geometry = plan.orient(one.hu, one.geometry)
            found.append(replace(one, hu=hu, geometry=geometry))
    return sorted(found, key=lambda one: one.geometry.position_lps_mm[2])


def seen(images: Sequence[Image], opened: Opened) -> Seen:
    """What the check says of these images."""
    manifest = opened.bundle.manifest
    spacings = in_plane_spacings([manifest])
    planes = [fast.plane(one, spacings) for one in images]
    planes = [replace(plane, facts=slices.facts(plane)) for plane in planes]
    outline = Slices().outline(planes, manifest.accepts, unread=())
    facts = Facts("", "", "CT", len(planes), None, None, None, Coverage())
    if outline.subject is None:
        return Seen(_refused(facts, outline.reasons), Coverage(), None)
    lungs, coverage = _lungs(outline.subject, opened)
    side = segment.side_cm2(lungs, any(plane.padding for plane in outline.subject.planes))
    result = Result(
        Status.ANALYSED,
        replace(facts, coverage=coverage),
        "",
        limitations=outline.limitations,
        room=series.values(outline.subject, lungs, lungs_side_cm2=side),
    )
    return Seen(_checked(result), coverage, lungs)


def _lungs(stack: Stack, opened: Opened) -> tuple[Mask, Coverage]:
    manifest = opened.bundle.manifest
    ops = manifest.networks["segment"].preprocess
    image = opened.backend.prepare(stack, ops, None)
    outputs = opened.backend.infer("segment", image)
    lungs = segment.mask(outputs, image, manifest.line_of(SegmentProposeClassify).segment)
    return lungs, segment.coverage(lungs, stack)


def _refused(facts: Facts, reasons: tuple[Reason, ...]) -> RoomCheck:
    return _checked(Result(Status.NOT_ANALYSED, facts, "", reasons=reasons))


def _checked(result: Result) -> RoomCheck:
    """ValueError where a series is set aside: none of these is."""
    check = verdict.check(result)
    if check is None:
        raise ValueError("this series is set aside: there is nothing to check")
    return check


def painted() -> tuple[Fault, ...]:
    """The faults that must be caught."""
    return (
        Fault("lungs cut above", _cut_above, FlagCode.LUNGS_CUT_HEAD),
        Fault("lungs cut below", _cut_below, FlagCode.LUNGS_CUT_FEET),
        Fault("field of view cropped", _cropped, FlagCode.LUNGS_CUT_SIDE),
        Fault(f"one slice {MOVE_MM:g} mm aside", _one_aside, FlagCode.STEPS),
        Fault(f"one slice {MOVE_MM:g} mm up", _one_up, FlagCode.STEPS),
        Fault(f"{BLOCK_MM:g} mm of slices {MOVE_MM:g} mm aside", _block, FlagCode.STEPS),
        Fault(
            f"{BLOCK_MM:g} mm of slices breathed in by {BREATH_MM:g} mm", _breath, FlagCode.STEPS
        ),
        Fault("noise x 2", _noise(2), FlagCode.NOISE),
        Fault("noise x 3", _noise(3), FlagCode.NOISE),
        Fault(f"HU +{OFFSET_HU:g}", _offset(OFFSET_HU), None),
        Fault(f"HU -{OFFSET_HU:g}", _offset(-OFFSET_HU), None),
        Fault(f"contrast medium +{CONTRAST_HU:g} HU", _contrast, None),
    )


CONTROLS: Final = (2, 4)
"""Of every so many images one is kept: as good a series, with larger steps."""


def caught(fault: Fault, found: Seen) -> bool:
    """Whether the check notices it (rule 2)."""
    codes = {flag.code for flag in found.check.flags}
    if fault.flag is not None:
        return fault.flag in codes
    if fault.paint is _contrast:
        return found.check.values is not None and found.check.values.contrast == "yes"
    return bool(codes & {FlagCode.AIR_HU, FlagCode.TISSUE_HU})


def _reach(as_it_is: Seen) -> tuple[float, float]:
    if as_it_is.coverage.lungs_z_mm is None:
        raise ValueError("no lungs to cut")
    return as_it_is.coverage.lungs_z_mm


def _cut_above(images: Sequence[Image], as_it_is: Seen) -> list[Image]:
    return faults.without_ends(images, -np.inf, _reach(as_it_is)[1] - CUT_MM)


def _cut_below(images: Sequence[Image], as_it_is: Seen) -> list[Image]:
    return faults.without_ends(images, _reach(as_it_is)[0] + CUT_MM, np.inf)


def _cropped(images: Sequence[Image], as_it_is: Seen) -> list[Image]:
    """The sides of the lungs are cut off, their front and back stay."""
    if as_it_is.lungs is None:
        raise ValueError("no lungs to cut")
    columns = np.flatnonzero(as_it_is.lungs.voxels.any(axis=(0, 1)))
    left, right = (
        float(plan.to_lps(as_it_is.lungs.grid, (0, 0, int(k)))[0]) for k in columns[[0, -1]]
    )
    return faults.cropped(images, (left + INSET_MM, right - INSET_MM))


def _middle(images: Sequence[Image], as_it_is: Seen) -> int:
    low, high = _reach(as_it_is)
    heights = np.array([one.geometry.position_lps_mm[2] for one in images])
    return int(np.abs(heights - (low + high) / 2).argmin())


def _one_aside(images: Sequence[Image], as_it_is: Seen) -> list[Image]:
    k = _middle(images, as_it_is)
    return faults.moved(images, k, k + 1, x_mm=MOVE_MM)


def _one_up(images: Sequence[Image], as_it_is: Seen) -> list[Image]:
    k = _middle(images, as_it_is)
    return faults.moved(images, k, k + 1, y_mm=-MOVE_MM)


def _block(images: Sequence[Image], as_it_is: Seen) -> list[Image]:
    first, last = _block_of(images, as_it_is)
    return faults.moved(images, first, last, x_mm=MOVE_MM)


def _block_of(images: Sequence[Image], as_it_is: Seen) -> tuple[int, int]:
    """First and last (not included) of BLOCK_MM of images from the middle of the lungs on."""
    k = _middle(images, as_it_is)
    end = images[k].geometry.position_lps_mm[2] + BLOCK_MM
    return k, k + sum(one.geometry.position_lps_mm[2] < end for one in images[k:])


def _breath(images: Sequence[Image], as_it_is: Seen) -> list[Image]:
    first, last = _block_of(images, as_it_is)
    return faults.lifted(images, first, last, BREATH_MM)


def _noise(times: float) -> Callable[[Sequence[Image], Seen], list[Image]]:
    def paint(images: Sequence[Image], as_it_is: Seen) -> list[Image]:
        noise = as_it_is.values.noise_hu
        if noise is None:
            raise ValueError("no noise was measured")
        return faults.noisier(images, noise, times)

    return paint


def _offset(hu: float) -> Callable[[Sequence[Image], Seen], list[Image]]:
    return lambda images, _: faults.offset(images, hu)


def _contrast(images: Sequence[Image], as_it_is: Seen) -> list[Image]:
    if as_it_is.lungs is None:
        raise ValueError("no lungs to paint between")
    return faults.with_contrast(images, as_it_is.lungs, CONTRAST_HU)


def judged(name: str, images: Sequence[Image], opened: Opened) -> Iterator[tuple[str, str, Seen]]:
    """(series, fault or "as it is", what the check says)."""
    as_it_is = seen(images, opened)
    yield name, "as it is", as_it_is
    if as_it_is.check.values is None:
        return
    for every in CONTROLS:
        yield name, f"every {every}", seen(images[::every], opened)
    for fault in painted():
        yield name, fault.name, seen(fault.paint(images, as_it_is), opened)


def table(rows: Sequence[tuple[str, str, Seen]]) -> str:
    """Markdown: values and flags of each series as it is; then which faults were caught."""
    names = list(dict.fromkeys(name for name, _, _ in rows))
    plain = {name: found for name, fault, found in rows if fault == "as it is"}
    measured = {name: found for name, found in plain.items() if found.check.values is not None}
    fields = [field for field in RoomValues.model_fields if field != "step_z_mm"]
    lines = [f"| | {' | '.join(measured)} |", "|---" * (len(measured) + 1) + "|"]
    for field in fields:
        shown = [
            "-" if (v := getattr(f.values, field)) is None else str(v) for f in measured.values()
        ]
        lines.append(f"| `{field}` | {' | '.join(shown)} |")
    flags = [
        ", ".join(flag.code.value for flag in f.check.flags) or "none" for f in measured.values()
    ]
    lines += [f"| flags | {' | '.join(flags)} |", ""]
    for name in names:
        if name not in measured:
            lines.append(f"{name}: {plain[name].check.flags[0].text}")
    false = sum(bool(found.check.flags) for found in measured.values())
    lines += ["", f"False: {false} of {len(measured)}.", ""]
    for every in CONTROLS:
        thinned = [found for _, what, found in rows if what == f"every {every}"]
        kept = [found for found in thinned if found.check.values is not None]
        odd = [flag.text for found in kept for flag in found.check.flags]
        lines.append(f"One image of {every}: {len(odd)} false of {len(kept)}. {'; '.join(odd)}")
    lines.append("")
    lines += [f"| painted | {' | '.join(measured)} |", "|---" * (len(measured) + 1) + "|"]
    for fault in painted():
        found = {name: caught(fault, seen) for name, what, seen in rows if what == fault.name}
        marks = ["caught" if found[name] else "missed" for name in measured]
        if fault.paint is _contrast:
            marks = [
                "-" if measured[name].values.contrast == "yes" else mark
                for name, mark in zip(measured, marks, strict=True)
            ]
        lines.append(f"| {fault.name} | {' | '.join(marks)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.judge.room")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--series", nargs="+", default=[*TRAINING_SERIES, *NEVER_TRAIN])
    given = parser.parse_args()
    opened = open_bundle(given.bundle)
    rows: list[tuple[str, str, Seen]] = []
    for name in given.series:
        try:
            images = read(series_folder(given.shared, name))
        except SeriesRefused as e:
            print(f"{name}: {e.reason.text}", flush=True)
            continue
        for row in judged(name, images, opened):
            rows.append(row)
            found = [flag.text for flag in row[2].check.flags] or row[2].check.values
            print(f"{row[0]}, {row[1]}: {row[2].check.verdict} {found}", flush=True)
    print()
    print(table(rows))


if __name__ == "__main__":
    command(main)
