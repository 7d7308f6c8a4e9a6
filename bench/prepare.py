"""400 slices of 512 x 512 to 1 mm, windowed: SimpleITK, torch and scipy; then with decoding.

    python -m bench prepare

Rules. All give float32 voxels of the same grid and window, and all may use every core. The peers
look up each voxel between its eight neighbours, ours averages all that lies in it (reference.py):
the largest difference of a windowed voxel is printed beside, on smooth tissue with noise of 15 HU.
Ours takes the slices one by one; what is left after the last one is a row of its own.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.preprocess import fast
from appliance.preprocess.spec import Resample, Window
from appliance.records import Geometry, Header, Image, Plane, Stack
from appliance.series import pixels
from bench import decode

SLICES, SIZE, APART_MM, PIXEL_MM = 400, 512, 0.8, 0.7
LOW, HIGH = -1000, 400
OPS = (Resample(spacing_mm=(1.0, 1.0, 1.0)), Window(low=LOW, high=HIGH))
SPACING = (APART_MM, PIXEL_MM, PIXEL_MM)
SHAPE = (round(SLICES * APART_MM), round(SIZE * PIXEL_MM), round(SIZE * PIXEL_MM))
STARTS_MM = tuple((1 - mm) / 2 for mm in SPACING)
"""Centre of the first voxel from the centre of the first pixel (plan.py, rule 2)."""

Array = NDArray[Any]
Row = tuple[str, str, str, Callable[[], object], Callable[[], object]]


def comparisons() -> Iterator[Row]:
    """What, name of ours, name of the peer, and how to run both."""
    voxels = tissue()
    yield from _prepared(voxels)
    yield from _decoded(voxels)
    yield from decode.comparisons(voxels)


def _prepared(voxels: NDArray[np.int16]) -> Iterator[Row]:
    what = f"prepare {SLICES} x {SIZE} x {SIZE} to 1 mm"
    planes = _planes(voxels)
    exact = _last(planes)
    ours, last = partial(_ours, voxels), partial(_last, planes)
    for name, peer in peers(voxels):
        yield f"{what} ({_differ(exact, peer())})", "scanside", name, ours, peer
        if name == "SimpleITK":
            yield f"{what}, after the last slice", "scanside", name, last, peer
    what = f"in the plane, {SLICES} slices while they arrive"
    arriving = partial(_planes, voxels)
    yield what, "scanside", "cv2.resize INTER_AREA", arriving, partial(_opencv, voxels)


def tissue() -> NDArray[np.int16]:
    """[z, y, x] HU: waves of 30 mm and more from air to bone, and noise."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 15, (8, SIZE, SIZE)).astype(np.float32)
    z, y, x = (np.arange(n) * mm / 5 for n, mm in zip((SLICES, SIZE, SIZE), SPACING, strict=True))
    flat = 300 * (np.sin(y)[:, None] + np.sin(x)[None, :]).astype(np.float32) - 300
    voxels = np.empty((SLICES, SIZE, SIZE), np.int16)
    for k in range(SLICES):
        voxels[k] = flat + noise[k % 8] + np.float32(300 * np.sin(z[k]))
    return voxels


def _planes(voxels: NDArray[np.int16]) -> tuple[Plane, ...]:
    """What is done while the slices arrive."""
    return tuple(fast.plane(_image(voxels[k], k), (1.0,)) for k in range(len(voxels)))


def _ours(voxels: NDArray[np.int16]) -> Array:
    return _last(_planes(voxels))


def _last(planes: tuple[Plane, ...]) -> Array:
    """What is done after the last slice."""
    z = np.arange(len(planes), dtype=np.float64) * APART_MM
    stack = Stack(planes, z, (0.0, 0.0, 1.0), SPACING)
    return np.asarray(fast.tensor(stack, OPS, None)[0][0, 0])


def _image(hu: NDArray[np.int16], k: int) -> Image:
    header = Header("1.2.840.10008.5.1.4.1.1.2", f"1.{k}", "1.2", "1.3")
    place = Geometry((0.0, 0.0, k * APART_MM), (1, 0, 0), (0, 1, 0), (PIXEL_MM, PIXEL_MM))
    return Image(header, 0, place, hu, padding=False, digest=str(k))


def peers(voxels: NDArray[np.int16]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each library that is installed, and the same work done by it: [z, y, x] or its own image."""
    if sitk := _simpleitk():
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(SPACING[::-1])
        yield "SimpleITK", partial(_resampled, sitk, image)
    try:
        import torch  # noqa: PLC0415 - an extra
    except ImportError:
        print("prepare: torch left out, it is not installed (pip install '.[bench]')")
    else:
        yield "torch", partial(_torch, torch, voxels)
    yield "scipy", partial(_scipy, voxels)


def _simpleitk() -> Any:
    try:
        import SimpleITK  # noqa: PLC0415 - an extra
    except ImportError:
        print("prepare: SimpleITK left out, it is not installed (pip install '.[bench]')")
        return None
    return SimpleITK


def _resampled(sitk: Any, image: Any) -> Any:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(os.cpu_count() or 1)
    resample = sitk.ResampleImageFilter()
    resample.SetSize(SHAPE[::-1])
    resample.SetOutputSpacing((1.0, 1.0, 1.0))
    resample.SetOutputOrigin(
        [a + b for a, b in zip(image.GetOrigin(), STARTS_MM[::-1], strict=True)]
    )
    resample.SetOutputDirection(image.GetDirection())
    resample.SetInterpolator(sitk.sitkLinear)
    resample.SetOutputPixelType(sitk.sitkFloat32)
    resample.SetDefaultPixelValue(LOW)
    return sitk.IntensityWindowing(resample.Execute(image), LOW, HIGH, 0.0, 1.0)


def _differ(ours: Array, theirs: Any) -> str:
    if not isinstance(theirs, np.ndarray):
        theirs = _simpleitk().GetArrayFromImage(theirs)
    return f"differ by {np.abs(theirs - ours).max():.3f} at most"


def _torch(torch: Any, voxels: NDArray[np.int16]) -> Array:
    torch.set_num_threads(os.cpu_count() or 1)
    wide = torch.from_numpy(voxels).to(torch.float32)[None, None]
    scaled = torch.nn.functional.interpolate(
        wide, scale_factor=SPACING, mode="trilinear", align_corners=False
    )
    return np.asarray(scaled.sub_(LOW).div_(HIGH - LOW).clamp_(0, 1).numpy()[0, 0])


def _scipy(voxels: NDArray[np.int16]) -> Array:
    steps = [1 / mm for mm in SPACING]
    starts = [step / 2 - 0.5 for step in steps]
    scaled = affine_transform(voxels, steps, starts, SHAPE, np.float32, order=1, mode="nearest")
    scaled -= LOW
    scaled /= HIGH - LOW
    return np.asarray(np.clip(scaled, 0, 1, out=scaled))


def _opencv(voxels: NDArray[np.int16]) -> object:
    resize = partial(cv2.resize, fx=PIXEL_MM, fy=PIXEL_MM, interpolation=cv2.INTER_AREA)
    return [resize(one.astype(np.float32), None) for one in voxels]


def _decoded(voxels: NDArray[np.int16]) -> Iterator[Row]:
    """The same from DICOM: ours from bytes in memory, SimpleITK from files (it knows no other)."""
    sitk = _simpleitk()
    if not sitk:
        return
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        paths = []
        for k, image in enumerate(instances.series(Phantom(voxels, SPACING, (0, 0, 0), ()))):
            buffer = io.BytesIO()
            image.save_as(buffer, enforce_file_format=True)
            paths.append(Path(name, f"{SLICES - k:04}.dcm"))
            paths[-1].write_bytes(buffer.getvalue())
        paths.sort()
        every = [path.read_bytes() for path in paths]

        def ours() -> Array:
            return _last(tuple(fast.plane(pixels.read(one)[0], (1.0,)) for one in every))

        def peer() -> Any:
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames([str(path) for path in paths])
            return _resampled(sitk, reader.Execute())

        what = f"decode and prepare {SLICES} x {SIZE} x {SIZE} to 1 mm"
        yield f"{what} ({_differ(ours(), peer())})", "scanside", "SimpleITK", ours, peer
