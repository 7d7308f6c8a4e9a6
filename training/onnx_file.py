"""Networks as ONNX files that hold nothing of the machine that made them, and answer like torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from appliance.backend.cpu import openvino_core
from training.data import F32

OPSET = 18


def exported(model: nn.Module, side: tuple[int, ...], outputs: list[str]) -> onnx.ModelProto:
    """The network with the input `image`, free spatial axes (3D) or a free count (2D)."""
    example = torch.zeros((1, 1, *side)) if len(side) == 3 else torch.zeros((4, 1, *side))
    axes: dict[int, Any] = {0: torch.export.Dim("n", min=1, max=4096)}
    if len(side) == 3:
        names = ("z", "y", "x")
        axes = {i + 2: 16 * torch.export.Dim(f"{n}16", min=1, max=64) for i, n in enumerate(names)}
    program = torch.onnx.export(
        model,
        (example,),
        input_names=["image"],
        output_names=outputs,
        dynamic_shapes=(axes,),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    plain = without_traces(program.model_proto)
    onnx.checker.check_model(plain, full_check=True)
    return plain


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without torch's notes on where each node comes from: they hold stack traces
    with the paths of this machine, and would make each file differ from machine to machine."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    parts = [plain, plain.graph, *plain.graph.node, *plain.graph.value_info, *plain.functions]
    parts += [*plain.graph.initializer, *plain.graph.input, *plain.graph.output]
    for part in parts:
        part.ClearField("metadata_props")
        part.doc_string = ""
    return plain


def parity(model: nn.Module, file: onnx.ModelProto, image: F32) -> dict[str, float]:
    """Largest difference from torch, for each runtime that is installed."""
    with torch.no_grad():
        raw = model(torch.from_numpy(image))
    expected = [t.numpy() for t in (raw if isinstance(raw, tuple) else (raw,))]
    found: dict[str, float] = {}

    def compare(name: str, outputs: list[Any]) -> None:
        found[name] = max(
            float(np.abs(a - b).max()) for a, b in zip(expected, outputs, strict=True)
        )

    import onnxruntime  # noqa: PLC0415

    data = file.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    compare("onnxruntime", session.run(None, {"image": image}))
    try:
        core = openvino_core()
    except ImportError:
        return found
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled([image])
    compare("openvino", [answer[i] for i in range(len(expected))])
    return found
