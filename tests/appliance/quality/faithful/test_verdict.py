"""Faults of preprocessing, each of which fails a check; and likeness, which does not see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.preprocess import fast, plan
from appliance.preprocess.spec import Crop, Cube, Op, Orient, Pad, Patch, Resample, Rescale, Window
from appliance.quality.faithful import spheres, verdict
from appliance.quality.faithful.verdict import Drawn, Make, OpList, Original
from appliance.records import Box, Grid, Image, Stack
from appliance.series import pixels
from rigs import slices

F32 = NDArray[np.float32]
SPACING_MM = (2.0, 2.0, 2.0)
COUNT = 40
READY: tuple[Op, ...] = (Rescale(), Orient())
LUNG = Window(low=-1000, high=400)
COARSE: tuple[Op, ...] = (*READY, Resample(spacing_mm=(3.0, 3.0, 3.0)), LUNG, Pad(multiple=16))


@pytest.fixture(scope="module")
def chest() -> Stack:
    """A body whose halves differ from back to front and from side to side, with its ends."""
    images = [slices.body(seed=k, y_mm=4, x_mm=6, scale=0.9 + 0.002 * k) for k in range(COUNT)]
    planes = [slices.plane(hu[::2, ::2], k, pixel_mm=2.0) for k, hu in enumerate(images)]
    return Stack(tuple(planes), np.arange(COUNT) * 2.0, (0.0, 0.0, 1.0), SPACING_MM)


@pytest.fixture(scope="module")
def seen(chest: Stack) -> Original:
    return verdict.original(chest)


def decoded(stack: Stack, laid: tuple[spheres.Sphere, ...]) -> list[Image]:
    """The spheres as a scanner sends them, read again."""
    hu = np.zeros((len(stack.planes), *stack.planes[0].native.shape), np.int16)
    first = stack.planes[0].geometry.position_lps_mm
    images = instances.series(Phantom(hu, SPACING_MM, first, ()))
    packed = (instances.packed(image) for image in images)
    read = [pixels.read(spheres.painted(data, laid, SPACING_MM[0]))[0] for data in packed]
    return sorted(read, key=lambda image: image.geometry.position_lps_mm[2])


def laid_out(stack: Stack, images: Sequence[Image], laid: tuple[spheres.Sphere, ...]) -> Drawn:
    return Drawn(replace(stack, planes=tuple(fast.plane(one, ()) for one in images)), laid)


@pytest.fixture(scope="module")
def laid(seen: Original) -> tuple[spheres.Sphere, ...]:
    found = spheres.laid(*verdict.corners(seen))
    assert len(found) == 12
    return found


@pytest.fixture(scope="module")
def images(chest: Stack, laid: tuple[spheres.Sphere, ...]) -> list[Image]:
    return decoded(chest, laid)


@pytest.fixture(scope="module")
def drawn(chest: Stack, images: list[Image], laid: tuple[spheres.Sphere, ...]) -> Drawn:
    return laid_out(chest, images, laid)


@pytest.fixture(scope="module")
def right(seen: Original, drawn: Drawn) -> OpList:
    return verdict.volume(seen, drawn, COARSE, ["segment"])


def test_what_is_right_fails_nothing(right: OpList) -> None:
    assert right.fails == ()
    assert right.failed() == ""
    assert right.voxel_mm == (3.0, 3.0, 3.0)
    assert None not in (right.psnr_db, right.ssim, right.hausdorff_mm, right.tissue_hu)
    assert [one.count for one in right.spheres] == [4, 4, 4]
    assert right.ops[2] == "resample spacing_mm (3.0, 3.0, 3.0)"


@pytest.mark.parametrize("mm", [1.25, 2.5])
def test_finer_grids_are_faithful_too(seen: Original, drawn: Drawn, mm: float) -> None:
    fine: tuple[Op, ...] = (*READY, Resample(spacing_mm=(mm, mm, mm)), Crop(margin_mm=8), LUNG)
    found = verdict.volume(seen, drawn, fine, ["propose"])
    assert found.fails == ()
    assert found.lungs_dice is not None
    assert found.lungs_dice > 0.99


def broken(
    stack: Stack, ops: Sequence[Op], crop: tuple[Grid, Box] | None, *, fault: str
) -> tuple[F32, Grid]:
    """`fast.tensor` with a fault."""
    tensor, grid = fast.tensor(stack, ops, crop)
    matrix = grid.to_lps.copy()
    if fault == "axes swapped":
        return np.ascontiguousarray(tensor.swapaxes(-1, -2)), grid
    if fault == "axes swapped, and in the affine too":
        shape, mm = grid.shape, grid.spacing_mm
        turned = matrix[:, [0, 2, 1, 3]]
        swapped = Grid((shape[0], shape[2], shape[1]), (mm[0], mm[2], mm[1]), turned)
        return np.ascontiguousarray(tensor.swapaxes(-1, -2)), swapped
    if fault == "upside down":
        return np.ascontiguousarray(tensor[:, :, ::-1]), grid
    if fault == "slope 1.1":
        hu = tensor * 1400 - 1000
        return np.asarray((hu * 1.1 + 1000) / 1400, np.float32), grid
    if fault == "offset of 10 HU":
        return np.asarray(tensor + 10 / 1400, np.float32), grid
    if fault == "half a pixel":
        matrix[:3, 3] += matrix[:3, 2] / grid.spacing_mm[2]
        return tensor, Grid(grid.shape, grid.spacing_mm, matrix)
    if fault == "clipped":
        return np.clip(tensor, 0, 1000 / 1400), grid
    raise ValueError(fault)


@pytest.mark.parametrize(
    ("fault", "fails"),
    [
        ("axes swapped", {"body", "lungs", "outline", "contrast"}),
        ("axes swapped, and in the affine too", {"axes"}),
        ("upside down", {"body", "lungs", "shift"}),
        ("slope 1.1", {"tissue", "contrast"}),
        ("offset of 10 HU", {"tissue"}),
        ("half a pixel", {"shift"}),
        ("clipped", {"tissue", "contrast"}),
    ],
)
def test_a_fault_fails_a_check(seen: Original, drawn: Drawn, fault: str, fails: set[str]) -> None:
    make: Make = partial(broken, fault=fault)
    found = verdict.volume(seen, drawn, COARSE, ["segment"], make)
    assert fails <= set(found.fails), found
    assert all(name in found.failed() for name in found.fails)


def test_a_window_of_the_bundle_that_cuts_tissue_fails(seen: Original, drawn: Drawn) -> None:
    narrow: tuple[Op, ...] = (*COARSE[:3], Window(low=-1000, high=0))
    found = verdict.volume(seen, drawn, narrow, ["segment"])
    assert {"tissue", "contrast"} <= set(found.fails)


def test_a_grid_too_coarse_for_anatomy_fails(seen: Original, drawn: Drawn) -> None:
    coarse: tuple[Op, ...] = (*READY, Resample(spacing_mm=(16.0, 16.0, 16.0)), LUNG)
    assert "lungs" in verdict.volume(seen, drawn, coarse, ["segment"]).fails


def moved(image: Image, fault: str) -> Image:
    """One image, decoded with a fault that the way there and the way back both believe."""
    if fault == "half a pixel":
        x, y, z = image.geometry.position_lps_mm
        return replace(image, geometry=replace(image.geometry, position_lps_mm=(x + 1, y, z)))
    hu = np.asarray((image.hu + 1024) * 1.1 - 1024, np.float32)
    return replace(image, hu=hu)


@pytest.mark.parametrize(("fault", "fails"), [("half a pixel", "shift"), ("slope", "contrast")])
def test_likeness_does_not_see_a_fault_that_undoes_itself_and_spheres_do(
    chest: Stack,
    right: OpList,
    images: list[Image],
    laid: tuple[spheres.Sphere, ...],
    fault: str,
    fails: str,
) -> None:
    """What is decoded wrongly is the original of there and back."""
    pictures = [
        Image(p.header, 0, p.geometry, p.native, padding=False, digest="") for p in chest.planes
    ]
    planes = tuple(fast.plane(moved(one, fault), ()) for one in pictures)
    wrong = verdict.original(replace(chest, planes=planes))
    shown = laid_out(wrong.stack, [moved(one, fault) for one in images], laid)
    found = verdict.volume(wrong, shown, COARSE, ["segment"])
    assert found.ssim == pytest.approx(right.ssim, abs=0.02)
    assert found.psnr_db == pytest.approx(right.psnr_db, abs=1.0)
    assert fails in found.fails


def test_swapped_axes_that_the_affine_knows_are_as_alike_as_what_is_right(
    seen: Original, right: OpList
) -> None:
    make: Make = partial(broken, fault="axes swapped, and in the affine too")
    found = verdict.volume(seen, None, COARSE, ["segment"], make)
    assert (found.psnr_db, found.ssim) == (right.psnr_db, right.ssim)
    assert found.fails == ("axes",)


def test_cubes_and_patches_are_read_where_they_stand(drawn: Drawn) -> None:
    cubes = verdict.cut(drawn, (*READY, Cube(size=32, spacing_mm=0.8), LUNG), ["measure"])
    patches = verdict.cut(drawn, (*READY, Patch(size=32), LUNG), ["classify"])
    assert (cubes.makes, patches.makes) == ("cubes", "patches")
    for found in (cubes, patches):
        assert found.fails == ()
        assert [one.count for one in found.spheres] == [4, 4, 4]


def test_a_cube_that_is_cut_elsewhere_fails(drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered = fast.gathered

    def aside(stack: Stack, ops: Sequence[Op], centers: Sequence[tuple[float, ...]]) -> F32:
        return gathered(stack, ops, [(x + 0.5, y, z) for x, y, z in centers])

    monkeypatch.setattr(fast, "gathered", aside)
    for op in (Cube(size=32, spacing_mm=0.8), Patch(size=32)):
        assert "shift" in verdict.cut(drawn, (*READY, op, LUNG), ["measure"]).fails


def test_without_lungs_all_of_the_series_is_looked_at_and_no_tissue_is_none() -> None:
    air = slices.stack([np.full((64, 64), -1000.0)] * 4)
    seen = verdict.original(air)
    assert verdict.around_lungs(seen, 8.0)[1] == Box((0, 0, 0), plan.grid_of(air).shape)
    assert spheres.laid(*verdict.corners(seen)) == ()
    found = verdict.volume(seen, None, COARSE, ["segment"])
    assert found.fails == ()
    assert (found.body_dice, found.lungs_dice, found.hausdorff_mm, found.tissue_hu) == (None,) * 4
    assert found.psnr_db is None or found.psnr_db > 100, "nothing differs but a last bit"
