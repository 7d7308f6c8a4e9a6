"""Augmentation: the same from the same seed, within its ranges, and each factor by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from scipy import ndimage  # noqa: E402

from training.learn.augment import (  # noqa: E402
    BLUR_PX,
    Change,
    Ranges,
    apply,
    augment,
    blurred,
    clahe,
    draw,
    equalized,
    generator,
    noise_of,
    other_kernel,
    thick_slices,
)
from training.learn.warp import Move, moved  # noqa: E402

OFF = Ranges(
    rotate_deg=0, scale=None, flip=(), elastic=0, thickness=None, kernel=None, gamma=None, noise=0
)
FULL = Ranges(
    share=1.0, shift=2.0, gain=(0.9, 1.1), offset=0.05, clahe=0.3, equalize=0.3, elastic=2.0
)
FACTORS = {
    "rotate_deg": 15.0,
    "scale": (0.8, 1.2),
    "shift": 3.0,
    "elastic": 5.0,
    "thickness": (2.0, 4.0),
    "kernel": (-1.0, 1.0),
    "gamma": (0.7, 1.5),
    "gain": (0.9, 1.1),
    "offset": 0.05,
    "noise": 0.05,
}
both_dims = pytest.mark.parametrize("shape", [(24, 20), (16, 24, 20)], ids=["2d", "3d"])


def pictures(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(n, 1, *shape, generator=torch.manual_seed(0))


def still(d: int, **changes: object) -> Change:
    return Change(Move(np.eye(d), np.zeros(d)), **changes)  # type: ignore[arg-type]


@both_dims
def test_all_off_leaves_every_bit(shape: tuple[int, ...]) -> None:
    images = pictures(3, shape)
    done = augment(images, OFF, seed=1, epoch=0, indices=[0, 1, 2], masks=images > 0.5)
    assert torch.equal(done.images, images)
    assert done.masks is not None
    assert torch.equal(done.masks, images > 0.5)


@both_dims
def test_the_same_seed_gives_the_same_batch(shape: tuple[int, ...]) -> None:
    images = pictures(4, shape)
    one, two = (augment(images, FULL, seed=3, epoch=2, indices=[5, 6, 7, 8]) for _ in range(2))
    assert torch.equal(one.images, two.images)
    for other in ({"seed": 4}, {"epoch": 3}, {"indices": [9, 10, 11, 12]}):
        given = {"seed": 3, "epoch": 2, "indices": [5, 6, 7, 8], **other}
        changed = augment(images, FULL, **given).images  # type: ignore[arg-type]
        assert all((a - b).abs().max() > 0.01 for a, b in zip(one.images, changed, strict=True))


@both_dims
def test_a_sample_is_the_same_in_any_batch_and_order(shape: tuple[int, ...]) -> None:
    images = pictures(4, shape)
    batch = augment(images, FULL, seed=3, epoch=0, indices=range(4)).images
    back = augment(images.flip(0), FULL, seed=3, epoch=0, indices=[3, 2, 1, 0]).images.flip(0)
    alone = [
        augment(images[i : i + 1], FULL, seed=3, epoch=0, indices=[i]).images for i in range(4)
    ]
    # CLAHE rounds to 1/255 after floats that may differ in their last bit
    assert (batch - back).abs().max() < 1.5 / 255
    assert (batch - torch.cat(alone)).abs().max() < 1.5 / 255
    smooth = replace(FULL, clahe=0.0)
    batch = augment(images, smooth, seed=3, epoch=0, indices=range(4)).images
    alone = [
        augment(images[i : i + 1], smooth, seed=3, epoch=0, indices=[i]).images for i in range(4)
    ]
    assert torch.allclose(batch, torch.cat(alone), atol=1e-5)


class Samples(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Eight samples that are augmented where they are read."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> torch.Tensor:
        return augment(pictures(8, (24, 20))[i : i + 1], FULL, seed=3, epoch=1, indices=[i]).images[
            0
        ]


def test_workers_do_not_change_a_batch() -> None:
    batches = [
        torch.cat(list(torch.utils.data.DataLoader(Samples(), batch_size=4, num_workers=n)))
        for n in (0, 2)
    ]
    assert torch.equal(*batches)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_batch() -> None:
    images, ranges = pictures(4, (16, 24, 20)), replace(FULL, clahe=0.0)
    here, there = (
        augment(images.to(d), ranges, seed=3, epoch=0, indices=range(4)).images.cpu()
        for d in ("cpu", "cuda")
    )
    assert torch.allclose(here, there, atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_draws_stay_in_their_ranges_and_use_them(dims: int) -> None:
    changes = [draw(generator(0, 0, i), FULL, dims) for i in range(400)]
    drawn = {
        "scale": [c.move.scale for c in changes],
        "thickness": [c.thickness for c in changes],
        "kernel": [c.kernel for c in changes],
        "gamma": [c.gamma for c in changes],
        "gain": [c.gain for c in changes],
        "offset": [c.offset for c in changes],
        "noise": [c.noise for c in changes],
        "elastic": [c.move.elastic for c in changes],
        "shift": [float(v) for c in changes for v in c.move.shift],
        "grain": [c.grain for c in changes],
        "phase": [c.phase for c in changes],
    }
    limits = {
        **{n: getattr(FULL, n) for n in ("scale", "thickness", "kernel", "gamma", "gain")},
        "offset": (-0.05, 0.05), "noise": (0, 0.03), "elastic": (0, 2), "shift": (-2, 2),
        "grain": (0, 1), "phase": (0, 1),
    }  # fmt: skip
    if dims == 2:
        assert set(drawn.pop("thickness")) == {1.0}
    for name, values in drawn.items():
        low, high = limits[name]
        assert low <= min(values) < low + 0.03 * (high - low), name
        assert high - 0.03 * (high - low) < max(values) <= high, name
    # without its scale a matrix is a rotation, and a flip or not: its trace says the angle
    angles, mirrors = [], set()
    for c in changes:
        turn = c.move.matrix * c.move.scale
        mirror = np.sign(np.diag(turn))
        mirrors.add(tuple(mirror))
        turn = mirror[:, None] * turn
        assert turn @ turn.T == pytest.approx(np.eye(dims))
        angles.append(np.degrees(np.arccos(np.clip((np.trace(turn) - (dims - 2)) / 2, -1, 1))))
    assert 14 < max(angles) <= 15 + 1e-4
    assert len(mirrors) == 2**dims


def test_a_factor_is_applied_to_its_share_and_alone() -> None:
    ranges = Ranges(share=0.25)
    changes = [draw(generator(0, 0, i), ranges, 3) for i in range(1000)]
    toned = np.array([c.gamma != 1 for c in changes])
    noisy = np.array([c.noise != 0 for c in changes])
    assert toned.mean() == pytest.approx(0.25, abs=0.05)
    assert noisy.mean() == pytest.approx(0.25, abs=0.05)
    assert (toned & noisy).mean() == pytest.approx(1 / 16, abs=0.03)


@pytest.mark.parametrize("name", FACTORS)
def test_switching_one_factor_off_leaves_the_draws_of_the_others(name: str) -> None:
    alone = draw(generator(1, 2, 3), replace(OFF, share=1.0, **{name: FACTORS[name]}), 3)
    whole = draw(generator(1, 2, 3), replace(OFF, share=1.0, **FACTORS), 3)
    if name == "rotate_deg":
        assert alone.move.matrix / whole.move.scale == pytest.approx(whole.move.matrix)
    else:
        of = alone.move, whole.move
        one, other = (
            getattr(m if hasattr(m, name) else c, name)
            for m, c in zip(of, (alone, whole), strict=True)
        )
        assert np.array_equal(one, other)
        assert not np.array_equal(one, getattr(still(3).move, name, getattr(still(3), name, None)))
    assert alone.noise_seed == whole.noise_seed
    assert alone.move.elastic_seed == whole.move.elastic_seed


@pytest.mark.parametrize("name", [n for n in FACTORS if n != "thickness"])
@both_dims
def test_each_factor_changes_the_image_and_only_geometry_the_mask(
    name: str, shape: tuple[int, ...]
) -> None:
    images = ndimage.gaussian_filter(pictures(4, shape).numpy(), [0, 0] + [1] * len(shape))
    x = torch.from_numpy((images - images.min()) / np.ptp(images))
    masks = x > 0.5
    ranges = replace(OFF, share=1.0, **{name: FACTORS[name]})
    done = augment(x, ranges, seed=0, epoch=0, indices=range(4), masks=masks)
    assert done.masks is not None
    assert (done.images - x).abs().max() > 0.01
    assert torch.equal(done.masks, masks) == (
        name not in {"rotate_deg", "scale", "shift", "elastic"}
    )
    assert done.images.min() >= 0
    assert done.images.max() <= 1


def phantom(at: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    far = np.linalg.norm(grid - at, axis=-1)
    return torch.from_numpy(np.clip(4.5 - far, 0, 1).astype(np.float32))[None, None] * 0.8 + 0.1


@pytest.mark.parametrize("index", range(6))
def test_image_mask_and_target_of_a_ball_go_together(index: int) -> None:
    shape, spacing, at = (36, 48, 48), (2.0, 1.0, 1.0), np.array([15.0, 26.0, 20.0])
    image = phantom(at, shape)
    ranges = Ranges(share=1.0, shift=2.0, noise=0.01, elastic=3.0)
    done = augment(
        image, ranges, seed=5, epoch=0, indices=[index], masks=image > 0.5, spacing=spacing
    )
    assert done.masks is not None
    expected = moved([at], done.changes[0].move, shape)[0]
    mask = done.masks[0, 0].numpy()
    assert ndimage.center_of_mass(mask) == pytest.approx(expected, abs=0.35)
    contrast = done.images[0, 0].numpy() - np.median(done.images.numpy())
    bright = np.where(ndimage.binary_dilation(mask, iterations=4), contrast, 0)
    assert ndimage.center_of_mass(bright) == pytest.approx(expected, abs=0.6)
    volume = (image > 0.5).sum().item() * done.changes[0].move.scale ** 3
    assert mask.sum() == pytest.approx(volume, rel=0.15)


def test_thick_slices_are_means_and_keep_a_ramp_in_its_place() -> None:
    mix = thick_slices(8, 4.0, 0.0)
    assert mix.sum(1) == pytest.approx(np.ones(8))
    # slices 0-3 and 4-7 with middles at 2 and 6: voxel 3 lies at 3.5
    assert mix[3] == pytest.approx([0.625 / 4] * 4 + [0.375 / 4] * 4)
    assert mix[0] == pytest.approx([0.25] * 4 + [0] * 4)
    for thickness, phase in ((2.5, 0.0), (3.0, 0.4), (4.0, 0.9)):
        ramp = thick_slices(64, thickness, phase) @ np.arange(64.0)
        # a voxel that two slices share is a step, not a slope
        assert ramp[4:-4] == pytest.approx(np.arange(64.0)[4:-4], abs=0.1)
    assert thick_slices(3, 40.0, 0.5) == pytest.approx(np.full((3, 3), 1 / 3))


def test_thickness_smears_along_z_alone() -> None:
    image = torch.zeros(1, 1, 16, 8, 8)
    image[0, 0, 8, 3, 5] = 1
    done = apply(image, [still(3, thickness=4.0, phase=0.25)]).images[0, 0]
    assert done.sum((0,))[3, 5] == done.sum()
    assert done.sum().item() == pytest.approx(1, rel=1e-5)
    # slices 3-6, 7-10 and 11-14: the middle one holds a quarter of the voxel
    assert done[9, 3, 5].item() == pytest.approx(0.25 * 0.875)
    assert done[[4, 13]].sum() == 0


def test_a_kernel_changes_contrast_as_its_transfer_says() -> None:
    for f, amount in ((0.125, -1.0), (0.25, -1.0), (0.25, 1.0), (0.25, 0.5)):
        wave = torch.cos(2 * torch.pi * f * torch.arange(64.0)).expand(1, 1, 64, 64)
        got = other_kernel(wave, torch.tensor(amount))[0, 0, 32, 8:-8]
        transfer = 1 + amount * (1 - np.exp(-2 * (np.pi * BLUR_PX * f) ** 2))
        assert (got / wave[0, 0, 32, 8:-8])[::4].tolist() == pytest.approx(
            [transfer] * 12, abs=0.01
        )


def test_blur_is_the_gaussian_of_the_plane() -> None:
    image = pictures(2, (5, 24, 20))
    expected = ndimage.gaussian_filter(
        image.numpy(), (0, 0, 0, BLUR_PX, BLUR_PX), mode="nearest", radius=(0, 0, 0, 3, 3)
    )
    assert np.allclose(blurred(image).numpy(), expected, atol=1e-6)


def test_noise_has_its_strength_and_its_grain() -> None:
    flat = torch.full((1, 1, 16, 64, 64), 0.5)
    near = []
    for grain in (0.0, 1.0):
        done = apply(flat, [still(3, noise=0.04, grain=grain, noise_seed=3)]).images[0, 0]
        assert done.std().item() == pytest.approx(0.04, rel=0.02)
        assert done.mean().item() == pytest.approx(0.5, abs=2e-3)
        x = (done - done.mean()).numpy()
        near.append(float((x[..., 1:] * x[..., :-1]).mean() / x.var()))
    # neighbours of Gaussian-smoothed noise correlate by exp(-1 / (4 sigma^2))
    assert near == pytest.approx([0.0, np.exp(-1 / (4 * BLUR_PX**2))], abs=0.03)
    one, other = (noise_of(still(2, noise_seed=s), (8, 8)) for s in (1, 2))
    assert not torch.equal(one, other)


def test_gamma_gain_and_offset_are_one_formula() -> None:
    image = torch.tensor([[[[0.0, 0.25, 0.64, 1.0]]]])
    done = apply(image, [still(2, gamma=0.5, gain=0.9, offset=0.05)]).images
    assert done.flatten().tolist() == pytest.approx([0.05, 0.5, 0.77, 0.95])


def test_equalisation_spreads_ranks_evenly() -> None:
    image = pictures(1, (64, 64))[0] ** 1.5
    done = equalized(image)
    assert np.histogram(done.numpy(), 8, (0, 1))[0] / 4096 == pytest.approx([1 / 8] * 8, abs=0.03)
    order = image.flatten().argsort()
    assert (done.flatten()[order].diff() >= -1e-6).all()
    flat = torch.full((1, 4, 4), 0.3)
    assert torch.equal(equalized(flat), flat)


def test_equalisation_is_done_where_it_was_drawn() -> None:
    images = pictures(3, (32, 32)) * 0.2 + 0.3
    done = apply(images, [still(2, equalize=True), still(2), still(2, clahe=True)]).images
    assert torch.equal(done[0], equalized(images[0]))
    assert torch.equal(done[1], images[1])
    assert torch.equal(done[2], clahe(images[2]))


def test_adaptive_equalisation_raises_faint_contrast_plane_by_plane() -> None:
    x = pictures(1, (3, 64, 64))[0] * 0.1 + 0.2
    done = clahe(x)
    assert done.shape == x.shape
    assert done.std() > 2 * x.std()
    assert torch.equal(clahe(x[:, 1:2]), done[:, 1:2])
    tiny = torch.rand(1, 5, 5)
    assert clahe(tiny).shape == tiny.shape


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scale": (1.2, 0.8)}, "scale wants"),
        ({"gamma": (0.0, 1.0)}, "gamma wants"),
        ({"thickness": (0.5, 2.0)}, "thickness wants"),
        ({"kernel": (-2.0, 1.0)}, "kernel wants"),
        ({"noise": -0.1}, "noise wants"),
        ({"share": 1.5}, "share is a chance"),
        ({"elastic": 4.0, "elastic_cell": 8.0}, "folds"),
    ],
)
def test_a_range_that_means_nothing_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Ranges(**changes)  # type: ignore[arg-type]


def test_what_is_no_windowed_image_is_refused() -> None:
    change = [still(2)]
    with pytest.raises(ValueError, match="window them first"):
        apply(torch.full((1, 1, 4, 4), -500.0), change)
    with pytest.raises(ValueError, match="window them first"):
        apply(torch.full((1, 1, 4, 4), torch.nan), change)
    with pytest.raises(ValueError, match="images are float"):
        apply(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), change)
    with pytest.raises(ValueError, match="images are float"):
        apply(torch.zeros(1, 4, 4), change)
    with pytest.raises(ValueError, match="one change and one mask"):
        apply(torch.zeros(1, 1, 4, 4), change, masks=torch.zeros(1, 1, 5, 4))
