"""Trains the 3D proposal network at 1.25 mm on implanted nodules.

    python -m training.recipes.lung_nodule.propose [--steps 1000] [--hosts R01-001,A0001] ...
        [--name propose-longer --begin propose]     # another cosine from a finished run's weights

Rules.
1. Patches come from `proposal_patches`: shapes of LIDC patients of train, on the fly. Making one
   costs as much as learning from it, so most are seen again, mirrored anew (data echoing, Choi et
   al., arXiv:1907.05550).
2. There are seven CTs only. Turning, bending and painted vessels keep the network from knowing them
   by heart, which it does otherwise: what it never saw would all be nodules.
3. The network outlines nodules too while it learns, at stride 2 (`networks.Outlined`): a centre
   alone is one cell of 4096 and says little about where a large nodule ends and a vessel begins.
4. To judge the recipe, leave a host out (--hosts) and run `calibrate` on that host.
5. --implants 0 learns from the hosts' own lesions alone, and ALONE of the patches lie around one.
   That is for a data set with many marked scans (`luna16`); it wants no outlines.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from appliance.quality.implant import Shape
from training.errors import RunError, command
from training.implant.donors import cached_shapes
from training.implant.hosts import Host, load_host
from training.implant.synthetic import made_up_hosts
from training.learn.checkpoint import fill, load_checkpoint
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Job, Schedule, fit
from training.learn.losses import centernet_focal, centre_l1, soft_dice, weighted_bce
from training.learn.steps import seed_all
from training.networks import Outlined, ProposeNet, parameter_count
from training.read.folders import shared_folder, work_folder
from training.read.left_out import KEY
from training.read.shared_series import NODULE_SERIES, nodule_hosts
from training.recipes.lung_nodule.proposal_patches import Drawing, Patch, mirrored, sample
from training.ship import learned

RECIPE = "lung_nodule_propose"
ALONE = 0.5
"""Share of patches around real lesions where there are no implants."""


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "propose"  # folder of checkpoint and log under the training work folder
    seed: int = 3
    threads: int = 1
    hosts: str = ",".join(NODULE_SERIES)
    begin: str = ""  # run on the same hosts whose averaged weights are the start; empty: none
    steps: int = 1600
    batch: int = 8
    implants: float = 2.2  # mean number a patch
    made_up: float = 0.12  # share of patches from made-up lungs
    made_up_hosts: int = 12
    echo: float = 0.65  # share of patches that were seen before
    kept: int = 128  # patches that may come again
    rate: float = 2e-3  # AdamW, peak of the cosine
    warmup: int = 50  # steps
    decay: float = 0.02  # AdamW weight decay
    ema: float = 0.993
    size_weight: float = 0.5  # weight of the diameter loss
    body_weight: float = 1.0  # weight of the outline's loss
    body_factor: float = 5.0  # how much more a voxel of a nodule counts in it
    save_every: int = 100  # steps
    bf16: bool = True


def drawing(implants: float) -> Drawing:
    """How patches are drawn with so many implants a patch (rule 5)."""
    return Drawing(implants=implants) if implants else Drawing(implants=0.0, real=ALONE)


class Patches:
    """Patches without end: new ones, and some of the last `kept` mirrored anew.

    A checkpoint holds of each patch that may come again the state of chance before it was drawn, a
    few hundred bytes instead of a megabyte: it is drawn again from there.
    """

    def __init__(
        self, hosts: Sequence[Host], others: Sequence[Host], shapes: Sequence[Shape], k: Knobs
    ) -> None:
        """`others`: made-up hosts."""
        self.hosts, self.others, self.shapes, self.k = hosts, others, shapes, k
        self.drawing = drawing(k.implants)
        self.recent = deque[tuple[str, Patch]](maxlen=k.kept)

    def draw(self, rng: np.random.Generator) -> Patch:
        """The next one."""
        recent, k = self.recent, self.k
        if recent and len(recent) >= k.kept // 2 and rng.random() < k.echo:
            return mirrored(rng, recent[int(rng.integers(len(recent)))][1])
        before = json.dumps(rng.bit_generator.state)
        one = self._new(rng)
        recent.append((before, one))
        return one

    def _new(self, rng: np.random.Generator) -> Patch:
        pool = self.others if self.others and rng.random() < self.k.made_up else self.hosts
        return sample(rng, pool[int(rng.integers(len(pool)))], self.shapes, self.drawing)

    def kept(self) -> list[str]:
        """The states of chance before each patch that may come again, the oldest first."""
        return [before for before, _ in self.recent]

    def recall(self, kept: Sequence[str]) -> None:
        """Draws those patches again."""
        self.recent.clear()
        for before in kept:
            rng = np.random.default_rng()
            rng.bit_generator.state = json.loads(before)
            self.recent.append((before, self._new(rng)))


def batch_of(rng: np.random.Generator, patches: Patches, count: int) -> tuple[Tensor, ...]:
    """Images [B,1,64,64,64], and the targets of `Patch` in its order, each with a channel."""
    drawn = [patches.draw(rng) for _ in range(count)]
    parts = ("image", "heat", "size", "weight", "body")
    return tuple(
        torch.from_numpy(np.stack([getattr(d, part) for d in drawn])[:, None]) for part in parts
    )


def loss_of(
    outputs: tuple[Tensor, Tensor, Tensor], targets: tuple[Tensor, ...], k: Knobs
) -> Tensor:
    """CenterNet focal of the heat, the diameter's error where there is heat, and the outline's.

    `targets`: what `batch_of` gives behind the image.
    """
    heat, size, weight, body = targets
    focal = centernet_focal(outputs[0], heat, weight)
    sized = centre_l1(outputs[1], size, (heat > 0.35).float() * heat)
    outlined = outline_loss(outputs[2], body, k.body_factor)
    return focal + k.size_weight * sized + k.body_weight * outlined


def begin(net: ProposeNet, k: Knobs) -> None:
    """Fills `net` with the averaged weights of the run `k.begin`.

    RunError where it saw other hosts, or is of another network.
    """
    path = work_folder(k.begin) / "last.pt"
    state = load_checkpoint(path)
    if state.get("knobs", {}).get("hosts") != k.hosts:
        raise RunError(f"{path}: trained on other hosts than {k.hosts}: what was left out leaks in")
    fill(net, state.get("ema", {}), path)


def _proposing(model: nn.Module) -> nn.Module:
    """What ships of an `Outlined`."""
    assert isinstance(model, Outlined)
    return model.net


def train(
    k: Knobs, hosts: Sequence[Host], others: Sequence[Host], shapes: Sequence[Shape], folder: Path
) -> ProposeNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    net = ProposeNet()
    model = Outlined(net)
    # a third faster on CPUs; mypy's stubs do not know the layout for modules
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    print(f"{parameter_count(net)} parameters, hosts {[h.volume.name for h in hosts]}", flush=True)
    if k.begin and not (folder / "last.pt").exists():
        begin(net, k)
    patches = Patches(hosts, others, shapes, k)
    job = Job(
        RECIPE,
        {**asdict(k), "left_out": KEY},
        draw=lambda rng: batch_of(rng, patches, k.batch),
        loss=lambda model, image, *targets: loss_of(
            model(image.to(memory_format=torch.channels_last_3d)), targets, k
        ),
        ships=_proposing,
        memory=patches,
    )
    state = fit(model, Schedule.of(k, clip=5.0), job, folder, k.seed)
    shipped = ProposeNet()
    shipped.load_state_dict(state)
    return shipped.eval()


def outline_loss(logits: Tensor, body: Tensor, factor: float) -> Tensor:
    """Cross entropy, `factor` times as much inside, and Dice, where somebody knows the outline."""
    known = (body >= 0).float()
    share = body.clamp(min=0)
    return weighted_bce(logits, share, known * (1 + factor * share)) + soft_dice(
        logits, share, weight=known
    )


def main() -> None:
    """Data, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder, cache = work_folder(k.name), work_folder("cache")
    shapes = cached_shapes(shared_folder(), cache) if k.implants else []
    hosts = [load_host(shared_folder(), name, cache) for name in nodule_hosts(k.hosts)]
    others = made_up_hosts(k.made_up_hosts, k.seed)
    train(k, hosts, others, shapes, folder)
    outlines = learned.of_outlines() if k.implants else []
    own = [*learned.of_series(k.hosts), *outlines]
    sources = learned.union([*own, *learned.of_runs([k.begin])])
    metrics = {"knobs": asdict(k), "sources": sources}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
