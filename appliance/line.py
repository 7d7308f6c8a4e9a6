"""The line: one way for a slice, from bytes to findings. Pure; read this file first.

    begin(bundle)          -> Fold
    add(fold, bytes)       -> Fold      decode, rescale, orient, in-plane resample
    finish(fold, backend)  -> Result    normal axis, order, extent, inference, findings, reasons
    seal(result, ...)      -> Report    what only the outside knows

`work` adds each slice as it arrives, so that after the last one only inference is left. `process`
runs the same fold over a whole series: both ways give the same Result. Bad input never raises out
of here: it becomes a Result that is `not_analysed` with its reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.backend.protocol import Backend
from appliance.bundle.manifest import Manifest
from appliance.records import Identity, Plane, Result, Stamps
from appliance.report import BundleRef, Reason, Report


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle: what the line needs of it. Networks' bytes belong to the backend."""

    ref: BundleRef
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Fold:
    """A series so far: its planes in order of arrival, and what was wrong with any of them."""

    bundle: Bundle | None
    planes: tuple[Plane, ...] = ()
    refusals: tuple[Reason, ...] = ()


def begin(bundle: Bundle | None) -> Fold:
    """An empty series for this bundle; None where no bundle accepts (the Result will say so)."""
    return Fold(bundle)


def add(fold: Fold, instance: bytes) -> Fold:
    """One Part-10 instance more (all its frames). What is wrong with it is kept as a reason."""
    raise NotImplementedError


def finish(fold: Fold, backend: Backend | None, extra: Iterable[Reason] = ()) -> Result:
    """Assemble, infer, interpret. `extra` are limitations that only the outside knows."""
    raise NotImplementedError


def process(
    instances: Iterable[bytes], bundle: Bundle | None, backend: Backend | None
) -> Result:
    """The same fold over a whole series."""
    fold = begin(bundle)
    for instance in instances:
        fold = add(fold, instance)
    return finish(fold, backend)


def seal(result: Result, identity: Identity, times: Stamps) -> Report:
    """Result and what only the outside knows -> Report."""
    raise NotImplementedError
