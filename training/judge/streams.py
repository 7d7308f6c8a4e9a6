"""Does the watch keep quiet, and does it see? Simulated streams of series through the real rows.

    python -m training.judge.streams [--streams 1000] [--series 100] [--seed 1]
    python -m training.judge.streams --limits

Rules.
1. A stream is one scanner: a middle of its own, the shipped spreads, correlations between
   statistics, patients with and without contrast medium, findings and scores that differ from
   patient to patient. Its series go through appliance.quality.library one by one, as on a box.
2. False alarms are counted after the learning time: series that raise any alarm, of figures or of
   outputs. A person acknowledges each at once. Three worlds: Gaussian; scanners whose spreads
   differ from the prior as much as 12 degrees of freedom say; tails of Student's t with 6.
3. A fault starts with the first series after the learning time and stays. It moves the statistics
   as it moved them in one of the shared CTs, each in turn (faults.json, of training.judge.spreads).
   It is found where any alarm is raised within so many series.
4. `--limits`: how often a row alarms that has learnt from n series, for pairs of limits; of the
   seven figures of a volume alone. From it come drift.LIMITS.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from appliance.quality import drift, library
from appliance.quality.prior import SHIPPED
from appliance.watching.alarm import Alarm, Cause, Statistic
from appliance.watching.quality import Outputs, SeriesQuality, VolumeQuality
from appliance.watching.row import Row
from appliance.watching.scanner import Scanner
from training.errors import command

World = Literal["gaussian", "spreads differ", "t6"]
WORLDS: Final[tuple[World, ...]] = ("gaussian", "spreads differ", "t6")
START: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)
MEASURED: Final = Path(__file__).with_name("faults.json")
ORDER: Final = (
    Statistic.NOISE,
    Statistic.TEXTURE,
    Statistic.SKIN,
    Statistic.LUNG_EDGE,
    Statistic.TISSUE,
    Statistic.AIR,
    Statistic.LUNG_SHARE,
)
FREEDOM: Final = 6
DIAMETER_MM: Final = 300.0, 35.0
"""Mean and SD over patients."""
FINDINGS: Final = 1.5
SCORED: Final = 40
SHARE: Final = 0.05
ABSTAINED: Final = 0.05
SHRUNK: Final = 0.9
"""Of a correlation that was measured on few: a matrix of pairs need not be one otherwise."""
F64 = NDArray[np.float64]
Effect = Mapping[Statistic, float | None]
"""By how many spreads a fault moves each statistic; None: it can no longer be measured."""


@dataclass(frozen=True)
class Aim:
    """A fault that must be found within so many series, in such a share of streams."""

    name: str
    within: int
    share: float
    cause: Cause | None = None
    """That it should be given; None: whatever."""


AIMS: Final = (
    Aim("HU +40", 1, 0.7, Cause.OFFSET),
    Aim("HU -40", 1, 0.7, Cause.OFFSET),
    Aim("wrong body", 1, 1.0, Cause.POSITIONING_OR_PROTOCOL),
    Aim("blur of 1 pixel", 4, 0.9),
    Aim("sharpened, weight 1", 4, 0.9, Cause.SHARPER_KERNEL),
    Aim("dose halved", 10, 0.9, Cause.DOSE),
    Aim("HU +15", 10, 0.9, Cause.OFFSET),
    Aim("HU -15", 10, 0.9, Cause.OFFSET),
    Aim("scale 1.1", 10, 0.9, Cause.SCALE),
    Aim("scale 1.03", 10, 0.9, Cause.SCALE),
)


class Stream:
    """One scanner: the series it sends, and its row."""

    def __init__(self, seed: int, world: World, correlation: F64, ct: Sequence[Statistic] = ORDER):
        """`ct`: what can be measured of this scanner's series."""
        self.ct = frozenset(ct)
        self.rng = np.random.default_rng(seed)
        self.world: World = world
        self.root = np.linalg.cholesky(correlation)
        self.spread = np.array([SHIPPED.spreads[which] for which in ORDER])
        if world == "spreads differ":
            weight = SHIPPED.weight
            self.spread *= np.sqrt(weight / self.rng.chisquare(weight, len(ORDER)))
        self.middle = np.log([20, 0.4, 60, 150, 1, 1, 0.3]) + self.rng.normal(0, 0.3, len(ORDER))
        self.middle[4:6] = self.rng.normal((50, -990), (5, 10))
        self.row = library.empty(Scanner(), START)

    def series(self, effect: Effect | None = None) -> SeriesQuality:
        """The next one."""
        rng = self.rng
        z = self.root @ rng.standard_normal(len(ORDER))
        if self.world == "t6":
            tails = rng.chisquare(FREEDOM, len(ORDER)) / FREEDOM
            z /= np.sqrt(tails * FREEDOM / (FREEDOM - 2))
        values = dict(zip(ORDER, (self.middle + self.spread * z).tolist(), strict=True))
        diameter, contrast = rng.normal(*DIAMETER_MM), bool(rng.random() < 0.5)
        values[Statistic.NOISE] += drift.NOISE_PER_MM * (diameter - drift.DIAMETER_MM)
        values[Statistic.TISSUE] += drift.CONTRAST_HU * contrast
        moved: dict[Statistic, float | None] = {
            which: value if which in self.ct else None for which, value in values.items()
        }
        for which, by in (effect or {}).items():
            moved[which] = None if by is None else values[which] + SHIPPED.spreads[which] * by
        return SeriesQuality(
            scanner=Scanner(),
            measured=(_volume(moved, diameter, contrast),),
            outputs=self._outputs(),
        )

    def _outputs(self) -> Outputs:
        rng = self.rng
        if rng.random() < ABSTAINED:
            return Outputs(analysed=False)
        findings = int(rng.poisson(FINDINGS * rng.gamma(1.0)))
        share = rng.beta(SHARE * 9, (1 - SHARE) * 9)  # intra-class correlation 0.1
        score = 1 / (1 + np.exp(3 - rng.normal()))
        return Outputs(
            analysed=True,
            findings=findings,
            scored=SCORED,
            above=int(rng.binomial(SCORED, share)),
            median_score=float(score),
        )

    def count(self, effect: Effect | None = None) -> tuple[Alarm, ...]:
        """The next series goes into the row."""
        at = START + timedelta(hours=self.row.n)
        found = library.counted(self.row, self.series(effect), at, SHIPPED)
        self.row = found.row
        return found.alarms

    def acknowledge(self) -> None:
        """A person has looked."""
        self.row = library.acknowledged(self.row, START)

    def learn(self) -> int:
        """The learning time, in which a person acknowledges at once; how many series alarmed."""
        alarmed = 0
        while self.row.state != "fixed":
            if self.count():
                alarmed += 1
                self.acknowledge()
        return alarmed


def _volume(values: Mapping[Statistic, float | None], mm: float, contrast: bool) -> VolumeQuality:
    def ratio(which: Statistic) -> float | None:
        value = values[which]
        return None if value is None else float(np.exp(value))

    share = ratio(Statistic.LUNG_SHARE)
    return VolumeQuality(
        noise_hu=ratio(Statistic.NOISE),
        texture_per_mm=ratio(Statistic.TEXTURE),
        skin_hu_per_mm=ratio(Statistic.SKIN),
        lung_edge_hu_per_mm=ratio(Statistic.LUNG_EDGE),
        tissue_hu=values[Statistic.TISSUE],
        air_hu=values[Statistic.AIR],
        lung_share=None if share is None else min(1.0, share),
        diameter_mm=max(100.0, mm),
        contrast="yes" if contrast else "no",
    )


@dataclass(frozen=True)
class Known:
    """What training.judge.spreads measured."""

    correlation: F64
    effects: Mapping[str, tuple[Effect, ...]]
    """Fault -> what it moved in each CT."""


def known(path: Path = MEASURED) -> Known:
    """OSError, ValueError where the file is not there or not what it should be."""
    read = json.loads(path.read_text(encoding="utf-8"))
    effects = {
        fault: tuple({Statistic(which): by for which, by in one.items()} for one in each.values())
        for fault, each in read["effects"].items()
    }
    matrix = np.array(read["correlation"], np.float64)
    return Known(SHRUNK * matrix + (1 - SHRUNK) * np.eye(len(ORDER)), effects)


@dataclass(frozen=True)
class Quiet:
    """What streams without a fault raise."""

    series: int
    alarmed: int
    learning: int
    learning_alarmed: int
    tests: Mapping[str, int]

    @property
    def one_in(self) -> float:
        """Series for one that alarms."""
        return self.series / max(1, self.alarmed)


def quiet(streams: int, series: int, seed: int, world: World, what: Known) -> Quiet:
    """False alarms (rule 2)."""
    alarmed = learning = learning_alarmed = 0
    tests: Counter[str] = Counter()
    for n in range(streams):
        stream = Stream(seed * 1_000_000 + n, world, what.correlation)
        learning_alarmed += stream.learn()
        learning += stream.row.n
        for _ in range(series):
            if alarms := stream.count():
                alarmed += 1
                tests.update(f"{one.statistic.value} {one.test}" for one in alarms)
                stream.acknowledge()
    return Quiet(streams * series, alarmed, learning, learning_alarmed, tests)


@dataclass(frozen=True)
class Found:
    """How often a fault was found in time, and what it was called."""

    aim: Aim
    streams: int
    found: int
    causes: Mapping[str, int]

    @property
    def share(self) -> float:
        """Of streams."""
        return self.found / self.streams


def seen(aims: tuple[Aim, ...], streams: int, seed: int, what: Known) -> Iterator[Found]:
    """Rule 3."""
    found, causes = Counter[str](), {aim.name: Counter[str]() for aim in aims}
    for n in range(streams):
        ct = {name: each[n % len(each)] for name, each in what.effects.items()}
        measurable = tuple(ct[aims[0].name])
        stream = Stream(seed * 1_000_000 + 500_000 + n, "gaussian", what.correlation, measurable)
        stream.learn()
        learnt: Row = stream.row
        for aim in aims:
            stream.row = learnt
            for _ in range(aim.within):
                if alarms := stream.count(ct[aim.name]):
                    found[aim.name] += 1
                    causes[aim.name][alarms[0].cause.value] += 1
                    break
    for aim in aims:
        yield Found(aim, streams, found[aim.name], causes[aim.name])


def limits(streams: int, series: int, seed: int) -> Iterator[str]:
    """Rule 4: rows of a Markdown table."""
    yield "| learnt | limits | one series alarms in | with t6 |"
    yield "|---|---|---|---|"
    for n in (5, 8, 10, 15, 20, 30):
        for alone, total in ((4.2, 5.0), (4.5, 5.5), (4.8, 6.0), (5.0, 7.0)):
            rates = [
                alarms_one_in(n, alone, total, streams, series, seed, t6=t6) for t6 in (False, True)
            ]
            yield f"| {n} | {alone:g}, {total:g} | {rates[0]:.0f} | {rates[1]:.0f} |"


def alarms_one_in(
    n: int, alone: float, total: float, streams: int, series: int, seed: int, *, t6: bool = False
) -> float:
    """Series for one that alarms, of seven independent statistics whose row learnt from n."""
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> F64:
        z = rng.standard_normal((*shape, len(ORDER)))
        tails = rng.chisquare(FREEDOM, z.shape) / (FREEDOM - 2) if t6 else 1.0
        return z / np.sqrt(tails)

    learnt = drawn(streams, n)
    m2 = ((learnt - learnt.mean(1, keepdims=True)) ** 2).sum(1)
    sd = np.sqrt((SHIPPED.weight + m2) / (SHIPPED.weight + n - 1) * (1 + 1 / n))
    up, down, alarmed = np.zeros_like(sd), np.zeros_like(sd), 0
    for _ in range(series):
        z = (drawn(streams) - learnt.mean(1)) / sd
        cut = np.clip(z, -drift.CUT, drift.CUT)
        up, down = np.maximum(0, up + cut - drift.K), np.maximum(0, down - cut - drift.K)
        over = (up > total) | (down > total)
        alarmed += int((over | (np.abs(z) > alone)).any(axis=1).sum())
        up[over] = down[over] = 0
    return streams * series / max(1, alarmed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.judge.streams")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limits", action="store_true")
    given = parser.parse_args()
    if given.limits:
        for line in limits(given.streams, given.series, given.seed):
            print(line, flush=True)
        return
    what = known()
    print("| streams without a fault | one series alarms in | in the learning time | n |")
    print("|---|---|---|---|")
    for world in WORLDS:
        one = quiet(given.streams, given.series, given.seed, world, what)
        before = one.learning / max(1, one.learning_alarmed)
        n = f"{given.streams} x {given.series}"
        print(f"| {world} | {one.one_in:.0f} | {before:.0f} | {n} |", flush=True)
        print(f"<!-- {dict(sorted(one.tests.items()))} -->", flush=True)
    print("\n| fault | within | aim | found | named | n |\n|---|---|---|---|---|---|")
    for fault in seen(AIMS, given.streams, given.seed, what):
        aim, named = fault.aim, ", ".join(f"{k} {v}" for k, v in sorted(fault.causes.items()))
        share = f"{fault.share:.3f}"
        print(f"| {aim.name} | {aim.within} | {aim.share} | {share} | {named} | {fault.streams} |")


if __name__ == "__main__":
    command(main)
