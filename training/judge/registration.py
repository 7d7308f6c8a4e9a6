"""How well is one exam laid over another, and are two people told apart?

    python -m training.judge.registration [CT ...] [--bundle BUNDLE] [--jobs 2]

Rules.
1. Each CT is moved into three other breaths whose truth is exact (breath.py), and both exams are
   scanned with slices, kernel and noise of their own. The lungs are those that the bundle's network
   draws in the CT as it is; in the moved exam they are moved with it.
2. The error is the distance from where a place of the lungs is said to be to where it is (TRE), at
   POINTS places of the current lungs that both exams cover; by demons.
3. Strangers are every ordered pair of two CTs, in each breath of the current one.
4. Sick pairs are the first breath of each CT with something done to one exam: `sick` names them.
5. Times are of the processor, not of the clock, best of three; for one thread set
   OPENBLAS_NUM_THREADS=1. The tables are Markdown, for docs/prior.md.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from appliance.bundle.lines import SegmentProposeClassify
from appliance.interpret import segment
from appliance.preprocess import plan
from appliance.prior import displace, entry, field, identity, keypoints
from appliance.prior.align import aligned
from appliance.prior.entry import Image
from appliance.prior.locate import locate
from appliance.prior.register import Registration, register
from appliance.records import Box, Grid
from training.errors import command
from training.judge.breath import Breath, Exam, Scan, cropped, lung_box, moved, scanned
from training.judge.opened import Opened, open_bundle
from training.read.shared_series import TRAINING_SERIES, training_series
from training.read.volume import F64, Bool, Volume, resample, stack_of

POINTS: Final = 2000
REACH_MM: Final = 45.0
"""What is kept of a CT around its lungs before it is moved."""
BODY_MM: Final = 5.0
TIMES: Final = 3
FACTORY: Final = Path("appliance/factory/bundles/lung-nodule.scanside")


@dataclass(frozen=True)
class Case:
    """One of the breaths that every CT is moved into."""

    name: str
    stroke_mm: float
    degrees: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    prior: Scan
    current: Scan
    moved_is_prior: bool = False


CASES: Final = (
    Case("25 mm deeper", 25, (2, 1, 3), (8, -5, 14), Scan(1, 0, 20), Scan(1, 0.6, 25)),
    Case("18 mm higher, 5 mm", -18, (-3, 2, 0), (-6, 9, -20), Scan(1, -0.6, 25), Scan(5, 0.5, 15)),
    Case(
        "12 mm, 5 degrees", 12, (5, -1, 4), (12, 15, 30), Scan(2, 0, 40), Scan(2.5, 0.4, 20), True
    ),
)


@dataclass(frozen=True)
class Pair:
    """Two exams of one person, and truth."""

    name: str
    case: Case
    prior: Image
    current: Image
    points_lps: F64
    """[n, 3] of the current lungs."""
    truth_lps: F64
    """[n, 3]: where they are in the prior exam."""


def lungs_of(volume: Volume, opened: Opened) -> Bool:
    """The lungs as the appliance draws them, on the voxels of the volume."""
    manifest = opened.bundle.manifest
    ops = manifest.networks["segment"].preprocess
    image = opened.backend.prepare(stack_of(volume), ops, None)
    head = manifest.line_of(SegmentProposeClassify).segment
    mask = segment.mask(opened.backend.infer("segment", image), image, head)
    axes = []
    for axis in range(3):
        voxels = np.zeros((volume.hu.shape[axis], 3))
        voxels[:, axis] = np.arange(volume.hu.shape[axis])
        axes.append(np.round(plan.to_index(mask.grid, volume.lps(voxels))[:, axis]).astype(int))
    inside = [(a >= 0) & (a < n) for a, n in zip(axes, mask.voxels.shape, strict=True)]
    clipped = [np.clip(a, 0, n - 1) for a, n in zip(axes, mask.voxels.shape, strict=True)]
    found = mask.voxels[np.ix_(*clipped)]
    z, y, x = inside
    return np.asarray(found & z[:, None, None] & y[:, None] & x)


def image_of(exam: Exam) -> Image:
    """What is kept of an exam."""
    part = cropped(exam, entry.AROUND_MM)
    target = (entry.IMAGE_MM,) * 3
    spacing = part.volume.spacing
    hu, lungs, covered = (
        resample(np.asarray(values, np.float32), spacing, target)
        for values in (part.volume.hu, part.lungs, part.covered)
    )
    scaled = (hu - entry.LOW_HU) * (255 / (entry.HIGH_HU - entry.LOW_HU))
    matrix = np.zeros((4, 4))
    matrix[[2, 1, 0], [0, 1, 2]] = entry.IMAGE_MM
    shift = [(entry.IMAGE_MM - s) / 2 for s in spacing[::-1]]
    matrix[:3, 3] = np.asarray(part.volume.origin) + shift
    matrix[3, 3] = 1
    values = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    grid = Grid((hu.shape[0], hu.shape[1], hu.shape[2]), target, matrix)
    return Image(values, lungs >= 0.5, covered >= 0.5, grid)


def pairs(name: str, volume: Volume, lungs: Bool) -> Iterator[Pair]:
    """The CT in every breath of CASES."""
    still = cropped(Exam(volume, lungs, np.ones(lungs.shape, np.bool_)), REACH_MM)
    low, high = lung_box(still)
    origin = np.asarray(still.volume.origin)
    for k, case in enumerate(CASES):
        seed = 1000 * list(TRAINING_SERIES).index(name) + 10 * k
        breath = Breath(low, high, origin, case.stroke_mm, case.degrees, case.shift_mm, seed)
        exams = still, moved(still, breath)
        prior, current = exams[::-1] if case.moved_is_prior else exams
        there = image_of(scanned(prior, case.prior, seed + 1))
        here = image_of(scanned(current, case.current, seed + 2))
        points = _points(here, seed + 3)
        truth = breath.to_current(points) if case.moved_is_prior else breath.to_prior(points)
        seen = identity.at(there.covered, there, truth)
        yield Pair(name, case, there, here, points[seen], truth[seen])


def laid(name: str, bundle: Path, shared: Path) -> list[tuple[Pair, Registration]]:
    """The pairs of one CT, and how they were laid over one another."""
    cv2.setNumThreads(1)
    opened = open_bundle(bundle, 1)
    volume = training_series(shared, name)
    lungs = lungs_of(volume, opened)
    opened.backend.close()
    return [(pair, register(pair.prior, pair.current, None)) for pair in pairs(name, volume, lungs)]


def _points(image: Image, seed: int) -> F64:
    voxels = np.argwhere(image.lungs & image.covered)
    chosen = np.random.default_rng(seed).permutation(len(voxels))[:POINTS]
    return plan.to_lps(image.grid, voxels[chosen])


def errors(pair: Pair, found: Registration) -> F64:
    """[n] mm."""
    return np.asarray(np.linalg.norm(found.to_prior(pair.points_lps) - pair.truth_lps, axis=1))


def verdict(found: Registration) -> str:
    """What is said of the persons."""
    return identity.judged(found.share, found.keypoints, found.mirrored_share)


def sick() -> dict[str, Callable[[Pair], Pair]]:
    """What may be done to an exam of a pair."""
    return {
        "current without the lower half of the lungs": lambda p: replace(
            p, current=_cut(p.current, 0.0, 0.5)
        ),
        "prior without the upper third": lambda p: replace(p, prior=_cut(p.prior, 2 / 3, 1.0)),
        "no common cover": lambda p: replace(
            p, prior=_cut(p.prior, 0.0, 0.6), current=_cut(p.current, 0.6, 1.0)
        ),
        "prior with 40 % of one lung under fluid": lambda p: replace(
            p, prior=_flooded(p.prior, 0.4)
        ),
        "prior with one lung filled": lambda p: replace(p, prior=_flooded(p.prior, 1.0)),
        "prior mirrored": lambda p: replace(p, prior=identity.mirrored(p.prior)),
        "prior without lungs": lambda p: replace(
            p, prior=replace(p.prior, lungs=np.zeros_like(p.prior.lungs))
        ),
    }


def _cut(image: Image, low: float, high: float) -> Image:
    """Without the slices from this to that share of the height of the lungs."""
    there = np.flatnonzero(image.lungs.any(axis=(1, 2)))
    first, last = int(there[0]), int(there[-1]) + 1
    at = [round(first + share * (last - first)) for share in (low, high)]
    kept = slice(at[1], None) if low == 0 else slice(0, at[0])
    grid = plan.sub_grid(
        image.grid,
        Box((kept.start or 0, 0, 0), (kept.stop or len(image.values), *image.values.shape[1:])),
    )
    return Image(image.values[kept], image.lungs[kept], image.covered[kept], grid)


def _flooded(image: Image, share: float) -> Image:
    """The lower share of the patient's right lung filled with fluid, and no lung any more."""
    there = np.argwhere(image.lungs)
    middle = int(np.median(there[:, 2]))
    low, high = int(there[:, 0].min()), int(there[:, 0].max())
    fluid = image.lungs.copy()
    fluid[round(low + share * (high - low)) + 1 :] = False
    fluid[:, :, middle:] = False
    values = image.values.copy()
    values[fluid] = round((10 - entry.LOW_HU) * 255 / (entry.HIGH_HU - entry.LOW_HU))
    return replace(image, values=values, lungs=image.lungs & ~fluid)


def accuracy(found: Sequence[tuple[Pair, Registration]]) -> str:
    """Markdown: a row a pair."""
    lines = [
        "| CT | breath | TRE mean | p95 | share | keypoints | folds | weak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pair, one in found:
        off = errors(pair, one)
        figures = f"{off.mean():.2f} | {np.percentile(off, 95):.2f} | {one.share:.2f}"
        rest = f"{one.keypoints} | {one.folds} | {'yes' if one.weak else 'no'}"
        lines.append(f"| {pair.name} | {pair.case.name} | {figures} | {rest} |")
    same = sum(verdict(one) == "same" for _, one in found)
    return "\n".join([*lines, "", f"Same person: {same} of {len(found)} are said to be the same."])


def strangers(found: Sequence[Pair], jobs: int) -> str:
    """One line: what is said of every two people."""
    two = [
        (other.prior, pair.current)
        for pair in found
        for other in found
        if other.case == pair.case and other.name != pair.name
    ]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        said, shares = zip(*pool.map(_judged, *zip(*two, strict=True)), strict=True)
    verdicts = ", ".join(f"{count} {name}" for name, count in sorted(Counter(said).items()))
    return f"Strangers, {len(shares)} ordered pairs: {verdicts}; largest share {max(shares):.2f}."


def sickness(found: Sequence[Pair]) -> str:
    """Markdown: a row a kind of sick pair, over all CTs."""
    lines = [
        "| what | same | weak | least share | worst TRE mean, p95 |",
        "|---|---|---|---|---|",
    ]
    for name, change in sick().items():
        made = [change(pair) for pair in found if pair.case == CASES[0]]
        ones = [register(pair.prior, pair.current, None) for pair in made]
        same = [(p, one) for p, one in zip(made, ones, strict=True) if verdict(one) == "same"]
        weak = sum(one.weak for one in ones)
        off = [_trusted(pair, one) for pair, one in same]
        worst = "-"
        if off := [one for one in off if len(one)]:
            mean, most = max(o.mean() for o in off), max(np.percentile(o, 95) for o in off)
            worst = f"{mean:.2f}, {most:.2f}"
        share = min(one.share for one in ones)
        lines.append(f"| {name} | {len(same)} of {len(made)} | {weak} | {share:.2f} | {worst} |")
    return "\n".join(lines)


def _judged(prior: Image, current: Image) -> tuple[str, float]:
    """What is said of two exams, and the larger share of the two ways round."""
    cv2.setNumThreads(1)
    one = register(prior, current, None)
    return verdict(one), max(one.share, one.mirrored_share or 0.0)


def _trusted(pair: Pair, one: Registration) -> F64:
    """Errors where both exams show lung and the registration is not weak."""
    there = identity.at(identity.aerated(pair.prior), pair.prior, pair.truth_lps)
    here = identity.at(identity.aerated(pair.current), pair.current, pair.points_lps)
    return errors(pair, one)[there & here & ~one.weak_at(pair.points_lps)]


def times(pair: Pair) -> str:
    """Markdown: seconds of each step."""
    prior, current = pair.prior, pair.current
    way = aligned(prior, current)
    inputs = field.inputs(prior, current, way)
    given = displace.demons(*inputs)
    one = register(prior, current, None)
    center = pair.points_lps[0]
    steps: dict[str, Callable[[], object]] = {
        "align": lambda: aligned(prior, current),
        "inputs of the field at 8 mm": lambda: field.inputs(prior, current, way),
        "demons": lambda: displace.demons(*inputs),
        "keypoints": lambda: keypoints.found(current),
        "register, field given": lambda: register(prior, current, lambda *_: given),
        "register, by demons": lambda: register(prior, current, None),
        "locate one finding": lambda: locate(one, prior, current, center, BODY_MM),
    }
    lines = [f"| {pair.name}, {' x '.join(map(str, current.values.shape))} | s |", "|---|---|"]
    for name, step in steps.items():
        taken = []
        for _ in range(TIMES):
            start = time.process_time()
            step()
            taken.append(time.process_time() - start)
        lines.append(f"| {name} | {min(taken):.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.judge.registration")
    parser.add_argument("ct", nargs="*", default=list(TRAINING_SERIES))
    parser.add_argument("--bundle", type=Path, default=FACTORY)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    alike = [[given.bundle] * len(given.ct), [given.shared] * len(given.ct)]
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        found = []
        for rows in pool.map(laid, given.ct, *alike):
            found += rows
            print(accuracy(rows), flush=True)
    every = [pair for pair, _ in found]
    print(f"\n{accuracy(found)}\n\n{times(every[0])}", flush=True)
    if len(given.ct) > 1:
        print(f"\n{strangers(every, given.jobs)}", flush=True)
    print(f"\n{sickness(every)}", flush=True)


if __name__ == "__main__":
    command(main)
