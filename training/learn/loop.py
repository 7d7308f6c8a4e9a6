"""The training loop: draw, learn, judge, save, go on.

    draw(rng) -> batch -> loss -> AdamW -> moving average -> judged on val -> last.pt, log.csv

Rules.
1. What ships is the moving average at the last step, not the best of many looks.
2. A resume is exact: the checkpoint holds weights, moving average, optimizer, schedule and every
   source of chance. Steps after it are learned again and their rows of the log dropped.
3. A frozen part stands still for the first steps, its batch statistics too, then learns at `gentle`
   times the rate of the rest, after a warm-up of its own.
4. A step whose loss or gradient is no number changes nothing; MOST_SKIPPED in a row end the run.
   A batch that does not fit into memory is halved, and stays so; its gradient is that of the whole
   (batch statistics are those of the parts).
5. A checkpoint of another recipe, or of other knobs, is refused, never overwritten.
"""

from __future__ import annotations

import copy
import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from training.errors import RunError
from training.learn.checkpoint import load_checkpoint, save_checkpoint
from training.learn.steps import Ema, Plateau, Progress, cosine_rate

MOST_SKIPPED = 20
LOG_EVERY = 25
"""Steps from one row of the log to the next."""
MAY_CHANGE = {"name", "threads", "steps", "save_every", "judge_every"}
"""Knobs that a resumed run may give otherwise: a longer one goes on where the shorter ended."""
State = dict[str, Tensor]
Batch = tuple[Tensor, ...]


class Pace(Protocol):
    """The knobs that every recipe of this loop has."""

    @property
    def steps(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def decay(self) -> float: ...
    @property
    def ema(self) -> float: ...
    @property
    def save_every(self) -> int: ...
    @property
    def bf16(self) -> bool: ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    steps: int
    rate: float  # AdamW, peak
    warmup: int = 100  # steps
    decay: float = 0.05  # AdamW weight decay
    ema: float = 0.997
    kind: Literal["cosine", "plateau"] = "cosine"
    patience: int = 3  # plateau: judgements without gain before the rate falls
    factor: float = 0.3  # plateau: what it falls by
    frozen_steps: int = 0
    gentle: float = 1.0
    clip: float = 2.0  # norm of the gradient
    judge_every: int = 500
    save_every: int = 250
    bf16: bool = True

    @staticmethod
    def of(knobs: Pace, **more: Any) -> Schedule:
        """The schedule that a recipe's knobs say, with fields that it has besides; judged at the
        end alone, where `judge_every` is not among these."""
        return Schedule(
            steps=knobs.steps,
            rate=knobs.rate,
            warmup=knobs.warmup,
            decay=knobs.decay,
            ema=knobs.ema,
            save_every=knobs.save_every,
            bf16=knobs.bf16,
            **{"judge_every": knobs.steps, **more},
        )


@dataclass(frozen=True)
class Job:
    """What is learned."""

    recipe: str  # its name, which its checkpoints carry: no other may go on from them
    knobs: Mapping[str, Any]
    draw: Callable[[np.random.Generator], Batch]  # tensors of one leading length
    loss: Callable[..., Tensor]  # (model, *batch) -> mean over the batch
    judge: Callable[[nn.Module], dict[str, float]] = field(default=lambda _: {})
    """Figures of the moving average; of the first, more is better: a plateau follows it."""
    frozen: Callable[[nn.Module], Sequence[nn.Module]] = field(default=lambda _: ())


def device() -> torch.device:
    """The GPU where torch sees one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rates(schedule: Schedule, step: int, drops: int = 0) -> tuple[float, float]:
    """Learning rates of a step: of what is new, and of what began frozen."""
    s = schedule
    if s.kind == "cosine":
        rate = cosine_rate(step, s.steps, s.rate, s.warmup)
    else:
        rate = s.rate * min(1.0, (step + 1) / max(s.warmup, 1)) * s.factor**drops
    free = step - s.frozen_steps
    thawed = 0.0 if free < 0 else rate * s.gentle * min(1.0, (free + 1) / max(s.warmup, 1))
    return rate, thawed


def fit(model: nn.Module, schedule: Schedule, job: Job, folder: Path, seed: int) -> State:
    """Trains `model` in place, resumed from `folder`; the moving average's state.

    RunError, one line, for whatever ends a run early.
    """
    run = _Run(model.to(device()), schedule, job, folder, seed)
    run.resume()
    try:
        run.go()
    except KeyboardInterrupt:
        raise RunError(
            f"stopped; the same command goes on from step {run.saved} ({run.checkpoint})"
        ) from None
    return {name: value.cpu() for name, value in run.ema.shadow.items()}


def out_of_memory(error: BaseException) -> bool:
    """Whether torch, on a GPU or not, or Python ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


class _Run:
    """State of one training."""

    def __init__(
        self, model: nn.Module, schedule: Schedule, job: Job, folder: Path, seed: int
    ) -> None:
        self.model, self.schedule, self.job = model, schedule, job
        self.checkpoint, self.log = folder / "last.pt", folder / "log.csv"
        self.rng = np.random.default_rng(seed)
        self.frozen = list(job.frozen(model))
        slow = {id(p) for part in self.frozen for p in part.parameters()}
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in model.parameters() if id(p) not in slow]},
                {"params": [p for p in model.parameters() if id(p) in slow]},
            ],
            lr=schedule.rate,
            weight_decay=schedule.decay,
        )
        self.ema, self.plateau = Ema(model, schedule.ema), Plateau(schedule.patience)
        self.start = self.saved = self.skipped = 0
        self.parts = 1

    def resume(self) -> None:
        """Goes on from the checkpoint, if there is one."""
        rows: list[list[str]] = []
        if self.checkpoint.exists():
            state = load_checkpoint(self.checkpoint)
            refuse_another(self.checkpoint, state, self.job.recipe, self.job.knobs)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            here = next(self.model.parameters()).device
            self.ema.shadow = {name: value.to(here) for name, value in state["ema"].items()}
            self.ema.updates, self.start = state["ema_updates"], state["step"]
            self.plateau.best, self.plateau.waited, self.plateau.drops = state["plateau"]
            chance = state["chance"]
            self.rng.bit_generator.state = json.loads(chance["numpy"])
            torch.set_rng_state(chance["torch"])
            if "cuda" in chance and torch.cuda.is_available():
                torch.cuda.set_rng_state(chance["cuda"])
            rows = _rows(self.log, self.start)
        self.saved = self.start
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("w", newline="") as file:
                csv.writer(file).writerows(rows or [["step", "loss", "rate", "skipped", "val"]])
        except OSError as e:
            raise RunError(f"{self.log}: {e.strerror}") from e

    def go(self) -> None:
        """Every step that is left."""
        s, in_a_row, shown = self.schedule, 0, ""
        progress = Progress(s.steps, self.start)
        for step in range(self.start, s.steps):
            rate, thawed = rates(s, step, self.plateau.drops)
            for group, value in zip(self.optimizer.param_groups, (rate, thawed), strict=True):
                group["lr"] = value
            loss = self._learn(self.job.draw(self.rng), still=step < s.frozen_steps)
            in_a_row = 0 if loss is not None else in_a_row + 1
            self.skipped += loss is None
            if in_a_row == MOST_SKIPPED:
                raise RunError(
                    f"the loss is no number for {in_a_row} steps in a row at step {step + 1}: "
                    f"try a smaller --rate than {s.rate:g} ({self.checkpoint} is of step "
                    f"{self.saved})"
                )
            progress(step, math.nan if loss is None else loss, f"rate {rate:.1e} {shown}".rstrip())
            last = step + 1 == s.steps
            judged: dict[str, float] = {}
            if (step + 1) % s.judge_every == 0 or last:
                judged = self._judge()
                shown = " ".join(f"{name} {value:.4f}" for name, value in judged.items())
                print(f"step {step + 1} {shown}", flush=True)
            if judged or (step + 1) % LOG_EVERY == 0:
                self._note(step + 1, progress.loss, rate, judged)
            if (step + 1) % s.save_every == 0 or last:
                self._save(step + 1)

    def _learn(self, batch: Batch, still: bool) -> float | None:
        """One step; its loss, None where it was skipped."""
        self.model.train()
        for part in self.frozen:
            part.requires_grad_(not still)
            if still:
                part.eval()
        here = next(self.model.parameters()).device
        before = [buffer.clone() for buffer in self.model.buffers()]
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                loss = self._backward(tuple(t.to(here) for t in batch))
                break
            except (RuntimeError, MemoryError) as e:
                if not out_of_memory(e):
                    raise
                if self.parts >= len(batch[0]):
                    raise RunError("one sample alone does not fit into memory") from e
                self.parts *= 2
                print(f"out of memory: from here on a batch goes in {self.parts} parts", flush=True)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
        if not (math.isfinite(loss) and torch.isfinite(norm)):
            for buffer, value in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(value)
            return None
        self.optimizer.step()
        self.ema.update(self.model)
        return loss

    def _backward(self, batch: Batch) -> float:
        """Gradients of the mean loss of a batch, in as many parts as memory wants; the loss."""
        count, total = len(batch[0]), 0.0
        for piece in zip(*(t.tensor_split(self.parts) for t in batch), strict=True):
            share = len(piece[0]) / count
            if not share:
                continue
            with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=self.schedule.bf16):
                loss = self.job.loss(self.model, *piece).float()
            (loss * share).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) * share
        return total

    def _judge(self) -> dict[str, float]:
        averaged = copy.deepcopy(self.model)
        averaged.load_state_dict(self.ema.shadow)
        figures = self.job.judge(averaged.eval())
        if figures and self.schedule.kind == "plateau":
            self.plateau.see(next(iter(figures.values())))
        return figures

    def _note(self, step: int, loss: float, rate: float, judged: Mapping[str, float]) -> None:
        summary = " ".join(f"{name}={value:.5f}" for name, value in judged.items())
        with self.log.open("a", newline="") as file:
            row = [step, f"{loss:.5f}", f"{rate:.3e}", self.skipped, summary]
            csv.writer(file).writerow(row)

    def _save(self, step: int) -> None:
        chance: dict[str, Any] = {
            "numpy": json.dumps(self.rng.bit_generator.state),
            "torch": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            chance["cuda"] = torch.cuda.get_rng_state()
        state = {
            "recipe": self.job.recipe,
            "knobs": dict(self.job.knobs),
            "schedule": asdict(self.schedule),
            "step": step,
            "model": self.model.state_dict(),
            "ema": self.ema.shadow,
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "plateau": [self.plateau.best, self.plateau.waited, self.plateau.drops],
            "chance": chance,
        }
        save_checkpoint(self.checkpoint, state)
        self.saved = step


def refuse_another(
    path: Path, state: Mapping[str, Any], recipe: str, knobs: Mapping[str, Any]
) -> None:
    """RunError where a checkpoint is of another recipe or of knobs that change what is learned."""
    made_by = state.get("recipe", "an older recipe")
    if made_by != recipe:
        raise RunError(f"{path} was made by {made_by}, not by {recipe}: give another --name")
    for name, value in state["knobs"].items():
        if name not in MAY_CHANGE and knobs.get(name) != value:
            raise RunError(
                f"{path} was made with --{name} {value}, not {knobs.get(name)}: give another --name"
            )


def _rows(log: Path, step: int) -> list[list[str]]:
    """The log's head and its rows up to a step."""
    if not log.exists():
        return []
    with log.open(newline="") as file:
        rows = list(csv.reader(file))
    return rows[:1] + [row for row in rows[1:] if row and int(row[0]) <= step]
