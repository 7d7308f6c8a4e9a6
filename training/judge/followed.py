"""How often is it right what a comparison says of each finding?

    python -m training.judge.followed [CT ...] [--pairs 8] [--first 0] [--jobs 1] [--out FILE]

Rules.
1. A pair is one CT as two exams with lesions whose course is known (twice.py). Both go through the
   whole line with the bundle that ships, become entries, and are compared, by demons.
2. A finding is a lesion's where it lies in its body, or within HIT_MM of its centre; of several the
   nearest. What else is found is the chest's own: it is there in both exams, at places whose truth
   is exact, so to say that it is new or gone is wrong. What lies at the rim of a lesion is left
   out: its tails and its blur are not there in both.
3. A match is right where both ends lie at places of the same thing, be it a finding or a candidate
   there; else it is wrong, also where the thing is in one exam alone. What is neither is said to be
   ambiguous or not comparable.
4. What is counted stands in aims.py. Each pair is one JSON line of FILE and is not made again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from pydantic import ValidationError

from appliance.comparison import Followed
from appliance.lines.compare import Bundles, Loaded, compare
from appliance.prior.growth import YEAR_DAYS
from appliance.quality.implant import Shape
from appliance.records import Vector
from appliance.report import Finding, Report
from appliance.runtime.comparing import LAYING
from training.errors import DataError, command
from training.implant.donors import cached_shapes
from training.implant.hosts import Host, load_host
from training.judge.aims import Judged, Lesion, table
from training.judge.opened import Opened, open_bundle
from training.judge.registration import FACTORY, lungs_of
from training.judge.twice import Course, Two, drawn, kept, scanners
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import NODULE_SERIES
from training.read.volume import F64, Bool

HIT_MM: Final = 4.0
RIM_MM: Final = 8.0
"""So far around a lesion's body nothing counts as the chest's own."""
OWN_MM: Final = 5.0
"""Two findings of the chest's own so near to each other are one thing."""


@dataclass(frozen=True)
class Truth:
    """A thing of the chest, and where it is in both exams."""

    then_lps: F64
    now_lps: F64
    then_mm: float | None
    now_mm: float | None
    course: Course | None = None
    """None: the chest's own."""


def lesions(
    two: Two, prior: Report, current: Report, rows: Sequence[Followed], days: int | None
) -> tuple[Lesion, ...]:
    """What was said of every lesion of a pair, and of the chest's own findings."""
    truths = [Truth(c.then_lps, c.now_lps, c.then_mm, c.now_mm, c) for c in two.courses]
    then = _listed_of(prior.findings, [(t.then_lps, t.then_mm) for t in truths])
    now = _listed_of(current.findings, [(t.now_lps, t.now_mm) for t in truths])
    found = [_said(t, then.get(k), now.get(k), rows, days) for k, t in enumerate(truths)]
    rest_then = _own(prior.findings, [(t.then_lps, t.then_mm or t.now_mm) for t in truths])
    rest_now = _own(current.findings, [(t.now_lps, t.now_mm or t.then_mm) for t in truths])
    forth = {f.id: two.to_prior(_place(f)[None])[0] for f in rest_now}
    free = list(rest_now)
    for one in rest_then:
        at = _place(one)
        here = min(free, key=lambda f: _away(forth[f.id], at), default=None)
        if here is not None and _away(forth[here.id], at) <= OWN_MM:
            free.remove(here)
            own = Truth(at, _place(here), one.diameter_mm, here.diameter_mm)
            found.append(_said(own, one, here, rows, None))
        else:
            there = _inverse(two, at)
            own = Truth(at, there, one.diameter_mm, None)
            found.append(_said(own, one, None, rows, None))
    for here in free:
        own = Truth(forth[here.id], _place(here), None, here.diameter_mm)
        found.append(_said(own, None, here, rows, None))
    return tuple(found)


def _said(
    truth: Truth,
    then: Finding | None,
    now: Finding | None,
    rows: Sequence[Followed],
    days: int | None,
) -> Lesion:
    mine = [
        row
        for row in rows
        if (now is not None and row.finding == now.id)
        or (then is not None and row.prior_finding == then.id)
    ]
    matched = [row for row in mine if row.state == "matched"]
    right = [_right(row, truth) for row in matched]
    change = matched[0].change if matched and all(right) else None
    rate = change.rate_per_year if change is not None else None
    course = truth.course
    ratio = None
    if course is not None and course.then_mm and course.now_mm and days:
        ratio = 3 * math.log(course.now_mm / course.then_mm) * YEAR_DAYS / days
    return Lesion(
        own=course is None,
        fate="stays" if course is None else course.fate,
        kind=None if course is None else course.kind,
        then_mm=_rounded(truth.then_mm),
        now_mm=_rounded(truth.now_mm),
        then_lps_mm=_mm3(truth.then_lps),
        now_lps_mm=_mm3(truth.now_lps),
        prior_finding=None if then is None else then.id,
        finding=None if now is None else now.id,
        states=tuple(row.state for row in mine),
        why=tuple(dict.fromkeys(why for row in mine for why in row.why)),
        right=bool(right) and all(right) and len(mine) == len(matched),
        wrong=not all(right),
        verdict=None if change is None else change.verdict,
        percent=None if change is None else change.difference_percent,
        rate=None if rate is None else (rate.low, rate.high),
        true_rate=ratio,
    )


def _right(row: Followed, truth: Truth) -> bool:
    """Rule 3."""
    if truth.course is not None and None in (truth.then_mm, truth.now_mm):
        return False
    ends = ((row.prior_center_lps_mm, truth.then_lps), (row.center_lps_mm, truth.now_lps))
    reach = max(HIT_MM, (truth.then_mm or 0) / 2, (truth.now_mm or 0) / 2)
    if truth.course is None:
        reach = max(reach, OWN_MM)
    return all(end is not None and _away(np.asarray(end), at) <= reach for end, at in ends)


def _listed_of(
    findings: Sequence[Finding], places: Sequence[tuple[F64, float | None]]
) -> dict[int, Finding]:
    """Index of a lesion -> the finding that is it (rule 2); a lesion that is not there has none."""
    found: dict[int, Finding] = {}
    for k, (at, size) in enumerate(places):
        if size is None:
            continue
        near = min(
            (f for f in findings if f.center_lps_mm is not None),
            key=lambda f: _away(_place(f), at),
            default=None,
        )
        if near is not None and _away(_place(near), at) <= max(size / 2, HIT_MM):
            found[k] = near
    return found


def _own(findings: Sequence[Finding], places: Sequence[tuple[F64, float | None]]) -> list[Finding]:
    """What is not at a lesion, nor at its rim."""
    return [
        f
        for f in findings
        if f.center_lps_mm is not None
        and all(_away(_place(f), at) > (size or 0) / 2 + RIM_MM for at, size in places)
    ]


def _inverse(two: Two, at: F64) -> F64:
    """A place of the earlier exam in the current one."""
    way = two.breath.to_prior if two.moved_is_prior else two.breath.to_current
    return np.asarray(way(at[None])[0], np.float64)


def _place(finding: Finding) -> F64:
    return np.asarray(finding.center_lps_mm, np.float64)


def _away(one: F64, other: F64) -> float:
    return float(np.linalg.norm(one - other))


def _mm3(at: F64) -> Vector:
    x, y, z = (round(float(v), 1) for v in at)
    return x, y, z


def _rounded(mm: float | None) -> float | None:
    return None if mm is None else round(mm, 2)


@dataclass(frozen=True)
class Judge:
    """What every pair is made with."""

    opened: Opened
    shapes: tuple[Shape, ...]
    shared: Path
    cache: Path

    def pair(self, host: Host, lungs: Bool, seed: int) -> Judged:
        """One pair, made, analysed and compared."""
        name = host.volume.name
        two = drawn(host, lungs, self.shapes, seed)
        scans = scanners(seed, name)
        exams = zip((two.prior, two.current), scans, (2 * seed, 2 * seed + 1), strict=True)
        then, now = (kept(exam, by, noise, self.opened) for exam, by, noise in exams)
        bundle = self.opened.bundle
        by = Bundles(Loaded(bundle.ref, bundle.manifest, self.opened.backend))
        found = compare(then, now, by, LAYING)
        said = found.reasons[0].code.value if found.reasons else "compared"
        rows, days = found.findings, found.days
        of_each = () if found.reasons else lesions(two, then.report, now.report, rows, days)
        return Judged(
            ct=name,
            seed=seed,
            said=said,
            slices_mm=(scans[0].scan.slice_mm, scans[1].scan.slice_mm),
            kernels=(scans[0].kernel, scans[1].kernel),
            share=None if found.person is None else found.person.share,
            lesions=of_each,
        )


@lru_cache(maxsize=1)
def _judge(bundle: Path) -> Judge:
    cv2.setNumThreads(1)
    shared, cache = shared_folder(), work_folder("cache")
    return Judge(open_bundle(bundle, 1), tuple(cached_shapes(shared, cache, "val")), shared, cache)


@lru_cache(maxsize=len(NODULE_SERIES))
def _host(bundle: Path, name: str) -> tuple[Host, Bool]:
    judge = _judge(bundle)
    host = load_host(judge.shared, name, judge.cache)
    return host, lungs_of(host.volume, judge.opened)


def judged(task: tuple[Path, str, int]) -> Judged:
    """One pair of a bundle, a CT and a seed."""
    bundle, name, seed = task
    return _judge(bundle).pair(*_host(bundle, name), seed)


def read(path: Path) -> list[Judged]:
    """The pairs of a file; none where there is no file. DataError where a line is no pair."""
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        return [Judged.model_validate_json(line) for line in lines]
    except ValidationError as wrong:
        raise DataError(f"{path}: a line of it is no pair; name another file (--out)") from wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.judge.followed")
    parser.add_argument("ct", nargs="*", default=list(NODULE_SERIES))
    parser.add_argument("--bundle", type=Path, default=FACTORY)
    parser.add_argument("--pairs", type=int, default=8, help="of each CT (8)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first pair (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--out", type=Path, help="file of JSON lines, read first and added to")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.pairs)
    wanted = [(name, seed) for seed in seeds for name in given.ct]
    found = [] if given.out is None else read(given.out)
    found = [pair for pair in found if (pair.ct, pair.seed) in wanted]
    there = {(pair.ct, pair.seed) for pair in found}
    tasks = [(given.bundle, *one) for one in wanted if one not in there]
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for pair in pool.map(judged, tasks):
            found.append(pair)
            if given.out is not None:
                with given.out.open("a") as file:
                    file.write(pair.model_dump_json() + "\n")
            print(f"{len(found)} of {len(wanted)}: {pair.ct} {pair.seed}, {pair.said}", flush=True)
    found.sort(key=lambda pair: given.ct.index(pair.ct))
    print(table(found))


if __name__ == "__main__":
    command(main)
