"""TensorRT on one GPU, behind the protocol of every backend: tensors stay in its memory.

    slices -> store -> prepare / gather (kernels.cu) -> arena -> infer (an engine) -> outputs, host

Rules.
1. All calls to the device are made by its owner's thread, one after the other; each call ends with
   its streams idle, so what one call used is free for the next.
2. A slice is uploaded on its own stream while the kernel of what came before it computes: `prepare`
   goes through the output in parts, and each part waits for the last slice that it reads, no more.
   Slices that `take` brought on arrival are there already. `take` saves time; nothing rests on it.
3. Precision is pinned: the types are those of the engine's ONNX file. Ports are float32.
4. An output that is not finite, an error in TensorRT's log and an input beyond the engine's shapes
   are errors (`backend_failed`). After an error of the device itself the backend is `broken`: a
   context in which a kernel failed fails in every later call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from appliance.backend import tables
from appliance.backend.device import DeviceError, Engine, EngineError
from appliance.backend.gpu_device import Device, hold, nearby, raw_of
from appliance.backend.gpu_memory import Arena, Full, Needs, nbytes
from appliance.backend.owner import Owner
from appliance.backend.profile import Shapes
from appliance.bundle.manifest import Network
from appliance.errors import BackendUnavailable, BundleRefused, Poisoned
from appliance.preprocess import plan
from appliance.preprocess.spec import Op
from appliance.records import Box, Grid, Plane, Stack, Tensor, Vector
from appliance.report import BackendRef

log = logging.getLogger("scanside.work")

F32 = NDArray[np.float32]
FLOAT = np.dtype(np.float32)
Answer = TypeVar("Answer")
LAYERS = 16
"""Output planes of one part of `prepare`, where slices are still to be uploaded."""
CENTERS = 256
"""Patches or cubes of one launch: their tables fit, and so does the grid (tables.MOST_BLOCKS)."""


@dataclass(frozen=True, slots=True)
class OnDevice:
    """Tensor.data of this backend: where a float32 tensor lies, and until when."""

    backend: GpuBackend
    at: int
    mark: int
    shape: tuple[int, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Brought to the host: for tests and for who compares backends."""
        return self.backend.fetch(self).astype(dtype or np.float32, copy=False)


class GpuBackend:
    """backend.protocol.Backend."""

    def __init__(
        self,
        owner: Owner[Device],
        networks: Mapping[str, Network],
        engines: Mapping[str, Callable[[], Engine]],
        profiles: Mapping[str, Shapes],
        *,
        engine_digest: str | None = None,
        held_bytes: int = 0,
        owns: bool = False,
    ) -> None:
        """Role -> how its engine is opened (in the owner's thread), and the shapes of its input.

        `held_bytes`: of the engines, which the library copies. `owns`: `close` stops the owner.
        BackendUnavailable `memory_short`; BundleRefused `bundle_network` names what does not fit.
        """
        self._owner = owner
        self._owns = owns
        self._networks = dict(networks)
        self._profiles = dict(profiles)
        self._engines: dict[str, Engine] = {}
        self._arena: Arena | None = None
        self.broken: str | None = None
        """What the device said when it failed, if it did."""
        self.arena_bytes = 0
        self.ref = BackendRef(
            name="gpu",
            precision="+".join(sorted({n.precision for n in networks.values()})),
            engine_digest=engine_digest,
        )
        try:
            owner.call(lambda device: self._open(device, engines, held_bytes))
        except BaseException as e:
            self.close()
            if isinstance(e, DeviceError):
                raise BackendUnavailable(
                    f"the GPU fails: {_line(str(e))}", code="gpu_failed"
                ) from e
            if isinstance(e, EngineError):
                text = f"TensorRT cannot use its engine: {_line(str(e))}"
                raise BackendUnavailable(text, code="engine_damaged") from e
            raise

    def _open(
        self, device: Device, engines: Mapping[str, Callable[[], Engine]], held_bytes: int
    ) -> None:
        device.require("loading the engines", 2 * held_bytes)
        needs: dict[str, Needs] = {}
        for role, network in self._networks.items():
            if len(network.inputs) != 1:
                names = ", ".join(port.name for port in network.inputs)
                raise _refused(role, f"it has the inputs {names}; the GPU takes one, the CPU all")
            if network.inputs[0].dtype != "float32":
                raise _refused(role, "its input is not float32; half.py keeps ports float32")
            engine = self._engines[role] = engines[role]()
            if absent := {port.name for port in network.outputs} - set(engine.outputs):
                raise _refused(role, f"its engine has no output {min(absent)!r}")
            most = self._profiles[role][2]
            shapes = engine.shapes(most)
            needs[role] = Needs(
                image=nbytes(most, FLOAT),
                outputs=tuple(nbytes(shapes[name], word) for name, word in engine.outputs.items()),
                scratch=engine.scratch_bytes,
            )
        self.arena_bytes = Arena.size(needs)
        device.require("the arena of this bundle", self.arena_bytes)
        self._arena = Arena(device.cuda, needs)

    # Backend

    def prepare(self, stack: Stack, ops: Sequence[Op], crop: tuple[Grid, Box] | None) -> Tensor:
        """See the protocol; ValueError for a crop op without a box."""
        return self._do("prepare", lambda device: self._prepare(device, stack, ops, crop))

    def gather(
        self,
        stack: Stack,
        ops: Sequence[Op],
        centers: Sequence[Vector],
        views: Literal[1, 2, 4, 8] = 1,
    ) -> Tensor:
        """See the protocol."""
        return self._do("gather", lambda device: self._gather(device, stack, ops, centers, views))

    def infer(self, role: str, image: Tensor | Mapping[str, Tensor]) -> Mapping[str, F32]:
        """See the protocol, but for one input alone. ValueError for an unknown role, several inputs
        or a tensor that was overwritten."""
        if self._arena is not None and role not in self._engines:
            raise ValueError(f"no network {role!r} is loaded")
        if isinstance(image, Mapping):
            raise ValueError(f"network {role!r}: the GPU takes one input, not {sorted(image)}")
        where = f"network {role!r}"
        outputs = self._do(where, lambda device: self._infer(device, role, image.data))
        for name, array in outputs.items():
            if not np.isfinite(array).all():
                raise _failed(where, f"output {name!r} is not finite")
        return outputs

    def take(self, plane: Plane) -> None:
        """protocol.Takes: upload a slice now; what goes wrong comes out in `prepare`."""
        if self._arena is not None and self.broken is None:
            word = np.dtype(plane.native.dtype)
            self._owner.hand(lambda device: device.store.takes(plane, word))

    def rest(self) -> None:
        """See the protocol: memory is fixed, so only the pixels are forgotten."""
        if self._arena is not None and self.broken is None:
            self._owner.call(lambda device: device.store.forget())

    def close(self) -> None:
        engines, self._engines = self._engines, {}
        arena, self._arena = self._arena, None

        def close(device: Device) -> None:
            for engine in engines.values():
                engine.close()
            if arena is not None:
                arena.close()

        try:
            if engines or arena is not None:
                self._owner.call(close)
        except (DeviceError, EngineError) as e:
            log.warning("the GPU backend closes: %s", e)
        if self._owns:
            self._owner.stop()

    def fetch(self, held: OnDevice) -> F32:
        """A tensor on the device -> the host."""
        out = np.empty(held.shape, np.float32)
        self._do("fetch", lambda device: device.staging.down(out, self._place(held)))
        return out

    # In the owner's thread

    def _prepare(
        self, device: Device, stack: Stack, ops: Sequence[Op], crop: tuple[Grid, Box] | None
    ) -> Tensor:
        ending, streams, slots, missing = hold(device, stack)
        held: dict[int, NDArray[Any]] = {}

        def put(values: NDArray[Any]) -> int:
            at = device.tables.put(values)
            held[at] = values
            return at

        arguments, made, grid = tables.prepare(
            stack, raw_of(device, stack, slots, put), ops, crop, put
        )
        soft, shape, room = None, made, 0
        layers = 1 if streams else LAYERS if missing else shape[0]
        if plan.steps(ops).soften is not None:
            soft, shape = tables.soften(stack, ops, crop, put)
            room, most = self._arena_here().between(nbytes(made[1:], FLOAT))
            layers = min(layers, LAYERS, most)
        at, mark = self._reserve(nbytes(shape, FLOAT))
        device.tables.send()
        first, taps = held[int(arguments["z"]["first"])], int(arguments["z"]["taps"])
        for start in range(0, shape[0], layers):
            stop = min(start + layers, shape[0])
            near = first[start:stop]
            if len(near):
                low, high = int(near.min()), int(near.max()) + taps
                if streams and high - low > device.store.capacity:
                    raise Full(f"{high - low} slices at a time, {device.store.capacity} slots")
                while missing and missing[0] < high:
                    i = missing.pop(0)
                    if i >= low or not streams:
                        device.store.bring(stack.planes[i], int(slots[i]))
                device.store.uploaded()
            part = arguments.copy()
            part["z"]["first"] += start * first.itemsize
            part["z"]["weights"] += start * taps * FLOAT.itemsize
            part["z"]["voxels"] = len(near)
            depth = stop - start if soft is None else len(near)
            part["depth"] = depth
            part["out"] = room if soft is not None else at + start * nbytes(shape[1:], FLOAT)
            if depth:
                grid_of = tables.blocks((depth, made[1], made[2]))
                device.cuda.launch(f"prepare_f32{ending}", grid_of, tables.BLOCK, part, "compute")
            device.store.used()
            if soft is not None:
                part = soft.copy()
                part["from"], part["out"] = room, at + start * nbytes(shape[1:], FLOAT)
                part["voxels_z"], part["depth"] = len(near), stop - start
                self._soften(device, part)
        for i in () if streams else missing:  # below a crop: another network may read them
            device.store.bring(stack.planes[i], int(slots[i]))
        device.idle()
        whole = (1, 1, *shape)
        return Tensor(data=OnDevice(self, at, mark, whole), shape=whole, grid=grid)

    def _gather(
        self,
        device: Device,
        stack: Stack,
        ops: Sequence[Op],
        centers: Sequence[Vector],
        views: Literal[1, 2, 4, 8],
    ) -> Tensor:
        read = plan.steps(ops)
        if read.patch is None and (read.cube is None or views != 1):
            raise ValueError("these ops have no patch, or several views of a cube")
        if read.cube is not None:
            one: tuple[int, ...] = (1, *(read.cube.size,) * 3)
        else:
            size = read.patch.size if read.patch is not None else 0
            one = (views, size, size)
        each = nbytes(one, FLOAT)
        at, mark = self._reserve(len(centers) * each)
        ending, streams, slots, missing = hold(device, stack)
        for i in () if streams else missing:
            device.store.bring(stack.planes[i], int(slots[i]))
        number = 1 if streams else CENTERS
        wider, room = ops, 0
        if read.soften is not None:
            wider, more = plan.to_soften(stack, ops)
            wide = (views, *(n + 2 * more for n in one[1:]))
            room, most = self._arena_here().between(nbytes(wide, FLOAT))
            number = min(number, most)
        for start in range(0, len(centers), number):
            part = centers[start : start + number]
            if streams:
                slots = nearby(device, stack, wider, part)
            device.tables.begin()
            put = device.tables.put
            raw = raw_of(device, stack, slots, put)
            if read.cube is not None:
                kernel = f"cubes_f32{ending}"
                arguments, shape = tables.cubes(stack, raw, wider, part, put)
            else:
                kernel = f"gather_f32{ending}"
                arguments, shape = tables.gather(stack, raw, wider, part, views, put)
            arguments["out"] = room or at + start * each
            soft = None
            if read.soften is not None:
                soft = tables.soften_gathered(stack, ops, len(part), views, put)
                soft["from"], soft["out"] = room, at + start * each
            device.tables.send()
            device.store.uploaded()
            device.cuda.launch(kernel, tables.blocks(shape), tables.BLOCK, arguments, "compute")
            device.store.used()
            if soft is not None:
                self._soften(device, soft)
            device.idle()  # the tables are free again
        patch = (len(centers) * one[0], 1, *one[1:])
        return Tensor(data=OnDevice(self, at, mark, patch), shape=patch, grid=None)

    def _soften(self, device: Device, arguments: NDArray[np.void]) -> None:
        layers = int(arguments["images"]) * int(arguments["depth"])
        grid_of = tables.blocks((layers, int(arguments["height"]), int(arguments["width"])))
        device.cuda.launch("soften_f32", grid_of, tables.BLOCK, arguments, "compute")

    def _infer(self, device: Device, role: str, data: Any) -> dict[str, F32]:
        engine, port = self._engines[role], self._networks[role].inputs[0]
        least, _, most = self._profiles[role]
        shape = data.shape if isinstance(data, OnDevice) else tuple(np.shape(data))
        number = most[0] if port.shape[0] == -1 else shape[0]
        found: list[dict[str, F32]] = []
        for start in range(0, max(shape[0], 1), max(number, 1)):
            part = (min(number, shape[0] - start), *shape[1:])
            _check_shape(part, least, most)
            if isinstance(data, OnDevice):
                image = self._place(data) + start * nbytes(shape[1:], FLOAT)
            else:
                image, _ = self._reserve(nbytes(part, FLOAT))
                device.staging.up(image, np.asarray(data[start : start + part[0]], np.float32))
                device.store.uploaded()
            found.append(self._run(device, engine, role, part, image))
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}

    def _run(
        self, device: Device, engine: Engine, role: str, shape: tuple[int, ...], image: int
    ) -> dict[str, F32]:
        shapes, words = engine.shapes(shape), engine.outputs
        arena = self._arena_here()
        places = arena.places({name: nbytes(shapes[name], words[name]) for name in words})
        engine.run(device.cuda.handle("compute"), image, places, arena.scratch)
        device.cuda.finish("compute")
        outputs = {}
        for port in self._networks[role].outputs:
            out = np.empty(shapes[port.name], words[port.name])
            device.staging.down(out, places[port.name])
            outputs[port.name] = out.astype(np.float32, copy=False)
        device.idle()
        return outputs

    # Small things

    def _do(self, what: str, step: Callable[[Device], Answer]) -> Answer:
        """One call in the owner's thread; whatever is raised there has a name here."""
        if self._arena is None:
            raise BackendUnavailable("the backend is closed", remedy="Restart the work stage.")
        if self.broken is not None:
            raise _failed(what, f"the GPU failed before: {self.broken}")

        def guarded(device: Device) -> Answer:
            device.tables.begin()
            try:
                return step(device)
            except BaseException:
                device.store.forget()  # what was to be uploaded may not be there
                raise

        try:
            return self._owner.call(guarded)
        except DeviceError as e:
            self.broken = _line(str(e))
            raise _failed(what, str(e)) from e
        except (EngineError, Full) as e:
            raise _failed(what, str(e)) from e

    def _arena_here(self) -> Arena:
        if self._arena is None:
            raise BackendUnavailable("the backend is closed", remedy="Restart the work stage.")
        return self._arena

    def _reserve(self, size: int) -> tuple[int, int]:
        return self._arena_here().give(size)

    def _place(self, held: OnDevice) -> int:
        if held.backend is not self or not self._arena_here().holds(held.mark):
            raise ValueError("this tensor is of another backend, or was overwritten by later ones")
        return held.at


def _check_shape(shape: Sequence[int], least: Sequence[int], most: Sequence[int]) -> None:
    """EngineError for an input that the engine was not built for."""
    if len(shape) != len(most):
        raise EngineError(f"its input has {len(shape)} axes; it is built for {len(most)}")
    for axis, (size, low, high) in enumerate(zip(shape, least, most, strict=True)):
        if not low <= size <= high:
            text = f"axis {axis} of its input is {size}; it is built for {low} to {high}"
            raise EngineError(text)


def _refused(role: str, why: str) -> BundleRefused:
    return BundleRefused(f"network {role!r}: {why}", code="bundle_network")


def _failed(what: str, why: str) -> Poisoned:
    return Poisoned(
        f"gpu failed in {what}: {_line(why)}",
        code="backend_failed",
        remedy="Run `scanside doctor`; the CPU backend takes over where it may.",
    )


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
