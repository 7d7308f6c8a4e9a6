"""`make gpu-check`: what only a machine with an NVIDIA GPU can show, as a dated table.

    python -m bench.gpu [--slices 300] [--repeat 20]

In this order: the driver; pycuda, built where it is missing; kernels.cu with nvcc; the contract
suite on the GPU; then figures. What cannot be done here is a line that says why, and the rest goes
on; without a GPU or without nvcc there is nothing to do and the exit code is 1.

Rules.
1. A kernel's bandwidth is what it must read and write at least once (all slices, the tensor) over
   its time, as a share of a device-to-device copy measured in the same run, which counts as one
   read and one write.
2. Times are medians of `--repeat` calls, each waited for; the first call, which uploads, is apart.
3. Peers are named: torch eager runs the same architectures with untrained weights, which cost the
   same time. INT8, FP16 and FP32 need TensorRT.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from appliance.backend.gpu import GpuBackend
from appliance.backend.gpu_device import Device
from appliance.backend.open import open_device
from appliance.backend.owner import Owner
from appliance.bundle import trust
from appliance.bundle.manifest import Manifest, Network
from appliance.errors import BackendUnavailable, BundleRefused
from appliance.host import driver
from appliance.preprocess.spec import Op
from appliance.records import Geometry, Header, Plane, Stack
from compile.kernels import build, find_nvcc

FACTORY = Path(trust.__file__).parents[1] / "factory" / "bundles" / "lung-nodule.scanside"
ROOT = Path(__file__).resolve().parents[1]
COPIED = 1 << 30
MOST = (1, 1, 320, 336, 336)


@dataclass(frozen=True)
class Figure:
    """A row of the table."""

    what: str
    value: str


@dataclass(frozen=True)
class Still:
    """device.Engine that computes nothing, where only what comes before an engine is measured."""

    outputs: Mapping[str, np.dtype[Any]]
    scratch_bytes: int = 0

    def shapes(self, shape: Sequence[int]) -> Mapping[str, tuple[int, ...]]:
        """The outputs' shapes, one value each."""
        return dict.fromkeys(self.outputs, (shape[0],))

    def run(self, stream: int, image: int, outputs: Mapping[str, int], scratch: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def stack_of(slices: int, side: int = 512) -> Stack:
    """A chest's worth of noisy slices of 0.7 mm pixels, 1 mm apart; int16 HU."""
    rng = np.random.default_rng(1)
    header, planes = Header("", "", "", ""), []
    for k in range(slices):
        hu = rng.integers(-1000, 400, (side, side), dtype=np.int16)
        place = Geometry((0.0, 0.0, float(k)), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.7, 0.7))
        planes.append(Plane(header, k, place, hu, {}, False, f"{k:064x}"))
    return Stack(
        tuple(planes), np.arange(slices, dtype=np.float64), (0.0, 0.0, 1.0), (1.0, 0.7, 0.7)
    )


def still(owner: Owner[Device], manifest: Manifest) -> GpuBackend:
    """A backend of the bundle's network of lungs, without its engine."""
    network: Network = manifest.networks["segment"]
    words = {port.name: np.dtype(np.float32) for port in network.outputs}
    return GpuBackend(
        owner, {"segment": network}, {"segment": lambda: Still(words)}, {"segment": (MOST,) * 3}
    )


def median_s(run: Callable[[], object], repeat: int) -> float:
    """Rule 2."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def prepared(
    backend: GpuBackend, stack: Stack, ops: Sequence[Op], repeat: int
) -> tuple[float, float, int]:
    """Seconds of the first `prepare` and of one with the slices there, and the least bytes that
    it moves."""
    first = median_s(lambda: backend.prepare(stack, ops, None), 1)
    then = median_s(lambda: backend.prepare(stack, ops, None), repeat)
    shape = backend.prepare(stack, ops, None).shape
    read = sum(plane.native.nbytes for plane in stack.planes)
    return first, then, read + 4 * int(np.prod(shape))


def copy_rate(owner: Owner[Device], repeat: int) -> float:
    """Bytes a second of a device-to-device copy, read and written counted (rule 1)."""

    def measure(device: Device) -> float:
        import pycuda.driver as cuda  # noqa: PLC0415 - only where there is a GPU

        source, target = device.cuda.allocate(COPIED), device.cuda.allocate(COPIED)
        begin, end = cuda.Event(), cuda.Event()
        cuda.memcpy_dtod(target, source, COPIED)
        begin.record()
        for _ in range(repeat):
            cuda.memcpy_dtod_async(target, source, COPIED)
        end.record()
        end.synchronize()
        seconds = float(begin.time_till(end)) / 1000
        device.cuda.free(source)
        device.cuda.free(target)
        return 2 * COPIED * repeat / seconds

    return owner.call(measure)


def of_kernels(owner: Owner[Device], slices: int, repeat: int) -> Iterator[Figure]:
    """Bandwidth of `prepare` beside that of a copy."""
    manifest = trust.check(FACTORY.read_bytes()).manifest
    backend, stack = still(owner, manifest), stack_of(slices)
    rate = copy_rate(owner, repeat)
    yield Figure("device-to-device copy", f"{rate / 1e9:.0f} GB/s")
    for role in ("segment", "propose"):
        ops = tuple(op for op in manifest.networks[role].preprocess if op.op != "crop")
        try:
            first, then, moved = prepared(backend, stack, ops, repeat)
        except (BackendUnavailable, BundleRefused) as e:
            yield Figure(f"prepare {role}", e.text)
            continue
        share = moved / then / rate
        what = f"prepare {role}, {slices} x 512 x 512"
        yield Figure(f"{what}, with its upload", f"{first * 1e3:.1f} ms")
        yield Figure(f"{what}, slices there", f"{then * 1e3:.2f} ms, {share:.0%} of the copy rate")
    backend.close()


def of_torch(repeat: int) -> Iterator[Figure]:
    """The dense 3D networks in torch eager on this GPU (rule 3)."""
    try:
        import torch  # noqa: PLC0415 - an extra
    except ImportError:
        yield Figure("torch eager", "torch is not installed")
        return
    if not torch.cuda.is_available():
        yield Figure("torch eager", "this torch sees no GPU")
        return
    from training.networks import LungNet, ProposeNet  # noqa: PLC0415 - wants torch

    shapes = {"segment": (LungNet, (96, 112, 112)), "propose": (ProposeNet, (224, 160, 240))}
    for role, (network, shape) in shapes.items():
        for word in (torch.float32, torch.float16):
            model = network().eval().to("cuda", word)
            image = torch.rand((1, 1, *shape), device="cuda", dtype=word)

            def run(model: Any = model, image: Any = image) -> None:
                with torch.no_grad():
                    model(image)
                torch.cuda.synchronize()

            run()
            size = " x ".join(map(str, shape))
            name = str(word).removeprefix("torch.")
            yield Figure(
                f"torch eager {role} {name}, {size}", f"{median_s(run, repeat) * 1e3:.1f} ms"
            )


def of_engines() -> Iterator[Figure]:
    """Engines of the factory bundle for this GPU, and whether they answer like the CPU."""
    folder = ROOT / "build" / "engines"
    steps = {
        "engines": ["compile", "engine", str(FACTORY), "--target", "this", "-o", str(folder)],
        "compare": ["compile", "compare", str(FACTORY), "--backends", "gpu,onnxruntime"],
    }
    for name, words in steps.items():
        began = time.monotonic()
        done = _run("-m", *words)
        said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        took = f" ({time.monotonic() - began:.0f} s)"
        yield Figure(name, (said or [f"exit code {done.returncode}"])[-1] + took)
        if done.returncode:
            return


def contract() -> Figure:
    """The backend contract suite's gpu parameter."""
    done = _run("-m", "pytest", "-q", "-rs", "tests/appliance/backend", "-k", "gpu and not host")
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    reason = next((line for line in lines if line.startswith("SKIPPED")), "")
    return Figure("contract suite", f"{lines[-1].strip('= ')} {reason}".strip())


def with_pycuda() -> None:
    """Builds pycuda where it is missing. BackendUnavailable where that fails."""
    if _run("-c", "import pycuda").returncode == 0:
        return
    print("building pycuda (two minutes)", flush=True)
    cuda = str(find_nvcc().parent.parent)
    path = f"{cuda}/bin{os.pathsep}{os.environ.get('PATH', '')}"
    done = _run(
        *("-m", "pip", "install", "-q", "--disable-pip-version-check"),
        *("--no-binary", "pycuda", "pycuda"),
        environment={"CUDA_ROOT": cuda, "PATH": path},
    )
    if done.returncode:
        raise BackendUnavailable(
            f"pycuda does not build: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}",
            remedy="See jetson/README.md, step 3.",
        )


def _run(
    *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )


def table(title: str, rows: Sequence[Figure]) -> str:
    """Markdown for docs/gpu.md."""
    lines = [f"| {row.what} | {row.value} |" for row in rows]
    return "\n".join([title, "", "| what | figure |", "|---|---|", *lines])


def main() -> int:
    """0 where the contract suite ran on the GPU and nothing in it failed."""
    parser = argparse.ArgumentParser(description="Check a GPU and print its table.")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=20)
    given = parser.parse_args()
    try:
        gpu = driver.recent(driver.probe())
        with_pycuda()
        code = build(find_nvcc())
    except (BackendUnavailable, BundleRefused) as e:
        print(f"gpu-check: {e.line()}", file=sys.stderr)
        return 1
    rows = [contract()]
    owner = open_device(gpu, code)
    try:
        rows += of_kernels(owner, given.slices, given.repeat)
    finally:
        owner.stop()
    rows += of_torch(given.repeat)
    rows += of_engines()
    print(table(f"{date.today()}, {gpu.name} ({gpu.architecture}), driver {gpu.version}", rows))
    return int("failed" in rows[0].value or "passed" not in rows[0].value)


if __name__ == "__main__":
    sys.exit(main())
