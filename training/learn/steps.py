"""What every loop does around its steps: seeds, learning rate, moving average, one progress line.

Rules. The same knobs and seed give the same data order on the same machine and thread count.
"""

from __future__ import annotations

import math
import random
import time

import numpy as np
import torch


def seed_all(seed: int, threads: int) -> np.random.Generator:
    """Seeds python, numpy and torch, pins the thread count; returns the data's generator."""
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    return np.random.default_rng(seed)


class Ema:
    """Exponential moving average of a model's parameters and buffers; its decay warms up."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        """Starts from the model's present state."""
        self.decay = decay
        self.updates = 0
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def update(self, model: torch.nn.Module) -> None:
        """One step: shadow = d * shadow + (1 - d) * model, d growing to `decay`."""
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for k, v in model.state_dict().items():
            if v.dtype.is_floating_point:
                self.shadow[k].lerp_(v.detach(), 1 - d)
            else:
                self.shadow[k].copy_(v)


class Progress:
    """One line every `every` seconds: step, loss, rate, time left."""

    def __init__(self, steps: int, start: int = 0, every: float = 10.0) -> None:
        """`start` is the first step of this run (after a resume)."""
        self.steps, self.start, self.every = steps, start, every
        self.t0 = self.last = time.monotonic()
        self.loss = float("nan")

    def __call__(self, step: int, loss: float, extra: str = "") -> None:
        """Call once a step; prints when it is time."""
        self.loss = loss if self.loss != self.loss else 0.95 * self.loss + 0.05 * loss
        now = time.monotonic()
        if now - self.last < self.every and step + 1 < self.steps:
            return
        self.last = now
        done = step + 1 - self.start
        rate = done / max(now - self.t0, 1e-9)
        left = (self.steps - step - 1) / max(rate, 1e-9)
        print(
            f"step {step + 1}/{self.steps} loss {self.loss:.4f} {rate:.2f} steps/s "
            f"{left:.0f} s left {extra}",
            flush=True,
        )


def cosine_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Learning rate: linear warm-up to `peak`, then a cosine to 1 % of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    t = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * min(t, 1.0)))))


class Plateau:
    """Counts how often a figure stopped rising: each `patience` judgements without gain are a
    drop."""

    def __init__(self, patience: int) -> None:
        """Starts with nothing seen."""
        self.patience, self.best = patience, -math.inf
        self.waited = self.drops = 0

    def see(self, figure: float) -> None:
        """One judgement; more is better."""
        if figure > self.best:
            self.best, self.waited = figure, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited, self.drops = 0, self.drops + 1
