"""INT8 for an exported network: scales from a calibration set, explicit Q/DQ in the ONNX file.

    calibration images -> ranges of every tensor -> Q/DQ model -> residual Adds mended -> judged

Rules.
1. One file serves TensorRT and the CPU: QuantizeLinear/DequantizeLinear, int8, zero points 0,
   weights one scale per output channel, biases float32 (TensorRT Developer Guide, "Explicit
   Quantization").
2. Convolutions and fully connected layers are quantised. Whatever writes an output of the network
   stays float: a heat logit in steps of a 127th of its range loses ranks. So does ConvTranspose.
3. At an Add only the residual branch carries Q/DQ; the branch of the last convolution enters as it
   is, and a ReLU reads what it follows as it is: so convolution, Add and ReLU become one INT8
   kernel, and a value is rounded once, not before the ReLU and after it.
4. The method is chosen by the damage it does, never by its name; scales and the digest of the
   calibration set are kept beside the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper

from appliance.backend.choose import choose as choose_backend
from appliance.backend.open import LOADERS
from appliance.bundle.lines import Role
from appliance.bundle.manifest import Network
from appliance.host.silence import silence
from training.read.volume import F32
from training.ship.source_folder import FILES

Method = Literal["minmax", "percentile"]
METHODS: tuple[Method, ...] = ("minmax", "percentile")
LAYERS = ("Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip")
Damage = Callable[[onnx.ModelProto], float]
"""What a quantised network loses against the float one, on data of the caller; 0 is nothing."""


@dataclass(frozen=True)
class Layer:
    """One row of the sensitivity table: this layer alone in INT8."""

    name: str
    damage: float
    weight_bytes: int


@dataclass(frozen=True)
class Chosen:
    """The method that does the least damage, and what each did."""

    method: Method
    model: onnx.ModelProto
    damage: Mapping[Method, float]


def quantized(
    model: onnx.ModelProto,
    images: Sequence[F32],
    method: Method,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """The network in INT8. `images`: inputs of its one port, each with its own leading axis;
    `keep_float`: names of layers that stay float besides those of rule 2.

    ValueError for an empty calibration set, or where no layer is left to quantise.
    """
    silence()
    from onnxruntime.quantization import (  # noqa: PLC0415 - a second to import
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    if not images:
        raise ValueError("the calibration set is empty")
    layers = {node.name for node in model.graph.node if node.op_type in LAYERS}
    floats = {*keep_float, *output_layers(model)}
    if not layers - floats:
        raise ValueError("no layer is left to quantise")

    class Images(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
        """onnxruntime's way to ask for the next image."""

        def __init__(self) -> None:
            self.left: Iterator[F32] = iter(images)

        def get_next(self) -> dict[str, F32] | None:
            image = next(self.left, None)
            return None if image is None else {model.graph.input[0].name: image}

    with tempfile.TemporaryDirectory(prefix="scanside-quantize-") as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save_model(model, str(source))
        quantize_static(
            str(source),
            str(target),
            Images(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*LAYERS, "Add"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(floats),
            calibrate_method={
                "minmax": CalibrationMethod.MinMax,
                "percentile": CalibrationMethod.Percentile,
            }[method],
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "AddQDQPairToWeight": False,
            },
        )
        made = onnx.load_model(str(target))
    free_main_branches(made)
    free_activations(made)
    drop_unused(made)
    onnx.checker.check_model(made, full_check=True)
    return made


def output_layers(model: onnx.ModelProto) -> set[str]:
    """Names of the layers whose value reaches an output through nothing but shape changes."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = set()
    for port in model.graph.output:
        node = makers.get(port.name)
        while node is not None and node.op_type in ("Squeeze", "Reshape", "Sigmoid", "Unsqueeze"):
            node = makers.get(node.input[0])
        if node is not None:
            found.add(node.name)
    return found


def free_main_branches(model: onnx.ModelProto) -> int:
    """Takes Q/DQ off one input of every Add that has it on both (rule 3); how many were freed.

    The freed one is the branch whose value is computed last: of a residual block the convolution,
    of a feature pyramid the lateral one.
    """
    graph = model.graph
    makers = {name: (i, node) for i, node in enumerate(graph.node) for name in node.output}

    def source(name: str) -> tuple[int, str] | None:
        """(place of the maker, its tensor) behind a Q/DQ pair; None where there is none."""
        dequantize = makers.get(name)
        if dequantize is None or dequantize[1].op_type != "DequantizeLinear":
            return None
        quantize = makers.get(dequantize[1].input[0])
        if quantize is None or quantize[1].op_type != "QuantizeLinear":
            return None
        tensor = quantize[1].input[0]
        maker = makers.get(tensor)
        fused = maker is not None and maker[1].op_type in LAYERS
        return (maker[0] if fused and maker is not None else -1, tensor)

    freed = 0
    for node in graph.node:
        if node.op_type != "Add":
            continue
        branches = [source(name) for name in node.input]
        if None in branches:
            continue
        last = max((0, 1), key=lambda i: (branches[i] or (-1, ""))[0])
        branch = branches[last]
        if branch is not None and branch[0] >= 0:
            node.input[last] = branch[1]
            freed += 1
    return freed


def free_activations(model: onnx.ModelProto) -> int:
    """Takes Q/DQ off the input of every ReLU behind a layer or an Add (rule 3); how many."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    freed = 0
    for node in graph.node:
        if node.op_type not in ACTIVATIONS:
            continue
        dequantize = makers.get(node.input[0])
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        quantize = makers.get(dequantize.input[0])
        if quantize is None or quantize.op_type != "QuantizeLinear":
            continue
        maker = makers.get(quantize.input[0])
        if maker is not None and maker.op_type in (*LAYERS, "Add"):
            node.input[0] = quantize.input[0]
            freed += 1
    return freed


def drop_unused(model: onnx.ModelProto) -> None:
    """Removes nodes and initializers that nothing reads any more."""
    graph = model.graph
    while True:
        read = Counter(name for node in graph.node for name in node.input)
        read.update(port.name for port in graph.output)
        dead = [node for node in graph.node if not any(read[name] for name in node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for weight in [w for w in graph.initializer if not read[w.name]]:
        graph.initializer.remove(weight)


def choose(
    model: onnx.ModelProto,
    images: Sequence[F32],
    damage: Damage,
    methods: Sequence[Method] = METHODS,
    keep_float: Collection[str] = (),
) -> Chosen:
    """Every method, judged by `damage`; the first of equals."""
    made = {method: quantized(model, images, method, keep_float) for method in methods}
    harm = {method: damage(candidate) for method, candidate in made.items()}
    best = min(methods, key=lambda method: harm[method])
    return Chosen(best, made[best], harm)


def sensitivity(
    model: onnx.ModelProto, images: Sequence[F32], method: Method, damage: Damage
) -> list[Layer]:
    """The damage of each layer in INT8 by itself, worst first."""
    outputs = output_layers(model)
    layers = [n for n in model.graph.node if n.op_type in LAYERS and n.name not in outputs]
    sizes = {w.name: numpy_helper.to_array(w).size for w in model.graph.initializer}
    rows = []
    for layer in layers:
        others = {node.name for node in layers if node.name != layer.name}
        harm = damage(quantized(model, images, method, others))
        rows.append(Layer(layer.name, harm, sizes.get(layer.input[1], 0)))
    return sorted(rows, key=lambda row: -row.damage)


def in_int8(
    plain: onnx.ModelProto,
    images: Sequence[F32],
    damage: Damage,
    few: int,
    damage_of_one: Damage,
    most: float,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The network in INT8 by the method that does the least damage, and what was found on the way.

    A layer that alone does more damage than `most` stays float; that is judged by `damage_of_one`
    after a calibration with the first `few` images.
    """
    chosen = choose(plain, images, damage)
    layers = sensitivity(plain, images[:few], chosen.method, damage_of_one)
    sensitive = [layer.name for layer in layers if layer.damage > most]
    made = chosen.model
    if sensitive:
        made = quantized(plain, images, chosen.method, sensitive)
    return made, {
        "method": chosen.method,
        "damage": dict(chosen.damage),
        "damage_of_int8": damage(made),
        "float_layers": sensitive,
        "sensitivity": [asdict(layer) for layer in layers],
    }


def compared(plain: onnx.ModelProto, made: onnx.ModelProto) -> dict[str, Any]:
    """Scales of the INT8 network, and what it weighs beside the float one."""
    return {
        "scales": scales(made),
        "weight_bytes": [weight_bytes(made), weight_bytes(plain)],
        "file_bytes": [len(made.SerializeToString()), len(plain.SerializeToString())],
    }


def runner(
    role: Role, entry: Network, model: onnx.ModelProto, threads: int
) -> Callable[[F32], F32]:
    """The first output of a network, run by the backend that the appliance would choose."""
    every, first = outputs_runner(role, entry, model, threads), entry.outputs[0].name
    return lambda image: every(image)[first]


def outputs_runner(
    role: Role, entry: Network, model: onnx.ModelProto, threads: int
) -> Callable[[F32], dict[str, F32]]:
    """The same for every output, by its name."""
    loader = LOADERS[choose_backend("auto")]
    run = loader({role: entry}, {role: model.SerializeToString()}, threads)[role]
    return lambda image: {n: np.array(a, np.float32) for n, a in run(image).items()}


def save(folder: Path, plain: onnx.ModelProto, made: onnx.ModelProto) -> None:
    """Writes both networks into a run's folder."""
    onnx.save_model(plain, str(folder / FILES["fp32"]))
    onnx.save_model(made, str(folder / FILES["int8"]))


def scales(model: onnx.ModelProto) -> dict[str, float]:
    """Tensor -> its activation scale."""
    constants = {w.name: w for w in model.graph.initializer}
    return {
        node.input[0]: float(numpy_helper.to_array(constants[node.input[1]]))
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of every stored tensor."""
    return sum(numpy_helper.to_array(w).nbytes for w in model.graph.initializer)


def digest(images: Sequence[F32]) -> str:
    """SHA-256 over the calibration images, in order, with their shapes."""
    total = hashlib.sha256()
    for image in images:
        total.update(str(image.shape).encode() + np.ascontiguousarray(image).tobytes())
    return total.hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime logs on the root logger and prints how it calibrates."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
