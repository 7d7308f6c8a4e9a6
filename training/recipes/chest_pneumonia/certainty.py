"""Fits which scores of a radiograph are sure, and says how often that holds.

    python -m training.recipes.chest_pneumonia.certainty [--alpha 0.05]
    python -m training.recipes.chest_pneumonia.certainty --version 0.1.4 \\
        --bundle appliance/factory/bundles/chest-pneumonia.scanside [--out build/chest-pneumonia]

Prints the coverage of the val split, class by class, and that of its shifted copies; writes
`certainty.json` (bounds, coverage) into the folder of the run of `double`. With `--bundle` it also
writes the source folder of that bundle's next version, which has these bounds beside the same
networks.

Rules.
1. The bounds are fitted on the val split alone (appliance/quality/coverage.py), as a double of the
   network judged it that never saw it (double.py). The test split is never read.
2. Coverage is cross-fitted: images of a fold of val are held against bounds of its other folds.
3. A double's score has a scale and a bias of its own, fitted as those of what ships
   (figures.calibrated): both scores are probabilities where half are ill.
4. Copies are held against bounds of the images as they are: so much of the promise another exposure
   takes away, and nothing in it says so.
5. alpha was set before anything was fitted.
6. With `--bundle` networks, golden cases, heads and figures stay as they are, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.bundle import trust
from appliance.bundle.lines import ClassifyImage
from appliance.bundle.manifest import Figure
from appliance.quality.coverage import ClassCoverage, Image, bounds, counted, of_class
from appliance.report import ConformalBounds
from training.errors import RunError, command
from training.learn.knobs import knobs_from_command_line
from training.read.folders import work_folder
from training.read.volume import F64
from training.recipes.chest_pneumonia.double import LOGITS
from training.recipes.chest_pneumonia.figures import PLAIN, calibrated, sigmoid
from training.recipes.chest_pneumonia.kept import (
    NETWORK_AND_HEADS,
    heads_of,
    kept,
    kept_from,
    renewed_provenance,
)
from training.recipes.chest_pneumonia.pneumonia_mnist import I64
from training.ship.provenance import figure
from training.ship.source_folder import read_json, write

NAME = "certainty.json"
CLASSES = (("with the finding", True), ("without it", False))


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    name: str = "pneumonia-double"  # the run of `double`
    heads: str = "pneumonia"  # the run of what ships, whose threshold it has
    alpha: float = 0.05  # share of each class that may lie beyond its bound
    bundle: str = ""  # in place of the run: whose threshold, and whose next version is written
    version: str = ""  # of that
    out: str = "build/chest-pneumonia"  # its source folder, relative to the working folder


def scored(labels: I64, logits: Mapping[str, F64]) -> dict[str, F64]:
    """The score of each copy [n] (rule 3)."""
    scale, bias, _ = calibrated(labels, logits)
    return {name: sigmoid(scale * some + bias) for name, some in logits.items()}


def fitted(scores: F64, labels: I64, alpha: float) -> ConformalBounds:
    """Bounds of some images [n]."""
    ill, well = scores[labels == 1].tolist(), scores[labels == 0].tolist()
    return bounds(ill, well, alpha)


def cross_fitted(
    scores: F64, fit_on: F64, labels: I64, folds: I64, threshold: float, alpha: float
) -> dict[str, ClassCoverage]:
    """Coverage by class of images [n] with these scores, each fold against bounds of the others,
    which are fitted on `fit_on` [n] (rules 2 and 4)."""
    parts: dict[str, list[ClassCoverage]] = {name: [] for name, _ in CLASSES}
    for fold in np.unique(folds):
        out = folds == fold
        limits = fitted(fit_on[~out], labels[~out], alpha)
        images = [Image(float(s), bool(y)) for s, y in zip(scores[out], labels[out], strict=True)]
        for name, yes in CLASSES:
            parts[name].append(of_class(images, limits, threshold, finding=yes))
    return {name: _pooled(each) for name, each in parts.items()}


def _pooled(parts: list[ClassCoverage]) -> ClassCoverage:
    """The sum of folds, with its interval."""
    n, within, other, unsure = (
        sum(getattr(one, name) for one in parts) for name in ("n", "within", "other", "unsure")
    )
    return counted(n, within, other, unsure)


def table(found: Mapping[str, Mapping[str, ClassCoverage]], alpha: float) -> str:
    """Coverage of each copy in lines."""
    lines = [
        f"{'copy':9s} {'class':17s}    n  within {1 - alpha:.2f}?    95 %          other  unsure"
    ]
    for copy, classes in found.items():
        for name, one in classes.items():
            low, high = one.share_95 or (0, 1)
            lines.append(
                f"{copy:9s} {name:17s} {one.n:4d}  {one.within:4d}  {one.share or 0:.3f}  "
                f"{low:.3f} to {high:.3f}  {one.other:5d}  {one.unsure:6d}"
            )
    return "\n".join(lines)


def figures(classes: Mapping[str, ClassCoverage]) -> dict[str, Figure | float]:
    """For the card: of val, cross-fitted."""
    found: dict[str, Figure | float] = {}
    for name, one in classes.items():
        what = name.replace(" ", "_")
        found[f"val_within_bound_{what}"] = figure(
            round(one.share or 0, 4), [round(v, 4) for v in one.share_95 or (0, 1)], one.n
        )
        found[f"val_unsure_{what}"] = figure(round((one.unsure or 0) / one.n, 4), None, one.n)
        found[f"val_surely_the_other_{what}"] = figure(
            round((one.other or 0) / one.n, 4), None, one.n
        )
    return found


def note(limits: ConformalBounds) -> str:
    """What a card says of where the bounds come from."""
    return (
        f"Sure and unsure: conformal bounds by class, alpha {limits.alpha:g}, of the val split "
        f"({limits.n_with} ill, {limits.n_without} well), as a double of the network judged it "
        "that learned from train alone and from labels alone. Within the bound, unsure and surely "
        "the other are cross-fitted over the folds of val. Its images are of one hospital: "
        "elsewhere the bounds promise nothing until they were counted there."
    )


def read(run: Path) -> tuple[I64, I64, dict[str, F64]]:
    """Labels, folds and logits of val, as the double judged it."""
    path = run / LOGITS
    if not path.exists():
        raise RunError(f"{path}: not there; run the step `double` first")
    with np.load(path) as file:
        arrays = dict(file)
    labels, folds = arrays.pop("labels"), arrays.pop("folds")
    del arrays["groups"]
    return labels, folds, arrays


def renewed(
    data: bytes, k: Knobs, limits: ConformalBounds, classes: Mapping[str, ClassCoverage]
) -> None:
    """The source folder of the bundle's next version (rule 6)."""
    out = Path(k.out)
    manifest, source = kept(data, out)
    line = manifest.line_of(ClassifyImage)
    before = manifest.provenance
    figures_kept = {n: one for n, one in before.figures.items() if not n.startswith("val_")}
    made = renewed_provenance(
        manifest, {**figures_kept, **figures(classes)}, note(limits), NETWORK_AND_HEADS
    )
    version = max(line.version, 2)
    with_bounds = line.model_copy(update={"version": version, "certainty": limits})
    source |= {
        "version": k.version,
        "requires_appliance": with_bounds.needs_appliance,
        "line": with_bounds.model_dump(mode="json"),
        "provenance": made,
    }
    write(out, source, heads_of(line), {}, kept_from(manifest))


def main() -> None:
    """Scores of val, bounds, coverage, what is written."""
    k = knobs_from_command_line(Knobs())
    if bool(k.bundle) != bool(k.version):
        raise RunError("--bundle and --version belong together")
    data = Path(k.bundle).read_bytes() if k.bundle else b""
    if data:
        threshold = trust.check(data).manifest.line_of(ClassifyImage).threshold
    else:
        threshold = read_json(work_folder(k.heads) / "heads.json")["threshold"]
    run = work_folder(k.name)
    labels, folds, logits = read(run)
    scores = scored(labels, logits)
    plain = scores[PLAIN]
    found = {
        name: cross_fitted(some, plain, labels, folds, threshold, k.alpha)
        for name, some in scores.items()
    }
    limits = fitted(plain, labels, k.alpha)
    print(f"{k.name}: val, {limits.n_with} ill, {limits.n_without} well, threshold {threshold:.4f}")
    print(table(found, k.alpha))
    print(f"bounds: with from {limits.with_from}, without to {limits.without_to}")
    coverage = {
        copy: {name: one.model_dump(mode="json") for name, one in classes.items()}
        for copy, classes in found.items()
    }
    content = {"bounds": limits.model_dump(mode="json"), "coverage": coverage}
    (run / NAME).write_text(json.dumps(content, indent=1) + "\n")
    if data:
        renewed(data, k, limits, found[PLAIN])


if __name__ == "__main__":
    command(main)
