"""Trains the network that says whether an image is a frontal chest radiograph, and judges it.

    python -m training.recipes.chest_pneumonia.frontal [--name pneumonia-frontal] [--steps 300] ...

Writes `last.pt` (learned from all CTs), `fold-K/last.pt` (two CTs left out), `float.onnx`,
`frontal.json` (the head) and `metrics.json` (figures, sources) to the run's folder, and prints the
figures.

Rules.
1. It learns from train of PneumoniaMNIST, without pictures that are like one of val, and from CTs
   (frontal_lessons.py). The test split is never read.
2. Every picture of a CT is judged by a network that left that CT and another one out. Pictures of
   val are judged by all five, that which ships being the one of the card.
3. A threshold keeps a share `keep` of val or more, of the network whose it is (frontal_figures.py,
   rule 3). All that is said of val is cross-fitted over its folds.
4. No CT chose a threshold, and nothing was chosen by what a fold says of the CTs that it left out.
5. Images with pneumonia are drawn twice as often as their share among the frontal ones of train
   would have it (odds of 5.7 in place of 2.9): every image of val that earlier networks lost had
   pneumonia, and such an image is the last that may be withheld.
6. Whether it ships says frontal_rule.py; `export` and `renew` take no other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import command
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Batch, Job, Schedule, fit
from training.learn.steps import seed_all
from training.networks import parameter_count
from training.networks.radiograph import LogitAlone, RadiographNet
from training.read.datasets import read_medmnist
from training.read.folders import shared_folder, work_folder
from training.read.volume import F64
from training.recipes.chest_pneumonia import drawn_chests, projections, teacher
from training.recipes.chest_pneumonia import frontal_lessons as lessons
from training.recipes.chest_pneumonia.double import apart
from training.recipes.chest_pneumonia.figures import sigmoid
from training.recipes.chest_pneumonia.frontal_figures import (
    Judged,
    figures,
    shipping,
    table,
)
from training.recipes.chest_pneumonia.frontal_lessons import FRONTAL, OTHERS, Pictures
from training.recipes.chest_pneumonia.pneumonia_mnist import (
    FILE,
    I64,
    RANGES,
    SIZE,
    U8,
    Exposure,
    exposed,
    load,
    varied,
)
from training.ship import learned
from training.ship.onnx_file import exported, require_parity
from training.ship.provenance import file_source

MOST_PARAMETERS = 50_000
HOSTS = (
    *("R01-001", "A0002", "C3N-00247", "LIDC-IDRI-0004"),
    *("A0001", "LIDC-IDRI-0005", "LIDC-IDRI-0003", "LIDC-IDRI-0021"),
)
LEFT_OUT = 2
"""CTs that a fold's network has not seen: neighbours in the list."""
EXPOSURE = Exposure(mean=(0.3, 0.85), spread=(0.03, 0.25))
"""As far as images of train with pneumonia go (their means lie between .28 and .88, their spreads
between .025 and .27): white lungs make a bright, flat image, which must not speak against it."""
SOURCE = "PneumoniaMNIST 28 px, train (MedMNIST v2; chest radiographs of Kermany et al., Cell 2018)"


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "pneumonia-frontal"  # folder of the run under the training work folder
    seed: int = 31
    threads: int = 1
    widths: str = "8,16,32"  # channels at strides 1, 2 and 4
    drop: float = 0.1  # share of feature maps left out
    steps: int = 600
    batch: int = 96
    rate: float = 4e-3  # AdamW, peak of the cosine
    warmup: int = 40  # steps
    decay: float = 0.05  # AdamW weight decay
    ema: float = 0.99
    smooth: float = 0.02  # label smoothing
    hosts: str = ",".join(HOSTS)  # the CTs, in the order of their folds
    from_ct: float = 0.4  # share of pictures that are of CTs, where a class has both
    ill: float = 0.85  # share with pneumonia of the frontal radiographs that are drawn (rule 5)
    each: int = 192  # pictures of a class that are made of a CT
    blanks: int = 4000
    keep: float = 0.995  # share of val that reaches the threshold, at least
    save_every: int = 200  # steps
    bf16: bool = False


def network(k: Knobs) -> RadiographNet:
    """The network that the knobs describe."""
    return teacher.network(k.widths, 0, k.drop)


@dataclass(frozen=True)
class Shown:
    """What a network learns from."""

    radiographs: Pictures  # of PneumoniaMNIST, train
    labels: I64  # of its frontal ones [n]
    bodies: Mapping[str, Pictures]  # by the name of their CT
    blank: U8

    def without(self, names: Sequence[str]) -> Shown:
        """The same without these CTs."""
        left = {name: one for name, one in self.bodies.items() if name not in names}
        return replace(self, bodies=left)

    def some(self, rng: np.random.Generator, name: str, k: Knobs) -> U8:
        """One picture of a class [28, 28]; every CT as often as another (rule 5)."""
        if name == "blank":
            return np.asarray(self.blank[rng.integers(len(self.blank))], np.uint8)
        have = [one[name] for one in self.bodies.values() if name in one]
        whole = self.radiographs.get(name)
        if whole is None or (have and rng.random() < k.from_ct):
            whole = have[rng.integers(len(have))]
        elif name == FRONTAL:
            of_class = np.flatnonzero(self.labels == int(rng.random() < k.ill))
            return np.asarray(whole[rng.choice(of_class)], np.uint8)
        return np.asarray(whole[rng.integers(len(whole))], np.uint8)


def drawer(shown: Shown, k: Knobs) -> Callable[[np.random.Generator], Batch]:
    """Draws batches of (image, label): half frontal, half of the other classes, each as often."""

    def draw(rng: np.random.Generator) -> Batch:
        yes = np.arange(k.batch) < k.batch // 2
        names = [FRONTAL if one else OTHERS[rng.integers(len(OTHERS))] for one in yes]
        images = np.stack([shown.some(rng, name, k) for name in names])
        made = varied(images, RANGES, int(rng.integers(2**31)), 0)
        x = exposed(teacher.as_input(made), rng, EXPOSURE)
        y = torch.from_numpy(yes.astype(np.float32)) * (1 - k.smooth) + k.smooth / 2
        return x.contiguous(memory_format=torch.channels_last), y

    return draw


def train(k: Knobs, shown: Shown, folder: Path) -> RadiographNet:
    """A network from what is shown, resumed from `folder`; the moving average, ready to infer."""
    seed_all(k.seed, k.threads)
    folder.mkdir(parents=True, exist_ok=True)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(model(x)[0].float(), y)

    knobs = {**asdict(k), "bodies": sorted(shown.bodies)}
    job = Job("chest_pneumonia_frontal", knobs, drawer(shown, k), loss)
    model = network(k).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = fit(model, Schedule.of(k), job, folder, k.seed)
    ships = network(k)
    ships.load_state_dict(state)
    return ships.eval()


def scores(model: nn.Module, images: U8) -> F64:
    """sigmoid of the logit of each image [n]."""
    logits = teacher.logits_of(model, teacher.in_unit(images)).astype(np.float64)
    return sigmoid(logits)


def judged(model: nn.Module, pictures: Pictures) -> dict[str, F64]:
    """Class -> the score of each picture."""
    return {name: scores(model, images) for name, images in pictures.items()}


def written(model: RadiographNet, folder: Path, some: U8) -> None:
    """`float.onnx`: the logit alone."""
    alone = LogitAlone(model).eval()
    plain = exported(alone, (SIZE, SIZE), ["logit"])
    require_parity(alone, plain, teacher.in_unit(some)[:, None])
    onnx.save(plain, str(folder / "float.onnx"))


def shown_to(k: Knobs, images: U8, labels: I64, names: Sequence[str]) -> Shown:
    """Images of PneumoniaMNIST with their labels, and CTs by name."""
    rng = np.random.default_rng(k.seed)
    cache = work_folder("cache")
    bodies = {}
    for name in names:
        one = projections.body(shared_folder(), name, cache)
        bodies[name] = lessons.of_body(rng, one, k.each)
    blank = lessons.blanks(rng, k.blanks)
    return Shown(lessons.of_radiographs(rng, images), labels, bodies, blank)


def left_out(k: Knobs, shown: Shown, of_val: Pictures, folder: Path) -> list[Judged]:
    """Each CT, judged by a network that learned without it and its neighbour."""
    hosts = k.hosts.split(",")
    found = []
    for first in range(0, len(hosts), LEFT_OUT):
        out = hosts[first : first + LEFT_OUT]
        net = train(k, shown.without(out), folder / f"fold-{first // LEFT_OUT + 1}")
        said = judged(net, of_val)
        found += [Judged(Path(name).name, judged(net, shown.bodies[name]), said) for name in out]
    return found


def main() -> None:
    """Pictures, a network a fold, the one that ships, figures."""
    k = knobs_from_command_line(Knobs())
    folder = work_folder(k.name)
    data = load(shared_folder() / FILE)
    rows, val = apart(data, len(read_medmnist(shared_folder() / FILE)["train"].labels))
    shown = shown_to(k, data.images[rows], data.labels[rows], k.hosts.split(","))
    print(f"{parameter_count(network(k))} parameters, {len(rows)} radiographs", flush=True)
    of_val = lessons.of_radiographs(np.random.default_rng(k.seed + 1), data.images[val])
    of_val = {**of_val, "blank": lessons.blanks(np.random.default_rng(k.seed + 2), k.blanks)}
    net = train(k, shown, folder)
    found = judged(net, of_val)
    real = Judged("PneumoniaMNIST, val", found, found)
    written(net, folder, data.images[val[:64]])
    head = {"output": "logit", "threshold": shipping(k.keep)(found)}
    (folder / "frontal.json").write_text(json.dumps(head, indent=1) + "\n")
    drawn = drawn_chests.pictures()
    logits = teacher.logits_of(net, np.stack([*drawn.values()])).astype(np.float64)
    said = dict(zip(drawn, sigmoid(logits).tolist(), strict=True))
    bodies = left_out(k, shown, of_val, folder)
    about = figures(real, bodies, data.labels[val], data.folds[val], k.keep, said)
    sources = [
        file_source(SOURCE, "CC BY 4.0", shared_folder() / FILE),
        *learned.of_series(k.hosts),
    ]
    metrics = {"knobs": asdict(k), "figures": about, "sources": sources}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(table(about))


if __name__ == "__main__":
    command(main)
