"""What the lung network says of disease: ml said against ml painted, and the fit of the share from
which on disease is a limitation.

    python -m training.recipes.lung_nodule.judge_disease --fold R01-001=disease-fold-1
        --fold A0001=disease-fold-3 --fold LIDC-IDRI-0005=disease-fold-3 [--out disease.json]

Rules.
1. Lungs, classes, sides and share are the appliance's own (interpret/disease.py). A CT as it is
   comes on its own slices; painted ones are painted at 1.5 mm, finer than the network sees them,
   each CT with other diseases. A CT for masses alone is refused: of disease nothing is said there.
2. Every run is judged on the CTs that it left out, which --fold names, and on those that it learned
   from, which its checkpoint names. The latter fit the share; no figure of theirs is a result.
3. `as it is`: nobody painted anything; a host's own disease is not known. `few`: one disease of
   FEW_ML. `much`: one of up to a third of the lungs, often with one that is of no class beside it.
4. The share lies above what is said of every CT as it is and of all but 1 in 20 with few ml, and
   half way (as a factor) to what is said of all but 1 in 10 with MUCH_ML and more, where that is
   above it; else MARGIN above. A network that says nothing of any of these is refused.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from appliance.backend.protocol import Backend
from appliance.bundle.heads import DISEASES, Calibration
from appliance.interpret import disease, one_lung, segment
from appliance.report import Disease
from training.errors import RunError, command
from training.implant.disease.chest import Chest, chest_of
from training.implant.disease.layers import Kind
from training.implant.disease.paint import COUNTS, DiffuseTruth, Wanted, diffuse_truth, paint
from training.judge.metrics import wilson
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import host_lungs, nodule_hosts
from training.read.volume import F32, F64, Bool, Volume, stack_of
from training.recipes.lung_nodule import bundle, sick_lungs
from training.recipes.lung_nodule.proposals import onnx_backend
from training.recipes.lung_nodule.seen import refuse_seen, seen_by

PAINTED_MM = 1.5
FEW_ML = (8.0, 45.0)
MUCH_ML = 150.0
COUNTED_ML = 20.0
"""A class of which less was painted has no ratio."""
BESIDE: tuple[Kind, ...] = ("effusion", "honeycombing", "cavity", "scar", "metal")
LEAST, MARGIN = 0.005, 1.25
PLAIN = Calibration(propose=1, classify=1, bias=0, threshold=0.5)
What = Literal["as it is", "few", "much"]
Painter = Callable[[np.random.Generator, Chest], list[Wanted]]
OF_CLASS: tuple[Kind, ...] = tuple(kind for kinds in COUNTS.values() for kind in kinds)


@dataclass(frozen=True)
class Scan:
    """One scan with what was painted into it and what was said of it."""

    host: str
    run: str
    left_out: bool
    what: What
    wanted: tuple[str, ...]
    painted: DiffuseTruth | None  # None: nobody knows
    said: Disease
    share: float

    def painted_ml(self, name: str) -> float:
        """Of a class of DISEASES, in both lungs; 0 of a CT as it is."""
        return float(sum(getattr(lung, f"{name}_ml") for lung in _sides(self.painted)))

    def said_ml(self, name: str) -> float:
        """Of a class of DISEASES, in both lungs."""
        return float(sum(getattr(lung, f"{name}_ml") for lung in _sides(self.said)))

    @property
    def much_ml(self) -> bool:
        """Whether MUCH_ML and more were painted."""
        return sum(map(self.painted_ml, DISEASES)) >= MUCH_ML


def _sides(of: DiffuseTruth | Disease | None) -> list[Any]:
    return [] if of is None else [of.right, of.left]


def few(rng: np.random.Generator, chest: Chest) -> list[Wanted]:
    """One disease of FEW_ML in one lung or in both."""
    kind = OF_CLASS[int(rng.integers(len(OF_CLASS)))]
    ml = float(np.exp(rng.uniform(*np.log(FEW_ML))))
    return [replace(sick_lungs.wanted(rng, chest, kind, most=sick_lungs.FIRST), ml=ml)]


def much(rng: np.random.Generator, chest: Chest) -> list[Wanted]:
    """One disease of a class, and in half of the cases one that is of none."""
    kind = OF_CLASS[int(rng.integers(len(OF_CLASS)))]
    found = [sick_lungs.wanted(rng, chest, kind, most=sick_lungs.FIRST)]
    if rng.random() < 0.5:
        other = BESIDE[int(rng.integers(len(BESIDE)))]
        found.append(sick_lungs.wanted(rng, chest, other, most=sick_lungs.REST))
    return found


def read(volume: Volume, backend: Backend) -> tuple[Disease, float]:
    """What the appliance says of a volume: ml of each lung, and the share of disease."""
    stack = stack_of(volume)
    image = backend.prepare(stack, bundle.OPS["segment"], None)
    outputs = backend.infer("segment", image)
    lungs = segment.mask(outputs, image, bundle.line_model(PLAIN).segment)
    drawn = disease.drawn(outputs, image, bundle.disease_head(0.5), lungs)
    middle = one_lung.body_middle_mm(stack, segment.coverage(lungs, stack))
    return disease.figures(drawn, middle), drawn.share


def scans_of(
    volume: Volume,
    lungs: Bool,
    run: str,
    backend: Backend,
    *,
    left_out: bool,
    counts: Mapping[What, int],
) -> Iterator[Scan]:
    """A CT as it is, then painted so many times with few and with much; `lungs`: lung_truth."""
    name = volume.name
    yield Scan(name, run, left_out, "as it is", (), None, *read(volume, backend))
    chest = chest_of(volume, lungs, PAINTED_MM)
    ways: dict[What, Painter] = {"few": few, "much": much}
    for number, (what, draw) in enumerate(ways.items()):
        for seed in range(counts[what]):
            rng = np.random.default_rng([411, number, seed, *name.encode()])
            wanted = draw(rng, chest)
            sick = paint(rng, chest, wanted)
            names = tuple(f"{w.kind} {w.ml:.0f} ml {w.side}" for w in wanted)
            scan = on_grid(volume, sick.hu)
            yield Scan(name, run, left_out, what, names, diffuse_truth(sick), *read(scan, backend))


def on_grid(volume: Volume, hu: F32) -> Volume:
    """HU of a volume at PAINTED_MM as a volume in the same place: its outer edge is the same."""
    x, y, z = (
        o + (PAINTED_MM - s) / 2
        for o, s in zip(volume.origin, reversed(volume.spacing), strict=True)
    )
    return Volume(volume.name, hu, (PAINTED_MM,) * 3, (x, y, z))


def fitted(scans: Sequence[Scan]) -> float:
    """Rule 4, from scans that were learned from, rounded up to a thousandth."""
    as_they_are = [s.share for s in scans if s.what == "as it is"]
    little = [s.share for s in scans if s.what == "few"]
    large = [s.share for s in scans if s.much_ml]
    if not as_they_are or not little or not large:
        raise RunError("the fit needs CTs as they are, and painted ones of both kinds")
    if not any(large):
        raise RunError(
            f"the network says nothing of {len(large)} scans with {MUCH_ML:g} ml and more: it has "
            "not learned disease; train it longer, or ship the run of its mask"
        )
    floor = max(*as_they_are, float(np.quantile(little, 0.95, method="higher")), LEAST)
    ceiling = float(np.quantile(large, 0.1, method="lower"))
    share = math.sqrt(floor * ceiling) if ceiling > floor else floor * MARGIN
    return math.floor(share * 1000 + 1) / 1000


def of_classes(scans: Sequence[Scan]) -> dict[str, Any]:
    """Of each class: said over painted, the error in ml, and what is said where there is none."""
    found: dict[str, Any] = {}
    for name in DISEASES:
        pairs = np.array(
            [
                (s.painted_ml(name), s.said_ml(name))
                for s in scans
                if s.painted_ml(name) >= COUNTED_ML
            ]
        ).reshape(-1, 2)
        none = [s.said_ml(name) for s in scans if not s.painted_ml(name)]
        row: dict[str, Any] = {"painted_scans": len(pairs), "other_scans": len(none)}
        if len(pairs):
            ratio = pairs[:, 1] / pairs[:, 0]
            row["said_over_painted_10_50_90"] = _quantiles(ratio, 2)
            row["median_error_ml"] = round(float(np.median(np.abs(pairs[:, 1] - pairs[:, 0]))), 1)
        if none:
            row["said_of_none_ml_50_90_100"] = [
                round(float(q)) for q in np.quantile(none, [0.5, 0.9, 1.0])
            ]
        found[name] = row
    return found


def _quantiles(values: F64, digits: int) -> list[float]:
    return [round(float(q), digits) for q in np.quantile(values, [0.1, 0.5, 0.9])]


def limited(scans: Sequence[Scan], share: float) -> dict[str, Any]:
    """How often disease is a limitation: of CTs as they are, with few ml, with MUCH_ML and more."""
    groups = {
        "as it is": [s for s in scans if s.what == "as it is"],
        "few": [s for s in scans if s.what == "few"],
        "much": [s for s in scans if s.much_ml],
    }
    found = {}
    for name, group in groups.items():
        limits = sum(s.share >= share for s in group)
        estimate = wilson(limits, len(group))
        ends = [round(estimate.low, 3), round(estimate.high, 3)]
        found[name] = {"limited": limits, "of": len(group), "interval": ends}
    return found


def summary(scans: Sequence[Scan], share: float) -> dict[str, Any]:
    """Every figure, of scans that were left out and of those that were learned from."""
    found: dict[str, Any] = {"diffuse_share": share}
    for name, left_out in (("left_out", True), ("learned_from", False)):
        part = [s for s in scans if s.left_out == left_out]
        found[name] = {"limited": limited(part, share), "classes": of_classes(part)}
    return found


def row_of(scan: Scan) -> dict[str, Any]:
    """A scan as a line of the table."""
    painted = None if scan.painted is None else scan.painted.model_dump()
    return {
        "host": scan.host,
        "run": scan.run,
        "left_out": scan.left_out,
        "what": scan.what,
        "wanted": scan.wanted,
        "painted": painted,
        "said": scan.said.model_dump(),
        "share": round(scan.share, 4),
    }


def main() -> None:
    """Scans of every run, the fit, the figures."""
    parser = argparse.ArgumentParser(description="Disease said against disease painted.")
    parser.add_argument("--fold", action="append", required=True, help="HOST=RUN that left it out")
    parser.add_argument("--few", type=int, default=7, help="scans of a CT with few ml (7)")
    parser.add_argument("--much", type=int, default=7, help="scans of a CT with much (7)")
    parser.add_argument("--network", default="int8.onnx", help="or float.onnx, to compare")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    counts: dict[What, int] = {"few": given.few, "much": given.much}
    out_of: dict[str, list[str]] = {}
    for fold in given.fold:
        name, _, run = fold.partition("=")
        out_of.setdefault(run, []).append(name)
    scans: list[Scan] = []
    for run, names in out_of.items():
        for name in nodule_hosts(",".join(names)):
            refuse_seen(name, run)
        backend = onnx_backend({"segment": work_folder(run) / given.network}, given.threads)
        for name in (*names, *seen_by(run)):
            volume, _, lungs = host_lungs(shared_folder(), name, work_folder("cache"))
            left_out = name in names
            for scan in scans_of(volume, lungs, run, backend, left_out=left_out, counts=counts):
                scans.append(scan)
                print(json.dumps(row_of(scan)), flush=True)
        backend.close()
    share = fitted([s for s in scans if not s.left_out])
    found = summary(scans, share)
    print(json.dumps(found, indent=1))
    if given.out:
        whole = {**found, "network": given.network, "folds": given.fold}
        given.out.write_text(json.dumps({**whole, "scans": [*map(row_of, scans)]}, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
