"""One CT as two exams of one person, with lesions whose course is known.

    CT, host -> drawn -> Two: prior, current, lesions, the way between them -> kept -> entries

Rules.
1. One exam is the CT as it is, the other one the same chest in another breath (breath.py); which
   of them is the earlier one is drawn. Both are on fine slices before lesions are put into them.
2. A lesion is one shape at one place of the chest, and is put in after the chest was moved: it has
   the size that its course says, whatever the breath does to the lung around it. It lies in both
   exams in the same turn. Where either of them cannot take it, another place is drawn.
3. Each exam has slices, a kernel, noise and a date of its own, and goes through the whole line as
   DICOM images. In part of the pairs both have one kernel.
4. All is fixed by the name of the CT and the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

import numpy as np

from appliance import line
from appliance.bundle.lines import SegmentProposeClassify
from appliance.naming import Naming
from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.prior import made, patient
from appliance.prior.entry import Entry, Person
from appliance.quality.implant import (
    KINDS,
    SPICULE_MM,
    Block,
    Nodule,
    Shape,
    implanted,
    near,
    pick_shape,
)
from appliance.records import Identity, Stack
from appliance.report import Status, Times
from training.errors import DataError
from training.implant.hosts import Host, to_lps
from training.judge.breath import Breath, Exam, Scan, cropped, lung_box, moved, scanned
from training.judge.opened import Opened
from training.read.volume import F32, F64, Bool, Volume, resample

Fate = Literal["stays", "doubles", "grows", "shrinks", "appears", "vanishes"]
FATES: Final[tuple[Fate, ...]] = (
    *("stays",) * 6,
    *("doubles",) * 4,
    *("grows",) * 2,
    *("shrinks",) * 2,
    *("appears",) * 3,
    *("vanishes",) * 3,
)  # fmt: skip
SIZES_MM: Final = (4.0, 16.0)
SOLITARY_MM: Final = 8.0
"""Between the surfaces of two lesions, at least."""
TRIES: Final = 150
SHARES: Final = (0.7, 0.12, 0.13, 0.05, 0.0)
"""Of KINDS: a cavity is not drawn twice alike."""
REACH_MM: Final = 45.0
"""What is kept of a CT around its lungs."""
GRID_MM: Final = (1.0, 0.8, 0.8)
"""Of the moved exam."""
KERNELS: Final = {"SOFT": 0.6, "STANDARD": 0.0, "SHARP": -0.5}
"""Name -> blur (breath.Scan)."""
SAME_KERNEL: Final = 0.4
SLICES_MM: Final = (1.0, 2.0, 5.0)
SLICES_SHARES: Final = (0.35, 0.53, 0.12)
NOISE_HU: Final = (10.0, 35.0)
DAYS: Final = (90, 900)
FIRST: Final = datetime(2024, 1, 8, 9, 30)
NOBODY: Final = Person(key="-")
_NAMING: Final = Naming(b"judged" * 6)


@dataclass(frozen=True)
class Course:
    """What becomes of one lesion."""

    kind: str
    fate: Fate
    then_mm: float | None
    """Diameter of the sphere of its volume; None: it is not there."""
    now_mm: float | None
    then_lps: F64
    """Where it lies, or would lie, in the earlier exam."""
    now_lps: F64


@dataclass(frozen=True)
class Two:
    """Two exams of one person."""

    prior: Exam
    current: Exam
    courses: tuple[Course, ...]
    breath: Breath
    moved_is_prior: bool

    def to_prior(self, points: F64) -> F64:
        """Places [n, 3] of the current exam -> of the earlier one, LPS mm: the truth."""
        way = self.breath.to_current if self.moved_is_prior else self.breath.to_prior
        return way(points)


@dataclass(frozen=True)
class Scanner:
    """How one exam is scanned."""

    kernel: str
    scan: Scan
    when: datetime


def sizes(rng: np.random.Generator, fate: Fate) -> tuple[float | None, float | None]:
    """Diameters then and now, mm; None where it is not there."""
    size = float(np.exp(rng.uniform(*np.log(SIZES_MM))))
    times = {
        "stays": 1.0,
        "doubles": 2.0,
        "grows": float(np.exp(rng.uniform(0.1, 1.5))),
        "shrinks": float(np.exp(-rng.uniform(0.1, 1.2))),
    }
    if fate == "appears":
        return None, size
    if fate == "vanishes":
        return size, None
    return size, size * float(np.cbrt(times[fate]))


def drawn(host: Host, lungs: Bool, shapes: Sequence[Shape], seed: int) -> Two:
    """The CT of a host as two exams (rules 1, 2), before they are scanned."""
    rng = np.random.default_rng([4217, seed, *host.volume.name.encode()])
    whole = Exam(host.volume, lungs, np.ones(lungs.shape, np.bool_))
    still = _fine(cropped(whole, REACH_MM))
    stroke = float(rng.uniform(5, 25) * rng.choice([-1, 1]))
    turn, shift = rng.uniform(-5, 5, 3), rng.uniform(-20, 20, 3)
    breath = Breath(
        *lung_box(still),
        np.asarray(still.volume.origin),
        stroke,
        (float(turn[0]), float(turn[1]), float(turn[2])),
        (float(shift[0]), float(shift[1]), float(shift[2])),
        int(rng.integers(1 << 31)),
    )
    other = moved(still, breath, GRID_MM)
    moved_is_prior = bool(rng.random() < 0.5)
    prior, current = (other, still) if moved_is_prior else (still, other)
    two = Two(prior, current, (), breath, moved_is_prior)
    return replace(two, courses=tuple(_planted(rng, two, host, shapes)))


def scanners(seed: int, name: str) -> tuple[Scanner, Scanner]:
    """Of the earlier and of the current exam (rule 3)."""
    rng = np.random.default_rng([4219, seed, *name.encode()])
    names = [str(one) for one in rng.choice(list(KERNELS), 2, replace=False)]
    if rng.random() < SAME_KERNEL:
        names[1] = names[0]
    days = int(rng.integers(*DAYS))
    then, now = (
        Scanner(
            kernel,
            Scan(
                float(rng.choice(SLICES_MM, p=SLICES_SHARES)),
                KERNELS[kernel],
                float(rng.uniform(*NOISE_HU)),
            ),
            when,
        )
        for kernel, when in zip(names, (FIRST, FIRST + timedelta(days=days)), strict=True)
    )
    return then, now


def kept(exam: Exam, by: Scanner, seed: int, opened: Opened) -> Entry:
    """What the device keeps of this exam: scanned, sent through the whole line as DICOM images, and
    made an entry. DataError where the line does not analyse it."""
    shown = scanned(exam, by.scan, seed).volume
    hu = np.clip(np.rint(shown.hu), -1024, 3000).astype(np.int16)
    phantom = Phantom(hu, shown.spacing, shown.origin, ())
    fold, said = line.begin((opened.bundle,)), list[patient.Said]()
    for image in instances.series(phantom, when=by.when, kernel=by.kernel):
        data = instances.packed(image)
        said.append(patient.said(data))
        fold = line.add(fold, data)
    result = line.finish(fold, opened.bundle, opened.backend)
    stack = fold.share(opened.bundle).outline.subject
    masks = {mask.name: mask for mask in result.masks}
    if result.status is not Status.ANALYSED or result.scores is None or "lungs" not in masks:
        why = "; ".join(reason.text for reason in result.reasons)
        raise DataError(f"{exam.volume.name}: the line does not analyse this exam ({why})")
    if not isinstance(stack, Stack):
        raise DataError(f"{exam.volume.name}: no slices of a volume")
    bodies = {
        int(name.removeprefix("finding-")): mask
        for name, mask in masks.items()
        if name.startswith("finding-")
    }
    return made.made(
        stack,
        masks["lungs"],
        bodies,
        result.scores,
        line.seal(result, Identity(_NAMING, False, 1, None, False), Times()),
        person=NOBODY,
        said=said,
        most_candidates=opened.bundle.manifest.line_of(SegmentProposeClassify).propose.top_k,
    )


def _fine(exam: Exam) -> Exam:
    """On slices of the thickness of GRID_MM, its pixels as they are."""
    spacing = exam.volume.spacing
    target = (GRID_MM[0], *spacing[1:])
    hu, lungs, covered = (
        resample(np.asarray(values, np.float32), spacing, target)
        for values in (exam.volume.hu, exam.lungs, exam.covered)
    )
    x, y, z = exam.volume.origin
    volume = Volume(exam.volume.name, hu, target, (x, y, z + (target[0] - spacing[0]) / 2))
    return Exam(volume, lungs >= 0.5, covered >= 0.5)


def _planted(
    rng: np.random.Generator, two: Two, host: Host, shapes: Sequence[Shape]
) -> list[Course]:
    """Lesions in both exams, whose volumes are changed in place (rule 2)."""
    blocks = [
        Block(exam.volume.hu, exam.volume.spacing, host.noise_hu)
        for exam in (two.prior, two.current)
    ]
    before = [block.hu.copy() for block in blocks]
    taken = [(np.asarray(t.center_mm), t.diameter_mm / 2) for t in (*host.lesions, *host.unsure)]
    found = []
    for fate in FATES:
        pair = sizes(rng, fate)
        largest = max(mm for mm in pair if mm is not None)
        kind = str(rng.choice(KINDS, p=SHARES))
        for _ in range(TRIES):
            place, at = host.places.draw(rng, largest)
            at = at + rng.uniform(-0.7, 0.7, 3)
            least = largest / 2 + SOLITARY_MM
            if any(np.linalg.norm(at - other) <= least + radius for other, radius in taken):
                continue
            one = Nodule(pick_shape(rng, shapes, largest), largest, kind, place)
            course = _course(two, fate, kind, pair, to_lps(host.volume, at.tolist()))
            if _put(blocks, before, two, course, one, int(rng.integers(1 << 31))):
                taken.append((at, largest / 2))
                found.append(course)
                break
    return found


def _course(
    two: Two, fate: Fate, kind: str, pair: tuple[float | None, float | None], still_lps: F64
) -> Course:
    other = two.breath.to_current(still_lps[None])[0]
    then, now = (other, still_lps) if two.moved_is_prior else (still_lps, other)
    return Course(kind, fate, pair[0], pair[1], then, now)


def _put(
    blocks: Sequence[Block],
    before: Sequence[F32],
    two: Two,
    course: Course,
    nodule: Nodule,
    turn: int,
) -> bool:
    """Into each exam that shows it, or into none."""
    done: list[tuple[Block, tuple[slice, slice, slice], F32]] = []
    for block, bare, exam, at, size in zip(
        blocks,
        before,
        (two.prior, two.current),
        (course.then_lps, course.now_lps),
        (course.then_mm, course.now_mm),
        strict=True,
    ):
        if size is None:
            continue
        at_mm = (exam.volume.zyx(at) + 0.5) * block.spacing
        part = near(block.spacing, at_mm, size / 2 + SPICULE_MM)
        as_it_was = block.hu[part].copy()
        one = replace(nodule, diameter_mm=size)
        if implanted(np.random.default_rng(turn), block, at_mm, one, bare) is None:
            for other, where, values in done:
                other.hu[where] = values
            return False
        done.append((block, part, as_it_was))
    return True
