"""Does the probe say what is true? Its sensitivity beside that of the judge of networks, and what
becomes of it where a scanner changes.

    python -m training.judge.probe BUNDLE SHAPES [--shared ../shared] [--write FOLDER]
    python -m training.judge.probe BUNDLE SHAPES --fault blur:1 --fault blur:2 --fault thick:5
    python -m training.judge.probe BUNDLE SHAPES --trial sharpen:4

SHAPES is what `training.ship.shapes` wrote. `--write` writes the altered series as DICOM with their
truth.json, so that `python -m training.evaluate BUNDLE FOLDER` looks for the very same implants.

Rules.
1. Each of HOSTS is taken ROUNDS times, each time with ten other implants. What follows is the
   appliance's own code (appliance/probe/line.py), on its CPU backend.
2. A fault is painted into the host before anything else, as a changed scanner would deliver it:
   `blur:N` a Gaussian of N pixels in the plane, `thick:MM` the mean of neighbouring slices,
   `sharpen:A` unsharp masking of a pixel's Gaussian, A times the difference. The implants get the
   point spread and the noise that are measured in what came out.
3. A trial (`--trial`) is that of the device: 20 series, candidates, Holm. Hosts repeat in it, so
   that its series are less independent than those of a scanner.
4. Networks that have seen a host find in it what they would not elsewhere. Shipped networks have
   seen all of HOSTS: their figures flatter, and only differences between figures mean something.
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from appliance.lines.kind import Analysis
from appliance.preprocess import plan
from appliance.probe.line import Prober, analysed, lungs_of, stack_of, with_implants
from appliance.quality import probed, shapes, trial, tuning
from appliance.quality.probed import Ball
from appliance.records import Plane, Stack
from appliance.watching.probe import ProbedSeries, Tuned
from appliance.watching.scanner import Scanner
from training.errors import command
from training.implant.series import changed_slice, host_slices, uid_of
from training.judge.opened import open_bundle
from training.read.folders import shared_folder
from training.read.shared_series import series_folder

HOSTS: Final = ("R01-001", "LIDC-IDRI-0003", "LIDC-IDRI-0004", "LIDC-IDRI-0005", "LIDC-IDRI-0021")
"""Shared chest CTs whose slices are thin enough for nodules of every size."""
ROUNDS: Final = 4
SCANNER: Final = Scanner(modality="CT")
AT: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """One altered series and what is known of it."""

    name: str
    host: Path
    before: Stack
    after: Stack
    implants: tuple[Ball, ...]
    untouched: Analysis


def faulty(stack: Stack, fault: str) -> Stack:
    """A stack as a changed scanner would deliver it (rule 2); "" changes nothing. SystemExit for a
    fault that is none."""
    if not fault:
        return stack
    name, _, figure = fault.partition(":")
    try:
        size = float(figure)
    except ValueError as e:
        raise SystemExit(f"error: {fault!r} is no fault such as blur:1") from e
    if name == "thick":
        return _thick(stack, size)
    if name not in ("blur", "sharpen"):
        raise SystemExit(f"error: {name!r} is none of blur, sharpen, thick")
    return replace(stack, planes=tuple(_with(plane, name, size) for plane in stack.planes))


def _with(plane: Plane, name: str, size: float) -> Plane:
    hu = plane.native.astype(np.float32)
    soft = cv2.GaussianBlur(hu, (0, 0), size if name == "blur" else 1.0)
    changed = soft if name == "blur" else hu + size * (hu - soft)
    held = np.clip(np.rint(changed), -1024, 3071).astype(np.int16)
    return replace(plane, native=held, resampled={}, facts=None)


def _thick(stack: Stack, mm: float) -> Stack:
    """Means of as many neighbours as are so thick, at their middle."""
    count = max(round(mm / plan.distance(stack.z_mm)), 1)
    planes, places = [], []
    for first in range(0, len(stack.planes) - count + 1, count):
        group = stack.planes[first : first + count]
        mean = np.mean([one.native for one in group], axis=0, dtype=np.float32)
        ends = np.array([group[0].geometry.position_lps_mm, group[-1].geometry.position_lps_mm])
        at = replace(group[0].geometry, position_lps_mm=plan.vector(ends.mean(0)))
        whole = np.rint(mean).astype(np.int16)
        planes.append(replace(group[0], native=whole, geometry=at, resampled={}, facts=None))
        places.append(float(np.mean(stack.z_mm[first : first + count])))
    z_mm = np.array(places) - places[0]
    spacing = (plan.distance(z_mm), *stack.spacing_mm[1:])
    return replace(stack, planes=tuple(planes), z_mm=z_mm, spacing_mm=spacing)


def subjects(
    prober: Prober, shared: Path, fault: str = "", rounds: int = ROUNDS
) -> Iterator[Subject]:
    """The altered series of every host (rule 1). SystemExit where a host cannot be probed."""
    for name in HOSTS:
        folder = series_folder(shared, name)
        files = sorted(path for path in folder.iterdir() if path.is_file())
        stack = stack_of((path.read_bytes() for path in files), prober.manifest)
        host = None if stack is None else faulty(stack, fault)
        untouched = None if host is None else analysed(prober, host)
        lungs = None if untouched is None else lungs_of(untouched)
        if host is None or untouched is None or lungs is None:
            raise SystemExit(f"error: {name} {fault} is not analysed")
        for turn in range(rounds):
            seed = 1000 * turn + 7
            made = with_implants(host, lungs, untouched.findings, prober.shapes, seed)
            if made is None:
                raise SystemExit(f"error: nothing can be put into {name} {fault}")
            yield Subject(f"{name}-{turn}", folder, host, *made, untouched)


def looked_at(
    prober: Prober, subject: Subject, candidates_mm: Sequence[float] = ()
) -> ProbedSeries:
    """What the probe says of one series."""
    plain = _judged(prober, subject, 0.0)
    tuned = [
        Tuned(soften_mm=mm, found=one.found, beside=one.beside)
        for mm in candidates_mm
        for one in [_judged(prober, subject, mm)]
    ]
    return ProbedSeries(
        series=uuid.uuid5(uuid.NAMESPACE_OID, subject.name),
        bundle="0" * 64,
        at=AT,
        sizes_mm=tuple(round(one.diameter_mm, 2) for one in subject.implants),
        found=plain.found,
        beside=plain.beside,
        extra=plain.extra,
        tuned=tuple(tuned),
        trial=0 if tuned else None,
    )


def _judged(prober: Prober, subject: Subject, soften_mm: float) -> probed.Judged:
    manifest = tuning.tuned(prober.manifest, soften_mm) if soften_mm else None
    found = analysed(prober, subject.after, manifest)
    if found is None:
        raise SystemExit(f"error: {subject.name} with implants is not analysed")
    return probed.judged(found.findings, subject.implants, subject.untouched.findings)


def write(subject: Subject, folder: Path) -> None:
    """The altered series as DICOM with its truth.json, for `training.evaluate`."""
    out = folder / subject.name
    out.mkdir(parents=True)
    new = [uid_of("scanside.probe", kind, subject.name) for kind in ("study", "series", "frame")]
    rows = zip(host_slices(subject.host), subject.before.planes, subject.after.planes, strict=True)
    for number, (source, before, after) in enumerate(rows):
        uids = [*new, uid_of(new[1], number)]
        was, now = (one.native.astype(np.float32) for one in (before, after))
        data = changed_slice(source, was, now, uids, subject.name)
        (out / f"{number:04d}.dcm").write_bytes(data)
    truth = [
        {"center_lps_mm": one.center_lps_mm, "diameter_mm": one.diameter_mm}
        for one in subject.implants
    ]
    (out / "truth.json").write_text(json.dumps(truth))


def figures(rows: Sequence[ProbedSeries]) -> dict[str, Any]:
    """Of some series: what the device would say."""
    said = probed.performance(rows, trial.Setting(rows[0].bundle))
    return (
        {} if said is None else said.model_dump(mode="json", exclude={"bundle", "since", "until"})
    )


def one_line(name: str, found: dict[str, Any]) -> str:
    """The figures for a table."""
    share = found["sensitivity"]
    sizes = "".join(
        f" | {one['from_mm']:g} mm {one['share']['value']:.2f} ({one['share']['implants']})"
        for one in found["by_size"]
    )
    low, high = share["low"], share["high"]
    return (
        f"{name}: {share['value']:.3f} ({low:.2f} to {high:.2f}), n {share['implants']} in "
        f"{found['series']} series, extra {found['extra_per_series']:.2f}{sizes}"
    )


def main() -> None:
    """Reads the command line, prints a line a figure, at last JSON."""
    parser = argparse.ArgumentParser(description="Judge the probe.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("shapes", type=Path)
    parser.add_argument("--shared", type=Path, default=shared_folder())
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each host ({ROUNDS})")
    parser.add_argument("--write", type=Path, help="an empty folder for the altered series")
    parser.add_argument("--fault", action="append", default=[], help="blur:1, thick:5, sharpen:2")
    parser.add_argument("--trial", help="a fault in which candidates are tried")
    given = parser.parse_args()
    opened = open_bundle(given.bundle, threads=1)
    donated = shapes.read(given.shapes.read_bytes())
    prober = Prober(opened.bundle.manifest, opened.backend, donated.shapes)
    said: dict[str, Any] = {"bundle": opened.bundle.ref.model_dump()}
    for fault in given.fault or ([""] if given.trial is None else []):
        rows = []
        for subject in subjects(prober, given.shared, fault, given.rounds):
            rows.append(looked_at(prober, subject))
            if given.write is not None and not fault:
                write(subject, given.write)
        said[fault or "as it is"] = figures(rows)
        print(one_line(fault or "as it is", said[fault or "as it is"]), flush=True)
    if given.trial is not None:
        said["trial"] = _trial(prober, given.shared, given.trial, given.rounds)
    print(json.dumps(said))


def _trial(prober: Prober, shared: Path, fault: str, rounds: int) -> dict[str, Any]:
    """A trial on a changed scanner, with the figures of each candidate."""
    rows = [
        looked_at(prober, subject, trial.CANDIDATES_MM)
        for subject in subjects(prober, shared, "" if fault == "none" else fault, rounds)
    ]
    print(one_line(f"trial, {fault}", figures(rows)), flush=True)
    table = {}
    columns = zip(*(one.tuned for one in rows), strict=True)
    for mm, column in zip(trial.CANDIDATES_MM, columns, strict=True):
        found, all_of = sum(sum(one.found) for one in column), sum(len(o.found) for o in column)
        beside = sum(one.beside for one in column) / len(rows)
        table[str(mm)] = {"sensitivity": round(found / all_of, 4), "beside": round(beside, 3)}
        print(f"  soften {mm:g} mm: {found / all_of:.3f}, {beside:.2f} beside", flush=True)
    proposal = trial.proposed(SCANNER, rows, AT)
    print(f"  proposed: {None if proposal is None else proposal.soften_mm}", flush=True)
    made = None if proposal is None else proposal.model_dump(mode="json", exclude={"scanner"})
    return {"plain": figures(rows), "candidates": table, "proposal": made}


if __name__ == "__main__":
    command(main)
