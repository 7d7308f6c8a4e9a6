"""The GPU backend between its two protocols, on a GPU of the host (host_gpu.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from appliance.backend.gpu import GpuBackend
from appliance.backend.gpu_memory import Arena, Needs
from appliance.backend.owner import Owner
from appliance.backend.protocol import TOLERANCE
from appliance.bundle.manifest import Network, Port
from appliance.errors import BackendUnavailable, BundleRefused, Poisoned
from appliance.preprocess import fast, plan, reference
from appliance.preprocess.spec import Crop, Cube, Pad, Patch, Resample, Soften, Window, ZScore
from appliance.records import Box, Geometry, Header, Image, Stack, Tensor
from rigs import host_gpu

HEADER = Header(sop_class_uid="1", sop_instance_uid="1.2", study_uid="1.3", series_uid="1.4")
WINDOW = Window(low=-1000, high=400)
ROWS, COLUMNS = 9, 11
PROFILES = {
    "propose": ((1, 1, 1, 1, 1), (1, 1, 16, 16, 16), (1, 1, 64, 48, 48)),
    "classify": ((1, 1, 8, 8), (4, 1, 8, 8), (6, 1, 8, 8)),
}


def stack(count: int = 20, *, seed: int = 0, whole: bool = True, size=(ROWS, COLUMNS)) -> Stack:
    rng = np.random.default_rng(seed)
    planes = []
    for k in range(count):
        geometry = Geometry((3.0, -2.0, k * 1.5), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.8, 0.7))
        hu = rng.integers(-1024, 1500, size).astype(np.int16)
        if not whole and k == 3:
            hu = hu * np.float32(1.1)
        planes.append(fast.plane(Image(HEADER, 0, geometry, hu, False, f"{seed} {k}"), ()))
    return Stack(tuple(planes), np.arange(count) * 1.5, (0.0, 0.0, 1.0), (1.5, 0.8, 0.7))


def network(role: str) -> Network:
    _, _, most = PROFILES[role]
    free = (1, 1, -1, -1, -1) if len(most) == 5 else (-1, *most[1:])
    ports = (Port(name="image", shape=free),), (Port(name="out", shape=free),)
    return Network(
        file="a.onnx", digest="0" * 64, precision="int8", inputs=ports[0], outputs=ports[1],
        preprocess=(),
    )  # fmt: skip


def doubling(role: str, factor: float = 2.0) -> bytes:
    """out = factor * image."""
    shape = [f"n{i}" if n == -1 else n for i, n in enumerate(network(role).inputs[0].shape)]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("image", "out")]
    weight = numpy_helper.from_array(np.float32(factor), "factor")
    node = helper.make_node("Mul", ["image", "factor"], ["out"])
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [weight])
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString())


Open = Callable[..., GpuBackend]


@pytest.fixture(scope="module")
def opener(kernels) -> Open:
    networks = {role: network(role) for role in PROFILES}
    onnx = {role: doubling(role) for role in PROFILES}
    return lambda **how: host_gpu.backend(kernels, networks, onnx, PROFILES, **how)


@pytest.fixture
def gpu(opener) -> Iterator[GpuBackend]:
    with_own = opener()
    yield with_own
    with_own.close()


def cuda(backend: GpuBackend) -> host_gpu.HostCuda:
    found = backend._owner.call(lambda device: device.cuda)
    assert isinstance(found, host_gpu.HostCuda)
    return found


def small_store(backend: GpuBackend, slices: int, *, word: int = 2) -> None:
    """A store of so many slices of ROWS x COLUMNS."""

    def shrink(device) -> None:
        device.store.forget()
        device.store._cut = None
        device.store.bytes = slices * ROWS * COLUMNS * word

    backend._owner.call(shrink)


def on_host(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.data)


WAYS = [
    {},
    {"integrated": True},
    {"lazy": "upload"},
    {"lazy": "compute"},
    {"integrated": True, "lazy": "compute"},
]


@pytest.fixture(scope="module", params=WAYS, ids=str)
def late(opener, request) -> Iterator[GpuBackend]:
    """A device each of whose streams works as late as it may, in turn."""
    backend = opener(**request.param)
    yield backend
    backend.close()


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_whatever_the_series_and_the_store_tensors_are_those_of_the_reference(late, data):
    count, whole = data.draw(st.integers(2, 70)), data.draw(st.booleans())
    one = stack(count, seed=data.draw(st.integers(0, 9)), whole=whole)
    slots = data.draw(st.sampled_from([24, 40, 500]))
    small_store(late, slots, word=2 if whole or count < 4 else 4)
    for _ in range(2):
        mm = data.draw(st.floats(0.9, 4.0))
        soften = [Soften(sd_mm=data.draw(st.floats(0.2, 1.2)))] * data.draw(st.integers(0, 1))
        ops = [Resample(spacing_mm=(mm, 0.9, 1.3)), *soften, WINDOW, ZScore(mean=0.2, std=0.5)]
        ops.append(Pad(multiple=4, value=-1))
        crop = None
        if data.draw(st.booleans()):
            grid = plan.grid_of(one, (3.0, 3.0, 3.0))
            top = data.draw(st.integers(1, grid.shape[0]))
            crop = grid, Box((top - 1, 0, 0), (grid.shape[0], 2, grid.shape[2]))
            ops.insert(1, Crop(margin_mm=0))
        wanted, grid = reference.apply(one, ops, crop)
        given = late.prepare(one, ops, crop)
        assert given.shape == wanted.shape
        assert np.array_equal(given.grid.to_lps, grid.to_lps)
        assert np.abs(on_host(given) - wanted).max() < TOLERANCE * 2
        z = st.floats(-5, count * 1.5 + 5)
        centers = data.draw(st.lists(st.tuples(st.just(5.0), st.just(0.5), z), max_size=4))
        for cut, views in ((Patch(size=8), 4), (Cube(size=8, spacing_mm=1.2), 1)):
            wanted = reference.apply_patches(one, [cut, *soften, WINDOW], centers, views)
            given = late.gather(one, [cut, *soften, WINDOW], centers, views)
            assert given.shape == wanted.shape
            assert np.abs(on_host(given) - wanted).max(initial=0) < TOLERANCE


def test_what_is_softened_passes_through_a_few_planes_of_memory_and_leaves_tensors_alone(gpu):
    one, ops = stack(60), [Resample(spacing_mm=(1.5, 1.0, 1.0)), Soften(sd_mm=1.0), WINDOW]
    kept = gpu.prepare(one, [WINDOW], None)
    before = on_host(kept)
    log = cuda(gpu).log
    log.clear()
    wanted, _ = reference.apply(one, ops, None)
    assert np.abs(on_host(gpu.prepare(one, ops, None)) - wanted).max() < TOLERANCE
    launches = [what.split()[1] for what in log if what.startswith("launch")]
    assert launches == ["prepare_f32", "soften_f32"] * 4
    assert "allocate" not in log
    np.testing.assert_array_equal(on_host(kept), before)
    small = gpu._arena
    assert small is not None
    small.outputs = small.scratch_bytes = 8
    with pytest.raises(Poisoned, match="to soften at a time"):
        gpu.prepare(one, ops, None)


def uploads(backend: GpuBackend) -> int:
    """Slices uploaded since the last question."""
    log = cuda(backend).log
    count = log.count("upload upload")
    log.clear()
    return count


def test_slices_that_came_on_arrival_are_not_uploaded_again(gpu):
    one = stack(12)
    for plane in reversed(one.planes):
        gpu.take(plane)
    gpu.take(one.planes[4])  # a resend
    assert uploads(gpu) == 12
    wanted, _ = reference.apply(one, [WINDOW], None)
    assert np.abs(on_host(gpu.prepare(one, [WINDOW], None)) - wanted).max() < TOLERANCE
    gpu.gather(one, [Patch(size=8)], [(0.0, 0.0, 3.0)])
    assert uploads(gpu) == 0
    gpu.rest()
    gpu.prepare(one, [WINDOW], None)
    assert uploads(gpu) == 12


def test_a_slice_is_uploaded_while_the_kernel_of_those_before_it_computes(gpu):
    one = stack(60)
    log = cuda(gpu).log
    log.clear()
    gpu.prepare(one, [Resample(spacing_mm=(1.5, 1.0, 1.0))], None)
    launches = [i for i, what in enumerate(log) if what.startswith("launch")]
    between = [log[a:b] for a, b in pairwise(launches)]
    assert len(launches) == 4
    assert all("upload upload" in part for part in between)
    assert not any(what.startswith("finish") for part in between for what in part)


def test_the_slices_used_longest_ago_make_room(gpu):
    small_store(gpu, 10)
    first, second = stack(8, seed=1), stack(8, seed=2)
    for one in (first, second, second):
        wanted, _ = reference.apply(one, [WINDOW], None)
        assert np.abs(on_host(gpu.prepare(one, [WINDOW], None)) - wanted).max() < TOLERANCE
    assert uploads(gpu) == 16
    for plane in stack(10, seed=3).planes:
        gpu.take(plane)
    assert uploads(gpu) == 10


def test_a_series_of_another_size_does_not_empty_the_store_while_it_arrives(gpu):
    one, other = stack(6), stack(6, seed=5, size=(7, 7))
    for mine, theirs in zip(one.planes, other.planes, strict=True):
        gpu.take(mine)
        gpu.take(theirs)
    assert uploads(gpu) == 6
    for each in (one, other, one):
        wanted, _ = reference.apply(each, [WINDOW], None)
        assert np.abs(on_host(gpu.prepare(each, [WINDOW], None)) - wanted).max() < TOLERANCE


def test_a_tensor_that_was_overwritten_is_an_error_and_never_another_one(gpu):
    one = stack(20)
    kept = gpu.prepare(one, [WINDOW], None)
    before = gpu.infer("propose", kept)["out"]
    assert np.abs(before - 2 * on_host(kept)).max() < 1e-6
    with pytest.raises(ValueError, match="overwritten"):  # noqa: PT012 - whichever round it is
        for _ in range(200):
            gpu.prepare(one, [WINDOW], None)
            assert np.array_equal(gpu.infer("propose", kept)["out"], before)


def test_a_tensor_of_another_backend_is_an_error(opener, kernels):
    owner = host_gpu.device(kernels)
    mine, theirs = opener(owner=owner), opener(owner=owner)
    image = mine.prepare(stack(4), [WINDOW], None)
    with pytest.raises(ValueError, match="another backend"):
        theirs.infer("propose", image)
    mine.close()
    assert theirs.prepare(stack(4), [WINDOW], None).shape == image.shape
    theirs.close()
    owner.stop()


def test_the_ring_of_inputs_never_gives_out_what_is_held(kernels):
    """Arena.give against a list of who wrote each byte last."""
    host = host_gpu.HostCuda(kernels)
    needs = {"a": Needs(3000, (10,), 0), "b": Needs(900, (500, 1), 77)}
    arena = Arena(host, needs)
    rng = np.random.default_rng(0)
    base = arena.give(0)[0]
    last = np.full(arena.inputs, -1)
    given: list[tuple[int, int, int]] = []
    for number in range(400):
        size = int(rng.integers(1, arena.inputs + 1))
        at, mark = arena.give(size)
        assert base <= at <= at + size <= base + arena.inputs
        last[at - base : at - base + size] = number
        given.append((at - base, size, mark))
        for old, (start, length, known) in enumerate(given):
            if arena.holds(known):
                assert (last[start : start + length] == old).all()
    assert arena.holds(given[-1][2])
    assert not arena.holds(given[0][2])
    arena.close()


def test_more_patches_than_the_engine_was_built_for_go_in_parts(gpu):
    images = np.random.default_rng(0).random((15, 1, 8, 8), np.float32)
    assert np.allclose(gpu.infer("classify", Tensor(images, images.shape, None))["out"], 2 * images)
    one = stack(20)
    centers = [(5.0, 0.5, float(z)) for z in range(13)]
    patches = gpu.gather(one, [Patch(size=8), WINDOW], centers)
    assert np.allclose(gpu.infer("classify", patches)["out"], 2 * on_host(patches))


def test_a_volume_beyond_the_shapes_of_the_engine_is_named_with_its_axis(gpu):
    image = np.zeros((1, 1, 8, 49, 8), np.float32)
    with pytest.raises(Poisoned, match=r"'propose'.*axis 3 of its input is 49; .* 1 to 48") as e:
        gpu.infer("propose", Tensor(image, image.shape, None))
    assert e.value.code == "backend_failed"
    assert gpu.broken is None
    assert gpu.infer("propose", Tensor(image[:, :, :, :8], (1, 1, 8, 8, 8), None))


def test_a_tensor_larger_than_the_arena_is_an_error_by_name(gpu):
    with pytest.raises(Poisoned, match="the arena has"):
        gpu.prepare(stack(40, size=(90, 90)), [Resample(spacing_mm=(0.2, 0.4, 0.4))], None)


def test_an_error_in_tensorrts_log_fails_the_run_and_the_next_one_goes_on(gpu):
    image = Tensor(np.ones((1, 1, 4, 4, 4), np.float32), (1, 1, 4, 4, 4), None)
    engine = gpu._engines["propose"]
    engine.errors.append("Error Code 1: Cuda Runtime (invalid argument)")
    with pytest.raises(Poisoned, match="Error Code 1: Cuda Runtime"):
        gpu.infer("propose", image)
    engine.errors.clear()
    assert gpu.infer("propose", image)["out"].max() == 2


@pytest.mark.parametrize("when", ["upload upload", "launch", "download", "finish compute"])
def test_after_an_error_of_the_device_the_backend_says_so_and_closes(opener, when):
    gpu = opener()
    host = cuda(gpu)
    host.fails = when
    with pytest.raises(Poisoned, match="illegal memory access") as error:
        on_host(gpu.prepare(stack(4), [WINDOW], None))
    assert error.value.code == "backend_failed"
    assert "illegal memory access" in (gpu.broken or "")
    host.fails = None
    with pytest.raises(Poisoned, match="failed before"):
        gpu.prepare(stack(4), [WINDOW], None)
    gpu.take(stack(4).planes[0])
    gpu.rest()
    gpu.close()
    assert host.closed


def test_what_could_not_be_uploaded_is_not_taken_for_uploaded(gpu):
    one = stack(6)
    with pytest.raises(ValueError, match="box"):
        gpu.prepare(one, [Crop(margin_mm=1)], None)
    wanted, _ = reference.apply(one, [WINDOW], None)
    assert np.abs(on_host(gpu.prepare(one, [WINDOW], None)) - wanted).max() < TOLERANCE


def test_too_little_memory_is_named_with_figures_and_nothing_stays_behind(opener, kernels):
    with pytest.raises(BackendUnavailable, match="a store of slices needs") as error:
        opener(available=400 << 20)
    assert error.value.code == "memory_short"
    owner = host_gpu.device(kernels)
    owner.call(lambda device: setattr(device, "available", lambda: 256 << 20))
    with pytest.raises(BackendUnavailable, match="the arena of this bundle needs") as error:
        opener(owner=owner)
    assert error.value.code == "memory_short"
    owner.stop()  # HostCuda.close finds what was not given back


def test_an_input_that_is_no_float32_is_refused_by_name(kernels):
    port = Port(name="image", shape=(1, 1, -1, -1, -1), dtype="float16")
    narrow = network("propose").model_copy(update={"inputs": (port,)})
    with pytest.raises(BundleRefused, match=r"'propose'.*float32"):
        host_gpu.backend(kernels, {"propose": narrow}, {"propose": doubling("propose")}, PROFILES)


def test_calls_from_any_thread_are_made_by_the_one_that_owns_the_device(gpu):
    one = stack(10)
    wanted, _ = reference.apply(one, [WINDOW], None)
    found: list[float] = []

    def ask() -> None:
        for _ in range(5):
            found.append(float(np.abs(on_host(gpu.prepare(one, [WINDOW], None)) - wanted).max()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert max(found) < TOLERANCE


def test_an_owner_raises_what_opening_raised_and_closes_what_it_opened():
    closed: list[int] = []

    def fail() -> int:
        raise BackendUnavailable("no context")

    with pytest.raises(BackendUnavailable, match="no context"):
        Owner(fail, closed.append)
    assert closed == []
    owner = Owner(lambda: 7, closed.append)
    assert owner.call(lambda it: it + 1) == 8
    with pytest.raises(ZeroDivisionError):
        owner.call(lambda it: it / 0)
    assert owner.call(lambda it: it) == 7
    owner.stop()
    owner.stop()
    assert closed == [7]
    with pytest.raises(RuntimeError, match="closed"):
        owner.call(lambda it: it)
