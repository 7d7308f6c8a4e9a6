"""kernels.cu, compiled for the host, is the numpy reference within TOLERANCE.

f16 is the half of a float within TOLERANCE of the reference: its half within one ulp of half,
wherever an ulp is more than TOLERANCE. i8 is the reference's QuantizeLinear (ONNX, zero point 0),
but for one step where the reference lies within TOLERANCE of the edge between two.

python test_kernels.py LIBRARY runs the same comparisons on a library built elsewhere: the way the
sanitizers are put under them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import appliance.backend
from appliance.backend import tables
from appliance.preprocess import fast, plan, reference
from appliance.preprocess.spec import Crop, Cube, Pad, Patch, Resample, Soften, Window, ZScore
from appliance.records import Box, Geometry, Header, Image, Stack

SOURCE = Path(appliance.backend.__file__).parent / "kernels.cu"
TOLERANCE = 1e-4
"""Largest difference from the reference in units of a window of 1400 HU; 1/20 of the contract's."""
HEADER = Header(
    sop_class_uid="1.2", sop_instance_uid="1.2.3", study_uid="1.2.4", series_uid="1.2.5"
)
WINDOW = Window(low=-1000, high=400)
POINTS = {
    (): 1400,
    (WINDOW,): 1,
    (WINDOW, Pad(multiple=16)): 1,
    (WINDOW, ZScore(mean=0.2, std=0.3)): 1 / 0.3,
    (ZScore(mean=-700, std=900), Pad(multiple=8, value=-3)): 1400 / 900,
    (Pad(multiple=8, value=-1000), WINDOW, ZScore(mean=0.2, std=0.3)): 1 / 0.3,
    (WINDOW, Window(low=0.25, high=0.5)): 1 / 0.25,
}
"""What each list makes of the window: the tolerance grows with it."""
ELEMENTS = {"f32": np.float32, "f16": np.float16, "i8": np.int8}
UNWRITTEN = {"f32": np.nan, "f16": np.nan, "i8": 85}
GXX = shutil.which("g++") or ""
NEEDS_GXX = pytest.mark.skipif(not GXX, reason="g++ is not installed")


class Host:
    """A library made of kernels.cu by g++, called like a device: put arrays, launch."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.held: list[np.ndarray] = []
        self.elements = [e for e in ELEMENTS if hasattr(self.library, f"host_prepare_{e}")]

    def put(self, values: np.ndarray) -> int:
        self.held.append(np.array(values, order="C"))  # a copy of its own: ASan sees its ends
        return int(self.held[-1].ctypes.data)

    def launch(
        self, kernel: str, grid: tuple[int, int, int], told: np.ndarray, block=tables.BLOCK
    ) -> None:
        three = ctypes.c_uint * 3
        at = ctypes.c_void_p(told.ctypes.data)
        getattr(self.library, f"host_{kernel}")(three(*grid), three(*block), at)
        self.held.clear()

    def run(self, kernel: str, told: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        element = kernel.split("_")[1]
        out = np.full(shape, UNWRITTEN[element], ELEMENTS[element])
        told["out"] = out.ctypes.data
        self.launch(kernel, tables.blocks(shape), told)
        return out


def build(folder: Path, *flags: str, source: Path = SOURCE) -> Path:
    out = folder / "kernels.so"
    command = [GXX, "-x", "c++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared"]
    where = ["-fPIC", f"-I{SOURCE.parent}", str(source), "-o", str(out)]
    subprocess.run([*command, *flags, *where], check=True, timeout=120)
    return out


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(build(tmp_path_factory.mktemp("kernels")))


@pytest.fixture(scope="module", params=ELEMENTS)
def element(request: pytest.FixtureRequest, host: Host) -> str:
    if request.param not in host.elements:
        pytest.skip("this g++ has no half in C++: neither _Float16 (g++ 12 on x86-64) nor __fp16")
    return request.param


@dataclass(frozen=True)
class Series:
    """Stored words in the order of their arrival, and the Stack that the product makes of them."""

    stack: Stack
    words: np.ndarray
    slot: np.ndarray
    slope: np.ndarray
    intercept: np.ndarray
    padding: np.ndarray
    turn: plan.Turn

    def raw(self, put: tables.Address) -> tables.Raw:
        return tables.Raw(
            words=put(self.words),
            slot=self.slot,
            slope=self.slope,
            intercept=self.intercept,
            padding=self.padding,
            shape=self.words.shape[1:],
            turn=self.turn,
            signed=self.words.dtype == np.int16,
        )


spacings = st.one_of(st.floats(0.4, 5.0), st.sampled_from([0.703125, 1.0, 1.25, 2.5]))
ratios = st.one_of(st.floats(0.35, 6.0), st.sampled_from([0.5, 1.0, 2.0]))
rescales = st.tuples(
    st.sampled_from([1.0, -1.0, 0.25, 1.7, 3.0]), st.sampled_from([0.0, -1024.0, -8192.5, 31.0])
)


@st.composite
def series(draw: st.DrawFn) -> Series:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    count, rows, columns = (draw(st.integers(low, 17)) for low in (2, 1, 1))
    kind = draw(st.sampled_from([np.int16, np.uint16]))
    least, most = draw(st.sampled_from([(-32768, 32767), (-1024, 3071)]))
    ends = np.array([least, most]) - (min(least, 0) if kind is np.uint16 else 0)
    words = rng.integers(ends[0], ends[1], (count + 1, rows, columns), endpoint=True).astype(kind)
    one = draw(rescales)
    each = [one if draw(st.booleans()) else draw(rescales) for _ in range(count)]
    slope, intercept = (np.array(column, np.float32) for column in zip(*each, strict=True))
    padding = np.tile(np.array(tables.NO_PADDING, np.int32), (count, 1))
    if draw(st.booleans()):
        low = draw(st.integers(int(ends[0]), int(ends[1])))
        padding[draw(st.integers(0, count - 1)) :] = (low, low + draw(st.integers(0, 9000)))
    between = (draw(spacings), draw(spacings))
    row, column = ((1, 0, 0), (0, 1, 0))[:: draw(st.sampled_from([1, -1]))]
    row, column = (np.array(v) * draw(st.sampled_from([1.0, -1.0])) for v in (row, column))
    gap = draw(spacings)
    z = np.cumsum(rng.choice([gap, gap, gap, 2.5 * gap], count))
    z -= z[0]
    slot = rng.permutation(count + 1)[:count].astype(np.int32)
    planes = []
    for k in range(count):
        geometry = Geometry((7.0, -9.0, float(z[k])), tuple(row), tuple(column), between)
        stored = words[slot[k]].astype(np.int64)
        hu = (each[k][0] * stored + each[k][1]).astype(np.float32)
        hu[(stored >= padding[k, 0]) & (stored <= padding[k, 1])] = reference.AIR_HU
        planes.append(fast.plane(Image(HEADER, 0, geometry, hu, False, f"{k:064x}"), ()))
    spacing = (plan.distance(z), *planes[0].geometry.spacing_mm)
    turn = plan.turn_of(geometry)
    stack = Stack(tuple(planes), z, (0.0, 0.0, 1.0), spacing)
    return Series(stack, words, slot, slope, intercept, padding, turn)


def difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference; infinite where a voxel was not written or the shapes differ."""
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got.astype(np.float64) - wanted).max(initial=0.0))


def quantized(values: np.ndarray, scale: float) -> np.ndarray:
    """ONNX's QuantizeLinear to int8 with zero point 0; numpy's rint takes ties to even."""
    with np.errstate(over="ignore"):
        return np.clip(np.rint(values / np.float32(scale)), -128, 127).astype(np.int8)


def agrees(got: np.ndarray, wanted: np.ndarray, tolerance: float, scale: float | None) -> bool:
    """Whether a tensor is what its kind of element makes of the reference, give or take."""
    if got.dtype == np.float32:
        return difference(got, wanted) < tolerance
    if got.shape != wanted.shape:
        return False
    exact = wanted.astype(np.float64)
    if got.dtype == np.float16:
        with np.errstate(over="ignore"):
            low, high = ((exact + by).astype(np.float16) for by in (-tolerance, tolerance))
        return bool(((low <= got) & (got <= high)).all())
    assert scale is not None
    steps = np.abs(got.astype(int) - quantized(wanted, scale))
    from_edge = np.abs(exact / scale - np.floor(exact / scale) - 0.5)
    return bool((steps <= (from_edge <= tolerance / scale)).all())


def scale_for(element: str, points: tuple, data: st.DataObject) -> float | None:
    """Of an int8 input: what the ops make of the window is 16 to 400 steps, to saturate or not."""
    if element != "i8":
        return None
    share = st.one_of(st.floats(1 / 400, 1 / 16), st.sampled_from([1 / 128, 1 / 127, 1 / 255]))
    return POINTS[points] * data.draw(share)


def check_prepare(host: Host, element: str, one: Series, data: st.DataObject) -> None:
    points = data.draw(st.sampled_from(list(POINTS)))
    scale = scale_for(element, points, data)
    target = tuple(mm * data.draw(ratios) for mm in one.stack.spacing_mm)
    grid = plan.grid_of(one.stack, target)
    low = [data.draw(st.integers(0, n - 1)) for n in grid.shape]
    high = [data.draw(st.integers(a + 1, n)) for a, n in zip(low, grid.shape, strict=True)]
    for ops, box in (
        ([Resample(spacing_mm=target)], None),
        ([Resample(spacing_mm=target), Crop(margin_mm=0)], (grid, Box(tuple(low), tuple(high)))),
        ([], None),
    ):
        wanted, place = reference.apply(one.stack, [*ops, *points], box)
        told, shape, at = tables.prepare(
            one.stack, one.raw(host.put), [*ops, *points], box, host.put, scale=scale
        )
        got = host.run(f"prepare_{element}", told, shape)
        assert agrees(got, wanted[0, 0], TOLERANCE * POINTS[points], scale)
        assert at.shape == place.shape
        np.testing.assert_array_equal(at.to_lps, place.to_lps)


def check_gather(host: Host, element: str, one: Series, data: st.DataObject) -> None:
    points = data.draw(st.sampled_from([p for p in POINTS if not any(o.op == "pad" for o in p)]))
    scale = scale_for(element, points, data)
    views = data.draw(st.sampled_from([1, 2, 4, 8]))
    near = st.floats(-60, 60)
    centers = data.draw(st.lists(st.tuples(near, near, near), max_size=5))
    centers += [one.stack.planes[-1].geometry.position_lps_mm, (1e12, -1e12, 0.0)]
    ops = [Patch(size=data.draw(st.sampled_from([8, 9, 33]))), *points]
    wanted = reference.apply_patches(one.stack, ops, centers, views)
    told, shape = tables.gather(
        one.stack, one.raw(host.put), ops, centers, views, host.put, scale=scale
    )
    got = host.run(f"gather_{element}", told, shape)
    assert agrees(got, wanted[:, 0], TOLERANCE * POINTS[points], scale)


def check_cubes(host: Host, element: str, one: Series, data: st.DataObject) -> None:
    points = data.draw(st.sampled_from([p for p in POINTS if not any(o.op == "pad" for o in p)]))
    scale = scale_for(element, points, data)
    near = st.floats(-40, 60)
    centers = data.draw(st.lists(st.tuples(near, near, near), max_size=4))
    centers += [one.stack.planes[-1].geometry.position_lps_mm, (1e12, -1e12, 0.0)]
    spacing = min(one.stack.spacing_mm) * data.draw(ratios)
    ops = [Cube(size=data.draw(st.sampled_from([8, 9, 17])), spacing_mm=spacing), *points]
    wanted = reference.apply_patches(one.stack, ops, centers)
    told, shape = tables.cubes(one.stack, one.raw(host.put), ops, centers, host.put, scale=scale)
    got = host.run(f"cubes_{element}", told, shape)
    assert agrees(got.reshape(wanted.shape), wanted, TOLERANCE * POINTS[points], scale)


def check_soften(host: Host, element: str, one: Series, data: st.DataObject) -> None:
    """Volumes, cubes and patches: what is made ready for it in float32, then the kernel itself."""
    points = data.draw(st.sampled_from(list(POINTS)))
    scale = scale_for(element, points, data)
    # up to some voxels, as it is used: more only takes longer
    soften = Soften(sd_mm=min(4.0, min(one.stack.spacing_mm) * data.draw(st.floats(0.1, 2.5))))
    target = tuple(mm * data.draw(st.floats(0.7, 2.0)) for mm in one.stack.spacing_mm)
    grid = plan.grid_of(one.stack, target)
    low = [data.draw(st.integers(0, n - 1)) for n in grid.shape]
    high = [data.draw(st.integers(a + 1, n)) for a, n in zip(low, grid.shape, strict=True)]
    ops = [Resample(spacing_mm=target), Crop(margin_mm=0), soften, *points]
    box = (grid, Box(tuple(low), tuple(high)))
    wanted, place = reference.apply(one.stack, ops, box)
    told, shape, at = tables.prepare(one.stack, one.raw(host.put), ops, box, host.put, scale=scale)
    ready = host.run("prepare_f32", told, shape)
    soft, shape = tables.soften(one.stack, ops, box, host.put, scale=scale)
    soft["from"] = host.put(ready)
    got = host.run(f"soften_{element}", soft, shape)
    assert agrees(got, wanted[0, 0], TOLERANCE * POINTS[points], scale)
    assert at.shape == place.shape

    points = data.draw(st.sampled_from([p for p in POINTS if not any(o.op == "pad" for o in p)]))
    scale = scale_for(element, points, data)
    near = st.floats(-40, 60)
    centers = data.draw(st.lists(st.tuples(near, near, near), max_size=2))
    centers += [one.stack.planes[-1].geometry.position_lps_mm, (1e12, -1e12, 0.0)]
    cut = data.draw(st.sampled_from([Cube(size=9, spacing_mm=1.1), Patch(size=8)]))
    views = data.draw(st.sampled_from([1, 2, 8])) if isinstance(cut, Patch) else 1
    ops = [cut, soften, *points]
    wanted = reference.apply_patches(one.stack, ops, centers, views)
    wider, _ = plan.to_soften(one.stack, ops)
    if isinstance(cut, Cube):
        told, shape = tables.cubes(one.stack, one.raw(host.put), wider, centers, host.put)
        ready = host.run("cubes_f32", told, shape)
    else:
        told, shape = tables.gather(one.stack, one.raw(host.put), wider, centers, views, host.put)
        ready = host.run("gather_f32", told, shape)
    soft = tables.soften_gathered(one.stack, ops, len(centers), views, host.put, scale=scale)
    soft["from"] = host.put(ready)
    layers = len(centers) * views * int(soft["depth"])
    got = host.run(f"soften_{element}", soft, (layers, cut.size, cut.size))
    assert agrees(got.reshape(wanted.shape), wanted, TOLERANCE * POINTS[points], scale)


def raw_of_hu(host: Host, hu: np.ndarray) -> tables.Raw:
    """HU in float32 [plane, y, x], as a Stack has them."""
    count = len(hu)
    return tables.Raw(
        words=host.put(hu),
        slot=np.arange(count, dtype=np.int32),
        slope=np.ones(count, np.float32),
        intercept=np.zeros(count, np.float32),
        padding=np.tile(np.array(tables.NO_PADDING, np.int32), (count, 1)),
        shape=hu.shape[1:],
        turn=plan.Turn(swap=False, flip_rows=False, flip_columns=False),
        signed=True,
    )


def check_words_in_float(host: Host, element: str, one: Series, data: st.DataObject) -> None:
    """HU in float32, straight as the Stack has them, make the same tensors."""
    hu = np.stack([plane.native for plane in one.stack.planes]).astype(np.float32)
    scale = scale_for(element, (WINDOW,), data)

    def made(kernel: str, told: np.ndarray, shape: tuple, wanted: np.ndarray) -> bool:
        got = host.run(f"{kernel}_{element}_of_f32", told, shape)
        return agrees(got.reshape(wanted.shape), wanted, TOLERANCE, scale)

    target = tuple(mm * data.draw(ratios) for mm in one.stack.spacing_mm)
    ops = [Resample(spacing_mm=target), WINDOW, Pad(multiple=4, value=0.7)]
    wanted, _ = reference.apply(one.stack, ops, None)
    told, shape, _ = tables.prepare(
        one.stack, raw_of_hu(host, hu), ops, None, host.put, scale=scale
    )
    assert made("prepare", told, shape, wanted)
    centers = [plane.geometry.position_lps_mm for plane in one.stack.planes]
    ops = [Patch(size=9), WINDOW]
    wanted = reference.apply_patches(one.stack, ops, centers, 8)
    told, shape = tables.gather(
        one.stack, raw_of_hu(host, hu), ops, centers, 8, host.put, scale=scale
    )
    assert made("gather", told, shape, wanted)
    ops = [Cube(size=9, spacing_mm=1.3), WINDOW]
    wanted = reference.apply_patches(one.stack, ops, centers)
    told, shape = tables.cubes(one.stack, raw_of_hu(host, hu), ops, centers, host.put, scale=scale)
    assert made("cubes", told, shape, wanted)


def check_slide(host: Host, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 16)))
    size = st.tuples(*[st.integers(1, 9)] * 3)
    whole, shape, channels = data.draw(size), data.draw(size), data.draw(st.integers(1, 3))
    total, summed = np.zeros(whole, np.float32), np.zeros((channels, *whole), np.float32)
    weight_of, wanted = np.zeros(whole), np.zeros(summed.shape)
    for _ in range(data.draw(st.integers(0, 4))):
        window = rng.normal(size=(channels, *shape)).astype(np.float32)
        weights = rng.uniform(0.1, 1, shape).astype(np.float32)
        at = [data.draw(st.integers(-n, m)) for n, m in zip(shape, whole, strict=True)]
        told = np.zeros((), tables.ACCUMULATE)
        told[()] = (
            host.put(window), host.put(weights), summed.ctypes.data, total.ctypes.data,
            channels, *shape, *at, *whole,
        )  # fmt: skip
        host.launch("accumulate", tables.blocks(shape), told)
        for place in np.ndindex(*shape):
            there = tuple(np.add(at, place))
            if all(0 <= v < n for v, n in zip(there, whole, strict=True)):
                weight_of[there] += weights[place]
                wanted[(slice(None), *there)] += weights[place] * window[(slice(None), *place)]
    told = np.zeros((), tables.NORMALISE)
    told[()] = (summed.ctypes.data, total.ctypes.data, total.size, channels)
    host.launch("normalise", tables.row_of_blocks(total.size), told, block=tables.LINE)
    mean = np.divide(wanted, weight_of, out=np.zeros_like(wanted), where=weight_of > 0)
    assert difference(summed, mean) < 1e-5
    assert difference(total, weight_of) < 1e-5


def often(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck))


@NEEDS_GXX
@often(150)
@given(one=series(), data=st.data())
def test_the_fused_kernel_makes_the_tensor_of_the_reference(host, element, one, data):
    check_prepare(host, element, one, data)


@NEEDS_GXX
@often(100)
@given(one=series(), data=st.data())
def test_gathered_patches_and_their_views_are_those_of_the_reference(host, element, one, data):
    check_gather(host, element, one, data)


@NEEDS_GXX
@often(100)
@given(one=series(), data=st.data())
def test_gathered_cubes_are_those_of_the_reference(host, element, one, data):
    check_cubes(host, element, one, data)


@NEEDS_GXX
@often(100)
@given(one=series(), data=st.data())
def test_what_is_softened_is_that_of_the_reference(host, element, one, data):
    check_soften(host, element, one, data)


@NEEDS_GXX
@often(50)
@given(one=series(), data=st.data())
def test_words_in_float_make_what_stored_words_make(host, element, one, data):
    check_words_in_float(host, element, one, data)


@NEEDS_GXX
@often(100)
@given(data=st.data())
def test_overlapping_windows_come_out_as_their_weighted_mean(host, data):
    check_slide(host, data)


def stack_of(hu: np.ndarray) -> Stack:
    z = np.arange(len(hu), dtype=np.float64)
    geometry = [Geometry((0.0, 0.0, mm), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0)) for mm in z]
    planes = [
        fast.plane(Image(HEADER, 0, at, plane, False, f"{k:064x}"), ())
        for k, (at, plane) in enumerate(zip(geometry, hu, strict=True))
    ]
    return Stack(tuple(planes), z, (0.0, 0.0, 1.0), (1.0, 1.0, 1.0))


@NEEDS_GXX
@pytest.mark.parametrize("scale", [0.25, 1.0, 8.0])
def test_an_int8_is_rounded_to_the_nearest_the_even_of_two_and_saturates(host, scale):
    halves = np.arange(-300, 300, dtype=np.float32).reshape(2, 12, 25) / 2
    hu = (halves * np.float32(scale)).astype(np.float32)
    hu[0, 0, :2] = -3e38, 3e38
    for steps, fill in ((2.5, 2), (3.5, 4), (-0.5, 0), (-1.5, -2), (127.5, 127), (-1e9, -128)):
        ops = [Pad(multiple=16, value=steps * scale)]
        stack = stack_of(hu)
        wanted = quantized(reference.apply(stack, ops, None)[0][0, 0], scale)
        told, shape, _ = tables.prepare(
            stack, raw_of_hu(host, hu), ops, None, host.put, scale=scale
        )
        got = host.run("prepare_i8_of_f32", told, shape)
        np.testing.assert_array_equal(got, wanted)
        assert got[-1, -1, -1] == fill
        assert got[0, 0, :2].tolist() == [-128, 127]


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-39, 1e39, float("inf"), float("nan")])
def test_what_no_float_can_be_divided_by_is_no_scale(scale):
    with pytest.raises(ValueError, match="is no scale of an int8 input"):
        tables.points([WINDOW], scale)


@NEEDS_GXX
def test_structs_are_laid_out_alike_in_numpy_and_in_c(host):
    sizes = (ctypes.c_int64 * 6)()
    host.library.host_sizes(sizes)
    kinds = (
        tables.PREPARE,
        tables.GATHER,
        tables.ACCUMULATE,
        tables.NORMALISE,
        tables.CUBES,
        tables.SOFTEN,
    )
    assert list(sizes) == [kind.itemsize for kind in kinds]


@given(pixels=st.integers(1, 60), spacing=spacings, ratio=ratios, start=st.floats(0, 1))
@example(1, 1.0, 1.0, 0.0)
def test_taps_lie_within_the_axis_and_hold_every_weight(pixels, spacing, ratio, start):
    weights = reference.axis_weights(pixels, spacing, spacing * ratio)
    weights = weights[min(int(start * len(weights)), len(weights) - 1) :]
    first, near = tables.taps(weights)
    assert first.min() >= 0
    assert (first + near.shape[1]).max() <= pixels
    again = np.zeros_like(weights)
    for row, at, of in zip(again, first, near, strict=True):
        row[at : at + len(of)] = of
    np.testing.assert_array_equal(again, weights)


def test_an_output_beyond_a_grid_of_cuda_is_refused():
    assert tables.blocks((65_535, 9, 33)) == (2, 2, 65_535)
    with pytest.raises(ValueError, match="more than 65535 blocks"):
        tables.blocks((65_536, 8, 8))


def sanitized(library: Path) -> subprocess.CompletedProcess[str]:
    """This file's comparisons in a child that has ASan's allocator under numpy."""
    runtimes = [
        subprocess.run(
            [GXX, f"-print-file-name={name}"], check=True, text=True, capture_output=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    missing = [name for name in runtimes if not Path(name).is_absolute()]
    if missing:
        pytest.skip(f"g++ has no {', '.join(missing)}")
    # Python itself never frees all: leaks are not what is looked for
    asan = {"LD_PRELOAD": " ".join(runtimes), "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(
        [sys.executable, __file__, str(library)],
        env={**os.environ, **asan},
        text=True,
        capture_output=True,
        timeout=240,
        check=False,
    )


SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@NEEDS_GXX
@pytest.mark.long
def test_no_kernel_leaves_its_buffers_or_does_what_is_undefined(host, tmp_path):
    ended = sanitized(build(tmp_path, *SANITIZERS))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout == f"compared {' '.join(host.elements)}\n"


def main(library: Path) -> None:
    host = Host(library)

    @often(12)
    @given(one=series(), data=st.data())
    def volumes(element, one, data):
        check_prepare(host, element, one, data)
        check_gather(host, element, one, data)
        check_cubes(host, element, one, data)
        check_soften(host, element, one, data)
        check_words_in_float(host, element, one, data)

    @often(12)
    @given(data=st.data())
    def windows(data):
        check_slide(host, data)

    for element in host.elements:
        volumes(element)
    windows()
    sys.stdout.write(f"compared {' '.join(host.elements)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
