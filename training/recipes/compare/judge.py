"""How far a field misses points in the lungs: the network beside demons and beside the boxes alone.

    python -m training.recipes.compare.judge --fold C3N-00247=displace-fold-2 --out displace.json

Rules.
1. A CT is judged by a run that left it out, on pairs of FAMILIES: fields as in the lessons, and
   bumps of which no lesson is made. Both are synthetic: nobody has two dates of one patient here.
2. The error of a point (TRE) is in mm of the earlier exam, for points in the lungs that it covers.
3. The network ships where its p95 is below that of demons twice: over all points, and over those
   of pairs whose boxes miss by less than NEAR_MM in the mean. Where one cover is cut, boxes mislead
   and a network wins easily; most exams of one person are near. CTs with slices above 5 mm are no
   judges.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from appliance.prior.displace import demons
from training.errors import RunError, command
from training.implant.pairs.fields import FIELD_MM, bumped, moved
from training.implant.pairs.pair import Chest, MakeField, Pair, at_points, drawn
from training.learn.checkpoint import fill, load_checkpoint
from training.networks.displace import DisplaceNet
from training.read.folders import work_folder
from training.read.shared_series import MASSES_ONLY
from training.read.volume import F32, F64, Bool
from training.recipes.compare.displace import WithLungs, chest
from training.recipes.compare.seen import Seen, seen

FAMILIES: Mapping[str, MakeField] = {"breath": moved, "bumps": bumped}
PASSES = (1, 2, 3)
SEED = 1001
NEAR_MM = 12.0
NEAR = "near: "
"""Before the name of a method: of near pairs alone."""
Answers = Callable[[F32, F32], F32]
"""prior, current [z, y, x] in [0, 1] at 8 mm -> field [3, z, y, x] mm."""


def network_of(run: str) -> DisplaceNet:
    """The averaged network of a run."""
    path = work_folder(run) / "last.pt"
    model = WithLungs()
    fill(model, load_checkpoint(path).get("ema", {}), path)
    return model.displace.eval()


def asked(net: DisplaceNet, passes: int) -> Answers:
    """The network, asked so many times (DisplaceHead.passes)."""

    def once(prior: F32, current: F32) -> F32:
        with torch.no_grad():
            images = [
                torch.from_numpy(np.ascontiguousarray(i))[None, None] for i in (prior, current)
            ]
            return np.asarray(net(*images)[0].numpy(), np.float32)

    return repeated(once, passes)


def repeated(once: Answers, passes: int) -> Answers:
    """Asked again with prior warped by what was said so far."""

    def answer(prior: F32, current: F32) -> F32:
        field = once(prior, current)
        for _ in range(passes - 1):
            more = once(pulled(prior, field / FIELD_MM), current)
            field = more + np.stack([pulled(one, more / FIELD_MM) for one in field])
        return field

    return answer


def pulled(image: F32, field: F32) -> F32:
    """image(x + field(x)); the field in cells, the border repeated."""
    at = np.indices(image.shape, np.float32) + field
    return np.asarray(ndimage.map_coordinates(image, at, order=1, mode="nearest"), np.float32)


def still(prior: F32, current: F32) -> F32:
    """Nothing but the boxes."""
    return np.zeros((3, *current.shape), np.float32)


def errors(pair: Pair, view: Seen, field: F32) -> F64:
    """Rule 2, of each point."""
    here, there = pair.points[:, 0], pair.points[:, 1]
    voxels = np.floor(there / pair.grid_mm).astype(int)
    inside: Bool = np.all((voxels >= 0) & (voxels < pair.moving_cover.shape), axis=1)
    z, y, x = np.where(inside[:, None], voxels, 0).T
    kept = inside & pair.moving_cover[z, y, x]
    said = view.boxes.back(here + at_points(field, here - view.corner_mm))
    return np.asarray(np.linalg.norm(said - there, axis=1)[kept], np.float64)


def judged(
    host: Chest, methods: Mapping[str, Answers], pairs: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Errors of each method on `pairs` pairs of each family, and the seconds that a pair took."""
    found: dict[str, list[float]] = {before + name: [] for before in ("", NEAR) for name in methods}
    took = dict.fromkeys(methods, 0.0)
    for number, make in enumerate(FAMILIES.values()):
        for i in range(pairs):
            pair = drawn(np.random.default_rng([SEED, number, i]), host, make)
            view = seen(pair)
            missed = errors(pair, view, still(view.moving, view.fixed))
            near = len(missed) > 0 and float(missed.mean()) < NEAR_MM
            for name, answer in methods.items():
                began = time.monotonic()
                field = answer(view.moving, view.fixed)
                took[name] += (time.monotonic() - began) / (pairs * len(FAMILIES))
                each = errors(pair, view, field).tolist()
                found[name] += each
                found[NEAR + name] += each if near else []
    return found, took


def summary(values: Sequence[float]) -> dict[str, float]:
    """Mean, median, 95th percentile in mm, and how many points."""
    if not values:
        raise RunError("no point was judged: the pairs do not overlap")
    return {
        "mean_mm": round(float(np.mean(values)), 2),
        "median_mm": round(float(np.median(values)), 2),
        "p95_mm": round(float(np.percentile(values, 95)), 2),
        "n": len(values),
    }


def table(folds: Sequence[str], pairs: int, read: Callable[[str], Chest] = chest) -> dict[str, Any]:
    """Figures by method, over all CTs and for each. `folds`: CT=RUN."""
    every: dict[str, list[float]] = {}
    rows: dict[str, Any] = {}
    for fold in folds:
        host, _, run = fold.partition("=")
        if host in MASSES_ONLY:
            raise RunError(f"{host} has slices of 8 mm: it is no judge (rule 3)")
        net = network_of(run)
        methods: dict[str, Answers] = {"boxes": still, "demons": demons}
        methods |= {f"network x{n}": asked(net, n) for n in PASSES}
        found, took = judged(read(host), methods, pairs)
        rows[host] = {
            name: {**summary(found[name]), "seconds": round(took[name], 3)} for name in methods
        }
        for name, values in found.items():
            every.setdefault(name, []).extend(values)
        print(host, json.dumps(rows[host]), flush=True)
    total = {name: summary(values) for name, values in every.items()}
    best = min(
        (name for name in total if name.startswith("network")), key=lambda n: total[n]["p95_mm"]
    )
    return {
        "all": total,
        "each": rows,
        "passes": int(best.removeprefix("network x")),
        "ships": all(
            total[before + best]["p95_mm"] < total[before + "demons"]["p95_mm"]
            for before in ("", NEAR)
        ),
    }


def main() -> None:
    """Judges the runs and writes their figures."""
    parser = argparse.ArgumentParser(description="Judge networks of displacements beside demons.")
    parser.add_argument("--fold", action="append", required=True, metavar="CT=RUN")
    parser.add_argument("--pairs", type=int, default=6, help="of each family and CT (6)")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = table(given.fold, given.pairs)
    print(json.dumps(figures["all"], indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
