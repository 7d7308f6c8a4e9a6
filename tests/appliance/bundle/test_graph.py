"""A network that names what it may not is refused by name, before any library sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.bundle import archive, graph, trust
from appliance.errors import BundleRefused

FREE = [1, 1, "z", "y", "x"]


def value(name: str, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(
    nodes: list[Any] | None = None,
    weights: dict[str, Any] | None = None,
    shape: list[Any] | None = None,
    opset: int = 18,
) -> Any:
    made = helper.make_graph(
        nodes or [helper.make_node("Relu", ["image"], ["lungs"])],
        "g",
        [value("image", shape or FREE)],
        [value("lungs", shape or FREE)],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def said(made: Any) -> str:
    data = made if isinstance(made, bytes) else made.SerializeToString()
    with pytest.raises(BundleRefused, match=r"one\.onnx") as caught:
        graph.check("one.onnx", data)
    assert caught.value.code == "bundle_network"
    assert caught.value.remedy
    return caught.value.text


def node(kind: str, **attributes: Any) -> Any:
    return helper.make_node(kind, ["image"], ["lungs"], **attributes)


def body() -> Any:
    """A graph within a graph."""
    inner = [helper.make_node("Identity", ["again"], ["more"])]
    flag = helper.make_tensor_value_info
    return helper.make_graph(
        inner, "body", [], [flag("more", TensorProto.BOOL, []), flag("again", TensorProto.BOOL, [])]
    )


def test_what_a_bundle_holds_passes(tiny_bytes: bytes) -> None:
    entries = archive.read(tiny_bytes)
    for name in ("segment.onnx", "propose.onnx", "classify.onnx"):
        graph.check(name, entries[name])
    graph.check("one.onnx", model().SerializeToString())


@pytest.mark.parametrize("kind", sorted(graph.CONTROL))
def test_control_flow_is_refused_by_name(kind: str) -> None:
    assert f"{kind} runs other nodes" in said(model([node(kind)]))
    assert f"{kind} runs other nodes" in said(model([node(kind, body=body())]))


def test_a_graph_within_an_attribute_is_refused_whatever_the_operator_is() -> None:
    assert "an attribute of Relu has a field 6" in said(model([node("Relu", body=body())]))
    assert "has a field 11" in said(model([node("Relu", bodies=[body()])]))


def test_a_function_that_would_hide_nodes_is_refused() -> None:
    made = model([helper.make_node("Mine", ["image"], ["lungs"])])
    hidden = helper.make_function(
        "", "Mine", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], made.opset_import
    )
    made.functions.append(hidden)
    assert "the model has a field 25" in said(made)


def test_operators_of_others_are_refused_by_their_domain() -> None:
    assert "'com.microsoft'" in said(model([node("Gelu", domain="com.microsoft")]))
    made = model()
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    assert "'ai.onnx.ml'" in said(made)


@pytest.mark.parametrize("version", [0, 12, 22, 99])
def test_an_unknown_version_of_the_operators_is_refused(version: int) -> None:
    assert f"version {version}; 13 to 21" in said(model(opset=version))


def test_two_operator_sets_or_none_are_refused() -> None:
    made = model()
    made.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    assert "2 operator sets" in said(made)
    del made.opset_import[:]
    assert "0 operator sets" in said(made)


@pytest.mark.parametrize("kind", sorted(graph.CHANCE))
def test_what_is_drawn_by_chance_is_refused(kind: str) -> None:
    assert f"{kind} is drawn by chance" in said(model([node(kind)]))


def outside(tensor: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="../../etc/passwd")
    tensor.data_location = TensorProto.EXTERNAL


def test_weights_outside_the_file_are_refused() -> None:
    made = model(weights={"w": np.ones(4, np.float32)})
    outside(made.graph.initializer[0])
    assert "weights lie outside" in said(made)
    made.graph.initializer[0].data_location = TensorProto.DEFAULT
    assert "weights lie outside" in said(made)


def test_weights_of_a_constant_outside_the_file_are_refused() -> None:
    made = model([helper.make_node("Constant", [], ["lungs"], value=tensor(np.ones(4)))])
    outside(made.graph.node[0].attribute[0].t)
    assert "weights lie outside" in said(made)


def tensor(array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array, np.float32))


@pytest.mark.parametrize("shape", [[1, 1, 10**9, 4, 4], [1, 1, -5, 4, 4], [1, 1024, 1024, 1024, 4]])
def test_an_absurd_shape_of_an_input_is_refused(shape: list[int]) -> None:
    assert "allowed" in said(model(shape=shape))


def test_an_absurd_shape_in_the_middle_or_of_weights_is_refused() -> None:
    made = model()
    made.graph.value_info.append(value("middle", [10**9]))
    assert "an axis of 1000000000" in said(made)
    made = model(weights={"w": np.ones(4, np.float32)})
    made.graph.initializer[0].dims[:] = [10**9]
    assert "an axis of 1000000000" in said(made)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(("kind", "at"), sorted(graph.SIZED.items()))
def test_a_stored_size_that_is_absurd_is_refused(kind: str, at: int, raw: bool) -> None:
    inputs = [*(["image"] * at), "size"]
    size = np.array([1, 30_000, 30_000], np.int64)
    made = model([helper.make_node(kind, inputs, ["lungs"])], {"size": size})
    if not raw:
        made.graph.initializer[0].ClearField("raw_data")
        made.graph.initializer[0].int64_data[:] = size.tolist()
    assert f"a {kind}: 1 x 30000 x 30000 values" in said(made)


def test_a_size_that_a_constant_holds_is_found_before_and_after_it() -> None:
    make = helper.make_node("ConstantOfShape", ["size"], ["lungs"])
    for size in (
        helper.make_node("Constant", [], ["size"], value_ints=[10**9, 10**9]),
        helper.make_node(
            "Constant", [], ["size"], value=numpy_helper.from_array(np.array([10**9]))
        ),
    ):
        assert "an axis of 1000000000" in said(model([size, make]))
        assert "an axis of 1000000000" in said(model([make, size]))


def test_a_size_that_keeps_or_infers_an_axis_passes() -> None:
    keep = helper.make_node("Reshape", ["image", "size"], ["lungs"])
    made = model([keep], {"size": np.array([0, -1, 16], np.int64)})
    graph.check("one.onnx", made.SerializeToString())


def test_too_many_nodes_or_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = [helper.make_node("Relu", ["image"], ["lungs"])] * (graph.MAX_NODES + 1)
    assert f"more than {graph.MAX_NODES} nodes" in said(model(chain))
    monkeypatch.setattr(graph, "MAX_BYTES", 10)
    assert "larger than 10 bytes" in said(model())


def test_a_field_that_two_readers_would_take_differently_is_refused() -> None:
    data = model().SerializeToString()
    assert "the model has graph twice" in said(data + b"\x3a\x00")
    assert "the model has ir_version twice" in said(data + b"\x08\x09")


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x08\x07junk", b"\x3a\x7f"])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    said(data)


def test_every_cut_of_a_network_is_refused(tiny_bytes: bytes) -> None:
    data = archive.read(tiny_bytes)["propose.onnx"]
    whole = onnx.load_from_string(data)
    for length in range(len(data)):
        try:
            graph.check("one.onnx", data[:length])
        except BundleRefused:
            continue
        # between two fields of the model: what it has lost is seen by whoever reads it
        assert onnx.load_from_string(data[:length]) != whole


def test_a_bundle_with_such_a_network_is_neither_loaded_nor_added(
    make_shelf: Any, forge: Any, key: Any, tmp_path: Path
) -> None:
    looped = model([node("Loop", body=body())]).SerializeToString()
    bundle = forge(lambda m: m.update(version="1.1.0"), {"segment.onnx": looped}, key)
    with pytest.raises(BundleRefused, match="Loop") as caught:
        trust.check(bundle)
    assert caught.value.code == "bundle_network"
    path = tmp_path / "looped.scanside"
    path.write_bytes(bundle)
    with pytest.raises(BundleRefused, match="Loop"):
        make_shelf().add(path)
