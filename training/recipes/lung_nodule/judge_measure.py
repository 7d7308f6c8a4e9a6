"""What the measuring network is worth on a scan that it never saw: outlines, axes, volume, density.

    python -m training.recipes.lung_nodule.judge_measure
        --fold C3N-00247=measure-fold-2 [--cubes 160]
        [--network int8.onnx] [--figures figures.json]

Rules.
1. Implants of 6 to 30 mm (and apart from them 4 to 6 mm), shapes of LIDC patients that trained
   nothing, in the host's own slices and noise; the cube lies beside the body's centre as in
   training. Half as many again on slices of 5 mm.
2. Outlines become figures by the appliance's own interpret.measure, through the backend that a
   device would choose. Truth is the same figures of the shape itself, on a grid twice as fine.
3. What the appliance does not measure (no body at the place, cut off) has no error and is counted.
4. Dice and Hausdorff compare masks on the cube's grid. A figure is the median unless its name says
   otherwise; intervals of 95 % by bootstrap over implants.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from appliance.backend.choose import choose
from appliance.backend.open import LOADERS
from appliance.bundle.heads import DENSITIES
from appliance.interpret import measure
from appliance.preprocess import plan
from appliance.preprocess.spec import Cube
from appliance.quality.implant import Shape
from appliance.records import Grid
from appliance.report import Finding
from training.errors import command
from training.implant.donors import cached_shapes
from training.implant.hosts import Host, load_host
from training.judge.metrics import agreement, dice, estimate, hausdorff_mm
from training.read.folders import shared_folder, work_folder
from training.read.volume import F32
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.measure import Example, Knobs, draw, occupancy
from training.recipes.lung_nodule.seen import refuse_seen

FINE_MM = 0.4
PLAIN = Knobs(stretch=1.0, thin=0.0, thick=0.0, vary=False, smallest_mm=4.0, largest_mm=30.0)
LEAST_MM = 6.0


@dataclass(frozen=True)
class Row:
    """One implant: truth, and what was measured (None: the appliance would not)."""

    kind: str
    diameter_mm: float
    thick: bool
    true_mean_mm: float
    true_volume_mm3: float
    true_density: int
    dice: float
    hausdorff_mm: float
    density: int
    mean_mm: float | None
    volume_mm3: float | None


def cube_op() -> Cube:
    """The cube that the measuring network sees."""
    return next(op for op in bundle.OPS["measure"] if isinstance(op, Cube))


def true_axes(one: Example) -> tuple[float, float]:
    """Long and short axis of the shape itself, by the appliance's own rule."""
    fine = occupancy(one.shape, one.cell_mm, one.offset_mm, FINE_MM)
    level = np.pad(fine - 0.5, 1, constant_values=-0.5)
    surface = measure.surface(np.asarray(level, np.float32))
    long_mm, short_mm, _ = measure.axes(surface, (FINE_MM, FINE_MM))
    return long_mm, short_mm


def judged(one: Example, outputs: dict[str, F32], thick: bool) -> Row:
    """The appliance's figures of one cube against the truth."""
    grid = plan.cube_grid(one.stack, one.middle_lps_mm, cube_op())
    finding = _finding(one)
    head = bundle.MEASURE_HEAD
    edges = measure.edges_of(one.stack)
    body = measure.bodies(outputs, [(finding, grid)], [finding], edges, head)[0]
    mask = outputs[head.body][0, 0] >= 0
    if body is not None:
        mask = _on(grid, body)
    truth = one.body >= 0.5
    long_mm, short_mm = true_axes(one)
    return Row(
        one.kind,
        one.diameter_mm,
        thick,
        (long_mm + short_mm) / 2,
        float(one.body.sum()) * bundle.CUBE_MM**3,
        one.density,
        dice(mask, truth),
        hausdorff_mm(mask, truth, grid.spacing_mm),
        int(np.argmax(outputs[head.density][0])),
        None if body is None else body.mean_mm,
        None if body is None else body.volume_mm3,
    )


def _on(grid: Grid, body: measure.Body) -> Any:
    """A body's mask on the whole cube."""
    out = np.zeros(grid.shape, bool)
    first = np.linalg.inv(grid.to_lps) @ body.mask.grid.to_lps[:, 3]
    low = np.round(first[:3]).astype(int)
    part = tuple(slice(a, a + n) for a, n in zip(low, body.mask.voxels.shape, strict=True))
    out[part] = body.mask.voxels
    return out


def _finding(one: Example) -> Finding:
    """What the detector would hand over."""
    x, y, z = one.middle_lps_mm
    half = one.diameter_mm / 2
    return Finding(
        id=1,
        tracking_uid="",
        kind="nodule",
        score=1.0,
        threshold=0.5,
        center_lps_mm=one.middle_lps_mm,
        box_lps_mm=(x - half, y - half, z - half, x + half, y + half, z + half),
        diameter_mm=one.diameter_mm,
        key_image=0,
    )


def rows_of(
    host: Host, network: bytes, shapes: Sequence[Shape], cubes: int, threads: int
) -> list[Row]:
    """Every implant of one host."""
    entry = bundle.network("measure", "0" * 64)
    infer = LOADERS[choose("auto")]({"measure": entry}, {"measure": network}, threads)["measure"]
    found = []
    for thick, count in ((False, cubes), (True, cubes // 2)):
        rng = np.random.default_rng([613, int(thick)])
        k = replace(PLAIN, thick=1.0 if thick else 0.0)
        for _ in range(count):
            kind = str(rng.choice(["solid", "part_solid", "ground_glass", "calcified"]))
            one = draw(rng, host, shapes, k, kind)
            outputs = {n: np.asarray(v) for n, v in infer(one.image[None, None]).items()}
            found.append(judged(one, outputs, thick))
    return found


def figures_of(rows: Sequence[Row]) -> dict[str, Any]:
    """The table of one group of implants."""
    measured = [r for r in rows if r.mean_mm is not None]
    errors = np.array([abs(float(r.mean_mm or 0) - r.true_mean_mm) for r in measured])
    parts = np.array([float(r.volume_mm3 or 0) / r.true_volume_mm3 - 1 for r in measured])
    if not len(errors):
        return {"implants": len(rows), "measured": 0}
    axis = agreement(
        np.array([float(r.mean_mm or 0) for r in measured]),
        np.array([r.true_mean_mm for r in measured]),
    )
    interval = estimate(lambda pick: float(np.median(errors[pick])), len(errors))
    return {
        "implants": len(rows),
        "measured": len(measured),
        "dice": round(float(np.median([r.dice for r in rows])), 3),
        "dice_10": round(float(np.quantile([r.dice for r in rows], 0.1)), 3),
        "hausdorff95_mm": round(float(np.median([r.hausdorff_mm for r in rows])), 2),
        "mean_axis_error_mm": round(interval.value, 2),
        "mean_axis_error_interval_mm": [round(interval.low, 2), round(interval.high, 2)],
        "mean_axis_error_90_mm": round(float(np.quantile(errors, 0.9)), 2),
        "mean_axis_bias_mm": round(axis.mean, 2),
        "volume_error": round(float(np.median(np.abs(parts))), 3),
        "volume_bias": round(float(np.median(parts)), 3),
        "density_right": round(float(np.mean([r.density == r.true_density for r in rows])), 3),
    }


def confusion(rows: Sequence[Row]) -> dict[str, list[int]]:
    """True density -> how many were called each of DENSITIES."""
    table = np.zeros((len(DENSITIES), len(DENSITIES)), int)
    for r in rows:
        table[r.true_density, r.density] += 1
    return {name: [int(v) for v in line] for name, line in zip(DENSITIES, table, strict=True)}


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """All, by size, by kind, on thick slices; 6-30 mm where not said otherwise."""
    thin = [r for r in rows if not r.thick and r.diameter_mm >= LEAST_MM]
    groups = {
        "6-30 mm": thin,
        "4-6 mm": [r for r in rows if not r.thick and r.diameter_mm < LEAST_MM],
        "6-10 mm": [r for r in thin if r.diameter_mm < 10],
        "10-20 mm": [r for r in thin if 10 <= r.diameter_mm < 20],
        "20-30 mm": [r for r in thin if r.diameter_mm >= 20],
        "slices of 5 mm": [r for r in rows if r.thick and r.diameter_mm >= LEAST_MM],
        **{kind: [r for r in thin if r.kind == kind] for kind in sorted({r.kind for r in thin})},
    }
    table = {name: figures_of(group) for name, group in groups.items() if group}
    return {"groups": table, "confusion": {"order": list(DENSITIES), **confusion(thin)}}


def main() -> None:
    """Implants of every fold, one table."""
    parser = argparse.ArgumentParser(description="Out-of-fold figures of the measuring network.")
    parser.add_argument("--fold", action="append", required=True, help="HOST=RUN that left it out")
    parser.add_argument("--cubes", type=int, default=160, help="implants a host (160)")
    parser.add_argument("--network", default="int8.onnx", help="or float.onnx, to compare")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--figures", type=Path)
    given = parser.parse_args()
    folds = [fold.partition("=")[::2] for fold in given.fold]
    for name, run in folds:
        refuse_seen(name, run)
    shared, cache = shared_folder(), work_folder("cache")
    shapes = cached_shapes(shared, cache, "val")
    by_host, rows = {}, []
    for name, run in folds:
        network = (work_folder(run) / given.network).read_bytes()
        own = rows_of(load_host(shared, name, cache), network, shapes, given.cubes, given.threads)
        by_host[name] = figures_of([r for r in own if not r.thick and r.diameter_mm >= LEAST_MM])
        rows += own
    figures = {
        "folds": given.fold,
        "network": given.network,
        **summary(rows),
        "by_host": by_host,
    }
    print(json.dumps(figures, indent=1))
    if given.figures:
        given.figures.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
