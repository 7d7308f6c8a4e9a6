"""What of an ONNX file a device takes, read from its bytes without a library. Pure.

A device has no package `onnx`, and the libraries that run networks do much before they refuse: they
open files that a network names, and make room for what it announces. So the few rules below are
held on the bytes themselves (Protocol Buffers, "Encoding"; onnx.proto), at packing and at every
load.

Rules; what breaks one is refused with code `bundle_network`.
1. Every field is one of FIELDS. What is not there (functions, training, sparse tensors, graphs
   within attributes) is refused. A field that stands once stands once: two readers of one file
   never see two networks.
2. Weights lie in the file itself.
3. Only operators of ONNX itself, of the versions OPSETS; none that runs other nodes (control
   flow), and none whose result is drawn by chance.
4. No axis is longer than MAX_AXIS and no tensor has more than MAX_ELEMENTS values, wherever the
   file says so: inputs, outputs, what lies between, weights, and stored sizes that an operator
   makes a tensor of. What sizes are computed, only the golden cases show: they have a limit of
   time.
5. At most MAX_BYTES and MAX_NODES.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NoReturn

from appliance.errors import BundleRefused

MAX_BYTES = 128_000_000
"""Half of what a whole bundle may have."""
MAX_NODES = 10_000
"""Our largest network has 145."""
MAX_AXIS = 1 << 16
"""The longest that an image or a layer of ours has is 1,024."""
MAX_ELEMENTS = 1 << 28
"""1 GiB of float32: a chest of 512 x 512 x 1,024 voxels."""
OPSETS = range(13, 22)
"""13 is the first with per-axis Q/DQ; TensorRT 10.3 (JetPack 6.2) parses up to 21."""
STANDARD = ("", "ai.onnx")
CONTROL = frozenset({"Loop", "If", "Scan", "SequenceMap"})
CHANCE = frozenset(
    {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    }
)
SIZED = MappingProxyType({"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Reshape": 1, "Resize": 3})
"""Operators that make a tensor of a size that is their input of this number."""
INT64 = 7
"""TensorProto.DataType."""
SIZE_BYTES = 8 * 64
"""What is longer is no size of a tensor, which has a few axes."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""
Fields = Mapping[int, tuple[str, int, bool]]
"""Number -> name, wire type, whether it may come again."""

_TEXT = (BYTES, False)
_PROPERTIES = ("metadata_props", BYTES, True)
MODEL: Fields = {
    1: ("ir_version", VARINT, False), 2: ("producer_name", *_TEXT), 3: ("producer_version", *_TEXT),
    4: ("domain", *_TEXT), 5: ("model_version", VARINT, False), 6: ("doc_string", *_TEXT),
    7: ("graph", *_TEXT), 8: ("opset_import", BYTES, True), 14: _PROPERTIES,
}  # fmt: skip
OPSET: Fields = {1: ("domain", *_TEXT), 2: ("version", VARINT, False)}
GRAPH: Fields = {
    1: ("node", BYTES, True), 2: ("name", *_TEXT), 5: ("initializer", BYTES, True),
    10: ("doc_string", *_TEXT), 11: ("input", BYTES, True), 12: ("output", BYTES, True),
    13: ("value_info", BYTES, True), 14: ("quantization_annotation", BYTES, True), 16: _PROPERTIES,
}  # fmt: skip
NODE: Fields = {
    1: ("input", BYTES, True), 2: ("output", BYTES, True), 3: ("name", *_TEXT),
    4: ("op_type", *_TEXT), 5: ("attribute", BYTES, True), 6: ("doc_string", *_TEXT),
    7: ("domain", *_TEXT), 9: _PROPERTIES,
}  # fmt: skip
ATTRIBUTE: Fields = {
    1: ("name", *_TEXT), 2: ("f", FIXED32, False), 3: ("i", VARINT, False), 4: ("s", *_TEXT),
    5: ("t", *_TEXT), 7: ("floats", FIXED32, True), 8: ("ints", VARINT, True),
    9: ("strings", BYTES, True), 13: ("doc_string", *_TEXT), 20: ("type", VARINT, False),
}  # fmt: skip
TENSOR: Fields = {
    1: ("dims", VARINT, True), 2: ("data_type", VARINT, False), 4: ("float_data", FIXED32, True),
    5: ("int32_data", VARINT, True), 7: ("int64_data", VARINT, True), 8: ("name", *_TEXT),
    9: ("raw_data", *_TEXT), 10: ("double_data", FIXED64, True), 11: ("uint64_data", VARINT, True),
    12: ("doc_string", *_TEXT), 13: ("external_data", BYTES, True),
    14: ("data_location", VARINT, False), 16: _PROPERTIES,
}  # fmt: skip
VALUE: Fields = {
    1: ("name", *_TEXT), 2: ("type", *_TEXT), 3: ("doc_string", *_TEXT), 4: _PROPERTIES,
}  # fmt: skip
TYPE: Fields = {1: ("tensor_type", *_TEXT), 6: ("denotation", *_TEXT)}
TENSOR_TYPE: Fields = {1: ("elem_type", VARINT, False), 2: ("shape", *_TEXT)}
SHAPE: Fields = {1: ("dim", BYTES, True)}
DIM: Fields = {1: ("dim_value", VARINT, False), 2: ("dim_param", *_TEXT), 3: ("denotation", *_TEXT)}

_TRAILS = MappingProxyType({FIXED32: 4, FIXED64: 8})


def check(file: str, data: bytes) -> None:
    """Hold the bytes of one network to the rules. `file`: its name in the bundle, for the text.

    BundleRefused `bundle_network` says what is wrong and where.
    """
    _Check(file).model(data)


class _Check:
    """One file; `stored` are its whole-number tensors by name, for rule 4."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._stored: dict[bytes, tuple[int, ...]] = {}

    def model(self, data: bytes) -> None:
        if len(data) > MAX_BYTES:
            self._refuse(f"larger than {MAX_BYTES} bytes")
        graph: memoryview | None = None
        versions: list[int] = []
        for name, value in self._fields(memoryview(data), MODEL, "the model"):
            if name == "graph":
                graph = _view(value)
            elif name == "opset_import":
                versions.append(self._opset(_view(value)))
        if graph is None:
            self._refuse("not an ONNX model: it has no graph")
        if len(versions) != 1:
            self._refuse(f"it names {len(versions)} operator sets; one is needed")
        if versions[0] not in OPSETS:
            known = f"{OPSETS.start} to {OPSETS.stop - 1}"
            self._refuse(f"operators of version {versions[0]}; {known} are known")
        self._graph(graph)

    def _opset(self, data: memoryview) -> int:
        version = 0
        for name, value in self._fields(data, OPSET, "opset_import"):
            if name == "domain":
                self._standard(_view(value), "an operator set")
            else:
                version = _number(value)
        return version

    def _graph(self, data: memoryview) -> None:
        nodes = []
        for name, value in self._fields(data, GRAPH, "the graph"):
            if name == "node":
                nodes.append(_view(value))
                if len(nodes) > MAX_NODES:
                    self._refuse(f"more than {MAX_NODES} nodes")
            elif name == "initializer":
                self._tensor(_view(value), "weights")
            elif name in ("input", "output", "value_info"):
                self._value(_view(value))
        for kind, inputs in [self._node(node) for node in nodes]:  # all constants are known
            at = SIZED.get(kind, len(inputs))
            if at < len(inputs):
                self._size([abs(n) for n in self._stored.get(inputs[at], ())], f"a {kind}")

    def _node(self, data: memoryview) -> tuple[str, list[bytes]]:
        """Rule 3, and the constants of a node; its operator and inputs."""
        kind = ""
        inputs: list[bytes] = []
        outputs: list[bytes] = []
        attributes: list[memoryview] = []
        for name, value in self._fields(data, NODE, "a node"):
            if name == "op_type":
                kind = _text(_view(value))
            elif name == "domain":
                self._standard(_view(value), "an operator")
            elif name == "input":
                inputs.append(bytes(_view(value)))
            elif name == "output":
                outputs.append(bytes(_view(value)))
            elif name == "attribute":
                attributes.append(_view(value))
        if kind in CONTROL:
            self._refuse(f"{kind} runs other nodes: control flow is not allowed")
        if kind in CHANCE:
            self._refuse(f"{kind} is drawn by chance: the same image must give the same result")
        for attribute in attributes:
            self._attribute(attribute, kind, outputs)
        return kind, inputs

    def _attribute(self, data: memoryview, kind: str, outputs: list[bytes]) -> None:
        where = f"an attribute of {kind or 'a node'}"
        ints: list[int] = []
        for name, value in self._fields(data, ATTRIBUTE, where):
            if name == "t":
                self._tensor(_view(value), where, outputs[:1])
            elif name == "ints":
                ints += self._numbers(value, where)
        if kind == "Constant" and outputs and ints:
            self._stored[outputs[0]] = tuple(ints)

    def _tensor(self, data: memoryview, where: str, names: list[bytes] | None = None) -> None:
        """A stored tensor, known by its own name or as the constant of `names`."""
        dims: list[int] = []
        whole: list[int] = []
        raw = memoryview(b"")
        kind, called = 0, b""
        for name, value in self._fields(data, TENSOR, where):
            if name == "dims":
                dims += self._numbers(value, where)
            elif name == "int64_data" and (isinstance(value, int) or len(value) <= SIZE_BYTES):
                whole += self._numbers(value, where)
            elif name == "data_type":
                kind = _number(value)
            elif name == "raw_data":
                raw = _view(value)
            elif name == "name":
                called = bytes(_view(value))
            elif name == "external_data" or (name == "data_location" and _number(value)):
                self._refuse("weights lie outside the file; export them into it")
        self._size(dims, where)
        if kind == INT64:
            if raw and len(raw) % 8 == 0 and len(raw) <= SIZE_BYTES:
                whole = [*struct.unpack(f"<{len(raw) // 8}q", raw)]
            for one in (called,) if names is None else names:
                self._stored[one] = tuple(whole)

    def _value(self, data: memoryview) -> None:
        """An input, an output or what lies between: its type and shape."""
        for name, value in self._fields(data, VALUE, "a tensor"):
            if name != "type":
                continue
            for _, tensor in self._fields(_view(value), TYPE, "a type"):
                for part, shape in self._fields(_view(tensor), TENSOR_TYPE, "a tensor's type"):
                    if part == "shape":
                        self._shape(_view(shape))

    def _shape(self, data: memoryview) -> None:
        dims = []
        for _, dim in self._fields(data, SHAPE, "a shape"):
            fields = dict(self._fields(_view(dim), DIM, "an axis"))
            dims.append(_number(fields.get("dim_value", 0)))
        self._size(dims, "a tensor", free=True)

    def _size(self, dims: list[int], where: str, *, free: bool = False) -> None:
        """Rule 4. free: 0 and -1 stand for an axis of any length."""
        for dim in dims:
            if dim > MAX_AXIS or dim < (-1 if free else 0):
                self._refuse(f"{where}: an axis of {dim}; at most {MAX_AXIS} is allowed")
        if math.prod(dim for dim in dims if dim > 0) > MAX_ELEMENTS:
            shown = " x ".join(map(str, dims[:8]))
            self._refuse(f"{where}: {shown} values; at most {MAX_ELEMENTS} are allowed")

    def _standard(self, domain: memoryview, what: str) -> None:
        name = _text(domain)
        if name not in STANDARD:
            self._refuse(f"{what} of {name!r}: only operators of ONNX itself are allowed")

    # The wire

    def _fields(
        self, data: memoryview, known: Fields, where: str
    ) -> Iterator[tuple[str, int | memoryview]]:
        """(name, number or bytes) of each field of a message, in the order of the file."""
        at, once = 0, set()
        while at < len(data):
            key, at = self._varint(data, at)
            number, wire = key >> 3, key & 7
            if number not in known:
                self._refuse(f"{where} has a field {number} that is not allowed")
            name, wanted, again = known[number]
            if not again:
                if number in once:
                    self._refuse(f"{where} has {name} twice")
                once.add(number)
            packed = again and wire == BYTES  # repeated numbers may stand in one piece
            if wire != wanted and not packed:
                self._refuse(f"{where}: {name} is damaged")
            if wire == VARINT:
                value, at = self._varint(data, at)
                yield name, value
                continue
            length = _TRAILS.get(wire)
            if length is None:
                length, at = self._varint(data, at)
            if length > len(data) - at:
                self._refuse(f"{where}: {name} is cut off")
            yield name, data[at : at + length]
            at += length

    def _varint(self, data: memoryview, at: int) -> tuple[int, int]:
        """A number of up to 64 bits and where the next byte is."""
        value = place = 0
        while place < 10 and at + place < len(data):
            byte = data[at + place]
            value |= (byte & 0x7F) << (7 * place)
            place += 1
            if byte < 0x80:
                break
        else:
            self._refuse("not an ONNX model, or cut off")
        return value & (1 << 64) - 1, at + place

    def _numbers(self, value: int | memoryview, where: str) -> list[int]:
        """One number, or several in one piece; signed."""
        if isinstance(value, int):
            return [_signed(value)]
        found: list[int] = []
        at = 0
        while at < len(value):
            if len(found) > MAX_AXIS:
                self._refuse(f"{where}: more than {MAX_AXIS} numbers")
            one, at = self._varint(value, at)
            found.append(_signed(one))
        return found

    def _refuse(self, text: str) -> NoReturn:
        raise BundleRefused(
            f"{self._file}: {text}",
            remedy="Export the network as plain ONNX of fixed operators and pack it again.",
            code="bundle_network",
        )


def _view(value: int | memoryview) -> memoryview:
    """Of a field of bytes, which `_fields` has made sure of."""
    if isinstance(value, int):
        raise TypeError("a number where bytes were asked for")
    return value


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise TypeError("bytes where a number was asked for")
    return _signed(value)


def _signed(value: int) -> int:
    """64 bits, two's complement."""
    return value - (1 << 64) if value >> 63 else value


def _text(value: memoryview) -> str:
    """A hostile name, short and printable."""
    return bytes(value[:64]).decode("ascii", "backslashreplace")
