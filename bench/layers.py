"""INT8 against FP16 against FP32: each network as three engines, by layer and end to end.

Part of `make gpu-check` (bench/gpu.py). Everything here goes through device.Engine, so the tests
run it over an engine of the host.

Rules.
1. INT8 is the engine as `compile engine` builds it (what is not INT8 in float16 where the golden
   cases allow it); FP32 the same network without its Q/DQ; FP16 that one in float16 throughout.
2. End to end: from an image on the host to outputs on the host, at the usual shape of the engine's
   profile; median of `repeat` runs after one that does not count.
3. The baseline is torch eager in float32 on the same GPU, with torch's own defaults (it lets cuDNN
   use TF32), the same architecture with untrained weights and the same shape, host to host too.
4. By layer: the library's own profiler, in runs of its own, median of `repeat`. A row is a layer
   with weights. What an engine fused with it counts for it; a kernel that holds several of them
   counts for the first, and the others say so; what holds none (casts, reformats, additions) is
   `the rest`.
5. What cannot be had is a line that says why.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx

from appliance.backend.device import DeviceError, Engine, EngineError
from appliance.backend.gpu_device import Device
from appliance.backend.gpu_memory import nbytes
from appliance.backend.owner import Owner
from appliance.backend.profile import Shapes
from appliance.backend.trt_engine import Library as Runtime
from appliance.backend.trt_engine import TrtEngine
from appliance.bundle.manifest import Network
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, BundleRefused
from appliance.lines.kinds import profile
from compile import tensorrt
from compile.half import LAYERS, half, lowered
from compile.unquantized import unquantized

Precision = Literal["int8", "fp16", "fp32"]
PRECISIONS: Mapping[str, Precision] = {"INT8": "int8", "FP16": "fp16", "FP32": "fp32"}
"""As it is told here -> as a manifest says it, which TensorRT 10.3 gets as flags."""
AIM = 3.2
"""Times faster than the baseline (rule 3)."""
REST = "the rest"
FLOAT = np.dtype(np.float32)
Files = Mapping[str, bytes]
"""Precision -> ONNX file."""
Make = Callable[[str, str, bytes, Shapes], Engine]
"""(role, precision, ONNX file, shapes) -> an engine, in the owner's thread."""


@dataclass(frozen=True)
class Timed:
    """One engine: its seconds end to end, and milliseconds by layer or why there are none."""

    whole_s: float
    layers: Mapping[str, float]
    why: str = ""


def files(loaded: Loaded) -> dict[str, Files]:
    """Role -> the three networks of rule 1. BundleRefused where one cannot be written."""
    built = lowered(loaded)
    found: dict[str, Files] = {}
    for role in loaded.networks:
        plain = unquantized(loaded.networks[role])
        found[role] = dict(zip(PRECISIONS, (built[role].data, half(plain), plain), strict=True))
    return found


def with_tensorrt(loaded: Loaded, library: tensorrt.Library, architecture: str) -> Make:
    """Engines for this machine's GPU, built here and now, that know what a layer is made of."""

    def make(role: str, precision: str, data: bytes, shapes: Shapes) -> Engine:
        timed = {"precision": PRECISIONS[precision]}
        network = networks_of(loaded)[role].model_copy(update=timed)
        port = network.inputs[0].name
        plan = tensorrt.build(
            library, role, network, data, {port: shapes}, architecture=architecture, detailed=True
        ).data
        return TrtEngine(Runtime(library.module, library.version), plan)

    return make


def timed(
    owner: Owner[Device], make: Callable[[], Engine], shape: Sequence[int], repeat: int
) -> Timed:
    """Rules 2 and 4, for one engine."""

    def measure(device: Device) -> Timed:
        engine = make()
        held: list[int] = []

        def place(size: int) -> int:
            held.append(device.cuda.allocate(max(1, size)))
            return held[-1]

        try:
            shapes, words = engine.shapes(shape), engine.outputs
            image = np.random.default_rng(1).random(tuple(shape), np.float32)
            at = place(image.nbytes)
            outputs = {name: np.empty(shapes[name], words[name]) for name in words}
            places = {name: place(nbytes(shapes[name], words[name])) for name in words}
            timed = (device.cuda.handle("compute"), at, places, place(engine.scratch_bytes))

            def once() -> None:
                device.staging.up(at, image)
                device.store.uploaded()
                engine.run(*timed)
                device.cuda.finish("compute")
                for name, array in outputs.items():
                    device.staging.down(array, places[name])

            whole = median_s(once, repeat)
            if not hasattr(engine, "layers_ms"):
                return Timed(whole, {}, "this engine tells no times of its layers")
            try:
                runs = [engine.layers_ms(*timed) for _ in range(repeat)]
            except EngineError as e:
                return Timed(whole, {}, str(e))
            names = runs[0]
            return Timed(whole, {n: statistics.median(r.get(n, 0.0) for r in runs) for n in names})
        finally:
            engine.close()
            for one in held:
                device.cuda.free(one)

    return owner.call(measure)


def median_s(run: Callable[[], object], repeat: int, *, warm: bool = True) -> float:
    """Rule 2; the first run counts where it is not to be a `warm` one."""
    if warm:
        run()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def weighted(data: bytes) -> list[str]:
    """Names of an ONNX file's layers with weights, in their order."""
    nodes = onnx.load_model_from_string(data).graph.node
    return [node.name for node in nodes if node.op_type in LAYERS]


def by_layer(layers: Mapping[str, float], names: Sequence[str]) -> dict[str, float | str]:
    """Rule 4: the network's layers and REST -> milliseconds, or `with` the layer that counts it."""
    words = {name: re.compile(rf"(?<![\w.]){re.escape(name)}(?![\w.])") for name in names}
    found: dict[str, float | str] = {}
    rest = 0.0
    for kernel, ms in layers.items():
        inside = [name for name in names if words[name].search(kernel)]
        if not inside:
            rest += ms
            continue
        first = inside[0]
        before = found.get(first)
        found[first] = ms + (before if isinstance(before, float) else 0.0)
        for name in inside[1:]:
            found.setdefault(name, f"with {first}")
    return {**{name: found.get(name, "not told") for name in names}, REST: rest}


def layer_table(role: str, names: Sequence[str], engines: Mapping[str, Timed | str]) -> str:
    """Markdown: a network's layers in milliseconds, and their sums; or why there are none."""
    timed = {p: one for p, one in engines.items() if isinstance(one, Timed) and not one.why}
    columns = {p: by_layer(one.layers, names) for p, one in timed.items()}
    silent = [
        f"{precision}: {one.why if isinstance(one, Timed) else one}"
        for precision, one in engines.items()
        if precision not in timed
    ]
    lines = [f"{role}, by layer" + "".join(f"; {line}" for line in silent)]
    if columns:
        lines += ["", "| layer | " + " | ".join(f"{p} ms" for p in columns) + " |"]
        lines += ["|---|" + "---|" * len(columns)]
        for name in (*names, REST):
            cells = (column[name] for column in columns.values())
            shown = (cell if isinstance(cell, str) else f"{cell:.3f}" for cell in cells)
            lines.append(f"| {name} | " + " | ".join(shown) + " |")
        sums = (f"{sum(timed[p].layers.values()):.3f}" for p in columns)
        lines.append("| all | " + " | ".join(sums) + " |")
    return "\n".join(lines)


def measured(
    owner: Owner[Device], loaded: Loaded, networks: Mapping[str, Files], make: Make, repeat: int
) -> dict[str, dict[str, Timed | str]]:
    """Role -> precision -> its engine's times, or why it has none (rule 5)."""
    found: dict[str, dict[str, Timed | str]] = {}
    for role, variants in networks.items():
        shapes = shapes_of(loaded, role)
        for precision, data in variants.items():

            def engine(
                role: str = role,
                precision: str = precision,
                data: bytes = data,
                shapes: Shapes = shapes,
            ) -> Engine:
                return make(role, precision, data, shapes)

            row = found.setdefault(role, {})
            try:
                row[precision] = timed(owner, engine, shapes[1], repeat)
            except (DeviceError, EngineError) as e:
                row[precision] = str(e)
            except (BackendUnavailable, BundleRefused) as e:
                row[precision] = e.text
    return found


def networks_of(loaded: Loaded) -> dict[str, Network]:
    """Role -> what the manifest says of its network."""
    return dict(loaded.manifest.networks.items())


def shapes_of(loaded: Loaded, role: str) -> Shapes:
    """Smallest, usual and largest input of a network's engine."""
    network = networks_of(loaded)[role]
    port = network.inputs[0]
    made: Shapes = (port.shape,) * 3
    return profile(role, network, loaded.manifest).get(port.name, made)


def architecture(role: str) -> Any:
    """The network of a role in torch, with untrained weights. KeyError for one without."""
    from training import networks  # noqa: PLC0415 - wants torch

    architectures: dict[str, Callable[[], Any]] = {
        "segment": networks.SickLungNet,
        "propose": networks.ProposeNet,
        "mass": networks.DrawnMassNet,
        "measure": networks.MeasureNet,
        "classify": networks.PatchNet,
    }
    return architectures[role]().eval()


def eager_s(role: str, shape: Sequence[int], where: str, word: str, repeat: int) -> float:
    """Rule 3: seconds of torch eager, on the device `where`. KeyError as `architecture`."""
    import torch  # noqa: PLC0415 - an extra

    kind = getattr(torch, word)
    model = architecture(role).to(where, kind)
    image = torch.rand(tuple(shape))

    def once() -> None:
        with torch.no_grad():
            made = model(image.to(where, kind))
        for one in made if isinstance(made, tuple) else (made,):
            one.cpu()

    return median_s(once, repeat)


def ratios(
    engines: Mapping[str, Mapping[str, Timed | str]], baseline: Mapping[str, float], torch: str
) -> list[tuple[str, str]]:
    """(what, figure): each network's engines end to end beside the baseline, and all together."""
    rows = []
    sums = {"ours": 0.0, "theirs": 0.0}
    whole = True
    for role, row in engines.items():
        compared = []
        for precision, one in row.items():
            compared.append(
                f"{precision} {one.whole_s * 1e3:.2f} ms"
                if isinstance(one, Timed)
                else f"{precision}: {one}"
            )
        theirs, ours = baseline.get(role), row.get("INT8")
        if theirs is None or not isinstance(ours, Timed):
            whole = False
        else:
            compared.append(f"{torch} {theirs * 1e3:.2f} ms: INT8 is {theirs / ours.whole_s:.2f}x")
            sums["ours"] += ours.whole_s
            sums["theirs"] += theirs
        rows.append((f"{role}, host to host", "; ".join(compared)))
    what = f"INT8 engines against {torch}, all networks, host to host"
    if whole and sums["ours"]:
        rows.append((what, f"{sums['theirs'] / sums['ours']:.2f}x (aim {AIM}x)"))
    else:
        rows.append((what, "not all were measured"))
    return rows
