"""Fine-tuning with fake quantisation: a network learns to live with the rounding of its INT8 file.

    float ONNX + Q/DQ ONNX (training.quantize) -> the same graph in torch -> tuned -> Q/DQ ONNX

Rules.
1. What is tuned is the Q/DQ file's own graph, read node by node: so places, int8, zero points 0 and
   the scales of activations are those of training.quantize, and what comes out differs in its
   weights and their scales alone. Batch normalisation is already folded into the weights.
2. Weights start from the float file. In each step they are rounded to 127 steps of their channel's
   largest weight (symmetric, per channel); the gradient goes straight through where nothing is
   clipped (arXiv:1308.3432; Jacob et al., arXiv:1712.05877).
3. An operator that is not in OPERATORS is refused by name.
4. It is worth its time where calibration alone loses more than WORTH of AUC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from training.fit import Job, Schedule, device, fit

WORTH = 0.002
STEPS = 127
Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Tensor], Attributes], Tensor]


def _convolution(x: Sequence[Tensor], a: Attributes) -> Tensor:
    dims = x[1].ndim - 2
    pads = a.get("pads", [0] * 2 * dims)
    if pads[:dims] != pads[dims:] or a.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError("Conv with uneven padding")
    call: Callable[..., Tensor] = {2: functional.conv2d, 3: functional.conv3d}[dims]
    bias = x[2] if len(x) > 2 else None
    ones = [1] * dims
    stride, spread = a.get("strides", ones), a.get("dilations", ones)
    return call(x[0], x[1], bias, stride, pads[:dims], spread, a.get("group", 1))


def _upward(x: Sequence[Tensor], a: Attributes) -> Tensor:
    dims = x[1].ndim - 2
    if any(a.get("pads", [0])) or any(a.get("output_padding", [0])) or a.get("group", 1) != 1:
        raise ValueError("ConvTranspose with padding or groups")
    call: Callable[..., Tensor] = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}[
        dims
    ]
    return call(x[0], x[1], x[2] if len(x) > 2 else None, a.get("strides", [1] * dims))


def _gemm(x: Sequence[Tensor], a: Attributes) -> Tensor:
    if a.get("alpha", 1.0) != 1 or a.get("beta", 1.0) != 1 or a.get("transA", 0):
        raise ValueError("Gemm with factors or a turned input")
    return functional.linear(
        x[0], x[1] if a.get("transB", 0) else x[1].T, x[2] if len(x) > 2 else None
    )


def _mean(x: Sequence[Tensor], a: Attributes) -> Tensor:
    axes = x[1].tolist() if len(x) > 1 else a["axes"]
    return x[0].mean(axes, keepdim=bool(a.get("keepdims", 1)))


def _slice(x: Sequence[Tensor], a: Attributes) -> Tensor:
    image, starts, ends = x[0], x[1].tolist(), x[2].tolist()
    axes = x[3].tolist() if len(x) > 3 else list(range(len(starts)))
    if len(x) > 4 and any(step != 1 for step in x[4].tolist()):
        raise ValueError("Slice with steps")
    cut = [slice(None)] * image.ndim
    for axis, start, end in zip(axes, starts, ends, strict=True):
        cut[axis] = slice(start, end)
    return image[tuple(cut)]


def _resize(x: Sequence[Tensor], a: Attributes) -> Tensor:
    if a.get("mode", b"nearest") != b"nearest":
        raise ValueError("Resize that is not by nearest neighbours")
    if len(x) > 3:
        return functional.interpolate(x[0], size=x[3].tolist()[2:], mode="nearest")
    return functional.interpolate(x[0], scale_factor=x[2].tolist()[2:], mode="nearest")


OPERATORS: dict[str, Operator] = {
    "Conv": _convolution,
    "ConvTranspose": _upward,
    "Gemm": _gemm,
    "MatMul": lambda x, _: x[0] @ x[1],
    "Add": lambda x, _: x[0] + x[1],
    "Sub": lambda x, _: x[0] - x[1],
    "Mul": lambda x, _: x[0] * x[1],
    "Relu": lambda x, _: functional.relu(x[0]),
    "Clip": lambda x, _: torch.clamp(x[0], x[1].item(), x[2].item()),
    "Concat": lambda x, a: torch.cat(list(x), a["axis"]),
    "ReduceMean": _mean,
    "Slice": _slice,
    "Resize": _resize,
    "Squeeze": lambda x, _: x[0].squeeze(tuple(x[1].tolist())),
    "Unsqueeze": lambda x, _: x[0].unsqueeze(x[1].tolist()[0]),
}
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


class Tunable(nn.Module):
    """A Q/DQ network that learns. Input and outputs are those of the file."""

    def __init__(self, plain: onnx.ModelProto, made: onnx.ModelProto) -> None:
        """`made` is training.quantize's version of `plain`.

        ValueError for an operator that is not known here, or where the two are of no one network.
        """
        super().__init__()
        self.made, self.rounds = made, True
        stored = {w.name: numpy_helper.to_array(w) for w in made.graph.initializer}
        first = {w.name: numpy_helper.to_array(w) for w in plain.graph.initializer}
        for node in made.graph.node:
            if node.op_type not in OPERATORS and node.op_type not in {QUANTIZE, DEQUANTIZE}:
                raise ValueError(f"{node.op_type} {node.name} cannot be tuned")
        makers = {name: node for node in made.graph.node for name in node.output}
        self.weight_of: dict[str, str] = {}  # DequantizeLinear's output -> its stored weight
        self.axis: dict[str, int] = {}
        self.slots: dict[str, str] = {}  # stored name -> its place in this module
        for node in made.graph.node:
            if node.op_type == DEQUANTIZE and node.input[0] not in makers:
                name = node.input[0]
                origin = first.get(name.removesuffix("_quantized"))
                if origin is None or origin.shape != stored[name].shape:
                    raise ValueError(f"the float network has no {name}")
                self.weight_of[node.output[0]] = name
                self.axis[name] = _attributes(node).get("axis", 0)
                self._hold(name, origin, learns=True)
        scales = {n.input[i] for n in made.graph.node for i in (1, 2) if "Linear" in n.op_type}
        weights = {
            name
            for node in made.graph.node
            if node.op_type in {"Conv", "Gemm", "MatMul", "ConvTranspose"}
            for name in node.input[1:]
        }
        for name, value in stored.items():
            if name not in self.slots and (name not in scales or value.dtype != np.int8):
                self._hold(name, value, learns=name in weights and name not in scales)

    def _hold(self, name: str, value: Any, learns: bool) -> None:
        slot = f"t{len(self.slots)}"
        tensor = torch.from_numpy(np.array(value))
        if learns:
            self.register_parameter(slot, nn.Parameter(tensor.float()))
        else:
            self.register_buffer(slot, tensor)
        self.slots[name] = slot

    def weight_scale(self, name: str) -> Tensor:
        """A weight's scales, one a channel: its largest value is STEPS of them."""
        weight = getattr(self, self.slots[name]).detach()
        largest: Tensor = weight.abs().movedim(self.axis[name], 0).flatten(1).amax(1)
        return (largest / STEPS).clamp(min=torch.finfo(torch.float32).tiny * STEPS)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the Q/DQ file answers to an input; with `rounds` off, what the float one would."""
        graph = self.made.graph
        known: dict[str, Tensor] = {n: getattr(self, slot) for n, slot in self.slots.items()}
        known[graph.input[0].name] = image
        for node in graph.node:
            out = node.output[0]
            if out in self.weight_of:
                name = self.weight_of[out]
                if not self.rounds:
                    known[out] = known[name]
                    continue
                scale = self.weight_scale(name)
                zeros = torch.zeros_like(scale, dtype=torch.int32)
                known[out] = torch.fake_quantize_per_channel_affine(
                    known[name], scale, zeros, self.axis[name], -STEPS, STEPS
                )
            elif node.op_type == DEQUANTIZE or (not self.rounds and node.op_type == QUANTIZE):
                known[out] = known[node.input[0]]
            elif node.op_type == QUANTIZE:
                scale = known[node.input[1]]
                known[out] = torch.fake_quantize_per_tensor_affine(
                    known[node.input[0]].float(), float(scale), 0, -128, 127
                )
            else:
                inputs = [known[name] if name else image for name in node.input]
                known[out] = OPERATORS[node.op_type](inputs, _attributes(node))
        answers = tuple(known[port.name] for port in graph.output)
        return answers if len(answers) > 1 else answers[0]

    def written(self) -> onnx.ModelProto:
        """The Q/DQ file with the weights as they are now."""
        out = onnx.ModelProto()
        out.CopyFrom(self.made)
        new: dict[str, Any] = {}
        makers = {node.output[0]: node for node in out.graph.node}
        for name, slot in self.slots.items():
            value = getattr(self, slot).detach().cpu()
            if name in self.axis:
                continue
            new[name] = value.numpy()
        for output, name in self.weight_of.items():
            weight = getattr(self, self.slots[name]).detach().cpu()
            scale = self.weight_scale(name).cpu()
            shape = [-1 if i == self.axis[name] else 1 for i in range(weight.ndim)]
            steps = torch.round(weight / scale.reshape(shape)).clamp(-STEPS, STEPS)
            new[name] = steps.to(torch.int8).numpy()
            new[makers[output].input[1]] = scale.numpy()
        for stored in out.graph.initializer:
            if stored.name in new:
                value = np.asarray(new[stored.name]).astype(numpy_helper.to_array(stored).dtype)
                stored.CopyFrom(
                    numpy_helper.from_array(value.reshape(tuple(stored.dims)), stored.name)
                )
        onnx.checker.check_model(out, full_check=True)
        return out


@dataclass(frozen=True)
class Tuning:
    """How long and how fast."""

    steps: int = 300
    rate: float = 2e-5  # AdamW, peak of the cosine
    ema: float = 0.98
    seed: int = 5


def tune(
    plain: onnx.ModelProto,
    made: onnx.ModelProto,
    draw: Callable[[np.random.Generator], Tensor],
    folder: Path,
    tuning: Tuning | None = None,
) -> onnx.ModelProto:
    """`made`, tuned to answer as the float network does on what `draw` gives (mean square of the
    first output). Needs no labels; writes `last.pt` and `log.csv` to `folder`."""
    t = Tuning() if tuning is None else tuning
    model, teacher = Tunable(plain, made), Tunable(plain, made)
    teacher.rounds = False
    teacher.to(device()).requires_grad_(False)

    def first(answer: Tensor | tuple[Tensor, ...]) -> Tensor:
        return answer[0] if isinstance(answer, tuple) else answer

    def loss(student: Tunable, images: Tensor) -> Tensor:
        return functional.mse_loss(first(student(images)), first(teacher(images)))

    schedule = Schedule(
        steps=t.steps,
        rate=t.rate,
        warmup=min(20, t.steps),
        decay=0.0,
        ema=t.ema,
        judge_every=t.steps,
        save_every=t.steps,
        bf16=False,
    )
    start = hashlib.sha256(made.SerializeToString(deterministic=True)).hexdigest()
    knobs = {**asdict(t), "start": start}
    job = Job("qat", knobs, lambda rng: (draw(rng),), loss)
    model.load_state_dict(fit(model, schedule, job, folder, t.seed))
    return model.cpu().written()


def worth_it(float_auc: float, int8_auc: float) -> bool:
    """Rule 4."""
    return float_auc - int8_auc > WORTH


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
