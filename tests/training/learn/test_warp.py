"""Geometry: balls go where the transform says, and points with them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.learn.warp import Move, moved, warped, way_back  # noqa: E402

F64 = npt.NDArray[np.float64]
UP = np.array([1.0, 0.0, 0.0])  # the axis z


def ball(center: npt.ArrayLike, radius: float, shape: tuple[int, ...]) -> torch.Tensor:
    """A ball with a soft edge of one voxel [1, 1, shape...]."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    far = np.linalg.norm(grid - np.asarray(center), axis=-1)
    return torch.from_numpy(np.clip(radius + 0.5 - far, 0, 1).astype(np.float32))[None, None]


def middle(image: torch.Tensor) -> F64:
    """Centre of mass in voxels."""
    values = image[0, 0].double().numpy()
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in values.shape], indexing="ij"), -1)
    return np.asarray((grid * values[..., None]).sum(tuple(range(values.ndim))) / values.sum())


def move(d: int, **changes: object) -> Move:
    given = {"matrix": np.eye(d), "shift": np.zeros(d), **changes}
    return Move(**given)  # type: ignore[arg-type]


def test_a_quarter_turn_takes_a_pixel_where_it_should_lie() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 0, 1] = 1
    turn = move(2, matrix=way_back(np.pi / 2, UP, 1.0, np.ones(2)))
    # 2 up and 1 left of the middle becomes 1 down and 2 left
    got = warped(image, [turn])
    assert got[0, 0, 3, 0].item() == pytest.approx(1, abs=1e-5)
    assert moved([[0, 1]], turn, (5, 5)) == pytest.approx(np.array([[3.0, 0.0]]))
    # mirrored first: 2 down and 1 left becomes 1 down and 2 right
    both = move(2, matrix=way_back(np.pi / 2, UP, 1.0, np.array([-1.0, 1.0])))
    assert warped(image, [both])[0, 0, 3, 4].item() == pytest.approx(1, abs=1e-5)
    assert moved([[0, 1]], both, (5, 5)) == pytest.approx(np.array([[3.0, 4.0]]))


def test_a_ball_is_turned_scaled_and_shifted_about_the_middle_of_the_image() -> None:
    shape, at = (40, 48, 44), np.array([14.0, 30.0, 25.0])
    angle, scale, shift = np.deg2rad(15), 1.2, np.array([1.0, -2.0, 3.0])
    one = move(3, matrix=way_back(angle, UP, scale, np.ones(3)), shift=shift)
    image = ball(at, 5, shape)
    got = warped(image, [one], outside="zeros")
    z, y, x = at - (np.array(shape) - 1) / 2
    turned = np.array(
        [
            z,
            np.cos(angle) * y - np.sin(angle) * x,
            np.sin(angle) * y + np.cos(angle) * x,
        ]
    )
    expected = scale * turned + (np.array(shape) - 1) / 2 + shift
    assert middle(got) == pytest.approx(expected, abs=0.02)
    assert moved([at], one, shape)[0] == pytest.approx(expected)
    assert got.sum().item() == pytest.approx(image.sum().item() * scale**3, rel=0.02)


def test_a_mirrored_ball_lies_on_the_other_side() -> None:
    shape = (20, 30, 24)
    one = move(3, matrix=way_back(0.0, UP, 1.0, np.array([1.0, -1.0, 1.0])))
    got = warped(ball([8, 7, 12], 3, shape), [one])
    assert middle(got) == pytest.approx([8, 29 - 7, 12], abs=1e-3)
    assert moved([[8, 7, 12]], one, shape)[0] == pytest.approx([8, 22, 12])


def test_a_turn_keeps_lengths_in_millimetres() -> None:
    spacing = np.array([2.5, 0.7, 0.7])
    about = np.array([0.3, 1.0, -0.5])
    one = move(3, matrix=way_back(0.26, about, 1.0, np.ones(3), spacing))
    points = np.array([[10.0, 30, 40], [14, 22, 33], [3, 60, 11]])
    new = moved(points, one, (24, 80, 80))
    for i, j in ((0, 1), (1, 2), (0, 2)):
        before = np.linalg.norm((points[i] - points[j]) * spacing)
        assert np.linalg.norm((new[i] - new[j]) * spacing) == pytest.approx(before)
    still = moved(about[None] / spacing * 7 + [11.5, 39.5, 39.5], one, (24, 80, 80))
    assert still[0] == pytest.approx(about / spacing * 7 + [11.5, 39.5, 39.5])


@pytest.mark.parametrize("shape", [(64, 56), (40, 36, 44)])
def test_a_target_follows_its_pixels_through_an_elastic_field(shape: tuple[int, ...]) -> None:
    d = len(shape)
    back = way_back(0.2, np.array([1.0, 2.0, 3.0]), 0.9, np.array([1.0, -1.0, 1.0])[:d])
    one = move(d, matrix=back, elastic=4.0, elastic_cell=16.0, elastic_seed=7)
    straight = move(d, matrix=back)
    ats = np.array([[0.4] * d, [0.6] * d, [0.45, 0.55, 0.5][:d]]) * shape
    new = moved(ats, one, shape)
    for at, to in zip(ats, new, strict=True):
        # a small ball, because a field bends a large one off its centre
        assert middle(warped(ball(at, 1.5, shape), [one], outside="zeros")) == pytest.approx(
            to, abs=0.15
        )
    assert np.abs(new - moved(ats, straight, shape)).max() > 0.5


def test_an_elastic_field_stays_within_its_range_and_does_not_fold() -> None:
    size = (48, 48)
    ramp = torch.arange(48.0).reshape(1, 1, 1, 48).expand(1, 1, 48, 48) / 47
    largest = 0.0
    for seed in range(20):
        one = move(2, elastic=8 / 3, elastic_cell=8.0, elastic_seed=seed)
        read_at = warped(ramp, [one], outside="border")[0, 0] * 47
        inner = read_at[4:-4, 4:-4]
        assert (inner.diff(dim=1) > 0).all()
        largest = max(largest, float((inner - torch.arange(48.0)[4:-4]).abs().max()))
    assert 1.0 < largest <= 8 / 3
    assert moved(np.zeros((0, 2)), one, size).shape == (0, 2)


def test_masks_of_any_type_keep_their_labels() -> None:
    one = move(2, matrix=way_back(0.2, UP, 1.1, np.ones(2)))
    labels = torch.tensor([0, 3, 200])[
        torch.randint(3, (1, 1, 20, 20), generator=torch.manual_seed(0))
    ]
    for dtype in (torch.uint8, torch.int64, torch.float32):
        got = warped(labels.to(dtype), [one], mode="nearest")
        assert got.dtype == dtype
        assert set(got.unique().tolist()) <= {0, 3, 200}
    assert warped(labels == 3, [one], mode="nearest").dtype == torch.bool


def test_the_middle_is_cut_out_of_a_larger_image() -> None:
    image = torch.rand(1, 1, 12, 10, 9, generator=torch.manual_seed(0))
    got = warped(image, [move(3)], size=(8, 8, 5))
    assert torch.allclose(got, image[:, :, 2:10, 1:9, 2:7], atol=1e-5)
    one = move(3, matrix=way_back(0.1, UP, 1.0, np.ones(3)), elastic=0.5, elastic_seed=3)
    to = moved([[15.0, 14, 13]], one, (32, 30, 28), (20, 20, 20))[0]
    got = warped(ball([15, 14, 13], 3, (32, 30, 28)), [one], size=(20, 20, 20))
    assert middle(got) == pytest.approx(to, abs=0.1)


def test_samples_that_stand_still_keep_every_bit() -> None:
    images = torch.rand(3, 1, 9, 9, generator=torch.manual_seed(0))
    got = warped(images, [move(2), move(2, shift=np.array([0.0, 1.0])), move(2)])
    assert torch.equal(got[[0, 2]], images[[0, 2]])
    assert torch.allclose(got[1, 0, :, 1:], images[1, 0, :, :-1], atol=1e-5)
    assert warped(images, [move(2)] * 3) is images
