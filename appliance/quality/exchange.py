"""Rows of the library for other boxes, and what a box makes of theirs. Pure.

    rows -> Exchange -> a file that a person carries -> Prior

Rules
1. A row leaves with maker, model, kernel and what was learnt, once that is of LEAST studies. The
   kernel leaves only as a maker's own name (series/kernel.py), else as unknown. No serial
   number, no hash, no date and no study leaves, and rows stand in the order of their keys.
2. What comes is read strictly: an unknown field is refused. It gives spreads, never middles, as
   the shipped prior does, to rows of the same maker, model and kernel. Where several rows have
   them, the spreads are pooled by their degrees of freedom.
3. A spread that comes is believed within FACTOR of the shipped one: a file with zeros must not make
   a box alarm at every series, nor one with millions make it deaf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from pydantic import ConfigDict, Field

from appliance.report import Record
from appliance.watching.alarm import Statistic
from appliance.watching.row import Prior, Row, Watched
from appliance.watching.scanner import UNKNOWN, Part, Scanner

LEAST: Final = 20
FACTOR: Final = 4.0
_FREE: Final = 1
"""Degrees of freedom that a mean takes."""


class Learnt(Record):
    """One statistic of a row."""

    n: int = Field(ge=2)
    mean: float
    """Of the transformed statistic (quality/drift.py)."""
    sd: float = Field(ge=0)


class ExchangedRow(Record):
    """One scanner and protocol."""

    modality: Part = UNKNOWN
    maker: Part = UNKNOWN
    model: Part = UNKNOWN
    kernel: Part = UNKNOWN
    kvp: Part = UNKNOWN
    thickness: Part = UNKNOWN
    n: int = Field(ge=LEAST)
    learnt: dict[Statistic, Learnt]

    @property
    def kind(self) -> tuple[str, str, str]:
        """Whose spreads these are."""
        return self.maker, self.model, self.kernel


class Exchange(Record):
    """scanside.library-exchange/1: a file."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    schema_: Literal["scanside.library-exchange/1"] = Field(
        default="scanside.library-exchange/1", alias="schema"
    )
    rows: tuple[ExchangedRow, ...] = Field(max_length=1000)


def exported(rows: Iterable[Row], shown: Callable[[Scanner], Scanner]) -> Exchange:
    """Those that rule 1 lets out. shown: what of a key may be shown (series/scanner.py)."""
    found = [_exported(row, shown(row.key)) for row in rows if row.learnt >= LEAST]
    known = [one for one in found if one.learnt]
    return Exchange(rows=tuple(sorted(known, key=lambda one: one.model_dump_json())))


def prior_of(key: Scanner, brought: Sequence[ExchangedRow], shipped: Prior) -> Prior:
    """The prior of a new row: the shipped one, with the spreads that were brought for its kind.
    key: what of it may be shown, as those that were brought have it."""
    if UNKNOWN in (key.maker, key.model):
        return shipped
    kind = key.maker, key.model, key.kernel
    same = [one for one in brought if one.kind == kind and one.modality == key.modality]
    spreads = dict(shipped.spreads)
    for statistic, known in shipped.spreads.items():
        found = [one.learnt[statistic] for one in same if statistic in one.learnt]
        if found:
            free = sum(one.n - _FREE for one in found)
            pooled = math.sqrt(sum((one.n - _FREE) * one.sd**2 for one in found) / free)
            spreads[statistic] = min(max(pooled, known / FACTOR), known * FACTOR)
    return Prior(spreads=spreads, weight=shipped.weight)


def _exported(row: Row, key: Scanner) -> ExchangedRow:
    return ExchangedRow(
        modality=key.modality,
        maker=key.maker,
        model=key.model,
        kernel=key.kernel,
        kvp=key.kvp,
        thickness=key.thickness,
        n=row.learnt,
        learnt={one: _learnt(of) for one, of in sorted(row.watched.items()) if _has_spread(of)},
    )


def _has_spread(of: Watched) -> bool:
    """Of a count there is none: its spread is that of its size (quality/counts.py)."""
    return of.n >= LEAST and not of.weight


def _learnt(of: Watched) -> Learnt:
    """In the learning time the values stand there themselves, and mean and spread come later."""
    mean, m2 = of.mean, of.m2
    if of.first:
        mean = sum(of.first) / of.n
        m2 = sum((value - mean) ** 2 for value in of.first)
    return Learnt(n=of.n, mean=_rounded(mean), sd=_rounded(math.sqrt(m2 / (of.n - _FREE))))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
