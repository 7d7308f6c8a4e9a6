"""Two backends on the same bundle: every tensor of its golden cases, and what the line finds.

    python -m compile compare BUNDLE [--backends openvino,onnxruntime]
    python -m compile compare BUNDLE --backends onnxruntime,gpu --engines DIR

The second backend is judged by the first: an engine may serve only after it has passed here.

Rules.
1. Per output of every golden case: the largest and the mean difference, and the largest as a share
   of the largest value. It passes within the tolerance that the bundle states for the case, against
   the first backend and against what was recorded.
2. Per finding: the phantom of the bundle's kind through the whole line. The findings of both agree
   within the tolerances of bundle/agreement.py. A bundle that takes no images has none.
3. What fails in a library fails the comparison; so does an error in TensorRT's log (trt_engine.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance import line
from appliance.backend import trt_engine
from appliance.backend.choose import LIBRARIES, choose, installed
from appliance.backend.open import open_backend, open_device
from appliance.backend.protocol import Backend
from appliance.bundle import agreement, golden
from appliance.bundle.manifest import Network
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, BundleRefused
from appliance.lines import kinds
from appliance.records import Result
from appliance.report import Finding
from appliance.runtime import engine_shelf as engines
from appliance.runtime.gpu import found_gpu, open_gpu

F32 = NDArray[np.float32]
NAMES = ("gpu", *LIBRARIES)


@dataclass(frozen=True, slots=True)
class OfTensor:
    """One output of one golden case on both backends."""

    network: str
    file: str
    output: str
    max_abs: float
    mean_abs: float
    relative: float
    """The largest difference as a share of the largest value of the first."""
    recorded: float
    """Largest difference of the second from what was recorded."""
    atol: float

    @property
    def passed(self) -> bool:
        return max(self.max_abs, self.recorded) <= self.atol

    def one_line(self) -> str:
        """For a terminal."""
        verdict = "ok  " if self.passed else "FAIL"
        return (
            f"{verdict} {self.network:10} {self.output:14} max {self.max_abs:.4g}, "
            f"mean {self.mean_abs:.3g}, relative {self.relative:.2%}, "
            f"from the recorded {self.recorded:.4g}; allowed {self.atol:.3g} ({self.file})"
        )


@dataclass(frozen=True, slots=True)
class OfFinding:
    """One finding and its partner, each as a line; None where there is none."""

    first: str | None
    second: str | None
    passed: bool
    why: str = ""

    def one_line(self) -> str:
        """For a terminal."""
        verdict = "ok  " if self.passed else "FAIL"
        return f"{verdict} {self.first or '-'} | {self.second or '-'} {self.why}".rstrip()


def names(text: str | None) -> tuple[str, str]:
    """--backends; by default the two CPU libraries. BackendUnavailable where one is not there."""
    asked = tuple(text.split(",")) if text else LIBRARIES
    if len(asked) != 2 or any(name not in NAMES for name in asked):
        raise BackendUnavailable(
            f"{text!r} are not two backends",
            code="backends_unknown",
            remedy=f"Name two of {', '.join(NAMES)}: --backends onnxruntime,gpu",
        )
    for name in asked:
        if name in LIBRARIES and not installed(name):
            choose("openvino" if name == "openvino" else "onnxruntime")  # says what to install
    return asked[0], asked[1]


@contextmanager
def opened(name: str, loaded: Loaded, folder: Path | None = None) -> Iterator[Backend]:
    """A backend with the bundle's networks. BackendUnavailable; `gpu` needs the engines' folder."""
    networks: dict[str, Network] = dict(loaded.manifest.networks.items())
    if name != "gpu":
        chosen = choose("openvino" if name == "openvino" else "onnxruntime")
        backend = open_backend(chosen, networks, loaded.networks, 2)
        try:
            yield backend
        finally:
            backend.close()
        return
    if folder is None:
        raise BackendUnavailable(
            "the GPU needs engines", code="engine_missing", remedy="Name them: --engines DIR"
        )
    gpu = found_gpu()
    library = trt_engine.load()
    held = engines.load(folder, loaded, engines.here(gpu, trt_engine.NAME, library.version))
    owner = open_device(gpu)
    try:
        on_gpu = open_gpu(owner, library, networks, held)
        try:
            yield on_gpu
        finally:
            on_gpu.close()
    finally:
        owner.stop()


def tensors(loaded: Loaded, first: Backend, second: Backend) -> list[OfTensor]:
    """Rule 1. BundleRefused `bundle_golden` where there is no case for a network."""
    golden.require_cases(loaded)
    found = []
    for case, data in loaded.goldens:
        recorded = golden.arrays(case.file, data)
        network = next(n for role, n in loaded.manifest.networks.items() if role == case.network)
        given = golden.given(case.file, network, recorded)
        one, other = (golden.through(backend)(case.network, given) for backend in (first, second))
        for port in network.outputs:
            found.append(
                _of_tensor(
                    one[port.name], other[port.name], recorded[port.name],
                    OfTensor(case.network, case.file, port.name, 0, 0, 0, 0, case.atol),
                )
            )  # fmt: skip
    return found


def _of_tensor(one: F32, other: F32, recorded: F32, row: OfTensor) -> OfTensor:
    apart = _apart(one, other)
    most = float(np.abs(one).max(initial=0.0)) or 1.0
    return OfTensor(
        network=row.network,
        file=row.file,
        output=row.output,
        max_abs=float(apart.max(initial=0.0)),
        mean_abs=float(apart.mean()) if apart.size else 0.0,
        relative=float(apart.max(initial=0.0)) / most,
        recorded=float(_apart(recorded, other).max(initial=0.0)),
        atol=row.atol,
    )


def _apart(one: F32, other: F32) -> NDArray[np.float64]:
    """|one - other|; infinite where their shapes differ or a value is not finite."""
    if one.shape != other.shape:
        return np.array([math.inf])
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return np.where(np.isfinite(apart), apart, math.inf)


def findings(
    loaded: Loaded, first: Backend, second: Backend, instances: Sequence[bytes]
) -> list[OfFinding]:
    """Rule 2, on these Part-10 instances of one series."""
    one, other = (line.process(instances, loaded.bundle, backend) for backend in (first, second))
    if one.status is not other.status:
        return [OfFinding(_status(one), _status(other), passed=False, why="status")]
    return matched(one.findings, other.findings)


def matched(first: Sequence[Finding], second: Sequence[Finding]) -> list[OfFinding]:
    """Rule 2: every finding with its partner (bundle/agreement.py)."""
    return [
        OfFinding(
            None if pair.first is None else _shown(pair.first),
            None if pair.second is None else _shown(pair.second),
            passed=pair.passed,
            why=pair.why,
        )
        for pair in agreement.paired(first, second)
    ]


def _shown(one: agreement.Found) -> str:
    at = (
        ""
        if one.center_lps_mm is None
        else " at " + ", ".join(f"{v:.1f}" for v in one.center_lps_mm)
    )
    size = "" if one.diameter_mm is None else f", {one.diameter_mm:.1f} mm"
    return f"{one.kind} {one.score:.3f}{at}{size}"


def _status(result: Result) -> str:
    codes = ", ".join(reason.code.value for reason in result.reasons)
    return f"{result.status.value}: {codes}" if codes else result.status.value


def compare(
    loaded: Loaded,
    backends: tuple[str, str],
    *,
    folder: Path | None = None,
    instances: Sequence[bytes] | None = None,
) -> Iterator[OfTensor | OfFinding]:
    """Every row, tensors first. `instances`: None takes the phantom, () leaves findings out."""
    with (
        opened(backends[0], loaded, folder) as first,
        opened(backends[1], loaded, folder) as second,
    ):
        yield from tensors(loaded, first, second)
        series = instances
        if series is None and loaded.manifest.line.takes_images:
            series = kinds.of(loaded.manifest).example()
        if series:
            yield from findings(loaded, first, second, series)


def judge(rows: Sequence[OfTensor | OfFinding], backends: Mapping[int, str] | Sequence[str]) -> str:
    """The verdict in one line. BundleRefused `compare_mismatch` names the first that fails."""
    failed = [row for row in rows if not row.passed]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise BundleRefused(
            f"{backends[1]} differs from {backends[0]}: {failed[0].one_line()}{more}",
            code="compare_mismatch",
            remedy="It must not serve. Build the engines again with --float32, or keep the backend "
            "that was judged by.",
        )
    count = sum(isinstance(row, OfTensor) for row in rows)
    return f"{backends[1]} agrees with {backends[0]}: {count} tensors, {len(rows) - count} findings"
