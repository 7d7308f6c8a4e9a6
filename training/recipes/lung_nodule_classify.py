"""Trains the 2D patch classifier on LUNA16 candidates.

    python -m training.recipes.lung_nodule_classify [--steps 2400] [--name classify] ...

Rules. Model and step count are chosen on the file's own val split; the shipped weights are the
moving average at the last step, not the best of many looks. Patches stay in the scan's own pixels:
only a scale of 0.75-1.3 varies them. The published patches were JPEG-compressed once, so noise and
blur are added.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from training.loop import (
    Ema,
    Progress,
    cosine_rate,
    knobs_from_command_line,
    load_checkpoint,
    save_checkpoint,
    seed_all,
    shared_folder,
    work_folder,
)
from training.metrics import auc
from training.networks import PatchNet, parameter_count


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "classify"  # folder of checkpoint and log under the training work folder
    seed: int = 1
    threads: int = 1
    steps: int = 3000  # about 37 passes of 5,247 patches
    batch: int = 64
    positives: float = 0.35  # share of nodules in a batch; 0.18 in the data
    rate: float = 3e-3  # AdamW, peak of the cosine
    warmup: int = 100  # steps
    decay: float = 0.05  # AdamW weight decay
    ema: float = 0.997
    mixup: float = 0.3  # Beta(a, a); 0 switches it off
    noise_hu: float = 40.0  # upper end of the added noise's standard deviation
    blur_px: float = 0.8  # upper end of the added Gaussian blur
    shift_px: float = 3.0  # candidates are not centred exactly
    extra: str = ""  # npz with patches [N,50,50] uint8 and labels: cut from training CTs
    extra_share: float = 0.25  # share of a batch drawn from `extra`
    save_every: int = 1000  # steps
    bf16: bool = True


U8 = npt.NDArray[np.uint8]


def load_patches(path: Path) -> dict[str, U8]:
    """train/val images [N,50,50] and labels [N] of the LUNA16 patch file."""
    with np.load(path) as file:
        names = ("train_images", "train_labels", "val_images", "val_labels")
        return {name: np.asarray(file[name], dtype=np.uint8) for name in names}


def draw(
    rng: np.random.Generator, images: U8, labels: U8, count: int, positives: float
) -> tuple[U8, U8]:
    """`count` patches, nodules with probability `positives`."""
    yes, no = np.flatnonzero(labels), np.flatnonzero(labels == 0)
    want = rng.random(count) < positives
    pick = np.where(
        want, yes[rng.integers(0, len(yes), count)], no[rng.integers(0, len(no), count)]
    )
    return images[pick], labels[pick]


def augment(patches: Tensor, rng: np.random.Generator, k: Knobs) -> Tensor:
    """Uint8 [B,50,50] -> float [B,1,48,48] in [0, 1]: rotation, flip, scale, shift, blur, noise."""
    n = patches.shape[0]
    x = patches.float().div(255.0).unsqueeze(1)
    angle = torch.from_numpy(rng.uniform(0, 2 * np.pi, n)).float()
    scale = torch.from_numpy(np.exp(rng.uniform(np.log(0.75), np.log(1.3), n))).float()
    flip = torch.from_numpy(rng.choice([-1.0, 1.0], n)).float()
    shift = torch.from_numpy(rng.uniform(-k.shift_px, k.shift_px, (n, 2)) / 25.0).float()
    cos, sin = angle.cos() / scale * 48 / 50, angle.sin() / scale * 48 / 50
    rows = [
        torch.stack([cos * flip, -sin, shift[:, 0]], 1),
        torch.stack([sin * flip, cos, shift[:, 1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), [n, 1, 48, 48], align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    sigma = torch.from_numpy(rng.uniform(0, k.blur_px, n) * (rng.random(n) < 0.5)).float()
    tail = torch.exp(-0.5 / sigma.clamp(min=0.05) ** 2)
    kernel = torch.stack([tail, torch.ones(n), tail], 1)
    kernel = kernel / kernel.sum(1, keepdim=True)
    both = (kernel[:, :, None] * kernel[:, None, :]).unsqueeze(1)
    padded = functional.pad(x.transpose(0, 1), (1, 1, 1, 1), mode="replicate")
    x = functional.conv2d(padded, both, groups=n).transpose(0, 1)
    sharp = torch.from_numpy(rng.uniform(0, k.noise_hu / 1400, (n, 1, 1, 1))).float()
    sharp = sharp * torch.from_numpy((rng.random((n, 1, 1, 1)) < 0.6).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal((n, 1, 48, 48), dtype=np.float32))
    if rng.random() < 0.5:
        noise = functional.avg_pool2d(functional.pad(noise, (1, 1, 1, 1)), 3, 1) * 2.0
    gain = torch.from_numpy(rng.uniform(0.93, 1.07, (n, 1, 1, 1))).float()
    offset = torch.from_numpy(rng.uniform(-0.03, 0.03, (n, 1, 1, 1))).float()
    return (x * gain + offset + noise * sharp).clamp(0, 1)


def eight_views(x: Tensor) -> list[Tensor]:
    """The flips and quarter turns of [N,1,Y,X], as the device averages them."""
    turned = [torch.rot90(x, q, (2, 3)) for q in range(4)]
    return turned + [t.flip(3) for t in turned]


def logits_of(model: PatchNet, images: U8, batch: int = 256) -> npt.NDArray[np.float32]:
    """Mean logit over the eight views of the central 48x48, float32."""
    out = []
    model.eval()
    with torch.no_grad():
        for i in range(0, len(images), batch):
            x = torch.from_numpy(images[i : i + batch, 1:49, 1:49]).float().div(255.0).unsqueeze(1)
            out.append(torch.stack([model(v) for v in eight_views(x)]).mean(0))
    return torch.cat(out).numpy()


def train(k: Knobs, data: dict[str, U8], extra: tuple[U8, U8] | None, folder: Path) -> PatchNet:
    """Trains, writing `last.pt` to `folder` (resumed from there); returns the averaged model."""
    rng = seed_all(k.seed, k.threads)
    model = PatchNet()
    print(f"{parameter_count(model)} parameters, {len(data['train_labels'])} patches", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=k.rate, weight_decay=k.decay)
    ema = Ema(model, k.ema)
    checkpoint, start = folder / "last.pt", 0
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, ema.updates, start = state["ema"], state["step"], state["step"]
        rng = np.random.default_rng([k.seed, start])
    progress = Progress(k.steps, start)
    for step in range(start, k.steps):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(step, k.steps, k.rate, k.warmup)
        own = k.batch if extra is None else k.batch - round(k.batch * k.extra_share)
        images, labels = draw(rng, data["train_images"], data["train_labels"], own, k.positives)
        if extra is not None:
            more, more_labels = draw(rng, extra[0], extra[1], k.batch - own, k.positives)
            images, labels = np.concatenate([images, more]), np.concatenate([labels, more_labels])
        x = augment(torch.from_numpy(images), rng, k)
        y = torch.from_numpy(labels).float()
        if k.mixup > 0:
            mix = float(rng.beta(k.mixup, k.mixup))
            order = torch.from_numpy(rng.permutation(len(y)))
            x, y = mix * x + (1 - mix) * x[order], mix * y + (1 - mix) * y[order]
        with torch.autocast("cpu", torch.bfloat16, enabled=k.bf16):
            logit = model(x)
        loss = functional.binary_cross_entropy_with_logits(logit.float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        ema.update(model)
        progress(step, float(loss.detach()))
        if (step + 1) % k.save_every == 0 or step + 1 == k.steps:
            save_checkpoint(
                checkpoint,
                {
                    "model": model.state_dict(),
                    "ema": ema.shadow,
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "knobs": asdict(k),
                },
            )
            shipped = PatchNet()
            shipped.load_state_dict(ema.shadow)
            score = auc(data["val_labels"], logits_of(shipped, data["val_images"]))
            print(f"step {step + 1} val auc {score:.4f}", flush=True)
    shipped = PatchNet()
    shipped.load_state_dict(ema.shadow)
    return shipped.eval()


def main() -> None:
    """Data, model, schedule, loop, and the val figure beside the checkpoint."""
    k = knobs_from_command_line(Knobs())
    data = load_patches(shared_folder() / "data" / "patches" / "luna16_patches50.npz")
    extra = None
    if k.extra:
        with np.load(k.extra) as file:
            extra = (np.asarray(file["images"], np.uint8), np.asarray(file["labels"], np.uint8))
    folder = work_folder(k.name)
    model = train(k, data, extra, folder)
    score = auc(data["val_labels"], logits_of(model, data["val_images"]))
    figures = {"val_auc": round(score, 4), "val_n": len(data["val_labels"]), "knobs": asdict(k)}
    (folder / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"val auc {score:.4f} (n {len(data['val_labels'])}), checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    main()
