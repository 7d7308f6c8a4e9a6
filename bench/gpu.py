"""`make gpu-check`: what only a machine with an NVIDIA GPU can show, as a dated table.

    python -m bench.gpu [--slices 300] [--repeat 20]

In this order: the driver; pycuda, built where it is missing; kernels.cu with nvcc; the contract
suite on the GPU; then figures, INT8, FP16 and FP32 by layer among them (layers.py). What cannot be
done here is a line that says why, and the rest goes on; without a GPU or its kernels there is
nothing to do and the exit code is 1.

Rules.
1. A kernel's bandwidth is what it must read and write at least once (all slices, the tensor) over
   its time, as a share of a device-to-device copy measured in the same run, which counts as one
   read and one write.
2. Times are medians of `--repeat` calls, each waited for; the first call, which uploads, is apart.
3. Peers are named: torch eager runs the same architectures with untrained weights, which cost the
   same time (layers.py, rule 3). INT8, FP16 and FP32 need TensorRT.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from appliance.backend.choose import choose
from appliance.backend.fatbin import SHIPPED
from appliance.backend.gpu import GpuBackend
from appliance.backend.gpu_device import Device
from appliance.backend.open import open_device
from appliance.backend.owner import Owner
from appliance.backend.profile import LUNGS_MM
from appliance.backend.protocol import Backend
from appliance.bundle import trust
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.manifest import Manifest, Network
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, BundleRefused, ScansideError
from appliance.host import driver
from appliance.lines.nodules import MEASURED_AT_ONCE
from appliance.preprocess.spec import Op
from appliance.records import Box, Geometry, Grid, Header, Plane, Stack
from bench import layers
from compile import compare, tensorrt
from compile.kernels import find_nvcc, for_gpu, place

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


def prepared(
    backend: GpuBackend, stack: Stack, ops: Sequence[Op], repeat: int
) -> tuple[float, float, int]:
    """Seconds of the first `prepare` and of one with the slices there, and the least bytes that
    it moves."""
    first = layers.median_s(lambda: backend.prepare(stack, ops, None), 1, warm=False)
    then = layers.median_s(lambda: backend.prepare(stack, ops, None), repeat, warm=False)
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


def of_layers(
    owner: Owner[Device], loaded: Loaded, gpu: driver.Driver, repeat: int
) -> tuple[list[Figure], list[str]]:
    """INT8, FP16 and FP32 end to end beside torch eager, and tables by layer (layers.py)."""
    torch, baseline, lines = of_torch(loaded, "cuda", repeat)
    try:
        networks = layers.files(loaded)
        make = layers.with_tensorrt(loaded, tensorrt.load("tensorrt"), gpu.architecture)
    except (BackendUnavailable, BundleRefused) as e:
        return [*lines, Figure("INT8, FP16, FP32 by layer", e.text)], []
    found = layers.measured(owner, loaded, networks, make, repeat)
    return [*lines, *(Figure(*row) for row in layers.ratios(found, baseline, torch))], [
        layers.layer_table(role, layers.weighted(networks[role]["FP32"]), row)
        for role, row in found.items()
    ]


def of_torch(loaded: Loaded, where: str, repeat: int) -> tuple[str, dict[str, float], list[Figure]]:
    """The baseline's name, its seconds by role in float32, and lines for both types (rule 3)."""
    try:
        import torch  # noqa: PLC0415 - an extra
    except ImportError:
        return "torch eager", {}, [Figure("torch eager", "torch is not installed")]
    if where == "cuda" and not torch.cuda.is_available():
        return "torch eager", {}, [Figure("torch eager", "this torch sees no GPU")]
    tf32 = "on" if torch.backends.cudnn.allow_tf32 else "off"
    name = f"torch {torch.__version__} eager float32 (cuDNN's TF32 {tf32})"
    baseline, lines = {}, []
    for role in loaded.networks:
        shape = layers.shapes_of(loaded, role)[1]
        size = " x ".join(map(str, shape))
        for word in ("float32", "float16"):
            try:
                took = layers.eager_s(role, shape, where, word, repeat)
            except (KeyError, RuntimeError) as e:  # no such architecture; no memory left
                lines.append(Figure(f"torch eager {role} {word}", f"{type(e).__name__}: {e}"[:200]))
                continue
            if word == "float32":
                baseline[role] = took
            lines.append(Figure(f"torch eager {role} {word}, {size}", f"{took * 1e3:.2f} ms"))
    return name, baseline, lines


def of_engines(loaded: Loaded, slices: int, repeat: int) -> Iterator[Figure]:
    """Engines of the factory bundle for this GPU, whether they answer like the CPU, and a CT on
    them."""
    folder = ROOT / "build" / "engines"
    two = f"{choose()},gpu"
    steps = {
        "engines": ["engine", str(FACTORY), "--target", "this", "-o", str(folder)],
        "compare": ["compare", str(FACTORY), "--backends", two, "--engines", str(folder)],
    }
    for name, words in steps.items():
        began = time.monotonic()
        done = _run("-m", "compile", *words)
        printed = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        took = f" ({time.monotonic() - began:.0f} s)"
        yield Figure(name, (printed or [f"exit code {done.returncode}"])[-1] + took)
        if done.returncode:
            return
    stack, what = stack_of(slices), f"prepare + infer, {slices} x 512 x 512"
    try:
        with compare.opened("gpu", loaded, folder) as backend:
            took_s = ct_s(backend, loaded.manifest, stack, repeat)
    except ScansideError as e:
        yield Figure(what, e.text)
        return
    yield Figure(f"{what}, slices there", f"{took_s * 1e3:.1f} ms (aim 50 ms)")


def ct_s(backend: Backend, manifest: Manifest, stack: Stack, repeat: int) -> float:
    """Median seconds of every prepare, gather and infer of a CT, after one that uploads and does
    not count: all candidates that a line may have, and as many measured as go into one run."""
    line = manifest.line_of(SegmentProposeClassify)
    centre = (180.0, 180.0, len(stack.planes) / 2)

    def once() -> None:
        lungs = backend.prepare(stack, manifest.networks["segment"].preprocess, None)
        backend.infer("segment", lungs)
        if line.mass is not None:
            backend.infer("mass", lungs)
        box = middle(lungs.grid) if lungs.grid is not None else None
        near = backend.prepare(stack, manifest.networks["propose"].preprocess, box)
        backend.infer("propose", near)
        patches = backend.gather(
            stack,
            manifest.networks["classify"].preprocess,
            [centre] * line.propose.top_k,
            line.classify.views,
        )
        backend.infer("classify", patches)
        if line.measure is not None:
            ops = manifest.networks["measure"].preprocess
            backend.infer("measure", backend.gather(stack, ops, [centre] * MEASURED_AT_ONCE))

    return layers.median_s(once, repeat)


def middle(grid: Grid) -> tuple[Grid, Box]:
    """The middle of a volume, as large as a usual box around the lungs."""
    spacing = np.linalg.norm(grid.to_lps[:3, :3], axis=0)  # mm along z, y and x
    low, high = [], []
    for size, step, mm in zip(grid.shape, spacing, LUNGS_MM[0], strict=True):
        cells = min(size, round(mm / float(step)))
        low.append((size - cells) // 2)
        high.append((size - cells) // 2 + cells)
    return grid, Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def contract() -> Figure:
    """The backend contract suite's gpu parameter."""
    suite = "tests/appliance/backend/test_protocol.py"  # other tests run over the host's GPU
    done = _run("-m", "pytest", "-q", "-rs", suite, "-k", "gpu and not host")
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
        code = for_gpu(gpu)
        place(SHIPPED.parent, code)  # where a release has them, and the children look
    except (BackendUnavailable, BundleRefused) as e:
        print(f"gpu-check: {e.one_line()}", file=sys.stderr)
        return 1
    loaded = trust.check(FACTORY.read_bytes())
    rows = [contract()]
    owner = open_device(gpu, code)
    try:
        rows += of_kernels(owner, given.slices, given.repeat)
        more, tables = of_layers(owner, loaded, gpu, given.repeat)
    finally:
        owner.stop()
    rows += [*more, *of_engines(loaded, given.slices, given.repeat)]
    title = f"{date.today()}, {gpu.name} ({gpu.architecture}), driver {gpu.version}"
    print("\n\n".join([table(title, rows), *tables]))
    return int("failed" in rows[0].value or "passed" not in rows[0].value)


if __name__ == "__main__":
    sys.exit(main())
