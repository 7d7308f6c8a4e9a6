"""What another exposure costs, and what a tuning of exposure would give back.

    python -m training.recipes.chest_pneumonia.exposure \\
        [--bundle appliance/factory/bundles/chest-pneumonia.scanside] [--gammas 0.5,0.8,1,1.25,2]

Prints AUC of val, sensitivity and specificity at the shipped threshold for copies of each gamma,
with and without each tuning, each with its interval; and how far a tuning moves them and the mean
of the latter two, on the same draws. Two networks are judged: the one that ships, which has seen
val and flatters, and its double, which has not (double.py).

Rules.
1. A copy is image ** gamma in [0, 1], in 8 bits as the images themselves.
2. The usual mean is that of the first windows.FIRST images of train, as a row of the library has
   it.
3. Tunings. `each`: of each image the gamma that brings its own mean to the usual one. `detector`:
   one gamma for all, that of the windows.WINDOW images of train that come next, seen through the
   same change. `beyond`: the same, for those images alone whose mean lies beyond the middle between
   the usual mean and that of the changed images, as the other kind of tuning is chosen.
4. A tuning sees the image of 8 bits; what it gives is not rounded again.
5. The threshold is the one that ships. The double's score has a scale and a bias of its own, fitted
   on val as it is (figures.calibrated). The test split is never read.
6. Intervals hold 95 %: bootstrap over groups of pictures that are alike; shares: Wilson's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.backend.protocol import Backend
from appliance.bundle.lines import ClassifyImage
from appliance.quality.windows import FIRST, WINDOW
from appliance.records import Tensor
from training.errors import command
from training.judge.metrics import auc_estimate, auc_or_nan, paired, rates
from training.judge.opened import open_bundle
from training.learn.knobs import knobs_from_command_line
from training.read.datasets import read_medmnist
from training.read.folders import shared_folder, work_folder
from training.read.volume import F32, F64
from training.recipes.chest_pneumonia.figures import PLAIN, SAMPLES, calibrated, sigmoid
from training.recipes.chest_pneumonia.pneumonia_mnist import FILE, I64, alike
from training.recipes.chest_pneumonia.student import finished
from training.recipes.chest_pneumonia.teacher import in_unit, logits_of

Judge = Callable[[F32], F64]
"""Images [n, 28, 28] in [0, 1] -> scores [n]."""
STEEPEST = 4.0
"""Gammas from 1 / STEEPEST to STEEPEST are looked for."""
NONE = "none"


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    name: str = "pneumonia-double"  # the run of `double`
    bundle: str = "appliance/factory/bundles/chest-pneumonia.scanside"
    gammas: str = "0.5,0.8,1,1.25,2"


def exposed(images: F32, gamma: float) -> F32:
    """Rule 1."""
    return in_unit(np.rint(255 * images**gamma).astype(np.uint8))


def back(images: F32, usual: float) -> float:
    """The gamma that brings the mean of these images to the usual one, by halving; the mean of
    values in [0, 1] only falls with gamma."""
    low, high = -np.log(STEEPEST), np.log(STEEPEST)
    for _ in range(30):
        middle = (low + high) / 2
        bright = float((images.astype(np.float64) ** np.exp(middle)).mean()) > usual
        low, high = (middle, high) if bright else (low, middle)
    return float(np.exp((low + high) / 2))


def tunings(images: F32, seen: F32, usual: float) -> Mapping[str, F32]:
    """Tuning -> what the network gets of changed images [n, 28, 28]; seen: other images of the same
    detector. Rule 3."""
    gamma, means = back(seen, usual), images.mean((1, 2))
    changed = float(seen.mean())
    middle = (changed + usual) / 2
    beyond = means >= middle if changed >= usual else means <= middle
    detector = images**gamma
    return {
        NONE: images,
        "each": np.stack([one ** back(one, usual) for one in images]),
        "detector": detector,
        "beyond": np.where(beyond[:, None, None], detector, images),
    }


def shipped(backend: Backend, line: ClassifyImage) -> Judge:
    """The bundle's own network, scored as the line of radiographs scores."""

    def judge(images: F32) -> F64:
        found = []
        for one in images:
            values = np.ascontiguousarray(one[None, None], np.float32)
            outputs = backend.infer("classify", Tensor(values, values.shape, None))
            found.append(float(outputs[line.output].reshape(-1)[0]))
        return sigmoid(line.scale * np.array(found) + line.bias)

    return judge


def doubled(run: str, labels: I64, plain: F32) -> Judge:
    """The double (rule 5). RunError where it was not trained."""
    model = finished(work_folder(run))
    scale, bias, _ = calibrated(labels, {PLAIN: logits_of(model, plain).astype(np.float64)})
    return lambda images: sigmoid(scale * logits_of(model, images).astype(np.float64) + bias)


def figures(labels: I64, scores: F64, threshold: float, groups: I64) -> str:
    """AUC, sensitivity and specificity of scores [n], with their intervals."""
    found, calls = auc_estimate(labels, scores, SAMPLES, groups), rates(labels, scores >= threshold)
    each = (found, calls.sensitivity, calls.specificity)
    return "  ".join(f"{e.value:.4f} ({e.low:.4f} to {e.high:.4f})" for e in each)


def moved(labels: I64, before: F64, after: F64, threshold: float, groups: I64) -> str:
    """How far a tuning moves AUC, sensitivity, specificity and the mean of the latter two."""

    def right(y: npt.ArrayLike, scores: npt.ArrayLike, label: int) -> float:
        of_class = np.asarray(y) == label
        called = np.asarray(scores)[of_class] >= threshold
        return float((called == bool(label)).mean()) if of_class.any() else np.nan

    def sensitivity(y: npt.ArrayLike, scores: npt.ArrayLike) -> float:
        return right(y, scores, 1)

    def specificity(y: npt.ArrayLike, scores: npt.ArrayLike) -> float:
        return right(y, scores, 0)

    def both(y: npt.ArrayLike, scores: npt.ArrayLike) -> float:
        return (sensitivity(y, scores) + specificity(y, scores)) / 2

    found = (
        paired(statistic, labels, before, after, SAMPLES, groups)
        for statistic in (auc_or_nan, sensitivity, specificity, both)
    )
    return "  ".join(f"{d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f})" for d in found)


def lines(
    val: tuple[F32, I64, I64], train: F32, judge: Judge, threshold: float, gammas: Sequence[float]
) -> list[str]:
    """A line for each gamma and tuning; val: images, labels, groups."""
    images, labels, groups = val
    usual = float(train[:FIRST].mean())
    after = train[FIRST : FIRST + WINDOW]
    said = []
    for gamma in gammas:
        copy, seen = exposed(images, gamma), exposed(after, gamma)
        said.append(
            f"gamma {gamma:g}: mean {copy.mean():.3f}, SD from image to image "
            f"{copy.mean((1, 2)).std():.3f}, usual {usual:.3f}, "
            f"gamma of the detector {back(seen, usual):.3f}"
        )
        scores = {name: judge(some) for name, some in tunings(copy, seen, usual).items()}
        for name, some in scores.items():
            said.append(f"  {name:8s} {figures(labels, some, threshold, groups)}")
            if name != NONE:
                text = moved(labels, scores[NONE], some, threshold, groups)
                said.append(f"  {'moved':>8s} {text}")
    return said


def main() -> None:
    """Both networks, every gamma."""
    k = knobs_from_command_line(Knobs())
    found = read_medmnist(shared_folder() / FILE)
    opened = open_bundle(Path(k.bundle))
    manifest = opened.bundle.manifest
    line = manifest.line_of(ClassifyImage)
    plain, labels = in_unit(found["val"].images), found["val"].labels.astype(np.int64)
    train, val = in_unit(found["train"].images), (plain, labels, alike(found["val"].images))
    judges = {
        f"double of {manifest.version}, has not seen val": doubled(k.name, labels, plain),
        f"{manifest.name} {manifest.version}, has seen val": shipped(opened.backend, line),
    }
    gammas = [float(text) for text in k.gammas.split(",")]
    for name, judge in judges.items():
        print(f"{name}: threshold {line.threshold:.4f}, {len(labels)} images")
        print(f"  {'tuning':8s} {'AUC':25s} {'sensitivity':25s} {'specificity':25s} mean of both")
        print("\n".join(lines(val, train, judge, line.threshold, gammas)), flush=True)


if __name__ == "__main__":
    command(main)
