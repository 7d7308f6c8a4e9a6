"""Golden cases: recorded runs of a bundle's networks that a backend must reproduce.

A case is an .npz with `input` and every output by name, float32, made from our phantom. Where a
network has several inputs, each lies there by its own name instead.

Rules.
1. An .npz is read without pickle and without trusting its sizes: only plain little-endian float32
   arrays, whose bytes are all there, at most 256 MB in all.
2. An output passes if it is there, has the recorded shape, is finite, and differs nowhere by more
   than the case's `atol`. A network that breaks the backend (Poisoned) gives no output, and one
   that has no case has not passed.
3. A result belongs to one bundle digest and one backend key (name, version, precision). It is kept,
   so what passed runs again only for another bundle or another backend.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from appliance.bundle.manifest import Network
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused, Poisoned
from appliance.records import Tensor
from appliance.report import Record

MAX_BYTES = 256_000_000
MAX_ARRAYS = 16
INPUT = "input"

Arrays = Mapping[str, NDArray[np.float32]]
Given = NDArray[np.float32] | Arrays
"""The one input of a network, or each of several by name."""
Infer = Callable[[str, Given], Arrays]
"""(role, input) -> outputs by name, on the host."""


class GoldenResult(Record):
    """One golden case on one backend."""

    network: str
    file: str
    max_abs_diff: float | None
    """None where an output was missing, of another shape or not finite."""
    atol: float
    passed: bool


class Gate(Record):
    """The golden cases of one bundle on one backend."""

    passed: bool
    results: tuple[GoldenResult, ...]

    def one_line(self) -> str:
        """The worst case in one line."""
        worst = max(self.results, key=_badness, default=None)
        if worst is None:
            return "no golden case"
        figure = "no usable output" if worst.max_abs_diff is None else f"{worst.max_abs_diff:.3g}"
        return f"{worst.network} ({worst.file}): {figure}, allowed {worst.atol:.3g}"


@dataclass(frozen=True, slots=True)
class Runner:
    """How to run a bundle's golden cases on the chosen backend.

    `key` names backend, library version and precision, such as `onnxruntime 1.20.1 fp32`; `run`
    takes the file of a bundle and the bundle as it was checked, and may refuse it (BundleRefused).
    """

    key: str
    run: Callable[[Path, Loaded], Gate]


class Infers(Protocol):
    """What of an open backend a golden case needs."""

    def infer(self, role: str, image: Tensor | Mapping[str, Tensor]) -> Arrays:
        """Input of one network, or several by name -> its outputs by name."""
        ...


def through(backend: Infers) -> Infer:
    """An open backend whose tensors are numpy arrays, as Infer."""

    def tensor(array: NDArray[np.float32]) -> Tensor:
        return Tensor(data=array, shape=array.shape, grid=None)

    def infer(role: str, given: Given) -> Arrays:
        if isinstance(given, Mapping):
            return backend.infer(role, {name: tensor(array) for name, array in given.items()})
        return backend.infer(role, tensor(given))

    return infer


def given(file: str, network: Network, recorded: Arrays) -> Given:
    """What of a recorded case goes into its network. BundleRefused `bundle_golden`."""
    names = [INPUT] if len(network.inputs) == 1 else [port.name for port in network.inputs]
    for name in names:
        if name not in recorded:
            raise _refused(file, f"no array {name!r}")
    return recorded[INPUT] if names == [INPUT] else {name: recorded[name] for name in names}


def run(loaded: Loaded, infer: Infer) -> list[GoldenResult]:
    """Every golden case of the bundle, in the manifest's order. BundleRefused `bundle_golden` where
    a case cannot be read."""
    results = []
    for golden, data in loaded.goldens:
        recorded = arrays(golden.file, data)
        declared = next(n for r, n in loaded.manifest.networks.items() if r == golden.network)
        image = given(golden.file, declared, recorded)
        if missing := {port.name for port in declared.outputs} - set(recorded):
            raise _refused(golden.file, f"no array {min(missing)!r}")
        try:
            got = infer(golden.network, image)
        except Poisoned:
            got = {}
        diff = max(_difference(got.get(p.name), recorded[p.name]) for p in declared.outputs)
        results.append(
            GoldenResult(
                network=golden.network,
                file=golden.file,
                max_abs_diff=diff if math.isfinite(diff) else None,
                atol=golden.atol,
                passed=diff <= golden.atol,
            )
        )
    return results


def gate(loaded: Loaded, infer: Infer) -> Gate:
    """All cases and the verdict: passed if each passed and every network has one."""
    results = tuple(run(loaded, infer))
    covered = {result.network for result in results} == set(loaded.manifest.networks)
    return Gate(passed=covered and all(result.passed for result in results), results=results)


def require_cases(loaded: Loaded) -> None:
    """BundleRefused `bundle_golden` where a network has no golden case."""
    for role in loaded.manifest.networks:
        if all(golden.network != role for golden in loaded.manifest.goldens):
            raise BundleRefused(
                f"{loaded.manifest.name}: network {role!r} has no golden case",
                remedy="Pack the bundle with at least one golden case for each network.",
                code="bundle_golden",
            )


def arrays(name: str, data: bytes) -> dict[str, NDArray[np.float32]]:
    """Bytes of an .npz -> float32 arrays by name. BundleRefused `bundle_golden`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = file.infolist()
            if len(members) > MAX_ARRAYS or sum(m.file_size for m in members) > MAX_BYTES:
                raise _refused(name, "too large")
            found: dict[str, NDArray[np.float32]] = {}
            for member in members:
                found[member.filename.removesuffix(".npy")] = _array(name, file.read(member))
    except BundleRefused:
        raise
    except Exception as e:  # zipfile and zlib raise a dozen kinds on bad input
        raise _refused(name, "not readable as .npz") from e
    if len(found) != len(members):
        raise _refused(name, "an array comes twice")
    return found


def _array(name: str, data: bytes) -> NDArray[np.float32]:
    """Bytes of an .npy, whose header promises no more than is there."""
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
    else:
        raise _refused(name, f"npy version {version} is not allowed")
    if dtype != np.dtype("<f4"):
        raise _refused(name, f"{ascii(str(dtype))[:40]} is not allowed, only float32")
    body = data[stream.tell() :]
    if any(n < 0 for n in shape) or math.prod(shape) * 4 != len(body):
        raise _refused(name, "an array is cut off")
    flat = np.frombuffer(body, dtype="<f4").astype(np.float32)
    return flat.reshape(shape, order="F" if fortran else "C")


def _difference(got: NDArray[np.float32] | None, want: NDArray[np.float32]) -> float:
    """Largest difference; infinite where shapes differ or a value is not finite."""
    if got is None or got.shape != want.shape:
        return math.inf
    if want.size == 0:
        return 0.0
    diff = float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64))))
    return diff if math.isfinite(diff) else math.inf


def _badness(result: GoldenResult) -> float:
    return math.inf if result.max_abs_diff is None else result.max_abs_diff / result.atol


def _refused(name: str, text: str) -> BundleRefused:
    return BundleRefused(
        f"golden case {name}: {text}",
        remedy="Pack the bundle again from float32 cases written by numpy.savez.",
        code="bundle_golden",
    )
