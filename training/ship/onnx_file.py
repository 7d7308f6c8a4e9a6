"""Networks as ONNX files that hold nothing of the machine that made them, and answer like torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from appliance.backend.cpu import openvino_core
from appliance.host.silence import silence
from training.errors import RunError
from training.read.volume import F32

OPSET = 18
MOST_APART = 1e-3
"""How far an exported network may answer beside torch, in logits."""


def exported(
    model: nn.Module, side: tuple[int, ...], outputs: list[str], many: bool = False
) -> onnx.ModelProto:
    """The network with the input `image`: free spatial axes (3D), or a free count of images of one
    size (2D, and of cubes with `many`)."""
    many = many or len(side) == 2
    example = torch.zeros((4 if many else 1, 1, *side))
    axes: dict[int, Any] = {0: torch.export.Dim("n", min=1, max=4096)}
    if not many:
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


def exported_ports(
    model: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: list[str]
) -> onnx.ModelProto:
    """A network of several inputs, named as its `forward` names them, with a free count.

    `inputs`: an example of each, of the same count (2 or more).
    """
    count = torch.export.Dim("n", min=1, max=4096)
    program = torch.onnx.export(
        model,
        (),
        kwargs=dict(inputs),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes={name: {0: count} for name in inputs},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    plain = without_traces(program.model_proto)
    onnx.checker.check_model(plain, full_check=True)
    return plain


def folded(model: nn.Module) -> nn.Module:
    """A copy in which every batch normalisation behind a convolution is part of it."""
    plain = copy.deepcopy(model).eval()
    for part in plain.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for i in range(len(part) - 1):
            first, second = part[i], part[i + 1]
            if isinstance(first, nn.Conv3d) and isinstance(second, nn.BatchNorm3d):
                part[i], part[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return plain


def exported_volumes(
    model: nn.Module, names: list[str], outputs: list[str], multiple: int
) -> onnx.ModelProto:
    """A network of several volumes [1,1,z,y,x] of one size, named as its `forward` names them; the
    axes are free, multiples of `multiple`."""
    sizes = [multiple * torch.export.Dim(f"{n}_{multiple}", min=1, max=64) for n in "zyx"]
    axes: dict[int, Any] = {i + 2: size for i, size in enumerate(sizes)}
    example = {
        name: torch.zeros((1, 1, 3 * multiple, 2 * multiple, 4 * multiple)) for name in names
    }
    program = torch.onnx.export(
        model,
        (),
        kwargs=example,
        input_names=names,
        output_names=outputs,
        dynamic_shapes=dict.fromkeys(names, axes),
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


def parity(
    model: nn.Module, file: onnx.ModelProto, image: F32 | Mapping[str, F32]
) -> dict[str, float]:
    """Largest difference from torch, for each runtime that is installed. `image`: of several
    inputs, by the names of `forward`."""
    given = image if isinstance(image, Mapping) else {"image": image}
    tensors = {name: torch.from_numpy(values) for name, values in given.items()}
    with torch.no_grad():
        raw = model(**tensors) if len(tensors) > 1 else model(*tensors.values())
    expected = [t.numpy() for t in (raw if isinstance(raw, tuple) else (raw,))]
    found: dict[str, float] = {}

    def compare(name: str, outputs: list[Any]) -> None:
        found[name] = max(
            float(np.abs(a - b).max()) for a, b in zip(expected, outputs, strict=True)
        )

    silence()
    import onnxruntime  # noqa: PLC0415

    data = file.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    compare("onnxruntime", session.run(None, dict(given)))
    try:
        core = openvino_core()
    except ImportError:
        return found
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled(dict(given))
    compare("openvino", [answer[i] for i in range(len(expected))])
    return found


def require_parity(
    model: nn.Module, file: onnx.ModelProto, image: F32 | Mapping[str, F32]
) -> dict[str, float]:
    """`parity`; RunError where a runtime answers more than MOST_APART beside torch."""
    gaps = parity(model, file, image)
    if max(gaps.values()) > MOST_APART:
        raise RunError(f"the exported network differs from torch: {gaps}")
    return gaps
