"""One ONNX network -> one engine, by TensorRT or TensorRT-RTX. The only module that calls them.

Rules.
1. Neither is imported before a child process has loaded it and made a builder (driver.py, rule 1).
2. One code path for TensorRT 10.12 to 11.x and TensorRT-RTX: strongly typed, so the types in the
   ONNX file are the types of the engine and no flag widens or narrows them. TF32 is switched off:
   precision is pinned, never left to a library's default.
3. TensorRT 10.3 (JetPack 6.2) gets the flags INT8 and FP16 in its place. It is told apart by what
   it lacks, never by its version: IBuilderConfig.tiling_optimization_level (10.3 no, 10.12 yes).
4. A node that the parser does not take is named. An error in TensorRT's log fails the build even
   where it hands out an engine; a warning is handed on.
5. A timing cache is kept by TensorRT alone; TensorRT-RTX has the calls, but they do nothing (1.2).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from appliance.backend.profile import Shapes
from appliance.backend.trt_engine import logger
from appliance.bundle.manifest import Network
from appliance.errors import BackendUnavailable, BundleRefused
from appliance.host import driver

Name = Literal["tensorrt", "tensorrt_rtx"]
INSTALL: dict[Name, str] = {
    "tensorrt": "On a Jetson it comes with JetPack: apt install python3-libnvinfer, and a virtual "
    "environment made with --system-site-packages.",
    "tensorrt_rtx": "pip install 'scanside[trt-rtx]' (x86-64 Linux).",
}
WORKSPACE_BYTES = 1 << 30
"""Scratch memory of one engine: a device of 8 GB shares it with the CPU, the series and the OS."""
PRECISIONS = ("INT8", "FP16")


@dataclass(frozen=True, slots=True)
class Library:
    """An imported TensorRT."""

    name: Name
    version: str
    module: Any

    @property
    def strong(self) -> bool:
        """Rule 3: whether types come from the network alone."""
        weak = hasattr(self.module.BuilderFlag, "INT8")
        return not weak or hasattr(self.module.IBuilderConfig, "tiling_optimization_level")

    @property
    def architectures(self) -> tuple[str, ...]:
        """Those it can build for without their GPU; none for TensorRT, which builds on its own."""
        if self.name == "tensorrt":
            return ()
        listed = self.module.ComputeCapability.__members__
        return tuple(name.replace("SM", "sm_") for name in listed if name.startswith("SM"))


@dataclass(frozen=True, slots=True)
class Built:
    """An engine's bytes, the timing cache after it, what the log warned of."""

    data: bytes
    timing_cache: bytes | None
    warnings: tuple[str, ...]


def load(name: Name) -> Library:
    """Import a library, after a child has tried. BackendUnavailable says how to install it."""
    if find_spec(name) is None:
        raise BackendUnavailable(f"the library {name} is not installed", remedy=INSTALL[name])
    done = driver.child(f"import {name} as t; t.Builder(t.Logger(t.Logger.ERROR))")
    if done.returncode:
        raise BackendUnavailable(
            f"the library {name} cannot be loaded: {driver.ended(done)}", remedy=INSTALL[name]
        )
    module = importlib.import_module(name)
    return Library(name, str(module.__version__), module)


def build(
    library: Library,
    role: str,
    network: Network,
    onnx: bytes,
    profile: Mapping[str, Shapes],
    *,
    architecture: str | None = None,
    timing_cache: bytes | None = None,
    detailed: bool = False,
) -> Built:
    """One engine for `architecture` (sm_86; None: the GPU of this machine). `detailed`: it can say
    of which nodes a layer is made, where the library has that.

    BundleRefused `engine_node` names the node that the parser refuses, `engine_build` gives what
    the builder said.
    """
    trt = library.module
    log = logger(trt)
    builder = trt.Builder(log)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if library.strong else 0
    # supports_model_v2 fills the definition that it is asked about: it gets one of its own. The
    # parser does not keep its definition alive: without a name of its own the process segfaults
    scratch = builder.create_network(flags)
    asked = trt.OnnxParser(scratch, log)
    supported = asked.supports_model_v2(onnx)
    definition = builder.create_network(flags)
    parser = trt.OnnxParser(definition, log)
    if not (parser.parse(onnx) and supported):
        raise _refused(role, parser if parser.num_errors else asked, log.errors)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)
    if not library.strong and network.precision != "fp32":
        for precision in PRECISIONS:
            config.set_flag(getattr(trt.BuilderFlag, precision))
    if detailed and hasattr(config, "profiling_verbosity"):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if architecture is not None and library.name == "tensorrt_rtx":
        config.num_compute_capabilities = 1
        wanted = getattr(trt.ComputeCapability, architecture.replace("sm_", "SM"))
        config.set_compute_capability(wanted, 0)
    if profile:
        shapes = builder.create_optimization_profile()
        for port, (least, usual, most) in profile.items():
            shapes.set_shape(port, least, usual, most)
        config.add_optimization_profile(shapes)
    keeps = library.name == "tensorrt" and hasattr(config, "create_timing_cache")
    if keeps:
        config.set_timing_cache(config.create_timing_cache(timing_cache or b""), False)
    engine = builder.build_serialized_network(definition, config)
    data = accepted(None if engine is None else bytes(engine), role, library, log.errors)
    cache = bytes(config.get_timing_cache().serialize()) if keeps else None
    return Built(data, cache, tuple(log.warnings))


def accepted(engine: bytes | None, role: str, library: Library, errors: Sequence[str]) -> bytes:
    """Rule 4: the engine, where there is one and the log holds no error."""
    if engine is None or errors:
        complaint = errors[0] if errors else "it gives no reason"
        raise BundleRefused(
            f"network {role!r}: {library.name} {library.version} builds no engine: {complaint}",
            code="engine_build",
            remedy="If it names memory or CUDA, free memory and try again; else mend the network.",
        )
    return engine


def _refused(role: str, parser: Any, logged: list[str]) -> BundleRefused:
    """What the parser does not take, by the name of the first such node."""
    found = [parser.get_error(i) for i in range(parser.num_errors)]
    if not found:
        why = logged[0] if logged else "it gives no reason"
        return BundleRefused(f"network {role!r}: the parser refuses it: {why}", code="engine_node")
    first = found[0]
    node = first.node_name() or f"{first.node_operator() or 'node'} number {first.node()}"
    why = " ".join(first.desc().split())[:300]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    kind = first.node_operator()
    return BundleRefused(
        f"network {role!r}: the parser refuses node {node!r} ({kind}): {why}{more}",
        code="engine_node",
        remedy="Change this node where the network is trained or quantised, and pack again.",
    )
