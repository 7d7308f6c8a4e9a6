"""How far do two measurements of one nodule that did not change lie apart?

    python -m training.judge.growth appliance/factory/bundles/lung-nodule.scanside
        [--pairs 36] [--out training/judge/repeatability.json] [--shared ../shared]

Rules.
1. One implant is scanned twice: at its own offset within a voxel, in slices of 1 to 2.5 mm of its
   own, with noise of its own, and beside the middle of its cube as a detector places it. The lung
   around it stays: breath is in no data here, so the least limits of `growth` hold besides.
2. Of `same` kernel both have one in-plane filter, of `other` each has another one: none, softer (SD
   SOFT_MM), or edge-enhancing (unsharp mask of SHARP). The point spread of a filter is what
   `prior.spread` says of such images: of an edge-enhancing one its floor. It errs by SPREAD_ERROR.
3. Both are measured by the appliance's own way (prior.change), the blur to one spread included.
4. A row's figures are root mean squares, so a bias counts, and never less than what 95 % of the
   pairs stay within, over 1.96. Shapes are those of patients that trained nothing.
5. The table is Markdown; --out writes the rows as a manifest of kind `compare` has them.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import ndimage

from appliance.preprocess import plan, reference
from appliance.preprocess.reference import axis_weights
from appliance.preprocess.spec import Cube as CubeOp
from appliance.preprocess.spec import Orient, Rescale
from appliance.prior.change import Measuring, changes
from appliance.prior.entry import CUBE, CUBE_MM, Cube, Entry, Facts, Image, ImageNames, Person
from appliance.quality.implant import Block, Nodule, Shape, implant, pick_shape
from appliance.records import Grid, Pair
from appliance.report import (
    BackendRef,
    BundleRef,
    Coverage,
    Report,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)
from training.errors import command
from training.implant.donors import cached_shapes
from training.implant.hosts import Host, load_host
from training.judge.opened import open_bundle
from training.read.folders import shared_folder, work_folder
from training.read.volume import F32, F64, Volume, stack_of

SIZES_MM: Final = ((4.0, 6.0), (6.0, 10.0), (10.0, 16.0), (16.0, 30.0))
DENSITIES: Final = ("solid", "part_solid", "ground_glass")
HOSTS: Final = ("R01-001", "LIDC-IDRI-0004")
"""The CTs of the thinnest slices."""
FINE_MM: Final = 1.0
"""Slices in which an implant is put, before they are averaged."""
SLICES_MM: Final = (1.0, 2.5)
NOISE_HU: Final = 40.0
"""Upper end of the noise that each scan has of its own."""
SOFT_MM: Final = (0.3, 0.8)
SHARP: Final = (0.3, 1.5)
SHARP_PIXELS: Final = 0.8
JITTER_MM: Final = 1.0
HOST_MM: Final = (0.3, 0.35)
"""SD of the point spread along z, in plane, of an implant in fine slices."""
FLOOR_MM: Final = 0.035
SPREAD_ERROR: Final = 0.1
FAR: Final = 1.96
MOST_TRIES: Final = 3
OP: Final = CubeOp(size=CUBE, spacing_mm=CUBE_MM)
DIGEST: Final = "0" * 64


@dataclass(frozen=True)
class Kernel:
    """An in-plane filter: SD in mm of a blur, or the share of an unsharp mask."""

    soft_mm: float = 0.0
    sharp: float = 0.0

    def of(self, hu: F32, pixel_mm: float) -> F32:
        """A block through it."""
        if self.soft_mm:
            return np.asarray(ndimage.gaussian_filter(hu, (0, *[self.soft_mm / pixel_mm] * 2)))
        if self.sharp:
            smooth = ndimage.gaussian_filter(hu, (0, SHARP_PIXELS, SHARP_PIXELS))
            return np.asarray(hu + self.sharp * (hu - smooth), np.float32)
        return hu

    @property
    def spread_mm(self) -> float:
        """In plane, as it would be measured (rule 2)."""
        return FLOOR_MM if self.sharp else math.hypot(HOST_MM[1], self.soft_mm)


@dataclass(frozen=True)
class Two:
    """One body, measured twice; None: it was not, in one of the scans."""

    log_volume: float | None
    axis_mm: float | None


def kernels(rng: np.random.Generator, *, same: bool) -> tuple[Kernel, Kernel]:
    """Of both scans (rule 2)."""
    kinds = [
        Kernel(),
        Kernel(soft_mm=float(rng.uniform(*SOFT_MM))),
        Kernel(sharp=float(rng.uniform(*SHARP))),
    ]
    one, other = rng.choice(len(kinds), 2, replace=False)
    return (kinds[one], kinds[one]) if same else (kinds[one], kinds[other])


def scanned(
    rng: np.random.Generator, block: Block, at_mm: F64, nodule: Nodule, kernel: Kernel, turn: int
) -> Entry | None:
    """One scan of a nodule as an entry with one cube; `turn` fixes all of the body but its offset.
    None where the place takes no implant."""
    own = Block(block.hu.copy(), block.spacing, block.noise_hu)
    center = at_mm + rng.uniform(-0.5, 0.5, 3) * block.spacing
    if implant(np.random.default_rng(turn), own, center, nodule) is None:
        return None
    slices = float(rng.uniform(*SLICES_MM))
    hu = _resliced(kernel.of(own.hu, own.spacing[1]), own.spacing[0], slices)
    noise = rng.standard_normal(hu.shape).astype(np.float32)
    hu = hu + kernel.of(noise, own.spacing[1]) * np.float32(rng.uniform(0, NOISE_HU))
    spacing = (slices, *own.spacing[1:])
    volume = Volume("piece", np.asarray(hu, np.float32), spacing, (0.0, 0.0, 0.0))
    place = volume.lps((center + rng.uniform(-1, 1, 3) * JITTER_MM / 2) / volume.spacing - 0.5)
    stack = stack_of(volume)
    x, y, z = (float(v) for v in place)
    values = reference.apply_patches(stack, (Rescale(), Orient(), OP), [(x, y, z)])[0, 0]
    error = np.exp(rng.normal(0, SPREAD_ERROR, 2))
    along_z = math.hypot(HOST_MM[0], slices / math.sqrt(12))
    grid = plan.cube_grid(stack, (x, y, z), OP)
    cube = Cube(
        (x, y, z),
        0.9,
        None,
        nodule.diameter_mm,
        np.rint(np.clip(values, -1024, 3071)).astype(np.int16),
        grid,
        None,
    )
    coverage = Coverage(z_mm=plan.extent(stack), fov_mm=plan.field(stack))
    return _entry(
        cube, spacing, (along_z * float(error[0]), kernel.spread_mm * float(error[1])), coverage
    )


def pairs_of(
    rng: np.random.Generator,
    hosts: Sequence[Host],
    shapes: Sequence[Shape],
    by: Measuring,
    cell: tuple[Pair, str, bool],
    count: int,
) -> list[Two]:
    """Bodies of one size and density, each scanned twice, until so many were measured in both scans
    or MOST_TRIES times as many were tried."""
    size_mm, density, same = cell
    found: list[Two] = []
    while len(found) < MOST_TRIES * count and sum(map(_twice, found)) < count:
        host = hosts[int(rng.integers(len(hosts)))]
        diameter = float(np.exp(rng.uniform(*np.log(size_mm))))
        kind, at = host.places.draw(rng, diameter)
        nodule = Nodule(pick_shape(rng, shapes, diameter), diameter, density, kind)
        block, center = _cut(host, at)
        turn = int(rng.integers(1 << 31))
        both = [
            scanned(rng, copy.copy(block), center, nodule, kernel, turn)
            for kernel in kernels(rng, same=same)
        ]
        if both[0] is None or both[1] is None:
            continue
        (seen,) = changes([(both[0].cubes[0], both[1].cubes[0])], both[0], both[1], by, days=None)
        then, now = seen.then, seen.now
        log_volume = axis = None
        if then.volume_mm3 is not None and now.volume_mm3 is not None:
            log_volume = math.log(now.volume_mm3 / then.volume_mm3)
        if then.mean_axis_mm is not None and now.mean_axis_mm is not None:
            axis = now.mean_axis_mm - then.mean_axis_mm
        found.append(Two(log_volume, axis))
    return found


def row_of(cell: tuple[Pair, str, bool], found: Sequence[Two]) -> dict[str, Any] | None:
    """A row of the manifest (rule 4); None where nothing was measured twice."""
    (low, high), density, same = cell
    volumes = np.array([f.log_volume for f in found if f.log_volume is not None])
    axes = np.array([f.axis_mm for f in found if f.axis_mm is not None])
    if not len(volumes) or not len(axes):
        return None
    return {
        "size_mm": [low, high],
        "density": density,
        "kernel": "same" if same else "other",
        "volume_percent": round(100 * _error(volumes), 1),
        "axis_mm": round(_error(axes), 2),
        "n": len(volumes),
        "of": len(found),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| mm | density | kernel | SD of volume (%) | SD of mean axis (mm) | measured twice |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        size = f"{r['size_mm'][0]:g}-{r['size_mm'][1]:g}"
        figures = f"{r['volume_percent']} | {r['axis_mm']} | {r['n']} of {r['of']}"
        lines.append(f"| {size} | {r['density']} | {r['kernel']} | {figures} |")
    return "\n".join(lines)


def _twice(two: Two) -> bool:
    return two.log_volume is not None


def _error(differences: F64) -> float:
    """Rule 4."""
    spread = float(np.sqrt(np.mean(differences**2)))
    return max(spread, float(np.quantile(np.abs(differences), 0.95)) / FAR)


def _cut(host: Host, at: F64) -> tuple[Block, F64]:
    """The piece of a host around a point in fine slices, and the point from its edge (mm)."""
    spacing = np.array(host.volume.spacing)
    reach = CUBE * CUBE_MM / 2 + JITTER_MM + 4
    low = np.maximum(np.floor((at - reach) / spacing).astype(int), 0)
    high = np.minimum(np.ceil((at + reach) / spacing).astype(int), host.volume.hu.shape)
    hu = host.volume.hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    fine = _resliced(np.asarray(hu, np.float32), float(spacing[0]), FINE_MM)
    return Block(fine, (FINE_MM, float(spacing[1]), float(spacing[2])), host.noise_hu), at - (
        low * spacing
    )


def _resliced(hu: F32, from_mm: float, to_mm: float) -> F32:
    """[z, y, x] in slices of another thickness, by the line's own rule for z."""
    weights = axis_weights(hu.shape[0], from_mm, to_mm)
    return np.asarray(np.tensordot(weights, hu, axes=1), np.float32)


def _entry(
    cube: Cube, spacing: tuple[float, float, float], spread_mm: Pair, coverage: Coverage
) -> Entry:
    """What `changes` asks of an entry, around one cube; its image is empty."""
    report = Report(
        report_id=uuid.UUID(int=0),
        input_digest=DIGEST,
        revision=1,
        status=Status.ANALYSED,
        stage=Stage.FINAL,
        coverage=coverage,
        study=StudyRef(pseudonym="0" * 32),
        series=SeriesRef(slices=1),
        bundle=BundleRef(name="judged", version="1.0.0", digest=DIGEST),
        backend=BackendRef(name="cpu", precision="int8"),
    )
    facts = Facts(
        person=Person(key=DIGEST),
        names=ImageNames(study_uid="1", series_uid="1", sop_class_uid="1"),
        pseudonym=report.study.pseudonym,
        spacing_mm=spacing,
        thickness_mm=spacing[0],
        bundle_digest=DIGEST,
        pixel_digest=DIGEST,
        spread_mm=spread_mm,
        threshold=0.5,
    )
    nothing = np.zeros((0, 0, 0), np.bool_)
    grid = Grid((0, 0, 0), (2.0, 2.0, 2.0), np.eye(4))
    image = Image(nothing.astype(np.uint8), nothing, nothing, grid)
    return Entry(facts, report, image, (cube,), DIGEST)


def main() -> None:
    """Every size, density and kernel, one table."""
    parser = argparse.ArgumentParser(description="Repeatability of the measuring network.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--hosts", default=",".join(HOSTS))
    parser.add_argument("--pairs", type=int, default=36, help="of each row (36)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where the rows are written as JSON")
    given = parser.parse_args()
    opened = open_bundle(given.bundle, given.threads)
    by = Measuring(opened.bundle.manifest, opened.backend)
    shared, cache = shared_folder(), work_folder("cache")
    shapes = cached_shapes(shared, cache, "val")
    hosts = [load_host(shared, name, cache) for name in given.hosts.split(",")]
    rows = []
    for same in (True, False):
        for i, size in enumerate(SIZES_MM):
            for j, density in enumerate(DENSITIES):
                rng = np.random.default_rng([31, int(same), i, j])
                cell = (size, density, same)
                row = row_of(cell, pairs_of(rng, hosts, shapes, by, cell, given.pairs))
                if row is not None:
                    rows.append(row)
                    print(json.dumps(row), flush=True)
    print(table(rows))
    if given.out:
        made = {
            "bundle": opened.bundle.ref.model_dump(),
            "hosts": given.hosts,
            "rows": [{key: value for key, value in row.items() if key != "of"} for row in rows],
        }
        given.out.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
