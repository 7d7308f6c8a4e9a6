"""The picture: what is marked is where the mark is, seen the way a radiologist expects."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.demo.picture import (
    FOUND,
    GAP,
    HEADER,
    LEAST_VIEW_MM,
    LEFT,
    TILE,
    TRUE,
    Image,
    Mark,
    findings_picture,
)

SPACING = (3.0, 1.5, 1.5)
ORIGIN = (-60.0, -70.0, -90.0)
SHAPE = (60, 80, 80)


def volume(*points: tuple[float, float, float]) -> np.ndarray:
    """Lung with a bright ball of 4 mm radius at each point (LPS mm)."""
    hu = np.full(SHAPE, -850, np.int16)
    z, y, x = (np.arange(n) * SPACING[k] + ORIGIN[2 - k] for k, n in enumerate(SHAPE))
    for px, py, pz in points:
        d = np.sqrt(
            (z[:, None, None] - pz) ** 2 + (y[None, :, None] - py) ** 2 + (x[None, None] - px) ** 2
        )
        hu[d < 4] = 40
    return hu


def tile(page: Image, row: int, column: int) -> Image:
    top, left = HEADER + row * (TILE + GAP), LEFT + column * (TILE + GAP)
    return page[top : top + TILE, left : left + TILE]


def coloured(view: Image, colour: tuple[int, int, int]) -> np.ndarray:
    """Row and column of each pixel whose colour leans to `colour` as its full strength does."""
    strong = np.abs(view.astype(int) - np.array(colour)).sum(axis=2) < 60
    return np.argwhere(strong)


def grey(view: Image) -> np.ndarray:
    """The image without the coloured ring."""
    spread = view.max(axis=2).astype(int) - view.min(axis=2)
    return np.where(spread < 12, view[:, :, 0], 0)


@pytest.mark.parametrize(("truth", "colour"), [(False, FOUND), (True, TRUE)])
def test_each_view_has_the_ring_around_the_finding(
    truth: bool, colour: tuple[int, int, int]
) -> None:
    at = (-10.0, 5.0, 3.0)
    page = findings_picture(volume(at), SPACING, ORIGIN, [Mark(at, 8.0, "0.9", truth)])
    other = TRUE if colour == FOUND else FOUND
    radius = (4.0 + 2.5) * TILE / LEAST_VIEW_MM
    for column in range(3):
        view = tile(page, 0, column)
        ring = coloured(view, colour)
        assert len(ring) > 20
        assert not len(coloured(view, other))
        offset = ring - (TILE - 1) / 2
        assert np.hypot(offset[:, 0], offset[:, 1]) == pytest.approx(radius, abs=1.6)
        # the ball itself is bright and centred inside the ring
        rows, columns = np.mgrid[:TILE, :TILE] - (TILE - 1) / 2
        inside = np.hypot(rows, columns) < radius - 2
        bright = inside & (grey(view) > 200)
        assert bright.sum() > 100
        assert abs(rows[bright].mean()) < 3
        assert abs(columns[bright].mean()) < 3


@pytest.mark.parametrize(
    ("shift", "views"),
    [
        # left of the patient is right in axial and coronal
        ((25.0, 0.0, 0.0), {0: 1, 1: 1}),
        # the back is down in axial, right in sagittal
        ((0.0, 25.0, 0.0), {0: 0, 2: 1}),
        # the head is up in coronal and sagittal
        ((0.0, 0.0, 25.0), {1: 0, 2: 0}),
    ],
)
def test_left_back_and_head_lie_where_radiology_puts_them(
    shift: tuple[float, float, float], views: dict[int, int]
) -> None:
    at = (-5.0, 0.0, 0.0)
    neighbour = (at[0] + shift[0], at[1] + shift[1], at[2] + shift[2])
    page = findings_picture(volume(neighbour), SPACING, ORIGIN, [Mark(at, 8.0, "0.9")])
    pixels = 25.0 * TILE / LEAST_VIEW_MM
    up = shift[2] > 0
    for column, along in views.items():
        view = grey(tile(page, 0, column)).astype(float)
        view[:26], view[-30:], view[:, :26], view[:, -30:] = 0, 0, 0, 0  # letters, scale bar
        spots = np.argwhere(view > 200) - (TILE - 1) / 2
        assert len(spots) > 100
        centre = spots.mean(axis=0)
        expected = [0.0, 0.0]
        expected[along] = -pixels if up else pixels
        assert centre == pytest.approx(expected, abs=4)


def test_millimetres_are_equal_along_both_axes_whatever_the_spacing() -> None:
    at = (0.0, 0.0, 0.0)
    page = findings_picture(volume(at), SPACING, ORIGIN, [Mark(at, 20.0, "0.9")])
    for column in (1, 2):
        middle = grey(tile(page, 0, column))[100:164, 100:164] > 128
        rows, columns = np.argwhere(middle).T
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=8)


def test_what_is_outside_the_volume_is_air_and_breaks_nothing() -> None:
    page = findings_picture(volume(), SPACING, ORIGIN, [Mark((-60.0, -70.0, -90.0), 5.0, "edge")])
    axial = grey(tile(page, 0, 0))
    lung, air = axial[200, 200], axial[60, 60]
    assert lung == pytest.approx(255 * 500 / 1500, abs=2)
    assert air == pytest.approx(255 * 326 / 1500, abs=2)
    far = findings_picture(volume(), SPACING, ORIGIN, [Mark((900.0, 900.0, 900.0), 5.0, "far")])
    assert far.shape == page.shape


def test_rows_are_limited_and_an_empty_list_is_a_picture_too() -> None:
    marks = [Mark((0.0, 0.0, 0.0), 6.0, f"{n}") for n in range(15)]
    page = findings_picture(volume(), SPACING, ORIGIN, marks)
    assert (page.shape[0] - findings_picture(volume(), SPACING, ORIGIN, marks[:1]).shape[0]) == (
        11 * (TILE + GAP)
    )
    empty = findings_picture(volume(), SPACING, ORIGIN, [])
    assert empty.dtype == np.uint8
    assert empty.shape == findings_picture(volume(), SPACING, ORIGIN, marks[:1]).shape
    assert not len(coloured(empty, FOUND))


def test_the_caption_is_written_at_the_bottom() -> None:
    page = findings_picture(volume(), SPACING, ORIGIN, [Mark((0.0, 0.0, 0.0), 6.0, "ü 0.5")])
    caption = page[-26:-4, :500].astype(int).max(axis=2)
    assert (caption > 180).sum() > 300
