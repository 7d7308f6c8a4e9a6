"""What every backend must do, run over all of them; one whose library is missing is skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import signal

from appliance.backend import choose, trt_engine
from appliance.backend.open import LOADERS, open_backend, open_engines
from appliance.backend.protocol import TOLERANCE, Backend
from appliance.bundle.manifest import Network, Port
from appliance.errors import BackendUnavailable, BundleRefused, Poisoned
from appliance.host import driver, memory
from appliance.preprocess import fast, plan, reference
from appliance.preprocess.spec import Crop, Cube, Orient, Pad, Patch, Resample, Rescale, Window
from appliance.records import Box, Geometry, Header, Image, Stack, Tensor
from compile import kernels, tensorrt
from rigs import host_gpu

HEADER = Header(sop_class_uid="1", sop_instance_uid="1.2", study_uid="1.3", series_uid="1.4")
WINDOW = Window(low=-1000, high=400)
VOLUME = [Rescale(), Orient(), Resample(spacing_mm=(1.5, 1.5, 1.5)), WINDOW, Pad(multiple=8)]
PATCH = [Rescale(), Orient(), Patch(size=16), WINDOW]
WEIGHTS = {
    number: np.random.default_rng(number).normal(size=(1, 1, 3, 3, 3)).astype(np.float32)
    for number in (1, 2)
}


def stack() -> Stack:
    rng = np.random.default_rng(3)
    planes = []
    for k in range(11):
        geometry = Geometry((30.0, -20.0, k * 2.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.7, 0.7))
        hu = rng.integers(-1024, 1500, (43, 38)).astype(np.int16)
        planes.append(fast.plane(Image(HEADER, 0, geometry, hu, False, f"{k:064x}"), [1.5]))
    return Stack(tuple(planes), np.arange(11) * 2.0, (0.0, 0.0, 1.0), (2.0, 0.7, 0.7))


def conv3d(seed: int = 1) -> bytes:
    """image -> heat: one 3x3x3 convolution over free axes; wide: heat of half the size."""
    free, half = [1, 1, "z", "y", "x"], [1, 1, "z2", "y2", "x2"]
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["heat"], pads=[1] * 6),
        helper.make_node("MaxPool", ["heat"], ["wide"], kernel_shape=[2] * 3, strides=[2] * 3),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", free), ("heat", free), ("wide", half))
    ]
    return model(nodes, ports, [numpy_helper.from_array(WEIGHTS[seed], "w")])


def widened() -> bytes:
    """image -> heat by two convolutions, with eight channels between them."""
    free = [1, 1, "z", "y", "x"]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, free) for n in ("image", "heat")]
    nodes = [
        helper.make_node("Conv", ["image", "to"], ["wide"], pads=[1] * 6),
        helper.make_node("Conv", ["wide", "back"], ["heat"], pads=[1] * 6),
    ]
    shapes = {"to": (8, 1, 3, 3, 3), "back": (1, 8, 3, 3, 3)}
    made = [numpy_helper.from_array(np.full(s, 0.1, np.float32), n) for n, s in shapes.items()]
    return model(nodes, ports, made)


def pooled() -> bytes:
    """image [n, 1, s, s] -> logit [n, 1]: its mean."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logit"]),
    ]
    ports = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 16, 16]),
        helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n", 1]),
    ]
    return model(nodes, ports, [])


def divided() -> bytes:
    """image -> heat = image / image, which is not finite where the image is 0."""
    free = [1, 1, "z", "y", "x"]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, free) for n in ("image", "heat")]
    return model([helper.make_node("Div", ["image", "image"], ["heat"])], ports, [])


def model(nodes, ports, weights) -> bytes:
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    opset = helper.make_opsetid("", 18)
    whole = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    return bytes(whole.SerializeToString())


def network(*outputs: str, image: str = "image", precision: str = "fp32") -> Network:
    return Network(
        file="model.onnx",
        digest="0" * 64,
        precision=precision,
        inputs=(Port(name=image, shape=(1, 1, -1, -1, -1)),),
        outputs=tuple(Port(name=name, shape=(1, 1, -1, -1, -1)) for name in outputs),
        preprocess=(),
    )


NETWORKS = {"propose": network("heat", "wide"), "classify": network("logit")}


PROFILES = {
    "propose": ((1, 1, 1, 1, 1), (1, 1, 32, 32, 32), (1, 1, 64, 64, 64)),
    "classify": ((1, 1, 16, 16), (8, 1, 16, 16), (64, 1, 16, 16)),
}
"""Role -> the shapes that an engine of these networks is built for."""
Open = Callable[..., Backend]


@pytest.fixture(scope="module", params=[*sorted(LOADERS), "gpu", "gpu-host", "gpu-host-integrated"])
def name(request) -> str:
    if request.param in LOADERS and not choose.installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture(scope="module")
def opener(name, request) -> Open:
    """How a backend of this name is opened: (networks, role -> ONNX file)."""
    if name in LOADERS:
        return lambda networks, onnx: open_backend(name, networks, onnx, threads=1)
    if name == "gpu":
        return on_this_gpu()
    library = request.getfixturevalue("kernels")
    integrated = name.endswith("integrated")
    return lambda networks, onnx: host_gpu.backend(
        library, networks, onnx, PROFILES, integrated=integrated
    )


def on_this_gpu() -> Open:
    """Engines of these networks, built here and now; skips where there is no GPU to do it."""
    try:
        gpu = driver.recent(driver.probe())
        library = trt_engine.load()
        fatbin = kernels.for_gpu(gpu)
    except BackendUnavailable as e:
        pytest.skip(f"gpu: {e.text}")
    builder = tensorrt.load("tensorrt")

    def opened(networks, onnx) -> Backend:
        plans = {
            role: tensorrt.build(
                builder, role, network, onnx[role],
                {network.inputs[0].name: PROFILES[role]}, architecture=gpu.architecture,
            ).data
            for role, network in networks.items()
        }  # fmt: skip
        return open_engines(gpu, library, fatbin, networks, plans, PROFILES)

    return opened


@pytest.fixture(scope="module")
def backend(opener) -> Iterator[Backend]:
    opened = opener(NETWORKS, {"propose": conv3d(), "classify": pooled()})
    yield opened
    opened.close()


def tensor(array: np.ndarray) -> Tensor:
    return Tensor(array, array.shape, None)


def test_it_says_what_it_is(backend, name):
    assert backend.ref.name == name.split("-")[0]
    assert backend.ref.precision == "fp32"


@pytest.mark.parametrize("cropped", [False, True])
def test_prepare_is_the_reference(backend, cropped):
    one, ops, crop = stack(), list(VOLUME), None
    if cropped:
        ops.insert(3, Crop(margin_mm=3))
        crop = (plan.grid_of(one, (3.0, 3.0, 3.0)), Box((1, 2, 1), (5, 7, 9)))
    expected, grid = reference.apply(one, ops, crop)
    given = backend.prepare(one, ops, crop)
    assert given.shape == expected.shape
    assert given.grid.shape == grid.shape
    assert np.array_equal(given.grid.to_lps, grid.to_lps)
    assert np.abs(np.asarray(given.data) - expected).max() <= TOLERANCE


@pytest.mark.parametrize("views", [1, 8])
def test_gather_is_the_reference(backend, views):
    centers = [(10.0, -10.0, 7.0), (31.0, -21.0, 20.4), (-400.0, 0.0, 0.0)]
    expected = reference.apply_patches(stack(), PATCH, centers, views)
    given = backend.gather(stack(), PATCH, centers, views)
    assert given.shape == (3 * views, 1, 16, 16)
    assert given.grid is None
    assert np.abs(np.asarray(given.data) - expected).max() <= TOLERANCE


def test_gathered_cubes_are_those_of_the_reference(backend):
    ops = [Rescale(), Orient(), Cube(size=12, spacing_mm=1.1), WINDOW]
    centers = [(10.0, -10.0, 7.0), (31.0, -21.0, 20.4), (-400.0, 0.0, 0.0)]
    expected = reference.apply_patches(stack(), ops, centers)
    given = backend.gather(stack(), ops, centers)
    assert given.shape == (3, 1, 12, 12, 12)
    assert np.abs(np.asarray(given.data) - expected).max() <= TOLERANCE


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 17, 9), (2, 3, 31), (24, 16, 40)])
def test_infer_is_the_computation_whatever_the_shape(backend, shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    expected = signal.correlate(image, WEIGHTS[1][0, 0], mode="same")
    out = backend.infer("propose", tensor(image[None, None]))
    assert set(out) == {"heat", "wide"}
    assert all(array.dtype == np.float32 for array in out.values())
    assert out["heat"].shape == (1, 1, *shape)
    assert np.abs(out["heat"][0, 0] - expected).max() < 1e-4
    whole = [n // 2 for n in shape]
    blocks = expected[: 2 * whole[0], : 2 * whole[1], : 2 * whole[2]].reshape(
        whole[0], 2, whole[1], 2, whole[2], 2
    )
    assert np.abs(out["wide"][0, 0] - blocks.max((1, 3, 5))).max() < 1e-4


def test_what_was_prepared_and_gathered_can_be_inferred(backend):
    image = backend.prepare(stack(), VOLUME, None)
    assert backend.infer("propose", image)["heat"].shape == image.shape
    patches = backend.gather(stack(), PATCH, [(10.0, -10.0, 7.0)], 8)
    logits = backend.infer("classify", patches)["logit"]
    assert logits.shape == (8, 1)
    assert np.allclose(logits, np.mean(patches.data, (1, 2, 3))[:, None], atol=1e-6)


def test_a_repeated_run_is_the_same_and_an_earlier_output_stays(backend):
    rng = np.random.default_rng(1)
    image, other = (tensor(rng.random((1, 1, 12, 10, 14), np.float32)) for _ in range(2))
    first = backend.infer("propose", image)["heat"]
    kept = first.copy()
    assert not np.array_equal(backend.infer("propose", other)["heat"], kept)
    assert np.array_equal(first, kept)
    for _ in range(3):
        assert np.array_equal(backend.infer("propose", image)["heat"], kept)


def test_two_bundles_are_open_side_by_side(backend, opener):
    image = tensor(np.random.default_rng(2).random((1, 1, 6, 8, 8), np.float32))
    before = backend.infer("propose", image)["heat"]
    other = opener({"propose": network("heat")}, {"propose": conv3d(2)})
    newer = other.infer("propose", image)
    assert set(newer) == {"heat"}
    assert not np.allclose(newer["heat"], before)
    other.close()
    assert np.array_equal(backend.infer("propose", image)["heat"], before)
    with pytest.raises(BackendUnavailable, match="closed"):
        other.infer("propose", image)


def test_the_precision_of_a_mixed_bundle_is_named(opener):
    mixed = {"propose": network("heat", precision="int8"), "classify": network("logit")}
    with_both = opener(mixed, {"propose": conv3d(), "classify": pooled()})
    assert with_both.ref.precision == "fp32+int8"
    with_both.close()


@pytest.mark.parametrize("broken", [b"", b"not a network", conv3d()[:150]])
def test_a_broken_network_is_refused_by_name(opener, broken):
    with pytest.raises(BundleRefused, match="'propose'") as refusal:
        opener({"propose": network("heat")}, {"propose": broken})
    assert refusal.value.code == "bundle_network"
    assert "\n" not in refusal.value.text


@pytest.mark.parametrize(
    "declared", [network("heat", "other"), network("heat", image="volume")], ids=["out", "in"]
)
def test_ports_that_the_manifest_names_wrongly_are_refused(opener, declared):
    with pytest.raises(BundleRefused) as refusal:
        opener({"propose": declared}, {"propose": conv3d()})
    assert refusal.value.code == "bundle_network"


def test_a_missing_library_is_an_error_with_a_remedy(name, monkeypatch):
    if name not in LOADERS:
        pytest.skip("of the GPU's libraries: test_gpu.py")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable) as error:
        open_backend(name, {"propose": network("heat")}, {"propose": conv3d()})
    assert "pip install" in error.value.remedy


def test_an_input_that_the_network_does_not_take_fails_by_name(backend):
    with pytest.raises(Poisoned, match="'propose'") as error:
        backend.infer("propose", tensor(np.zeros((1, 2, 4, 4, 4), np.float32)))
    assert error.value.code == "backend_failed"
    with pytest.raises(ValueError, match="'measure'"):
        backend.infer("measure", tensor(np.zeros((1, 1, 4, 4, 4), np.float32)))


def test_an_output_that_is_not_finite_is_never_a_negative(opener):
    opened = opener({"propose": network("heat")}, {"propose": divided()})
    assert opened.infer("propose", tensor(np.ones((1, 1, 2, 2, 2), np.float32)))["heat"].min() == 1
    with pytest.raises(Poisoned, match="not finite"):
        opened.infer("propose", tensor(np.zeros((1, 1, 2, 2, 2), np.float32)))
    opened.close()


def test_nothing_is_written(opener, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = opener({"propose": network("heat")}, {"propose": conv3d()})
    opened.infer("propose", tensor(np.ones((1, 1, 4, 4, 4), np.float32)))
    opened.close()
    assert list(tmp_path.iterdir()) == []


def test_after_a_rest_it_computes_the_same(backend):
    image = tensor(np.random.default_rng(2).random((1, 1, 12, 10, 14), np.float32))
    before = backend.infer("propose", image)["heat"]
    backend.rest()
    assert np.array_equal(backend.infer("propose", image)["heat"], before)


def test_a_rest_of_openvino_gives_back_what_a_large_input_left(name, opener):
    """What lies between two layers, eight times the input here, is its own memory on any processor;
    what one layer alone keeps depends on the kernel that it takes there."""
    if name != "openvino":
        pytest.skip("only OpenVINO keeps it")
    backend = opener({"propose": network("heat")}, {"propose": widened()})
    backend.infer("propose", tensor(np.zeros((1, 1, 160, 160, 160), np.float32)))
    memory.give_back()
    left = resident()
    backend.rest()
    memory.give_back()
    assert resident() < left - (60 << 20)
    backend.close()


def resident():
    """Bytes of this process in memory (proc(5), statm)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


SIGNALLED = """
import os, signal, sys
from pathlib import Path
from appliance.backend.open import open_backend
from appliance.bundle import trust

handled = []
signal.signal(signal.SIGTERM, lambda *_: handled.append(1))
loaded = trust.check(Path(sys.argv[1]).read_bytes())
networks = dict(loaded.manifest.networks.items())
first, second = (open_backend("openvino", networks, loaded.networks, 1) for _ in range(2))
for backend in (first, second):
    backend.close()
    os.kill(os.getpid(), signal.SIGTERM)
assert handled == [1, 1]
"""


def test_a_signal_after_one_bundle_was_changed_for_another_does_not_end_the_process(
    tiny_bytes, tmp_path
):
    pytest.importorskip("openvino", reason="openvino is not installed")
    bundle = tmp_path / "tiny.scanside"
    bundle.write_bytes(tiny_bytes)
    done = subprocess.run([sys.executable, "-c", SIGNALLED, bundle], timeout=120, check=False)
    assert done.returncode == 0


def pair() -> tuple[Network, bytes]:
    """prior, current [n, 1, 16, 16] -> change [n, 1, 16, 16]: current less prior."""
    shape = ["n", 1, 16, 16]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("prior", "current", "change")
    ]
    nodes = [helper.make_node("Sub", ["current", "prior"], ["change"])]
    graph = helper.make_graph(nodes, "g", ports[:2], ports[2:], [])
    opset = helper.make_opsetid("", 18)
    whole = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    of = [Port(name=name, shape=(-1, 1, 16, 16)) for name in ("current", "prior", "change")]
    entry = network("change").model_copy(update={"inputs": (*of[:2],), "outputs": (of[2],)})
    return entry, bytes(whole.SerializeToString())


def test_a_network_of_several_inputs_is_fed_by_name_or_refused_by_name(opener, name) -> None:
    if name == "gpu":
        pytest.skip("no engine is built of it")
    entry, onnx = pair()
    if name not in LOADERS:
        with pytest.raises(BundleRefused, match="inputs current, prior; the GPU takes one"):
            opener({"classify": entry}, {"classify": onnx})
        return
    opened = opener({"classify": entry}, {"classify": onnx})
    prior, current = np.random.default_rng(2).random((2, 3, 1, 16, 16), dtype=np.float32)
    given = {"prior": tensor(prior), "current": tensor(current)}
    np.testing.assert_allclose(opened.infer("classify", given)["change"], current - prior)
    for wrong in ({"prior": tensor(prior)}, given | {"another": tensor(prior)}, tensor(prior)):
        with pytest.raises(ValueError, match="has the inputs"):
            opened.infer("classify", wrong)
    opened.close()


def test_one_input_may_be_named_too(backend, name) -> None:
    image = np.random.default_rng(2).random((2, 1, 16, 16), dtype=np.float32)
    if name not in LOADERS:
        with pytest.raises(ValueError, match="the GPU takes one input"):
            backend.infer("classify", {"image": tensor(image)})
        return
    named = backend.infer("classify", {"image": tensor(image)})["logit"]
    np.testing.assert_array_equal(named, backend.infer("classify", tensor(image))["logit"])
