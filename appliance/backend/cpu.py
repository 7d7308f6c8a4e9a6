"""OpenVINO and onnxruntime on a CPU, behind one class: they differ only in how a network is loaded.

Rules.
1. A library is imported inside its loader, so a stage pays for what it uses (DESIGN: the line).
2. Precision is pinned: OpenVINO runs float networks as bf16 on CPUs that have it unless told f32.
   Quantised layers of an INT8 network stay INT8 where the processor adds their products exactly
   (host/processor.py). Elsewhere, and with onnxruntime, they are reckoned in float32 as they are
   written, which is the same up to rounding. All else is float32.
3. Nothing is written: no model cache, no profile. Axes may be free: any call may have a new shape.
   OpenVINO runs what openvino_graph.py makes of a network.
4. Ports must be those of the manifest. An output that is not finite is an error, never a negative.
5. No exception of a library leaves this module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from appliance.backend import openvino_graph
from appliance.backend.blocks import Blocks, Kernel
from appliance.backend.choose import Name, missing
from appliance.backend.protocol import highest
from appliance.bundle.manifest import Network
from appliance.errors import BackendUnavailable, BundleRefused, Poisoned
from appliance.host.processor import adds_int8_in_32_bits
from appliance.host.silence import silence
from appliance.preprocess import fast
from appliance.preprocess.spec import Op
from appliance.records import Box, Grid, Stack, Tensor, Vector
from appliance.report import BackendRef

F32 = NDArray[np.float32]
Given = NDArray[Any] | Mapping[str, NDArray[Any]]
"""The one input of a network, or each of several by name."""
Run = Callable[[Given], Mapping[str, NDArray[Any]]]
"""One loaded network: input -> outputs by name. Raises LibraryError, nothing of its library."""
Raw = Mapping[str, NDArray[Any]] | Mapping[str, "NDArray[Any] | Blocks"]
"""Outputs by name, in memory that the next call may use again; some may not be made yet."""
Loader = Callable[[Mapping[str, Network], Mapping[str, bytes], int], Mapping[str, Run]]


@runtime_checkable
class Rests(Protocol):
    """A Run that can give back the memory that it keeps for the next input of the same shape."""

    def rest(self) -> None: ...


@runtime_checkable
class Starts(Protocol):
    """A Run that can begin and be waited for later."""

    def start(self, given: Given) -> Callable[[], Raw]: ...


class LibraryError(Exception):
    """What a library said when it failed; never leaves this module."""


class CpuBackend:
    """backend.protocol.Backend: tensors are numpy arrays of the host."""

    def __init__(
        self, name: Name, networks: Mapping[str, Network], runs: Mapping[str, Run]
    ) -> None:
        self._networks = dict(networks)
        self._runs = dict(runs)
        self._ref = BackendRef(
            name=name, precision="+".join(sorted({n.precision for n in networks.values()}))
        )

    @property
    def ref(self) -> BackendRef:
        return self._ref

    def prepare(self, stack: Stack, ops: Sequence[Op], crop: tuple[Grid, Box] | None) -> Tensor:
        """See the protocol; ValueError for a crop op without a box."""
        data, grid = fast.tensor(stack, ops, crop)
        return Tensor(data=data, shape=data.shape, grid=grid)

    def gather(
        self,
        stack: Stack,
        ops: Sequence[Op],
        centers: Sequence[Vector],
        views: Literal[1, 2, 4, 8] = 1,
    ) -> Tensor:
        """See the protocol."""
        data = fast.gathered(stack, ops, centers, views)
        return Tensor(data=data, shape=data.shape, grid=None)

    def infer(self, role: str, image: Tensor | Mapping[str, Tensor]) -> Outputs:
        """See the protocol. BackendUnavailable after `close`, ValueError for an unknown role and
        for other inputs than the network has."""
        return self.begin(role, image)()

    def begin(self, role: str, image: Tensor | Mapping[str, Tensor]) -> Callable[[], Outputs]:
        """See protocol.Begins; errors of the input as `infer`, at once."""
        if not self._runs:
            raise BackendUnavailable("the backend is closed", remedy="Restart the work stage.")
        if role not in self._runs:
            raise ValueError(f"no network {role!r} is loaded")
        ports = self._networks[role].inputs
        tensors = image if isinstance(image, Mapping) else {ports[0].name: image}
        if tensors.keys() != {port.name for port in ports}:
            text = f"network {role!r} has the inputs {[port.name for port in ports]}"
            raise ValueError(f"{text}, not {sorted(tensors)}")
        given = {
            port.name: np.ascontiguousarray(tensors[port.name].data, np.dtype(port.dtype))
            for port in ports
        }
        run, only = self._runs[role], given if len(ports) > 1 else given[ports[0].name]

        def failed(why: str) -> Poisoned:
            return _failed(self._ref.name, role, why)

        try:
            raw = run.start(only) if isinstance(run, Starts) else None
        except LibraryError as e:
            raise failed(str(e)) from e

        def outputs() -> Outputs:
            try:
                return Outputs(run(only) if raw is None else raw(), failed)
            except LibraryError as e:
                raise failed(str(e)) from e

        return outputs

    def rest(self) -> None:
        """See the protocol."""
        for run in self._runs.values():
            if isinstance(run, Rests):
                run.rest()

    def close(self) -> None:
        self._runs = {}


class Outputs(Mapping[str, F32]):
    """What a network gave: copies of its outputs, of some the features alone (protocol.Pointwise).

    Poisoned by `failed` where one is not finite."""

    def __init__(self, raw: Raw, failed: Callable[[str], Poisoned]) -> None:
        self._failed = failed
        self._made: dict[str, F32 | Blocks] = {}
        for name, one in raw.items():
            if isinstance(one, Blocks):
                self._finite(name, one.kernel.weights)
                features = self._finite(name, np.array(one.features, np.float32))
                self._made[name] = Blocks(features, one.kernel)
            else:
                self._made[name] = self._finite(name, np.array(one, np.float32))

    def __getitem__(self, name: str) -> F32:
        one = self._made[name]
        if isinstance(one, Blocks):
            one = self._made[name] = self._finite(name, one.whole())
        return one

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def shape(self, name: str) -> tuple[int, ...]:
        """See protocol.Pointwise."""
        return self._made[name].shape

    def highest(self, name: str, voxels: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """See protocol.Pointwise."""
        one = self._made[name]
        return one.highest(voxels) if isinstance(one, Blocks) else highest(one, voxels)

    def _finite(self, name: str, array: F32) -> F32:
        if not np.isfinite(array).all():
            raise self._failed(f"output {name!r} is not finite")
        return array


class _OpenVINO:
    """A Run that Starts: one compiled network with its one request."""

    def __init__(
        self,
        compiled: Any,
        inputs: Sequence[str],
        outputs: Sequence[str],
        cut: Mapping[str, Kernel],
    ) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._inputs = inputs
        self._outputs = outputs
        self._cut = cut
        self._begun: Given | None = None
        """What the request reads while it runs."""

    def __call__(self, given: Given) -> Mapping[str, NDArray[Any]]:
        raw = self.start(given)()
        return {n: one.whole() if isinstance(one, Blocks) else one for n, one in raw.items()}

    def start(self, given: Given) -> Callable[[], Raw]:
        try:
            self._ended()  # one that nobody waited for
            self._begun = given
            self._request.start_async(_by_name(given, self._inputs), share_inputs=True)
        except (RuntimeError, TypeError, ValueError) as e:
            raise LibraryError(str(e)) from e
        return self._found

    def _found(self) -> Raw:
        try:
            self._ended()
            arrays = {name: self._request.get_tensor(name).data for name in self._outputs}
        except (RuntimeError, TypeError, ValueError) as e:
            raise LibraryError(str(e)) from e
        return {
            name: Blocks(array, self._cut[name]) if name in self._cut else array
            for name, array in arrays.items()
        }

    def _ended(self) -> None:
        """Waits for what was begun."""
        begun, self._begun = self._begun, None
        if begun is not None:
            self._request.wait()

    def rest(self) -> None:
        if hasattr(self._compiled, "release_memory"):  # since OpenVINO 2025.0
            with suppress(RuntimeError):  # it is only memory
                self._compiled.release_memory()


def openvino_core() -> Any:
    """OpenVINO's Core, one for the process and never let go. Raises what the import raises.

    Its CPU plugin gives the thread that makes it a signal stack (sigaltstack(2)); when it goes, it
    puts back the stack that was there before, which an earlier Core may have freed. The next signal
    with a handler, SIGTERM say, would then end the process with SIGSEGV.
    """
    silence()
    import openvino  # noqa: PLC0415 - rule 1

    return _only(openvino.Core)


@functools.cache
def _only(make: Callable[[], Any]) -> Any:
    return make()


def arithmetic(library: Name) -> str:
    """How a library reckons the layers of an INT8 network on this processor (rule 2)."""
    return "int8" if library == "openvino" and adds_int8_in_32_bits() else "fp32"


def load_openvino(
    networks: Mapping[str, Network], onnx: Mapping[str, bytes], threads: int
) -> Mapping[str, Run]:
    """A Loader. Properties: OpenVINO documentation, "CPU Device" and "Precision Control"; that of
    low precision is one of the plugin's own, which it would refuse by name if it went."""
    try:
        core = openvino_core()
    except (ImportError, OSError) as e:
        raise missing("openvino") from e
    errors = (RuntimeError, TypeError, ValueError)
    pinned = {
        "INFERENCE_PRECISION_HINT": "f32",
        "EXECUTION_MODE_HINT": "ACCURACY",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "LP_TRANSFORMS_MODE": arithmetic("openvino") == "int8",
    }

    def load(role: str, network: Network) -> Run:
        try:
            model = core.read_model(onnx[role])
            inputs = [port.get_any_name() for port in model.inputs]
            outputs = [port.get_any_name() for port in model.outputs]
            _ports(role, network, inputs, outputs)
            cut = openvino_graph.changed(model)
            compiled = core.compile_model(model, "CPU", pinned)
            return _OpenVINO(compiled, inputs, [port.name for port in network.outputs], cut)
        except errors as e:
            raise _refused(role, str(e)) from e

    return {role: load(role, network) for role, network in networks.items()}


def load_onnxruntime(
    networks: Mapping[str, Network], onnx: Mapping[str, bytes], threads: int
) -> Mapping[str, Run]:
    """A Loader. Options: onnxruntime's Python API, SessionOptions."""
    silence()
    try:
        import onnxruntime  # noqa: PLC0415 - rule 1
        from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415
    except (ImportError, OSError) as e:
        raise missing("onnxruntime") from e
    # its exceptions share no base but Exception
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, *own)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # fatal: what fails is raised
    # Q/DQ in float, as it is written: onnxruntime's INT8 Conv3D is slower than its float one, and
    # rounds otherwise than OpenVINO and TensorRT
    options.add_session_config_entry("session.disable_quant_qdq", "1")

    def load(role: str, network: Network) -> Run:
        try:
            session = onnxruntime.InferenceSession(
                onnx[role], options, providers=["CPUExecutionProvider"]
            )
        except errors as e:
            raise _refused(role, str(e)) from e
        inputs = [port.name for port in session.get_inputs()]
        _ports(role, network, inputs, [port.name for port in session.get_outputs()])
        wanted = [port.name for port in network.outputs]

        def run(given: Given) -> Mapping[str, NDArray[Any]]:
            try:
                found = session.run(wanted, _by_name(given, inputs))
                return dict(zip(wanted, found, strict=True))
            except errors as e:
                raise LibraryError(str(e)) from e

        return run

    return {role: load(role, network) for role, network in networks.items()}


def _by_name(given: Given, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """Each input by its name; a plain array is the first."""
    return given if isinstance(given, Mapping) else {names[0]: given}


def _ports(role: str, network: Network, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """BundleRefused where a network's ports are not those that the manifest names."""
    declared, there = [port.name for port in network.inputs], list(inputs)
    if sorted(there) != sorted(declared) or not declared:
        raise _refused(role, f"its inputs are {there}, the manifest says {declared}")
    if any(port.dtype == "int8" for port in network.inputs):
        raise _refused(role, "an int8 input is not supported; quantise inside the network")
    if absent := {port.name for port in network.outputs} - set(outputs):
        raise _refused(role, f"it has no output {min(absent)!r}")


def _refused(role: str, why: str) -> BundleRefused:
    return BundleRefused(f"network {role!r}: {_line(why)}", code="bundle_network")


def _failed(name: str, role: str, why: str) -> Poisoned:
    return Poisoned(
        f"{name} failed in network {role!r}: {_line(why)}",
        code="backend_failed",
        remedy="Run `scanside doctor`; keep the series and call the fleet team if it fails again.",
    )


def _line(text: str) -> str:
    """What a library said, as one line of at most 200 characters."""
    return " ".join(text.split())[:200]
