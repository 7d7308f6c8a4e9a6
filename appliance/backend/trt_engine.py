"""device.Engine by TensorRT 10.3 to 11.x. What a version lacks is asked by hasattr, not by number.

Rules.
1. TensorRT is imported only after a child process has loaded it and made a Runtime: without a
   driver, or with one that does not fit, that call may end the process by a signal.
2. A plan is code. It is deserialised only after the engine shelf has vouched for it (engines.py);
   `engine_host_code_allowed` stays False.
3. Scratch memory is the arena's (USER_MANAGED), so nothing is allocated while a study runs.
4. What TensorRT logs as an error is an error, whatever the call answers.
5. Times of layers (`layers_ms`) are for measuring: an engine that was asked for them once waits for
   each of its runs from then on.
Calls: TensorRT Python API, "Runtime", "ICudaEngine", "IExecutionContext". None of this has run on a
GPU yet: docs/gpu.md.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from appliance.backend.device import EngineError
from appliance.errors import BackendUnavailable
from appliance.host import driver

NAME = "tensorrt"
REMEDY = (
    "On a Jetson it comes with JetPack: apt install python3-libnvinfer, and a virtual environment "
    "made with --system-site-packages."
)
TRY = f"import {NAME} as t; t.Runtime(t.Logger(t.Logger.ERROR)); print(t.__version__)"
USED: Mapping[str, tuple[str, ...]] = {
    "Runtime": ("deserialize_cuda_engine", "engine_host_code_allowed"),
    "ICudaEngine": (
        "create_execution_context", "get_tensor_dtype", "get_tensor_mode", "get_tensor_name",
        "num_io_tensors",
    ),
    "IExecutionContext": (
        "execute_async_v3", "get_tensor_shape", "infer_shapes", "set_input_shape",
        "set_tensor_address",
    ),
}  # fmt: skip
"""What is called, beside the two pairs in `_scratch_of` and `run`; a test looks for each."""
PROFILED: Mapping[str, tuple[str, ...]] = {
    "IProfiler": ("report_layer_time",),
    "IExecutionContext": ("profiler",),
    "ICudaEngine": ("create_engine_inspector",),
    "EngineInspector": ("get_engine_information",),
    "LayerInformationFormat": ("JSON",),
}
"""What `layers_ms` asks for beside them."""


@dataclass(frozen=True, slots=True)
class Library:
    """An imported TensorRT."""

    module: Any
    version: str


def version() -> str:
    """Of TensorRT, as a child process says that can make a Runtime. BackendUnavailable."""
    if find_spec(NAME) is None:
        raise BackendUnavailable("TensorRT is not installed", remedy=REMEDY)
    done = driver.child(TRY)
    if done.returncode:
        raise BackendUnavailable(f"TensorRT cannot be loaded: {driver.ended(done)}", remedy=REMEDY)
    return (done.stdout.strip().splitlines() or ["unknown"])[-1]


def load() -> Library:
    """Import it (rule 1). BackendUnavailable as `version`."""
    described = version()
    return Library(importlib.import_module(NAME), described)


class TrtEngine:
    """One engine and its context, made and used in the thread that owns the device."""

    def __init__(self, library: Library, plan: bytes) -> None:
        """EngineError where TensorRT does not take the plan."""
        trt = library.module
        self._log = logger(trt)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None or self._log.errors:
            raise EngineError(self._complaint("it does not take this engine"))
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = self._engine.create_execution_context(strategy)
        if self._context is None:
            raise EngineError(self._complaint("it makes no execution context"))
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise EngineError(f"the engine has the inputs {inputs}, not one")
        self._trt = trt
        self._times: Any = None
        """What hears the times of layers, once they were asked for."""
        self._image = inputs[0]
        self.outputs: Mapping[str, np.dtype[Any]] = {
            name: np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
            for name in names
            if name != self._image
        }
        self.scratch_bytes = _scratch_of(self._engine)

    def shapes(self, shape: Sequence[int]) -> Mapping[str, tuple[int, ...]]:
        if not self._context.set_input_shape(self._image, tuple(shape)):
            raise EngineError(self._complaint(f"it does not take an input of {tuple(shape)}"))
        if unknown := list(self._context.infer_shapes()):
            raise EngineError(self._complaint(f"the shape of {unknown[0]} is not known"))
        found = {name: tuple(self._context.get_tensor_shape(name)) for name in self.outputs}
        if bad := [name for name, of in found.items() if min(of, default=0) < 0]:
            raise EngineError(f"the shape of {bad[0]} depends on its values")
        return found

    def run(self, stream: int, image: int, outputs: Mapping[str, int], scratch: int) -> None:
        context = self._context
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(scratch, self.scratch_bytes)
        else:
            context.device_memory = scratch
        for name, at in {self._image: image, **outputs}.items():
            if not context.set_tensor_address(name, at):
                raise EngineError(self._complaint(f"it does not take an address for {name}"))
        if not context.execute_async_v3(stream) or self._log.errors:
            raise EngineError(self._complaint("it does not run"))

    def layers_ms(
        self, stream: int, image: int, outputs: Mapping[str, int], scratch: int
    ) -> Mapping[str, float]:
        """See device.Profiled; rule 5. IExecutionContext.profiler, "Profiling"."""
        if not (hasattr(self._trt, "IProfiler") and hasattr(self._context, "profiler")):
            raise EngineError("this TensorRT has no profiler")
        if self._times is None:
            self._times = profiler(self._trt)
            self._context.profiler = self._times
        self._times.ms = {}
        self.run(stream, image, outputs, scratch)  # execute_async_v3 waits and tells, by default
        if not self._times.ms:
            raise EngineError("TensorRT told the time of no layer")
        made_of = _made_of(self._trt, self._engine)
        return {f"{name} {made_of.get(name, '')}".rstrip(): t for name, t in self._times.ms.items()}

    def close(self) -> None:
        self._context = self._engine = self._runtime = None  # in this order

    def _complaint(self, otherwise: str) -> str:
        errors, self._log.errors = self._log.errors, []
        return f"TensorRT: {errors[0] if errors else otherwise}"


def _scratch_of(engine: Any) -> int:
    if hasattr(engine, "device_memory_size_v2"):
        return int(engine.device_memory_size_v2)
    return int(engine.device_memory_size)


def _made_of(trt: Any, engine: Any) -> dict[str, str]:
    """Layer -> the nodes that it is made of ("Metadata"), of an engine built to say so."""
    if not hasattr(engine, "create_engine_inspector"):
        return {}
    described = engine.create_engine_inspector().get_engine_information(
        trt.LayerInformationFormat.JSON
    )
    try:
        layers = json.loads(described)["Layers"]
        return {layer["Name"]: str(layer.get("Metadata", "")) for layer in layers}
    except (ValueError, KeyError, TypeError):  # names alone: the engine is not a detailed one
        return {}


def profiler(trt: Any) -> Any:
    """What TensorRT tells the times of layers to: `ms`, by name."""

    class Times(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.ms: dict[str, float] = {}

        def report_layer_time(self, layer: str, ms: float) -> None:
            self.ms[layer] = self.ms.get(layer, 0.0) + ms

    return Times()


def logger(trt: Any) -> Any:
    """TensorRT's log, kept: `errors` and `warnings`, each a line."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            line = " ".join(text.split())[:300]
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(line)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(line)

    return Log()
