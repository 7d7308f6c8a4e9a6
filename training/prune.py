"""Structured pruning: channels that say least are taken out, and the network gets smaller.

    network -> its channels, tied where they must go together -> scores -> narrower layers

Rules.
1. Channels are removed, not set to zero: weights, biases, statistics and whatever reads them get
   narrower. The network stays of its class, with less multiply-accumulates (MACs).
2. What an addition joins goes together: a residual block keeps the same channels on both branches.
   A depthwise convolution goes with its input. Channels of an input or an output of the network
   stay, and so does what passes an operation that is not known here.
3. A channel's score is the mean over the layers that make it of its batch normalisation's |scale|
   (arXiv:1708.06519) or of its weights' L1 (arXiv:1608.08710) or L2 norm, each relative to its
   layer's mean. Of each set of tied channels the lowest share goes.
4. Channels that are zero for every input leave the output as it was. The others change it: tune
   what comes out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

By = Literal["scale", "l1", "l2"]
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
LAYERS = (*CONVOLUTIONS, nn.Linear)
KEEP_CHANNELS: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.Identity,
    nn.Dropout,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.ZeroPad2d,
)
KEEP_NAMES = {"relu", "relu6", "interpolate", "mean", "max_pool3d", "max_pool2d", "getitem"}
"""Functions and methods after which channel c is made of channel c alone."""


@dataclass
class Channels:
    """A set of channels that go together."""

    count: int
    fixed: bool = False
    makers: list[str] = field(default_factory=list)  # layers and norms that write them
    joined: Channels | None = None

    def root(self) -> Channels:
        """The set that this one became part of."""
        return self if self.joined is None else self.joined.root()

    def join(self, other: Channels) -> None:
        """Both go together from here on."""
        a, b = self.root(), other.root()
        if a is b:
            return
        b.joined = a
        a.fixed, a.makers = a.fixed or b.fixed, a.makers + b.makers


Layout = tuple[Channels, ...]
"""A tensor's channels in order: one set, or several where a concatenation put them in a row."""


@dataclass(frozen=True)
class Pruned:
    """A narrower network, and what it costs."""

    model: nn.Module
    macs_before: int
    macs_after: int
    removed: dict[str, int]  # layer -> output channels that went


def macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions and fully connected layers for `example`."""
    total = 0

    def count(layer: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
            # every output position sees kernel / stride taps of every input channel
            taps = math.prod(weight.shape[2:]) / math.prod(layer.stride)
            total += round(out.numel() * weight.shape[0] * taps / layer.groups)
        else:
            total += out.numel() * weight[0].numel()

    kinds = (*LAYERS, nn.ConvTranspose2d, nn.ConvTranspose3d)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, kinds)]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return total


def prune(
    model: nn.Module, example: Tensor, share: float, by: By = "scale", multiple: int = 8
) -> Pruned:
    """Takes the lowest `share` of each set of channels out of a copy of `model`.

    What is left of a set is a multiple of `multiple` (INT8 kernels come in such steps). `example`
    is an input. ValueError for a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"a share to remove lies in [0, 1), not {share}")
    smaller = copy.deepcopy(model).eval()
    layouts = _layouts(smaller, example)
    kept = {
        id(one): _kept(smaller, one, share, by, multiple)
        for pair in layouts.values()
        for layout in pair
        for one in {id(c.root()): c.root() for c in layout}.values()
    }
    removed = {}
    for name, (inputs, outputs) in layouts.items():
        layer = smaller.get_submodule(name)
        rows, columns = _places(outputs, kept), _places(inputs, kept)
        before = sum(c.count for c in outputs)
        _narrow(layer, rows, columns)
        if isinstance(layer, LAYERS) and len(rows) < before:
            removed[name] = before - len(rows)
    return Pruned(smaller, macs(model, example), macs(smaller, example), removed)


def load_pruned(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """`model`, of full width, made as narrow as a pruned network's state, and filled with it."""
    for name, layer in model.named_modules():
        if isinstance(layer, (*LAYERS, *NORMS)):
            weight = state[f"{name}.weight"]
            columns = weight.shape[1] if isinstance(layer, LAYERS) else weight.shape[0]
            _narrow(layer, torch.arange(len(weight)), torch.arange(columns))
    model.load_state_dict(state)
    return model


def _layouts(model: nn.Module, example: Tensor) -> dict[str, tuple[Layout, Layout]]:
    """Layer or norm -> the channels that it reads and those that it writes."""
    traced = fx.symbolic_trace(model)
    ShapeProp(traced).propagate(example)
    modules = dict(traced.named_modules())
    of: dict[fx.Node, Layout] = {}
    found: dict[str, tuple[Layout, Layout]] = {}

    def size(node: fx.Node) -> int:
        shape = node.meta["tensor_meta"].shape
        return int(shape[1]) if len(shape) > 1 else 1

    for node in traced.graph.nodes:
        sources = [n for n in node.all_input_nodes if n in of]
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if node.op == "output":
            for source in sources:
                _fix(of[source])
        elif isinstance(module, LAYERS):
            inputs = of[sources[0]]
            made = Channels(size(node), makers=[node.target])
            groups = module.groups if isinstance(module, CONVOLUTIONS) else 1
            if groups > 1 and groups == size(node) == size(sources[0]) and len(inputs) == 1:
                made.join(inputs[0])
            elif groups > 1:
                made.fixed = True
                _fix(inputs)
            found[node.target] = inputs, (made,)
            of[node] = (made,)
        elif isinstance(module, NORMS):
            for one in of[sources[0]] if len(of[sources[0]]) == 1 else ():
                one.root().makers.append(node.target)
            found[node.target] = of[sources[0]], of[sources[0]]
            of[node] = of[sources[0]]
        elif "tensor_meta" in node.meta and hasattr(node.meta["tensor_meta"], "shape"):
            of[node] = _passed(node, module, [of[s] for s in sources], size(node))
    return found


def _passed(node: fx.Node, module: nn.Module | None, given: list[Layout], count: int) -> Layout:
    """Channels of what is no layer: those of its input, or fixed ones where that is not sure."""
    name = getattr(node.target, "__name__", str(node.target))
    if given and all(sum(c.count for c in one) == count for one in given):
        if name in {"add", "iadd", "add_", "mul"} and len({_sizes(one) for one in given}) == 1:
            for other in given[1:]:
                for a, b in zip(given[0], other, strict=True):
                    a.join(b)
            return given[0]
        if len(given) == 1 and (
            isinstance(module, KEEP_CHANNELS) or name in KEEP_NAMES | {"mul", "add", "sub"}
        ):
            return given[0]
    joined = tuple(c for one in given for c in one)
    if name == "cat" and sum(c.count for c in joined) == count and _along_channels(node):
        return joined
    for one in given:
        _fix(one)
    return (Channels(count, fixed=True),)


def _along_channels(node: fx.Node) -> bool:
    axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    return bool(axis == 1)


def _sizes(layout: Layout) -> tuple[int, ...]:
    return tuple(c.count for c in layout)


def _fix(layout: Layout) -> None:
    for one in layout:
        one.root().fixed = True


def _kept(model: nn.Module, channels: Channels, share: float, by: By, multiple: int) -> Tensor:
    """Indices of a set's channels that stay, rising."""
    scores = _scores(model, channels, by)
    every = torch.arange(channels.count)
    if channels.fixed or scores is None:
        return every
    wanted = channels.count * (1 - share)
    count = min(channels.count, max(multiple, math.ceil(wanted / multiple - 1e-9) * multiple))
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def _scores(model: nn.Module, channels: Channels, by: By) -> Tensor | None:
    """Rule 3; None where no layer says anything."""
    measure: dict[By, Callable[[Tensor], Tensor]] = {
        "scale": lambda w: w.abs(),
        "l1": lambda w: w.abs().flatten(1).sum(1),
        "l2": lambda w: w.square().flatten(1).sum(1).sqrt(),
    }
    kind = NORMS if by == "scale" else LAYERS
    rows = []
    for name in channels.makers:
        layer = model.get_submodule(name)
        if isinstance(layer, kind):
            assert isinstance(layer.weight, Tensor)
            each = measure[by](layer.weight.detach())
            rows.append(each / each.mean().clamp(min=torch.finfo(each.dtype).tiny))
    return torch.stack(rows).mean(0) if rows else None


def _places(layout: Layout, kept: dict[int, Tensor]) -> Tensor:
    """Indices that stay of a tensor's channels."""
    found, start = [], 0
    for one in layout:
        found.append(kept[id(one.root())] + start)
        start += one.count
    return torch.cat(found)


def _narrow(layer: nn.Module, rows: Tensor, columns: Tensor) -> None:
    """Keeps some output and input channels of a layer or norm."""
    if isinstance(layer, NORMS):
        layer.num_features = len(rows)
        for name in ("weight", "bias"):
            setattr(layer, name, nn.Parameter(getattr(layer, name).detach()[rows].clone()))
        for name in ("running_mean", "running_var"):
            setattr(layer, name, getattr(layer, name)[rows].clone())
        return
    assert isinstance(layer, LAYERS)
    depthwise = isinstance(layer, CONVOLUTIONS) and layer.groups > 1
    weight = layer.weight.detach()[rows]
    layer.weight = nn.Parameter((weight if depthwise else weight[:, columns]).clone())
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[rows].clone())
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = len(columns), len(rows)
    else:
        layer.in_channels, layer.out_channels = len(columns), len(rows)
        if depthwise:
            layer.groups = len(rows)
