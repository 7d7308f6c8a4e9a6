"""The training loop: draw, learn, judge, save, go on.

    draw(rng) -> batch -> loss -> AdamW -> moving average -> judged on val -> last.pt, log.csv

Rules.
1. What ships is the moving average at the last step, not the best of many looks.
2. A resume is exact: the checkpoint holds weights, moving average, optimizer, schedule, every
   source of chance, and what the batches drawn before leave for those to come (`Memory`). Steps
   after it are learned again and their rows of the log dropped.
3. A frozen part stands still for the first steps, its batch statistics too, then learns at `gentle`
   times the rate of the rest, after a warm-up of its own.
4. A step whose loss or gradient is no number changes nothing. The run ends with one line where the
   batch or the weights hold what is no number, and where MOST_SKIPPED such steps come in a row or
   the last step is one. Until a step has a number again nothing is saved, and nothing is ever saved
   that is none: the checkpoint stays the last good one.
5. A batch that does not fit into memory is halved, and stays so; its gradient is that of the whole
   (batch statistics are those of the parts).
6. A checkpoint of another recipe or network, of other knobs, or of a longer run is refused, never
   overwritten.
"""

from __future__ import annotations

import copy
import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from training.errors import RunError
from training.learn.checkpoint import fill, load_checkpoint, refuse_another, save_checkpoint
from training.learn.steps import Ema, Plateau, Progress, cosine_rate

MOST_SKIPPED = 20
LOG_EVERY = 25
"""Steps from one row of the log to the next."""
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


class Memory(Protocol):
    """What drawing a batch leaves behind for later ones."""

    def kept(self) -> list[str]:
        """It, as the checkpoint holds it."""
        ...

    def recall(self, kept: Sequence[str]) -> None:
        """Puts back what `kept` gave."""
        ...


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
    ships: Callable[[nn.Module], nn.Module] = field(default=lambda model: model)
    """The part that is averaged, judged and returned; the rest only helps it to learn."""
    memory: Memory | None = None  # of `draw`, where batches follow from those before


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


def fit(
    model: nn.Module,
    schedule: Schedule,
    job: Job,
    folder: Path,
    seed: int,
    on: torch.device | None = None,
) -> State:
    """Trains `model` in place, resumed from `folder`; the moving average's state, on the CPU.

    `on`: where it learns; None takes `device()`. RunError, one line, for whatever ends a run early.
    """
    run = _Run(model.to(on or device()), schedule, job, folder, seed)
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
        self.ema = Ema(job.ships(model), schedule.ema)
        self.plateau = Plateau(schedule.patience)
        self.start = self.saved = self.skipped = 0
        self.parts, self.loss = 1, math.nan

    def resume(self) -> None:
        """Goes on from the checkpoint, if there is one."""
        rows: list[list[str]] = []
        if self.checkpoint.exists():
            state = load_checkpoint(self.checkpoint)
            refuse_another(self.checkpoint, state, self.job.recipe, self.job.knobs)
            try:
                self._restore(state)
            except (KeyError, TypeError, ValueError) as e:
                raise RunError(
                    f"{self.checkpoint}: not as this loop writes it "
                    f"({type(e).__name__}: {e}): give another --name".replace("\n", " ")
                ) from e
            if self.start > self.schedule.steps:
                raise RunError(
                    f"{self.checkpoint} is of step {self.start}, beyond --steps "
                    f"{self.schedule.steps}: give another --name"
                )
            rows = _rows(self.log, self.start)
        self.saved = self.start
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("w", newline="") as file:
                csv.writer(file).writerows(rows or [["step", "loss", "rate", "skipped", "val"]])
        except OSError as e:
            raise RunError(f"{self.log}: {e.strerror}") from e

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Puts everything back; RunError where the network is another one."""
        fill(self.model, state["model"], self.checkpoint)
        fill(self.job.ships(self.model), state["ema"], self.checkpoint, only_look=True)
        self.optimizer.load_state_dict(state["optimizer"])
        here = self._device()
        self.ema.shadow = {name: value.to(here) for name, value in state["ema"].items()}
        self.ema.updates, self.start = state["ema_updates"], state["step"]
        self.plateau.best, self.plateau.waited, self.plateau.drops = state["plateau"]
        chance = state["chance"]
        self.rng.bit_generator.state = json.loads(chance["numpy"])
        torch.set_rng_state(chance["torch"])
        if "cuda" in chance and here.type == "cuda":
            torch.cuda.set_rng_state(chance["cuda"], here)
        if self.job.memory is not None:
            self.job.memory.recall(state["memory"])
        # a checkpoint of before these were kept is still taken up
        self.skipped, self.parts = state.get("skipped", 0), state.get("parts", 1)
        self.loss = state.get("loss", math.nan)

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def go(self) -> None:
        """Every step that is left."""
        s, in_a_row, shown = self.schedule, 0, ""
        progress = Progress(s.steps, self.start)
        progress.loss = self.loss
        for step in range(self.start, s.steps):
            rate, thawed = rates(s, step, self.plateau.drops)
            for group, value in zip(self.optimizer.param_groups, (rate, thawed), strict=True):
                group["lr"] = value
            last, batch = step + 1 == s.steps, self.job.draw(self.rng)
            loss = self._learn(batch, still=step < s.frozen_steps)
            in_a_row = 0 if loss is not None else in_a_row + 1
            if loss is None:
                self.skipped += 1
                self._end_without_a_number(batch, step + 1, in_a_row, last)
            progress(step, math.nan if loss is None else loss, f"rate {rate:.1e} {shown}".rstrip())
            self.loss = progress.loss
            saves = last or ((step + 1) % s.save_every == 0 and not in_a_row)
            if saves or (step + 1) % s.judge_every == 0:
                self._end_without_weights(step + 1)
            judged: dict[str, float] = {}
            if (step + 1) % s.judge_every == 0 or last:
                judged = self._judge()
                shown = " ".join(f"{name} {value:.4f}" for name, value in judged.items())
                print(f"step {step + 1} {shown}", flush=True)
            if judged or last or (step + 1) % LOG_EVERY == 0:
                self._note(step + 1, progress.loss, rate, judged)
            if saves:
                self._save(step + 1)

    def _end_without_a_number(self, batch: Batch, step: int, in_a_row: int, last: bool) -> None:
        """RunError where what was drawn is to blame, or this cannot go on (rule 4)."""
        if not _all_numbers(batch):
            raise RunError(
                f"what was drawn for step {step} holds values that are no numbers: look at the "
                f"data ({self._good()})"
            )
        self._end_without_weights(step)
        if in_a_row == MOST_SKIPPED or last:
            raise RunError(
                f"the loss is no number for {in_a_row} steps in a row at step {step}"
                f"{', the last' if last else ''}: {self._slower()}"
            )

    def _end_without_weights(self, step: int) -> None:
        """RunError where a weight, or its average, is no number."""
        for state in (self.model.state_dict(), self.ema.shadow):
            for name, value in state.items():
                if not _all_numbers([value]):
                    raise RunError(
                        f"weights are no numbers at step {step} ({name}): {self._slower()}"
                    )

    def _slower(self) -> str:
        rate = f"{self.schedule.rate:g}"
        return f"try a smaller --rate than {rate}, with another --name ({self._good()})"

    def _good(self) -> str:
        """Where the last good checkpoint is."""
        return f"{self.checkpoint} is of step {self.saved}" if self.saved else "nothing was saved"

    def _learn(self, batch: Batch, still: bool) -> float | None:
        """One step; its loss, None where it was skipped."""
        self.model.train()
        for part in self.frozen:
            part.requires_grad_(not still)
            if still:
                part.eval()
        here = self._device()
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
        self.ema.update(self.job.ships(self.model))
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
        averaged = copy.deepcopy(self.job.ships(self.model))
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
        here = self._device()
        if here.type == "cuda":
            chance["cuda"] = torch.cuda.get_rng_state(here)
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
            "skipped": self.skipped,
            "parts": self.parts,
            "loss": self.loss,
            "memory": [] if self.job.memory is None else self.job.memory.kept(),
        }
        save_checkpoint(self.checkpoint, state)
        self.saved = step


def _all_numbers(values: Iterable[Tensor]) -> bool:
    """Whether none of these holds NaN or an infinity."""
    return all(bool(torch.isfinite(v).all()) for v in values if v.is_floating_point())


def _rows(log: Path, step: int) -> list[list[str]]:
    """The log's head and its rows up to a step."""
    if not log.exists():
        return []
    with log.open(newline="") as file:
        rows = list(csv.reader(file))
    return rows[:1] + [row for row in rows[1:] if row and int(row[0]) <= step]
